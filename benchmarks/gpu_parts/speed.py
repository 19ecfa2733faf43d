"""Contenders end to end, from normalised pixels on the device to similarity grids, in turns within one process for each configuration.

    official float32, official bfloat16   GEM in the official package's tensor ops, eager, TF32 off
    sdpa + graph                          the restructured pass with PyTorch's own ops and fused attention, float16, a CUDA graph
    sdpa flash + graph                    the same, where attention is FlashAttention and nothing else
    default                               fastloc's default plan
    encoder, encoder sdpa + graph         the untouched encoder (recipe itsm) with the default plan, and with PyTorch's own ops
    default, not trusted                  the default plan where the gate found a kernel wrong; "default" then does without it

Errors are of the first image's grids against the same method in float64. Where the part `device` has measured the ceilings, a row has
the least time that its work takes, see `fastloc.bench.roofline.floor`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastloc.bench import run_facts
from fastloc.bench.backends import official_gem
from fastloc.bench.roofline import ceilings, floor
from fastloc.engine.plan import Plan
from fastloc.recipes import RECIPES
from gpu_parts import models, timing
from gpu_parts.job import Job, Row

# model, square input, batch; in the order of what they are worth
CONFIGS = (
    ("B/16", 448, 1), ("B/16", 448, 8), ("B/16", 448, 32), ("L/14", 336, 1), ("L/14", 336, 8), ("L/14", 336, 32),
    ("B/16", 224, 1), ("B/16", 224, 8), ("B/16", 224, 32), ("B/16", 672, 1), ("B/16", 672, 8), ("B/16", 672, 32),
    ("B/16", 896, 1), ("B/16", 896, 8), ("B/16", 896, 32),
)  # fmt: skip
QUICK = (("tiny", 32, 1), ("tiny", 32, 2))
# fastloc alone: that it runs, and what it takes
LARGEST = ("B/16", 1344, 1)
PLAIN = {"attention": "sdpa", "norm": "torch", "activation": "torch", "readout": "torch"}
INPUTS = 4
# N x N maps of the official form that are alive at once, see `official_style`
MAPS = 4
Config = tuple[str, int, int]


def run(job: Job) -> None:
    models.strict()
    small = job.quick or not job.cuda
    for place, config in enumerate(QUICK if small else CONFIGS):
        name = title(config)
        # about what warming up and five samples of the official form take
        if job.has(config=name) or job.late(name, need=2.0 + 2.3e-9 * map_bytes(config, "float32") if job.cuda else 0.0):
            continue
        # the first three carry targets
        seconds = min(6.0 if place < 3 else 4.0, max(job.left() / 4, 0.5))
        measure(job, config, 0.1 if small else seconds, contenders(job, config))
    if small:
        return
    if not job.has(config=title(LARGEST)) and not job.late(title(LARGEST), need=2.0):
        measure(job, LARGEST, 1.5, {"default": contenders(job, LARGEST)["default"]})
        maps = map_bytes(LARGEST, "float32") / 1e9
        job.row(config=title(LARGEST), contender="official float32", ms=None, failed="not run", map_gb=maps, estimate_gb=maps * MAPS)


def title(config: Config) -> str:
    return f"{config[0]} {config[1]} b{config[2]}"


# makes a contender's call when its turn to warm up comes; what it says of itself goes into its row
Made = tuple[Callable[[Tensor], Tensor], Row]


def contenders(job: Job, config: Config) -> dict[str, Callable[[], Made]]:
    """The contenders of a configuration, by name."""
    settings, why = models.fallback(job)
    found: dict[str, Callable[[], Made]] = {}
    for dtype in ("float32", "bfloat16"):
        found[f"official {dtype}"] = lambda dtype=dtype: official(job, config, dtype)  # type: ignore[misc]
    found["sdpa + graph"] = lambda: ours(job, config, "gem", PLAIN, "")
    if job.cuda:
        found["sdpa flash + graph"] = lambda: flash(job, config)
    found["default"] = lambda: ours(job, config, "gem", settings, why)
    if settings and not models.dangerous(job):
        found["default, not trusted"] = lambda: ours(job, config, "gem", {}, "its kernels as they are, which the gate found wrong")
    found["encoder"] = lambda: ours(job, config, "itsm", settings, why)
    found["encoder sdpa + graph"] = lambda: ours(job, config, "itsm", PLAIN, "")
    return found


def official(job: Job, config: Config, dtype: str) -> Made:
    """The eager official form. Raises MemoryError where its maps would not fit."""
    name = config[0]
    needed = map_bytes(config, dtype) * MAPS
    total = torch.cuda.get_device_properties(job.device).total_memory if job.cuda else 8e9
    if needed > 0.75 * total:
        raise MemoryError(f"its N x N maps would take {needed / 1e9:.0f} GB, the device has {total / 1e9:.0f} GB")
    weights = _weights(name, job.device, dtype)
    words = models.texts(name, job.device)

    def call(pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return official_gem.gem(weights, pixels, words)

    return call, {"dtype": dtype}


def flash(job: Job, config: Config) -> Made:
    """The same pass, with FlashAttention alone: a shape that it refuses fails."""
    call, fields = ours(job, config, "gem", PLAIN, "")

    def forced(pixels: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return call(pixels)

    return forced, fields


def ours(job: Job, config: Config, recipe: str, settings: dict[str, str], why: str, dtype: str = "float16") -> Made:
    """An engine. On a CPU it is float32's."""
    from fastloc.engine.vit_engine import Engine

    name, size, batch = config
    dtype = dtype if job.cuda else "float32"
    run = Engine(models.tower(name, job.device, dtype), RECIPES[recipe], {**settings, "dtype": dtype})
    words = models.texts(name, job.device)
    plan = run.plan(batch, (size, size))
    fields = {"dtype": dtype, "plan": models.brief(plan), **({"fallback": why} if why else {})}
    return lambda pixels: run(pixels, words)[0], fields


