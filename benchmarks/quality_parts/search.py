"""A recipe search: one field of the local path at a time, on training scenes alone; what it ends with is judged on sets that it never saw.

    python benchmarks/quality_parts/search.py                                     # search; needs fonts-noto-color-emoji
    python benchmarks/quality_parts/search.py --judge --real FOLDER --others FOLDER

From each start every other value of every field is measured, and the one with the largest gain is taken: the mean over questions of the
differences of pointing, IoU and area, added up. It has to be more than twice its standard error. That is repeated until no value gains,
three times at most. Steps and judgements are kept in records/search.json, and are not measured again.

    pointing, iou, auc   as in temperature.py; errors are those of a bootstrap over pictures, differences are of the same questions
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from embedded_model.emoji_scenes.concepts import concepts  # noqa: E402
from embedded_model.make_scenes import drawn  # noqa: E402
from fastloc.engine.calibration import at_hand, calibrate  # noqa: E402
from fastloc.engine.localizer import Localizer  # noqa: E402
from fastloc.errors import RecipeError  # noqa: E402
from fastloc.recipes import recipe  # noqa: E402
from fastloc.recipes.schema import Table  # noqa: E402
from fastloc.recipes.temperatures import Temperatures  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402
from gpu_parts.scenes import Scene, quality_set  # noqa: E402
from quality_parts.readouts import Array, Bootstrap  # noqa: E402
from quality_parts.temperature import Embedded, Real, answers  # noqa: E402

RECORD = HERE / "records" / "search.json"
# of no other set: training, tuning, the quality set and the samples have their own
SEED, SCENES = 9_000_004, 60
# a gain counts from this many standard errors on, and a search ends after so many steps
ERRORS, STEPS = 2.0, 3
SCORES = ("pointing", "iou", "auc")
Row = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """Fields of a recipe; the defaults are gem_calibrated's.

    temperature: "rho F", measured on the sample scenes; "number F"; "adaptive", GEM's; or "plain", of projections as they are, at
    head_width^-0.5.
    """

    blocks: int = 6
    terms: tuple[str, ...] = ("vv", "kk", "qq")
    temperature: str = "rho 0.7"
    iterations: int = 0
    residual: bool = False
    bias_std: float | None = None
    score: str = "cosine"
    order: str = "picture"

    @property
    def written(self) -> Row:
        return {**vars(self), "terms": list(self.terms)}

    def on(self, localizer: Localizer, **more: Any) -> Localizer:
        """The model with this choice. Raises RecipeError for fields that cannot go together."""
        row = {**vars(self)}
        kind, _, number = row.pop("temperature").partition(" ")
        row["unit"] = kind != "plain"
        if kind in ("adaptive", "plain"):
            row["inv_temp"] = kind if kind == "adaptive" else None
        else:
            row["inv_temp"] = _table(localizer, float(number), self) if kind == "rho" else float(number)
        return localizer.with_method("gem", official=True, **row, **more)


FIELDS: dict[str, tuple[Any, ...]] = {
    "blocks": (1, 2, 3, 4, 5, 6),
    "terms": (
        ("vv",), ("kk",), ("qq",), ("vv", "kk"), ("vv", "qq"), ("kk", "qq"), ("vv", "kk", "qq"), ("vv", "identity"),
        ("vv", "kk", "identity"),
    ),
    "temperature": (
        "rho 0.2", "rho 0.35", "rho 0.5", "rho 0.6", "rho 0.7", "rho 0.8", "number 5", "number 10", "number 20", "number 40",
        "adaptive", "plain",
    ),
    "iterations": (0, 1, 2), "residual": (False, True), "bias_std": (None, 1.0, 2.0, 5.0), "score": ("cosine", "feature-surgery"),
    "order": ("picture", "grid"),
}  # fmt: skip
STARTS: dict[str, Choice] = {
    "gem_calibrated": Choice(),
    "clip_surgery": Choice(terms=("vv",), temperature="plain", residual=True, score="feature-surgery", order="grid"),
}


@cache
def _model() -> Localizer:
    return Localizer(batch=16)


@cache
def _measured(localizer: Localizer, rho: float) -> Temperatures:
    return calibrate(localizer, at_hand("scenes", 3, (0, 0)), rho=rho, iterations=2)


def _table(localizer: Localizer, rho: float, choice: Choice) -> Table:
    row = recipe("gem", terms=choice.terms, blocks=choice.blocks, iterations=choice.iterations)
    return _measured(localizer, rho).table_for(row)


@cache
def training() -> tuple[tuple[Scene, ...], tuple[str, ...]]:
    """Scenes of a seed of their own, and every name."""
    scenes = tuple(Scene(each.picture, tuple(t.name for t in each.things), np.stack(each.masks)) for each in drawn(SEED, SCENES))
    return scenes, tuple(sorted(concept.name for concept in concepts()))


@cache
def tried(choice: Choice) -> Array:
    """Scores of every question, [questions, SCORES]. Raises RecipeError for fields that cannot go together."""
    scenes, names = training()
    return np.array(answers(choice.on(_model()), list(scenes), list(names), 2))


def against(found: Array, base: Array, again: Bootstrap) -> Row:
    """Means, and differences from `base` with their standard errors; "gain" is the sum of the three."""
    row: Row = {name: _round(value) for name, value in zip(SCORES, found.mean(0), strict=True)}
    row |= {f"{name}_se": _round(value) for name, value in zip(SCORES, again(found).std(0), strict=True)}
    apart = np.column_stack([found - base, (found - base).sum(1)])
    for name, value, error in zip((*(f"{each}_gain" for each in SCORES), "gain"), apart.mean(0), again(apart).std(0), strict=True):
        row |= {name: _round(value), f"{name}_se": _round(error)}
    return {**row, "questions": len(found)}


def _round(value: Any) -> float:
    return round(float(value), 4)


def neighbours(choice: Choice) -> Iterator[tuple[str, Any, Choice]]:
    """(field, value, choice) for every other value of every field."""
    for field, values in FIELDS.items():
        for value in values:
            if value != getattr(choice, field):
                yield field, value, replace(choice, **{field: value})


def search(record: Row) -> None:
    """Take the best field from each start until none gains; the record is written after every step."""
    again = Bootstrap([len(scene.things) for scene in training()[0]])
    err = Console(stderr=True)
    for name, choice in STARTS.items():
        steps = [each for each in record["steps"] if each["start"] == name]
        while not steps or (steps[-1]["taken"] and len(steps) < STEPS):
            choice = _behind(steps[-1]) if steps else choice
            base, trials = tried(choice), []
            for field, value, other in neighbours(choice):
                try:
                    found = against(tried(other), base, again)
                except RecipeError:
                    continue
                trials.append({"start": name, "step": len(steps), "field": field, "value": value, **found})
            best = max(trials, key=lambda trial: trial["gain"])
            taken = best["gain"] > ERRORS * best["gain_se"]
            step = {"field": best["field"], "value": best["value"], "taken": taken}
            steps.append({"start": name, "step": len(steps), **choice.written, **against(base, base, again), **step})
            record["steps"].append(steps[-1])
            record["trials"] += trials
            save(record)
            err.print(f"{name}: {step}, gain {best['gain']} ± {best['gain_se']}")


def save(record: Row, path: Path = RECORD) -> None:
    """Write the record, a row a line."""
    parts = []
    for key, value in record.items():
        rows = ",\n".join(f"    {json.dumps(row)}" for row in value) if isinstance(value, list) else ""
        parts.append(f'  "{key}": ' + (f"[\n{rows}\n  ]" if isinstance(value, list) else json.dumps(value)))
    write_text(path, "{\n" + ",\n".join(parts) + "\n}\n")


def _behind(step: Row) -> Choice:
    """The choice after a step."""
    choice = Choice(**{field: _frozen(step[field]) for field in Choice.__dataclass_fields__})
    return replace(choice, **{step["field"]: _frozen(step["value"])}) if step["taken"] else choice


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def ends(record: Row) -> dict[str, Choice]:
    """The end of the search from each start, behind the starts themselves."""
    found = {}
    for name, start in STARTS.items():
        found[name] = start
        end = _behind([each for each in record["steps"] if each["start"] == name][-1])
        if end not in found.values():
            found[f"found from {name}"] = end
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", action="store_true", help="judge where the search started and ended")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="weights, photographs and masks, as for temperature.py")
    parser.add_argument("--others", type=Path, metavar="FOLDER", help="other photographs with masks, photos.json as in that folder")
    args = parser.parse_args()
    record = {"seed": SEED, "scenes": SCENES, "errors": ERRORS, "steps": [], "trials": [], "judged": []}
    if RECORD.exists():
        record = json.loads(RECORD.read_text(encoding="utf-8"))
    search(record)
    if args.judge:
        judge(record, args)
    return 0


def _sets(args: argparse.Namespace) -> dict[str, Embedded | Real]:
    found: dict[str, Embedded | Real] = {"embedded": Embedded(len(quality_set()), None)}
    return found | {name: Real(folder, None) for name, folder in (("real", args.real), ("others", args.others)) if folder is not None}


def judge(record: Row, args: argparse.Namespace) -> None:
    """Scores of every start and end on sets that the search never saw, and differences from the first start."""
    for name, judged in _sets(args).items():
        scenes = judged.judged if isinstance(judged, Embedded) else judged.photos
        if ends(record).keys() <= {each["label"] for each in record["judged"] if each["set"] == name}:
            continue
        again, base = Bootstrap([len(scene.things) for scene in scenes]), None
        for label, choice in ends(record).items():
            localizer = judged.localizer(96 if isinstance(judged, Embedded) else 336)
            plain = {} if isinstance(judged, Embedded) else {"template": "plain"}
            found = np.array(answers(choice.on(localizer, **plain), scenes, judged.names, 2 if isinstance(judged, Embedded) else 4))
            base = found if base is None else base
            record["judged"] = [each for each in record["judged"] if (each["set"], each["label"]) != (name, label)]
            record["judged"].append({"set": name, "label": label, **choice.written, **against(found, base, again)})
            save(record)


if __name__ == "__main__":
    sys.exit(main())
