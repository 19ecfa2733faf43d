"""Choose the recipe parameters that an embedded model's configuration recommends.

    python benchmarks/embedded_model/tune.py --write
    python benchmarks/embedded_model/tune.py --model embedded-device --write

Every combination of a method's grid is measured by pointing accuracy, then pixel AUC, on scenes of a seed of their own: neither
training nor the quality set ever sees them. The best goes into the configuration (--write), all go into the record.
"""

import argparse
import contextlib
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

HERE = Path(__file__).resolve().parents[1]
# the packages of benchmarks/ are found wherever this is started
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from embedded_model.emoji_scenes.concepts import concepts  # noqa: E402
from embedded_model.make_scenes import TUNING_SEED, drawn  # noqa: E402
from fastloc.embedded import CONFIG, FOLDERS  # noqa: E402
from fastloc.engine.localizer import Localizer  # noqa: E402
from fastloc.errors import RecipeError  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402
from quality import Scene, measure  # noqa: E402

RECORDS = {name: HERE / "records" / f"{name.removeprefix('embedded-')}_tuning.json" for name in FOLDERS}
SCENES = 100
# the input that the first model was trained at, and 14 cells a side for the other, which points as often at more; pictures keep their shape
SIZES, FIT = {"embedded": 96, "embedded-device": 112}, "aspect"
GRIDS: dict[str, dict[str, dict[str, tuple[Any, ...]]]] = {
    "embedded": {
        "gem": {"blocks": (4, 5, 6), "iterations": (0, 1), "inv_temp": (5.0, 10.0, 20.0), "residual": (True, False)},
        "clip_surgery": {"blocks": (4, 5, 6), "residual": (True, False)},
        "clearclip": {"blocks": (1, 3, 4, 5, 6)},
        "naclip": {"blocks": (1, 3, 5, 6), "bias_std": (1.0, 5.0)},
    },
    # two blocks have attention
    "embedded-device": {
        "gem": {"blocks": (1, 2), "iterations": (0, 1), "inv_temp": (5.0, 10.0, 20.0)},
        "gem_matched": {"blocks": (1, 2)},
        "clip_surgery": {"blocks": (1, 2), "mlp": (True, False)},
    },
}


def tune(localizer: Localizer, count: int, grids: dict[str, dict[str, tuple[Any, ...]]]) -> dict[str, list[dict[str, Any]]]:
    """For each method its combinations, best first: {"changes", "pointing", "miou", "auc"}."""
    scenes = [Scene(scene.picture, tuple(thing.name for thing in scene.things), scene.masks) for scene in drawn(TUNING_SEED, count)]
    names = sorted(concept.name for concept in concepts())
    found: dict[str, list[dict[str, Any]]] = {}
    trials = [(method, values) for method, grid in grids.items() for values in product(*grid.values())]
    for method, values in track(trials, "tuning", console=Console(stderr=True)):
        changes = dict(zip(grids[method], values, strict=True))
        # an MLP is kept in recipes of one block alone
        with contextlib.suppress(RecipeError):
            scores = measure(localizer.with_method(method, recommended=False, fit=FIT, **changes), scenes, names)
            found.setdefault(method, []).append({"changes": changes, **scores})
    return {method: sorted(rows, key=lambda row: (row["pointing"], row["auc"]), reverse=True) for method, rows in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", choices=list(FOLDERS))
    parser.add_argument("--write", action="store_true", help="write the best into the model's configuration, and the record")
    parser.add_argument("--scenes", type=int, default=SCENES)
    args = parser.parse_args()
    size = SIZES[args.model]
    found = tune(Localizer(args.model, method="itsm", size=size, fit=FIT, recommended=False, batch=16), args.scenes, GRIDS[args.model])
    for method, rows in found.items():
        print(method, *rows[:3], sep="\n  ")
    if args.write:
        config, record = FOLDERS[args.model] / CONFIG.name, RECORDS[args.model]
        content = json.loads(config.read_text(encoding="utf-8"))
        best = {method: rows[0]["changes"] for method, rows in found.items()}
        content["fastloc"]["recommended"] = {"size": size, "fit": FIT, "recipes": best}
        write_text(config, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        record.parent.mkdir(exist_ok=True)
        write_text(record, json.dumps({"seed": TUNING_SEED, "scenes": args.scenes, "methods": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
