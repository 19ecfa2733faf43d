"""Pointing by an example beside pointing by a text: every thing of a scene, looked for by its name, by another picture's example, by both.

    python benchmarks/quality_parts/examples.py                           # a table
    python benchmarks/quality_parts/examples.py --real FOLDER --record    # also writes benchmarks/records/examples.json

Two sets: "embedded", the embedded model on the quality set; "real", a supervised ViT-Tiny on photographs (tests/package/test_real.py). A
question is a thing that another picture of the set shows too; its example is the tight box of its mask in the next such picture, in the
set's order. Each question is asked alone, so that no text competes with an example.

    pointing, iou, auc   as in quality.py, means over questions, with the standard error of a bootstrap over pictures
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import fastloc  # noqa: E402
from fastloc.engine.localizer import Localizer  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402
from gpu_parts.scenes import Scene, quality_set  # noqa: E402
from quality import _judge  # noqa: E402
from quality_parts.temperature import Real  # noqa: E402

RECORD = HERE / "records" / "examples.json"
METHODS = ("gem_calibrated", "clip_surgery", "itsm", "legrad")
RESAMPLES = 2000
# what is looked for: (weights of the example or None, with words)
ASKED: dict[str, tuple[str | None, bool]] = {
    "text": (None, True), "example, box": ("box", False), "example, map": ("map", False), "example, contrast": ("contrast", False),
    "example and text": ("contrast", True),
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A thing in a scene, and where an example of it is."""

    scene: int
    thing: str
    mask: np.ndarray
    other: int
    box: tuple[int, int, int, int]


def questions(scenes: Sequence[Scene]) -> list[Question]:
    shown: dict[str, list[int]] = {}
    for number, scene in enumerate(scenes):
        for thing in scene.things:
            shown.setdefault(thing, []).append(number)
    found = []
    for number, scene in enumerate(scenes):
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            places = shown[thing]
            other = places[(places.index(number) + 1) % len(places)]
            if other != number:
                of_other = scenes[other].masks[scenes[other].things.index(thing)]
                found.append(Question(number, thing, mask, other, tight(of_other)))
    return found


def tight(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box (x0, y0, x1, y1) of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def prompt(question: Question, scenes: Sequence[Scene], weights: str | None, words: bool) -> str:
    if weights is None:
        return question.thing
    picture = scenes[question.other].picture
    return fastloc.Example(picture, question.box, words=question.thing if words else "", weights=weights, name=question.thing)


def measured(localizer: Localizer, scenes: Sequence[Scene], asked: Sequence[Question], weights: str | None, words: bool) -> np.ndarray:
    """[questions, 3]: pointing, overlap, area."""
    rows = []
    for question in asked:
        heat = localizer(scenes[question.scene].picture, prompt(question, scenes, weights, words)).heatmaps[0]
        rows.append(_judge(heat, question.mask)[:3])
    return np.array(rows)


def errors(rows: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Standard errors of the means [3], by resampling pictures."""
    random, every = np.random.default_rng(0), np.unique(pictures)
    groups = {each: rows[pictures == each] for each in every}
    means = [np.concatenate([groups[each] for each in random.choice(every, len(every))]).mean(0) for _ in range(RESAMPLES)]
    return np.std(means, axis=0)


def run(name: str, localizer: Localizer, scenes: Sequence[Scene]) -> Iterator[dict[str, Any]]:
    asked = questions(scenes)
    places = np.array([each.scene for each in asked])
    for method in METHODS:
        # the classifier's text side knows its classes' names alone
        each = localizer.with_method(method, template="plain" if name == "real" else None)
        for title, (weights, words) in ASKED.items():
            # a method of gradients takes the crop's embedding, whatever the weights
            if not (method == "legrad" and weights in ("box", "map")):
                rows = measured(each, scenes, asked, weights, words)
                means, off = rows.mean(0), errors(rows, places)
                scores = {key: [round(float(value), 4) for value in pair] for key, pair in
                          zip(("pointing", "iou", "auc"), zip(means, off, strict=True), strict=True)}  # fmt: skip
                yield {"set": name, "method": method, "asked": title, "questions": len(asked), **scores}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="the ViT-Tiny and its photographs")
    parser.add_argument("--limit", type=int, help="measure only the first scenes")
    parser.add_argument("--record", action="store_true", help="write the record")
    args = parser.parse_args()
    if args.record and (args.limit or not args.real):
        parser.error("a record must be of both sets, whole; give --real, and leave --limit out")
    sets: list[tuple[str, Localizer, Sequence[Scene]]] = []
    if args.real:
        real = Real(args.real, None)
        sets.append(("real", real.localizer(336), real.photos))
    sets.append(("embedded", Localizer(), quality_set()[: args.limit]))
    rows, drawn = [], Table("set", "method", "asked by", "n", "pointing", "iou", "auc")
    for name, localizer, scenes in sets:
        for row in run(name, localizer, scenes):
            rows.append(row)
            cells = (f"{row[key][0]:.3f} ± {row[key][1]:.3f}" for key in ("pointing", "iou", "auc"))
            drawn.add_row(name, row["method"], row["asked"], str(row["questions"]), *cells)
    Console().print(drawn)
    if args.record:
        about = {"fastloc": fastloc.__version__, "torch": torch.__version__, "machine": platform.machine()}
        write_text(RECORD, json.dumps({**about, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
