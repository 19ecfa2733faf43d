"""Temperatures on finer grids than the trained one: rows at several input sizes, on pictures to choose by and on judged ones.

    python benchmarks/quality_parts/temperature_grids.py --real FOLDER --others FOLDER --kept FOLDER

Four sets. To choose by: "scenes", emoji scenes of a seed of their own, and "others", photographs with masks that nothing was chosen on, in
a folder of the same form as the real one. Judged: "embedded" and "real", those of temperature.py. The pass is written out here, so that
rows share the encoder's work and can change it. What each picture gave is a line in --kept, and is not measured again; the record is made
of all lines.

    pointing, iou, auc   as in temperature.py; errors are those of a bootstrap over pictures, differences from "rho 0.7" are of the same
                         questions
    border, long         of the peaks that miss, the share on the grid's border, and on the 5% of tokens that are longest before the last
                         block
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from embedded_model.emoji_scenes.concepts import concepts  # noqa: E402
from embedded_model.make_scenes import drawn  # noqa: E402
from fastloc.utils.system.lines import append  # noqa: E402
from gpu_parts.scenes import Scene  # noqa: E402
from quality_parts.grids_pass import Model, Row, encoded, lengths, peaks, scores, shares, similarity  # noqa: E402
from quality_parts.readouts import Bootstrap  # noqa: E402
from quality_parts.search import against, save  # noqa: E402
from quality_parts.temperature import JUDGED, Embedded, Real  # noqa: E402

RECORD = HERE / "records" / "temperature_grids.json"
# of no other set: training, tuning, the quality set, the samples and the search have their own
SEED, TABLE_SEED, PICTURES = 9_000_011, 9_000_012, 5
SIZES = {"scenes": (96, 144, 192, 288), "embedded": (96, 144, 192, 288), "others": (224, 336, 448, 672), "real": (224, 336, 448, 672)}


_GEM = {"residual": True, "iterations": 1}
FIRST = "rho 0.7"
ROWS: dict[str, Row] = {
    FIRST: Row(),
    "rho 0.5": Row(rho=0.5),
    "rho 0.7 of the trained grid's tokens": Row(power=1.0),
    "5": Row(number=5.0),
    "30": Row(number=30.0),
    "30, residual, iteration": Row(number=30.0, **_GEM),
    "adaptive, residual, iteration (gem)": Row(number="adaptive", **_GEM),
    "rho 0.35": Row(rho=0.35),
    "10": Row(number=10.0),
    "20": Row(number=20.0),
    "rho 0.7, residual": Row(residual=True),
    "10, residual": Row(number=10.0, residual=True),
    "30, residual": Row(number=30.0, residual=True),
    "30, iteration": Row(number=30.0, iterations=1),
    "10, residual, iteration": Row(number=10.0, **_GEM),
    "rho 0.7, map smoothed over a trained cell": Row(smooth=1),
    "rho 0.7, map smoothed over two": Row(smooth=2),
    "rho 0.7, main path at log(N)": Row(logarithm=True),
    "rho 0.7, without the class token": Row(drop="class"),
    "rho 0.7, without the longest tokens": Row(drop="long"),
    "rho 0.7, products in place of cosines": Row(dot=True),
    "rho 0.7, main path at log(N), products": Row(logarithm=True, dot=True),
}


class Scenes(Embedded):
    """Emoji scenes that nothing else is measured on."""

    words = "the embedded model; emoji scenes of a seed of their own"

    def __init__(self) -> None:
        made = drawn(SEED, JUDGED)
        self.judged = [Scene(each.picture, tuple(thing.name for thing in each.things), np.stack(each.masks)) for each in made]
        self.names = sorted(concept.name for concept in concepts())


def sets(real: Path | None, others: Path | None) -> dict[str, tuple[Embedded | Real, list[Any]]]:
    """Each set, and the pictures that its tables are measured on."""
    unseen = [each.picture for each in drawn(TABLE_SEED, PICTURES)]
    found: dict[str, tuple[Embedded | Real, list[Any]]] = {"scenes": (Scenes(), unseen), "embedded": (Embedded(JUDGED, None), unseen)}
    if others is not None:
        asked = Real(others, None)
        found["others"] = asked, asked.rest[:PICTURES]
        if real is not None:
            found["real"] = Real(real, None), asked.rest[:PICTURES]
    return found


@torch.inference_mode()
def measure(model: Model, rows: list[str], lines: Path) -> None:
    """Write a line for every picture and row that has none."""
    done = {(each["picture"], each["row"]) for each in _lines(lines)}
    for i, scene in enumerate(model.scenes):
        paths: dict[tuple[str, bool], Any] = {}
        for label in rows:
            if (i, label) in done:
                continue
            row = ROWS[label]
            pixels, geometry = model.pixels(scene.picture)
            key = row.position, row.logarithm
            if key not in paths:
                paths[key] = encoded(model.weights, pixels, *key)
            kept, grid = paths[key]
            found = similarity(model, row, kept, grid, model.texts[[model.names.index(thing) for thing in scene.things]])
            answers = scores(found, grid, geometry, scene, model.step), peaks(found, grid, lengths(kept, model.weights.spec.prefix))
            line = {"picture": i, "row": label, "scores": answers[0], "peaks": answers[1]}
            append(lines, (json.dumps(line) + "\n").encode())


def _lines(path: Path) -> list[dict[str, Any]]:
    # a killed run may have begun one more
    return [json.loads(line) for line in path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()] if path.exists() else []


def summary(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each row that was measured, over the pictures that were measured with it."""
    by_row: dict[str, dict[int, dict[str, Any]]] = {}
    for each in lines:
        by_row.setdefault(each["row"], {})[each["picture"]] = each
    base, found = by_row.get(FIRST, {}), []
    for label in (label for label in ROWS if label in by_row):
        pictures = sorted(by_row[label].keys() & base.keys())
        mine, firsts = ([np.array(of[i]["scores"]) for i in pictures] for of in (by_row[label], base))
        again = Bootstrap([len(each) for each in mine])
        at = np.concatenate([np.array(by_row[label][i]["peaks"]) for i in pictures])
        values = np.concatenate(mine)
        missed = at[values[:, 0] == 0]
        where = {"border": round(float((missed[:, 1] == 0).mean()), 3), "long": round(float((missed[:, 0] >= 0.95).mean()), 3)}
        found.append({"row": label, **against(values, np.concatenate(firsts), again), **where, "pictures": len(pictures)})
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="weights, photographs and masks of the set 'real'")
    parser.add_argument("--others", type=Path, metavar="FOLDER", help="other photographs in the same form, with the same weights")
    parser.add_argument("--kept", type=Path, required=True, metavar="FOLDER", help="file of measurements that a later run resumes from")
    parser.add_argument("--sets", nargs="+", choices=tuple(SIZES), default=list(SIZES))
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N", help="only these input sizes (default: all)")
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), metavar="ROW", default=list(ROWS))
    args = parser.parse_args()
    args.kept.mkdir(parents=True, exist_ok=True)
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {"attention": []}
    rows = []
    for name, (judged, measured_on) in sets(args.real, args.others).items():
        for size in SIZES[name]:
            lines = args.kept / f"{name}-{size}.jsonl"
            if name in args.sets and size in (args.sizes or SIZES[name]):
                model = Model(judged, size, measured_on)
                measure(model, args.rows, lines)
                # the judged sets have the same model and the same tables
                if name in ("scenes", "others") and (name, size) not in {(each["set"], each["size"]) for each in record["attention"]}:
                    record["attention"].append({"set": name, "size": size, **shares(model)})
                Console(stderr=True).print(f"{name} {size}")
            rows += [{"set": name, "size": size, **row} for row in summary(_lines(lines))]
    save({"attention": record["attention"], "rows": rows}, RECORD)
    return 0


if __name__ == "__main__":
    sys.exit(main())
