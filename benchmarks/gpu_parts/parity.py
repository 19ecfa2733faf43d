"""End to end: seeded ViTs through the engine against `fastloc.reference.methods` in float64, one in every recipe, dtype and plan, and one
of each family.

An engine's error, ‖grids − exact‖ / ‖exact‖, is at most twice that of the plain functional pass in the same dtype on the same device,
plus half a unit in the last place. A replayed graph gives what the eager call gave, for other pixels too; an image alone what it
gives in a batch. Frames, maps and the copies of the asynchronous path are in `parity_io`.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fastloc.engine.plan import DTYPES
from fastloc.functional.similarity import grids
from fastloc.recipes import RECIPES
from gpu_parts import families, fleet, models, parity_io
from gpu_parts.job import Job, Row

# plan fields that are overridden one at a time, and their options
OVERRIDES = {
    "attention": ("triton", "sdpa", "bmm"), "projection": ("joint", "per-block"), "schedule": ("side-stream", "per-block", "deferred"),
    "norm": ("triton", "torch"), "activation": ("triton", "torch"), "readout": ("triton", "torch"), "launch": ("graph", "eager"),
}  # fmt: skip
OTHER = 7
Item = dict[str, Any]


def run(job: Job) -> None:
    job.rows.clear()
    job.good = False
    models.strict()
    name = "B/16" if job.cuda and not job.quick else "tiny"
    # made once, and shared by the processes that are forked
    models.seeded(name)
    groups = [list(items(job, name, recipe, size)) for recipe, size in _places(job, name)]
    groups += [list(_family(family)) for family in (families.NAMES[:2] if job.quick else families.NAMES)]
    groups += parity_io.items(job, name)
    groups = _first_things_first([[item for item in group if job.only in label(item)] for group in groups])

    def work(item: Item) -> Row | None:
        models.strict()
        return parity_io.check(item, job.device) if item["check"] != "engine" else check(item, job.device)

    count = 0
    for item, result in fleet.spread(groups, work, job.device, job.deadline, job.clock):
        count += 1
        if isinstance(result, fleet.Failure):
            result = {**item, "problems": [f"raised {result.message}"]}
        if result is None:
            continue
        job.row(**result)
        if result["problems"]:
            print(f"BAD {label(result)}: {'; '.join(result['problems'])[:400]}")
    total = sum(map(len, groups))
    if count < total:
        job.left_out.append(f"{total - count} of {total} checks")
    job.good = count == total and not any(row["problems"] for row in job.rows)


def _first_things_first(groups: list[list[Item]]) -> list[list[Item]]:
    """Every recipe and family as it is planned, frames and maps; then plans with one field changed."""
    usual = [[item for item in group if not item.get("settings")] for group in groups]
    changed = [[item for item in group if item.get("settings")] for group in groups]
    return [group for group in (*usual, *changed) if group]


def _places(job: Job, name: str) -> list[tuple[str, tuple[int, int]]]:
    if name == "tiny":
        return [("gem", (24, 40))] if job.quick else [(recipe, size) for size in ((32, 32), (24, 40)) for recipe in RECIPES]
    # first the shape that matters most; gradients, whose reference takes long, at one size and last
    patches = [recipe for recipe, row in RECIPES.items() if row.reads == "patches"]
    others = [(recipe, (208, 320)) for recipe in RECIPES if recipe not in patches]
    return [("gem", (448, 448)), *((recipe, size) for size in ((224, 224), (208, 320)) for recipe in patches), *others]


def items(job: Job, name: str, recipe: str, size: tuple[int, int]) -> Iterator[Item]:
    """The checks of a recipe at a size: every dtype as it is planned, then float16 with one field changed at a time."""
    for batch in (1, 2 if name == "tiny" else 3):
        head = {"check": "engine", "model": name, "recipe": recipe, "size": list(size), "batch": batch}
        for dtype in ("float16", "bfloat16", "float32"):
            yield {**head, "dtype": dtype, "settings": {}}
        # in the interpreter a kernel takes seconds
        if batch == 1 or not job.quick:
            for field in OVERRIDES if RECIPES[recipe].reads == "patches" else ("norm", "launch"):
                options = OVERRIDES[field]
                yield from ({**head, "dtype": "float16", "settings": {field: option}} for option in options)


def _family(name: str) -> Iterator[Item]:
    """The checks of another family's small tower: three kinds of local path, every dtype as it is planned."""
    for recipe in ("gem", "naclip", "maskclip"):
        for batch in (1, 3):
            head = {"check": "engine", "model": name, "recipe": recipe, "size": [24, 40], "batch": batch, "settings": {}}
            yield from ({**head, "dtype": dtype} for dtype in ("float16", "bfloat16", "float32"))


