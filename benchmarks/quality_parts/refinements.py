"""Refinements on the quality set: what maps gain when they follow the picture's edges.

    python benchmarks/quality_parts/refinements.py             # a table
    python benchmarks/quality_parts/refinements.py --record    # also writes benchmarks/records/refinements.json and the table of
                                                               # docs/methods/newer.md; with --methods, of these methods alone

The protocol of quality.py, each method with the parameters that are recommended for the embedded model. Every refinement reads the same
similarities. Texts compete in a propagation (and in a softmax): it is measured with all the names of the set, and with those of the
picture's own things alone. Errors are standard errors of a bootstrap over scenes; those of a difference are of the same scenes.
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import fastloc  # noqa: E402
from doc_tables.markdown_table import markdown  # noqa: E402
from doc_tables.page import BLOCK  # noqa: E402
from fastloc.engine.localizer import Localizer  # noqa: E402
from fastloc.recipes import RECIPES  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402
from gpu_parts.scenes import Scene, names, quality_set  # noqa: E402
from quality import MEASURES, _judge  # noqa: E402
from quality_parts.readouts import RESAMPLES, Bootstrap, _commit  # noqa: E402

RECORD, PAGE = HERE / "records" / "refinements.json", HERE.parent / "docs" / "methods" / "newer.md"
METHODS = ("gem",)
REFINEMENTS = ("none", "pamr", "propagate")
TEXTS = ("all", "own")
REPORTED = ("pointing", "miou", "auc")

Row = dict[str, Any]
Scores = dict[tuple[str, str], np.ndarray]


def results(localizer: Localizer, scenes: Sequence[Scene], texts: str) -> Iterator[tuple[Scene, fastloc.Result]]:
    """The results of the scenes, of all names or of each scene's own."""
    if texts == "own":
        yield from ((scene, localizer(scene.picture, list(scene.things))) for scene in scenes)
        return
    for start in range(0, len(scenes), localizer.batch):
        chunk = scenes[start : start + localizer.batch]
        yield from zip(chunk, localizer([scene.picture for scene in chunk], names()), strict=True)


def heat(scene: Scene, result: fastloc.Result, refinement: str) -> np.ndarray:
    """The heatmaps of the scene's things."""
    indices = [result.texts.index(thing) for thing in scene.things]
    if refinement == "pamr" and result.order != "softmax":
        # each text for itself: the others are left out
        result = replace(result, texts=scene.things, similarity=result.similarity[indices], scores=None, image_scores=None)
        indices = list(range(len(indices)))
    return (result if refinement == "none" else result.refined(refinement)).heatmaps[indices]


def measured(localizer: Localizer, scenes: Sequence[Scene]) -> Scores:
    """Scores of every question for texts and a refinement, [questions, MEASURES]."""
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for texts in TEXTS:
        for scene, result in results(localizer, scenes, texts):
            for refinement in REFINEMENTS:
                maps = heat(scene, result, refinement)
                found.setdefault((texts, refinement), []).extend(_judge(*pair) for pair in zip(maps, scene.masks, strict=True))
    return {key: np.array(values) for key, values in found.items()}


def rows_of(method: str, found: Scores, again: Bootstrap) -> list[Row]:
    """Means, their errors, and differences from the map that is not refined."""
    rows = []
    for (texts, refinement), values in found.items():
        row: Row = {"method": method, "texts": texts, "refinement": refinement}
        for prefix, of in (("", values), ("change_", values - found[texts, "none"])):
            for name in REPORTED:
                column = of[:, MEASURES.index(name)]
                row |= {f"{prefix}{name}": round(float(column.mean()), 4), f"{prefix}{name}_se": round(float(again(column).std()), 4)}
        rows.append(row)
    return rows


def table(record: Row) -> str:
    """Each method without a refinement, and what each refinement adds."""
    rows = []
    for row in record["rows"]:
        plain = row["refinement"] == "none"
        cells = (
            f"{row[name]:.3f} ± {row[f'{name}_se']:.3f}" if plain
            else f"{100 * row[f'change_{name}']:+.1f} ± {100 * row[f'change_{name}_se']:.1f}"
            for name in REPORTED
        )  # fmt: skip
        rows.append((f"`{row['method']}`", row["texts"], "" if plain else f"`{row['refinement']}`", *cells))
    return markdown(("method", "texts", "refinement", "pointing", "mIoU", "AUC"), rows, right=3)


def filled(text: str, record: Row) -> str:
    """The page with this table made anew; other tables stay as they are."""
    return BLOCK.sub(lambda block: block["start"] + table(record) + block["end"] if block["name"] == "refinements" else block[0], text)


def current(text: str) -> str:
    """The page with its table made of the record as it is."""
    return filled(text, json.loads(RECORD.read_text(encoding="utf-8")))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=tuple(RECIPES), metavar="METHOD")
    parser.add_argument("--limit", type=int, help="measure only the first scenes")
    parser.add_argument("--record", action="store_true", help="write the record and the page's table")
    args = parser.parse_args(arguments)
    if args.record and args.limit:
        parser.error("a record must be of all scenes; leave --limit out")
    scenes, localizer, rows = quality_set()[: args.limit], Localizer(batch=16, device="cpu"), []
    again = Bootstrap([len(scene.things) for scene in scenes])
    for method in args.methods:
        rows += rows_of(method, measured(localizer.with_method(method), scenes), again)
        print(f"{method} is measured", file=sys.stderr, flush=True)
    record = {
        "scenes": len(scenes), "questions": sum(len(scene.things) for scene in scenes), "names": len(names()), "resamples": RESAMPLES,
        "date": datetime.now(UTC).date().isoformat(), "commit": _commit(), "fastloc": fastloc.__version__,
        "machine": platform.machine(), "rows": rows,
    }  # fmt: skip
    if args.record:
        write_text(RECORD, json.dumps(record, indent=1) + "\n")
        write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), record))
    print(table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