def _weights(name: str, device: torch.device, dtype: str) -> Any:
    return models.tower(name, device, dtype).weights


def map_bytes(config: Config, dtype: str) -> float:
    """One N x N map of every head."""
    name, size, batch = config
    shape = models.seeded(name).spec
    tokens = 1 + (size // shape.patch[0]) * (size // shape.patch[1])
    return float(batch * shape.heads * tokens**2 * {"float32": 4, "bfloat16": 2}[dtype])


# not inference mode, whose tensors torch.compile does not take everywhere
@torch.no_grad()
def measure(job: Job, config: Config, seconds: float, made: dict[str, Callable[[], Made]]) -> None:
    """Warm every contender up, sample them in turns, and add a row for each."""
    name, size, batch = config
    inputs = [models.drawn_pixels(batch, (size, size), job.device, seed) for seed in range(2 if batch > 8 else INPUTS)]
    running: dict[str, timing.Contender] = {}
    rows: dict[str, Row] = {}
    for contender, make in made.items():
        try:
            call, rows[contender] = make()
        # a plan that is impossible, a tower that does not fit: the others go on
        except Exception as error:
            timing.recover(job.device, timing.first_line(error))
            running[contender], rows[contender] = timing.Contender(lambda i: None, [], error=timing.first_line(error)), {}
            continue
        running[contender] = timing.warmed(lambda i, call=call: call(inputs[i % len(inputs)]), job.device)  # type: ignore[misc]
    _errors(job, config, inputs[0], running, rows)
    # the row that lost the device reports the loss
    timing.rounds(running, job.device, seconds, sample=timing.SAMPLE if job.cuda else 0.0)
    held = run_facts.throttled(str(job.device))
    more = {"throttled": held} if held else {}
    for contender, each in running.items():
        row = {"config": title(config), "model": name, "size": size, "batch": batch, "contender": contender, "method": method(contender)}
        times = timing.fields(each)
        job.row(**row, **rows[contender], **more, **times, **_limit(job, config, contender, rows[contender], times["ms"]))
    print(_line(title(config), {contender: timing.fields(each) for contender, each in running.items()}))
    job.save()
    running.clear()
    timing.recover(job.device, title(config))


def method(contender: str) -> str:
    return "itsm" if contender.startswith("encoder") else "gem"


def _limit(job: Job, config: Config, contender: str, fields: Row, ms: float | None) -> Row:
    """The work of a contender's pass, and the least time for it at the measured ceilings."""
    name, side, batch = config
    if "dtype" not in fields:
        return {}
    spec, hidden, size = models.seeded(name).spec, len(models.seeded(name).blocks[0].fc_b), (side, side)
    if "plan" in fields:
        works = floor.count(spec, RECIPES[method(contender)], Plan(**fields["plan"]), batch, size, models.TEXTS, hidden=hidden)
    else:
        works = floor.official(spec, batch, size, models.TEXTS, dtype=fields["dtype"], hidden=hidden)
    found = floor.totals(works, spec, batch, size, models.TEXTS)
    row: Row = {"gflop": found.gflop, "moved_mb": found.moved_mb, "traffic_mb": found.traffic_mb}
    least = floor.floor(found, fields["dtype"], ceilings.rates((job.other("device") or {"rows": []})["rows"]))
    if least is not None:
        row |= {"floor_ms": least[0], "bound": least[1], **({"achieved": least[0] / ms} if ms else {})}
    return row


def _errors(job: Job, config: Config, pixels: Tensor, running: dict[str, timing.Contender], rows: dict[str, Row]) -> None:
    """Add each contender's error, of its first image, to its row in `rows`."""
    name = config[0]
    expected: dict[str, Tensor] = {}
    words = models.texts(name, job.device)
    weights = models.exact_weights(name, job.device)
    problem = timing.attempt(lambda: expected.update(gem=official_gem.gem(weights, pixels[:1], words.double())), job.device)
    if any(method(contender) == "itsm" for contender in running):
        problem += timing.attempt(lambda: expected.update(itsm=models.exact(weights, pixels[:1], words, RECIPES["itsm"])), job.device)
    if problem:
        print(f"{title(config)}: no exact answer, {problem}")
    for contender, each in running.items():
        recipe = method(contender)
        if not each.error and recipe in expected:
            found: list[float] = []
            each.error = timing.attempt(lambda: found.append(models.off(each.call(0)[:1], expected[recipe])), job.device)  # noqa: B023
            rows[contender]["error"] = found[0] if found else None


def _line(name: str, rows: dict[str, Row]) -> str:
    return f"{name:14}" + "  ".join(f"{contender} {number(row.get('ms'), '.3f')}" for contender, row in rows.items())


def number(value: Any, form: str) -> str:
    """A number, or a dash as wide."""
    width = form.split(".")[0].strip("+")
    return f"{value:{form}}" if isinstance(value, float) else f"{'–':>{width}}" if width else "–"


COLUMNS = {"official float32": "off.f32", "official bfloat16": "off.bf16", "sdpa + graph": "sdpa+gr", "sdpa flash + graph": "flash+gr",
           "default": "default", "default, not trusted": "untrust.", "encoder": "encoder", "encoder sdpa + graph": "enc.sdpa"}  # fmt: skip


def lines(record: Row) -> list[str]:
    """A configuration a line: milliseconds, ratios to the default plan, its memory, its error, the least time over its own."""
    lines = [f"{'ms':14}" + "".join(f"{short:>9}" for short in COLUMNS.values()) + "  x f32 x sdpa  /enc      MB   error  limit"]
    for config in dict.fromkeys(row["config"] for row in record["rows"]):
        mine = [row for row in record["rows"] if row["config"] == config]
        rows = {row["contender"]: row for row in mine}
        ms = {name: rows.get(name, {}).get("ms") for name in COLUMNS}
        best = rows.get("default", {})
        line = f"{config:14}" + "".join(number(each, "9.3f") for each in ms.values())
        line += number(ratio(ms["official float32"], ms["default"]), "7.1f") + number(ratio(ms["sdpa + graph"], ms["default"]), "7.2f")
        line += number(ratio(ms["default"], ms["encoder"]), "6.2f") + number(best.get("working_mb"), "8.0f")
        lines.append(line + number(best.get("error"), "8.0e") + number(best.get("achieved"), "7.1%"))
    failed = {f"{row['contender']} at {row['config']}: {row['failed'][:90]}" for row in record["rows"] if row.get("failed")}
    reasons = {row["fallback"] for row in record["rows"] if row.get("fallback")}
    return [*lines, *sorted(failed)[:5], *sorted(reasons)[:3]]


def ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None
