"""Measure how well scores separate texts that are in a picture from texts that are not: the quality set, every method.

    python benchmarks/quality_parts/presence.py                # a table
    python benchmarks/quality_parts/presence.py --record       # also writes benchmarks/records/presence.json
    python benchmarks/quality_parts/presence.py --calibrate    # also writes the fit into the embedded model's configuration

Of each scene its own things are present, and all other names of the set are absent. All scenes' pairs are pooled: a threshold that a person
sets is one for every picture and every text.

    auc      area under the ROC curve of `Result.scores`; a calibration does not change it
    found    share of the present texts whose score is 0.5 or more, and `false` the same of the absent ones, with slope and offset fitted
             on one half of the scenes and judged on the other, both ways
    peak     the area of the highest similarity of the map in the score's place, for methods that read patch features

`candidates` of the record are other definitions that were tried: of the picture's embedding ("image") or the best patch ("patch"), the
cosine alone, or against the template without a thing ("empty"), against the sum over 20 background words ("sum") or their mean ("mean").
Slope and offset are a logistic regression of presence on the difference of logits, both classes of equal weight: one for the model as it
is, over all methods, and one with its own projections.
"""

import argparse
import json
import platform
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import fastloc  # noqa: E402
from fastloc.embedded import CONFIG  # noqa: E402
from fastloc.engine.localizer import Localizer  # noqa: E402
from fastloc.functional import readout, vit  # noqa: E402
from fastloc.recipes import RECIPES, recipe  # noqa: E402
from fastloc.recipes.presence import Calibration, presence  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402
from fastloc.video.temporal import BACKGROUND  # noqa: E402
from gpu_parts import scenes  # noqa: E402

RECORD = HERE / "records" / "presence.json"
# what slope and offset are fitted for: the model as it is, and with its own projections
PLAIN, PROJECTED = "plain", "projected"

