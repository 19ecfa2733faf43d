"""Measure every method on the quality set: does it point at the object?

    python benchmarks/quality.py            # a table
    python benchmarks/quality.py --json     # {method: {"pointing": .., "miou": .., "auc": .., "msc": ..}}
    python benchmarks/quality.py --record   # also writes fastloc/embedded/quality.json, which the README's table is made from;
                                            # with --methods, their rows in it
    python benchmarks/quality.py --model embedded-device --record   # the other one's, in its own folder
    python benchmarks/quality.py --model FOLDER                     # a folder with a model of these scenes

Protocol: the embedded model, 240 held-out scenes, one question for every thing in a scene. All the names of the set are
given as texts, as with a data set's label list, where a method lets texts compete; only the maps of the things that are there are judged.

    pointing  the heatmap's peak lies on the thing (visible pixels of its exact mask)
    miou      intersection over union of heatmap >= 0.5 with the mask, mean over questions
    auc       area under the ROC curve of the heatmap as a score of the thing's pixels, mean over questions
    msc       mean score contrast: mean of the heatmap inside the mask minus its mean outside, mean over questions; below 0 the map is
              opposite. ECLIP's authors name this measure, and their normalisation is not published

A method is measured with its official parameters, and once more, "(recommended)", where the model's configuration carries
parameters that suit it better; a method that its tower does not have is left out. "chance" is the mean share of the picture that a
thing covers.
"""

import argparse
import contextlib
import json
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import fastloc
from fastloc.auto import EMBEDDED
from fastloc.embedded import FOLDERS, QUALITY
from fastloc.engine.localizer import Localizer
from fastloc.errors import ModelError, RecipeError
from fastloc.imaging import heatmaps
from fastloc.recipes import RECIPES
from fastloc.utils.atomic_write import write_text

HERE = Path(__file__).parent
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from gpu_parts.scenes import Scene, quality_set  # noqa: E402

THRESHOLD = 0.5
MEASURES = ("pointing", "miou", "auc", "msc")
Scores = dict[str, float]


def measure(localizer: Localizer, scenes: Sequence[Scene], names: list[str]) -> Scores:
    """The scores of one method over the scenes; `names` are the texts that compete, where they do."""
    means = np.concatenate(judged(localizer, scenes, names)).mean(0)
    return {name: round(float(value), 4) for name, value in zip(MEASURES, means, strict=True)}


def judged(localizer: Localizer, scenes: Sequence[Scene], names: list[str]) -> list[np.ndarray]:
    """Scores of the things of every scene, [things, MEASURES]."""
    results = _results(localizer, scenes, names)
    return [np.array([_judge(*pair) for pair in zip(heat_of(*each), each[0].masks, strict=True)]) for each in results]


def _results(localizer: Localizer, scenes: Sequence[Scene], names: list[str]) -> Iterator[tuple[Scene, fastloc.Result]]:
    # a gradient costs a backward pass a text: those that change nothing are left out
    if localizer.recipe.reads != "patches" and not localizer.recipe.target.startswith("softmax"):
        for scene in scenes:
            yield scene, localizer(scene.picture, list(scene.things))
        return
    for start in range(0, len(scenes), localizer.batch):
        chunk = scenes[start : start + localizer.batch]
        yield from zip(chunk, localizer([scene.picture for scene in chunk], names), strict=True)


def heat_of(scene: Scene, result: fastloc.Result) -> np.ndarray:
    """The heatmaps of the scene's things; a softmax needs all texts, the other read-outs treat each alone."""
    indices = [result.texts.index(thing) for thing in scene.things]
    if result.order == "softmax":
        return result.heatmaps[indices]
    return heatmaps.heatmaps(result.similarity[indices], result.geometry, result.order, result.logit_scale, result.reverse)


def _judge(heat: np.ndarray, mask: np.ndarray) -> tuple[float, ...]:
    warm = heat >= THRESHOLD
    overlap = (warm & mask).sum() / (warm | mask).sum()
    contrast = heat[mask].mean() - heat[~mask].mean()
    return float(mask.flat[heat.argmax()]), float(overlap), auc(heat[mask], heat[~mask]), float(contrast)


def auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """The area under the ROC curve: how often a value inside is above one outside, equal ones half (Mann and Whitney's U)."""
    ordered = np.sort(outside)
    below, upto = (np.searchsorted(ordered, inside, side) for side in ("left", "right"))
    return float((below.sum() + upto.sum()) / (2 * inside.size * outside.size))


