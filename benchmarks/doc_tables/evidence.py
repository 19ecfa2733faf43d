"""Write fastloc/embedded/evidence.json from the records: `python benchmarks/doc_tables/evidence.py [--check]`.

The recommended method of a kind is the one with the highest mean of pointing over that kind's sets, of those with official parameters that
every one of these sets has measured. Where only gem_matched was measured, which solves for every picture what gem_calibrated measures once,
it speaks for gem_calibrated and is listed under its own name.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastloc.embedded import EVIDENCE, QUALITY
from fastloc.recipes import RECIPES
from fastloc.utils.atomic_write import write_text

HERE = Path(__file__).resolve().parents[1]
RECORDS = HERE / "records"
# rows that are listed of each set
LISTED = 6
TOWERS = {"siglip": "SigLIP", "pe": "PE"}
Row = dict[str, Any]


def kinds() -> dict[str, dict[str, Any]]:
    """The whole file."""
    return {
        "token": _kind("a class token or the mean of the patches (CLIP, EVA, MobileCLIP-B, TIPS)", _quality(), _others(), _photographs()),
        "pool": _kind("an attention pool (SigLIP, PE, CoCa)", *_pools()),
        "resnet": {
            "kind": "a CLIP ResNet", "best": "clip_surgery", "rows": [],
            "why": "no questions were asked of a ResNet here; CLIP Surgery's authors report it for ResNets (arXiv 2304.05653)",
        },
        "hierarchical": {
            "kind": "a grid that shrinks from stage to stage (MobileCLIP-S, ConvNeXt, Swin)", "best": "grad_cam", "rows": [],
            "why": "the one that was asked here learned its maps from another model, which says nothing of methods; Grad-CAM's authors "
            "report it for convolutional networks (arXiv 1610.02391)",
        },
    }  # fmt: skip


def _kind(kind: str, *sets: Mapping[str, Row]) -> dict[str, Any]:
    shared = set.intersection(*(set(each) for each in sets))
    means = {name: sum(each[name]["pointing"] for each in sets) / len(sets) for name in shared}
    best = max(sorted(means), key=lambda name: means[name])
    second = max((name for name in sorted(means) if name != best), key=lambda name: means[name])
    why = f"the highest mean pointing over {len(sets)} sets, {means[best]:.3f}; the next is {second} with {means[second]:.3f}"
    ranked = [sorted(each.values(), key=lambda row: -row["pointing"])[:LISTED] for each in sets]
    return {"kind": kind, "best": best, "why": why, "rows": [row for rows in ranked for row in rows]}


def _quality() -> dict[str, Row]:
    content = json.loads(QUALITY.read_text(encoding="utf-8"))
    subject = f"the embedded model, {content['scenes']} drawn scenes"
    return {
        name: _row(name, subject, content["questions"], scores["pointing"], scores["auc"])
        for name, scores in content["methods"].items()
        if "(" not in name and name != "gem_matched"
    }


def _photographs() -> dict[str, Row]:
    content = json.loads((RECORDS / "temperature.json").read_text(encoding="utf-8"))
    rows = [row for row in content["rows"] if row["set"] == "real" and row["sweep"] == "published" and "," not in row["label"]]
    # six blocks at gem_calibrated's own parameters
    default = [row for row in content["rows"] if row["set"] == "real" and row["sweep"] == "blocks" and row["label"] == "6"]
    found = {row["label"]: row for row in rows} | {"gem_calibrated": default[0]}
    subject = "a supervised ViT-Tiny, 12 photographs"
    return {name: _row(name, subject, row["questions"], row["pointing"], row["auc"]) for name, row in found.items()}


def _others() -> dict[str, Row]:
    content = json.loads((RECORDS / "search.json").read_text(encoding="utf-8"))
    rows = [row for row in content["judged"] if row["set"] == "others" and row["label"] in RECIPES]
    subject = "a supervised ViT-Tiny, 81 other photographs"
    return {row["label"]: _row(row["label"], subject, row["questions"], row["pointing"], row["auc"], row["pointing_se"]) for row in rows}


def _pools() -> list[dict[str, Row]]:
    content = json.loads((RECORDS / "readouts.json").read_text(encoding="utf-8"))
    found = []
    for name, tower in content["towers"].items():
        rows = [
            row for row in tower["rows"]
            if row["parameters"] == "official" and row["patch_read"] == "pool" and row["rotary"] is not False
        ]  # fmt: skip
        subject = f"a small {TOWERS[name]} trained on drawn scenes, {content['scenes']} of them"
        found.append({})
        for row in rows:
            method = "gem_calibrated" if row["method"] == "gem_matched" else row["method"]
            found[-1][method] = _row(row["method"], subject, content["questions"], row["pointing"], row["auc"], row["pointing_se"])
    return found


def _row(method: str, subject: str, questions: int, pointing: float, auc: float, error: float | None = None) -> Row:
    # of questions that are independent, where the record has none
    error = math.sqrt(pointing * (1 - pointing) / questions) if error is None else error
    return {
        "method": method, "set": subject, "questions": questions, "pointing": round(pointing, 3), "pointing_error": round(error, 3),
        "auc": round(auc, 3),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is not that of the records")
    args = parser.parse_args(arguments)
    made = json.dumps(kinds(), indent=1) + "\n"
    if args.check:
        return int(EVIDENCE.read_text(encoding="utf-8") != made)
    write_text(EVIDENCE, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
