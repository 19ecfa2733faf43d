"""Write tests/goldens/label_sets.json: what mmsegmentation reads of the miniature label sets, with SCLIP's configurations and data sets.

    python benchmarks/official_goldens/from_checkouts/label_sets.py CHECKOUTS [-o FILE]

CHECKOUTS holds the repository SCLIP (wangf3014/SCLIP@b56bd30). The Python that runs it has fastloc, mmsegmentation 1.2.2, mmengine,
mmcv-lite and OpenCV; PYTHONPATH names the repository's folders ., benchmarks and tests/support. mmcv's compiled operators, which
mmsegmentation imports and no reader uses, are stubbed. Ends in an error where OpenCV's pixels of a picture are others than fastloc's.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

import miniature_sets
from fastloc.evaluation.sets.table import open_set

REPO = Path(__file__).resolve().parents[3]
# set -> SCLIP's configuration
CONFIGURATIONS = {
    "voc21": "voc21", "voc20": "voc20", "context60": "context60", "context59": "context59", "coco-object": "coco_object",
    "coco-stuff": "coco_stuff164k", "ade20k": "ade20k", "cityscapes": "city_scapes",
}  # fmt: skip


def registries(checkout: Path) -> Any:
    """mmsegmentation's registry of data sets, SCLIP's among them."""
    import mmcv

    # mmsegmentation 1.2.2 refuses the version of mmcv-lite that there are wheels of
    mmcv.__version__ = "2.1.0"
    sys.modules["mmcv.ops"] = MagicMock()
    from mmengine.registry import init_default_scope

    init_default_scope("mmseg")
    sys.path.insert(0, str(checkout))
    importlib.import_module("custom_datasets")
    return importlib.import_module("mmseg.registry").DATASETS


def read(name: str, built: Any, root: Path, configuration: dict[str, Any]) -> list[dict[str, str]]:
    """Each picture's path and the digest of its labels, uint8 of the picture's size, in mmsegmentation's order."""
    settings = dict(configuration["test_dataloader"]["dataset"], data_root=str(root), test_mode=True)
    # labels are compared at the picture's own size, as the evaluation does after it resizes the answer
    settings["pipeline"] = [step for step in configuration["test_pipeline"] if step["type"] in ("LoadImageFromFile", "LoadAnnotations")]
    found, ours = [], open_set(name, root)
    for sample, item in zip(built.build(settings), ours.items(), strict=True):
        if not np.array_equal(sample["img"][..., ::-1], np.asarray(ours.read(item).picture)):
            raise SystemExit(f"error: {sample['img_path']} has other pixels in OpenCV")
        labels = np.ascontiguousarray(sample["gt_seg_map"])
        path = Path(sample["img_path"]).relative_to(root).as_posix()
        found.append({"picture": path, "labels": hashlib.sha256(labels.tobytes()).hexdigest()})
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=REPO / "tests" / "goldens" / "label_sets.json")
    arguments = parser.parse_args()
    built, golden = registries(arguments.checkouts / "SCLIP"), {}
    for name, file in CONFIGURATIONS.items():
        configuration = runpy.run_path(str(arguments.checkouts / "SCLIP" / "configs" / f"cfg_{file}.py"))
        with tempfile.TemporaryDirectory() as folder:
            miniature_sets.write(name, Path(folder))
            golden[name] = read(name, built, Path(folder), configuration)
    arguments.output.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