def variants(localizer: Localizer, methods: list[str]) -> Iterator[tuple[str, Localizer]]:
    """Every method with its official parameters, then with the model's recommended ones where they differ; none that the tower lacks."""
    for method in methods:
        found = {}
        for suffix, recommended in (("", False), (" (recommended)", True)):
            with contextlib.suppress(ModelError, RecipeError), warnings.catch_warnings():
                # a tower with fewer blocks than the method changes has all of them changed
                warnings.simplefilter("ignore", fastloc.FastlocWarning)
                found[suffix] = localizer.with_method(method, recommended=recommended)
        for suffix, made in found.items():
            if not suffix or "" not in found or made.recipe != found[""].recipe:
                yield method + suffix, made


def run(methods: list[str], limit: int | None, quiet: bool, model: str = EMBEDDED) -> dict[str, Scores]:
    scenes = quality_set()[:limit]
    names = sorted({thing for scene in quality_set() for thing in scene.things})
    # a method that every tower has
    localizer = Localizer(model, method="itsm", batch=16)
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", fastloc.FastlocWarning)
        todo = list(variants(localizer, methods))
        for name, each in track(todo, "measuring", console=Console(stderr=True), disable=quiet, transient=True):
            found[name] = measure(each, scenes, names)
    return found


def chance() -> float:
    return round(float(np.mean([mask.mean() for scene in quality_set() for mask in scene.masks])), 4)


def complete(found: dict[str, Scores], parser: argparse.ArgumentParser, model: str, path: Path) -> dict[str, Scores]:
    """The rows together with the record's rows of all other methods that the model has, in the order of the methods."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    head = {key: value for key, value in record({}).items() if key != "methods"}
    same = all(before.get(key) == value for key, value in head.items())
    again = {name.removesuffix(" (recommended)") for name in found}
    kept = {name: scores for name, scores in before.get("methods", {}).items() if same and name.removesuffix(" (recommended)") not in again}
    rows = {**kept, **found}
    there = [name for name, _ in variants(Localizer(model, method="itsm"), list(RECIPES))]
    lacking = [name for name in there if name not in rows]
    if lacking:
        parser.error(f"a record must be of all methods, got no scores of {', '.join(lacking)}; measure them too")
    places = {name: place for place, name in enumerate(RECIPES)}
    return dict(sorted(rows.items(), key=lambda row: (places[row[0].removesuffix(" (recommended)")], row[0])))


def record(found: dict[str, Scores]) -> dict[str, Any]:
    import torch

    scenes = quality_set()
    return {
        "scenes": len(scenes), "questions": sum(len(scene.things) for scene in scenes), "threshold": THRESHOLD, "chance": chance(),
        "fastloc": fastloc.__version__, "torch": torch.__version__, "machine": platform.machine(), "dtype": "float32", "methods": found,
    }  # fmt: skip


def table(found: dict[str, Scores], model: str) -> Table:
    drawn = Table("method", "pointing", "mIoU", "AUC", "mSC", title=f"{model}, chance {chance():.3f}")
    for name, scores in found.items():
        drawn.add_row(name, *(f"{scores[key]:.3f}" for key in MEASURES))
    return drawn


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED, help="a name or folder (default: embedded)")
    parser.add_argument("--methods", nargs="+", default=list(RECIPES), choices=list(RECIPES), metavar="METHOD")
    parser.add_argument("--limit", type=int, help="measure only the first scenes")
    parser.add_argument("--json", action="store_true", help="print JSON alone to standard output")
    parser.add_argument("--record", action="store_true", help="write the record that the README's table is made from")
    args = parser.parse_args()
    if args.record and args.limit:
        parser.error("a record must be of all scenes; leave --limit out")
    if args.record and args.model not in FOLDERS:
        parser.error(f"a record must be of {' or '.join(FOLDERS)}, got {args.model}; leave --record out")
    found = run(args.methods, args.limit, quiet=not sys.stderr.isatty(), model=args.model)
    if args.record:
        path = FOLDERS[args.model] / QUALITY.name
        write_text(path, json.dumps(record(complete(found, parser, args.model, path)), indent=2) + "\n")
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        Console().print(table(found, args.model))
    return 0


if __name__ == "__main__":
    sys.exit(main())