Array = np.ndarray[Any, np.dtype[np.float64]]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="measure only the first scenes")
    parser.add_argument("--record", action="store_true", help="write the record")
    parser.add_argument("--calibrate", action="store_true", help="write the fit into the embedded model's configuration")
    args = parser.parse_args(arguments)
    if args.limit and (args.record or args.calibrate):
        parser.error("a record and a calibration must be of all scenes; leave --limit out")
    found = measured(args.limit)
    for row in found["methods"]:
        peak = f"{row['peak']:.3f}" if row["peak"] else "     "
        print(f"{row['method']:18} auc {row['auc']:.3f}  found {row['found']:.1%}  false {row['false']:.1%}  peak {peak}")
    print(json.dumps(found["calibrations"]))
    if args.record:
        lines = ",\n".join("  " + json.dumps(row) for row in found["methods"])
        head = {key: value for key, value in found.items() if key != "methods"}
        write_text(RECORD, json.dumps(head, indent=1)[:-2] + ',\n "methods": [\n' + lines + "\n ]\n}\n")
    if args.calibrate:
        content = json.loads(CONFIG.read_text(encoding="utf-8"))
        content["fastloc"]["presence"] = found["calibrations"]
        write_text(CONFIG, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return 0


def measured(limit: int | None) -> dict[str, Any]:
    """The record."""
    chosen = scenes.quality_set()[:limit]
    there = np.array([[name in scene.things for name in scenes.names()] for scene in chosen])
    localizer, logits, rows = Localizer(), {}, []
    with warnings.catch_warnings():
        # of the background's words this small model knows few
        warnings.simplefilter("ignore", fastloc.FastlocWarning)
        for method in RECIPES:
            tried = candidates(localizer.with_method(method), chosen)
            logits[method] = tried["image, empty"]
            areas = {name: _area(there, values) for name, values in tried.items()}
            rows.append({"method": method, "auc": areas["image, empty"], "peak": areas.get("patch, cosine"), "candidates": areas})
            print(f"{method}: {rows[-1]['auc']}", file=sys.stderr, flush=True)
    pooled = {kind: [logits[name] for name, row in RECIPES.items() if row.trained == (kind == PROJECTED)] for kind in (PLAIN, PROJECTED)}
    for row in rows:
        row |= _halves(there, logits[row["method"]], pooled[PROJECTED if RECIPES[row["method"]].trained else PLAIN])
    fits = {kind: _fitted(there, each) for kind, each in pooled.items()}
    return {
        "scenes": len(chosen), "present": int(there.sum()), "absent": int((~there).sum()), "fastloc": fastloc.__version__,
        "torch": torch.__version__, "machine": platform.machine(), "model_sha256": scenes.fingerprint(),
        "calibrations": {kind: {"slope": fit.slope, "offset": fit.offset} for kind, fit in fits.items()}, "methods": rows,
    }  # fmt: skip


def candidates(localizer: Localizer, chosen: tuple[scenes.Scene, ...]) -> dict[str, Array]:
    """Differences of logits [scenes, names] for each definition."""
    row, scale, names = localizer.recipe, localizer.logit_scale, scenes.names()
    text = localizer.source.text
    words = torch.cat([text([*names, *BACKGROUND], localizer.template), text.empty(localizer.template)[None]])
    # gradients are of the encoder's own embedding: no backward pass is needed for it
    features = row if row.reads == "patches" else recipe("itsm", position=row.position)
    found: dict[str, list[Array]] = {}
    for cosines, patches in _cosines(localizer, features, chosen, words):
        for name, values in _differences(scale * cosines, len(names)).items():
            found.setdefault(f"image, {name}", []).append(values)
        if row.reads == "patches":
            shown = -patches if row.readout.reverse else patches
            for name, values in _differences(scale * shown, len(names)).items():
                found.setdefault(f"patch, {name}", []).append(values.max(1))
    _check(localizer, chosen[0], found["image, empty"][0])
    return {name: np.stack(each) for name, each in found.items()}


def _cosines(localizer: Localizer, row: Any, chosen: tuple[scenes.Scene, ...], words: torch.Tensor) -> Iterator[tuple[Array, Array]]:
    """Cosines of each scene's embedding [texts] and of its patches [texts, patches]."""
    for scene in chosen:
        pixels = localizer.pixels(scene.picture, localizer.geometry(scene.picture.size[::-1]))[None]
        with torch.inference_mode():
            out = vit.forward(localizer.source.vit, pixels, row, cls=True)
            assert out.cls is not None
            yield readout.image_scores(out.cls, words)[0].double().numpy(), readout.cosine(out.patches, words)[0].double().numpy()


def _differences(logits: Array, count: int) -> dict[str, Array]:
    """Differences of the names' logits from each background's, of [names + background + 1] or [names + background + 1, patches]."""
    names, background, empty = logits[:count], logits[count:-1], logits[-1]
    highest = background.max(0)
    total = np.log(np.exp(background - highest).sum(0)) + highest
    return {"cosine": names, "empty": names - empty, "sum": names - total, "mean": names - total + np.log(len(background))}


def _check(localizer: Localizer, scene: scenes.Scene, logits: Array) -> None:
    """Raise AssertionError unless the logits give the scores that a Result holds."""
    asked = scenes.names()[:3]
    result = localizer(scene.picture, asked)
    expected = presence(logits[:3] / localizer.logit_scale, 0.0, localizer.logit_scale, localizer.calibration)
    assert result.scores is not None
    assert np.abs(result.scores - expected).max() < 1e-4, f"{localizer.method}: {result.scores} is not {expected}"


def _area(there: Array, values: Array) -> float:
    return round(float(roc_auc_score(there.ravel(), values.ravel())), 4)


def _fitted(there: Array, tried: list[Array]) -> Calibration:
    """One calibration for the differences of logits of several methods."""
    pairs = np.concatenate([each.ravel() for each in tried])[:, None]
    model = LogisticRegression(class_weight="balanced", C=1e6).fit(pairs, np.tile(there.ravel(), len(tried)))
    return Calibration(round(float(model.coef_[0, 0]), 3), round(float(model.intercept_[0]), 3))


def _halves(there: Array, logits: Array, tried: list[Array]) -> dict[str, float]:
    """Shares of the present and of the absent texts that score 0.5 or more, each half of the scenes by the fit on the other one."""
    high = np.zeros_like(there)
    for half in (slice(0, None, 2), slice(1, None, 2)):
        other = slice(1 - half.start, None, 2)
        fit = _fitted(there[other], [each[other] for each in tried])
        high[half] = fit.slope * logits[half] + fit.offset >= 0
    return {"found": round(float(high[there].mean()), 4), "false": round(float(high[~there].mean()), 4)}


if __name__ == "__main__":
    sys.exit(main())