def check(item: Item, device: torch.device) -> Row | None:
    """One row, or None where the settings are impossible, or chosen anyway."""
    from fastloc.engine.vit_engine import Engine

    name, recipe, size, batch, dtype = item["model"], RECIPES[item["recipe"]], tuple(item["size"]), item["batch"], item["dtype"]
    settings = {"dtype": dtype, **item["settings"]}
    planned, usual = (models.possible(device, models.seeded(name), recipe, batch, size, each) for each in (settings, {"dtype": dtype}))
    if planned is None or (item["settings"] and planned == usual):
        return None
    pixels, words = models.pixels(batch, size, device), models.texts(name, device)
    reference, torch_error = expected(name, item["recipe"], size, batch, dtype, device)
    run = Engine(models.tower(name, device, dtype), recipe, settings)
    # as it is, captured, replayed
    found = [run(pixels, words)[0] for _ in range(3)]
    allowed = 2 * torch_error + torch.finfo(DTYPES[dtype]).eps / 2
    errors = [models.distance(each, reference) for each in found]
    row = {**item, "plan": models.brief(planned), "error": max(errors), "torch_error": torch_error, "allowed": allowed}
    # written so that a NaN fails
    problems = [f"call {i}: error {error:.2e} is over {allowed:.2e}" for i, error in enumerate(errors, 1) if not error <= allowed]
    if planned.launch == "graph":
        eager = Engine(models.tower(name, device, dtype), recipe, {**settings, "launch": "eager"})
        other = models.pixels(batch, size, device, seed=OTHER)
        row["replay"] = max(models.distance(found[1], found[0]), models.distance(found[2], found[0]),
                            models.distance(run(other, words)[0], eager(other, words)[0]))  # fmt: skip
        # the graph's buffers are its own: what was returned before is as it was
        if models.distance(found[2], reference) != errors[2]:
            problems.append("a later replay wrote over an earlier result")
        if not row["replay"] <= allowed:
            problems.append(f"a replay differs from the eager call by {row['replay']:.2e}")
    if batch > 1 and not item["settings"]:
        row["alone"] = max(models.distance(run(pixels[i : i + 1], words)[0], found[0][i : i + 1]) for i in range(batch))
        if not row["alone"] <= allowed:
            problems.append(f"an image alone differs from the same in its batch by {row['alone']:.2e}")
    return {**row, "problems": problems}


@cache
def expected(name: str, recipe: str, size: tuple[int, int], batch: int, dtype: str, device: torch.device) -> tuple[Tensor, float]:
    """The exact grids, and the plain pass's error in this dtype."""
    pixels, words, row = models.pixels(batch, size, device), models.texts(name, device), RECIPES[recipe]
    expected = exact(name, recipe, size, batch, device)
    with torch.inference_mode():
        weights = models.tower(name, device, dtype).weights
        plain = grids(weights, pixels, words, row)[0]
    return expected, models.distance(plain, expected)


@cache
def exact(name: str, recipe: str, size: tuple[int, int], batch: int, device: torch.device) -> Tensor:
    # gradients are the reference's own
    with torch.no_grad():
        weights = models.exact_weights(name, device)
        return models.exact(weights, models.pixels(batch, size, device), models.texts(name, device).double(), RECIPES[recipe])


def label(row: Row) -> str:
    settings = " ".join(f"{name}={value}" for name, value in row.get("settings", {}).items()) or "default plan"
    size = "x".join(map(str, row.get("size", row.get("frame", ()))))
    parts = (row["check"], row["model"], row.get("recipe", row.get("what", "")), size, f"b{row['batch']}" if "batch" in row else "",
             row.get("fit", ""), row.get("dtype", row.get("kind", "")), "bgr" if row.get("bgr") else "",
             settings if "settings" in row else "")  # fmt: skip
    return " · ".join(str(each) for each in parts if each)


def lines(record: Row) -> list[str]:
    rows = record["rows"]
    bad = [row for row in rows if row["problems"]]
    lines = [f"{len(rows) - len(bad)} good, {len(bad)} bad"]
    lines += [f"BAD {label(row)}: {'; '.join(row['problems'])[:160]}" for row in bad[:8]]
    if len(bad) > 8:
        lines.append(f"… and {len(bad) - 8} more")
    for dtype in ("float16", "bfloat16", "float32"):
        mine = [row for row in rows if row.get("dtype") == dtype and isinstance(row.get("error"), float) and row.get("settings") == {}]
        if mine:
            worst = max(mine, key=lambda row: row["error"] / row["allowed"])
            lines.append(f"{dtype}: worst {label(worst)}: error {worst['error']:.1e}, torch's own {worst['torch_error']:.1e}; GEM "
                         + ", ".join(f"{row['error']:.1e}" for row in mine if row["recipe"] == "gem"))  # fmt: skip
    replays = [row["replay"] for row in rows if "replay" in row]
    if replays:
        lines.append(f"replays equal to the bit: {sum(each == 0 for each in replays)} of {len(replays)}")
    return lines
