"""Twelve photographs of COCO with their masks as sets: a folder of your own, and a COCO file, where they are at hand."""

import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import miniature_more as miniature
from fastloc.evaluation.samples import IGNORE
from fastloc.evaluation.sets.more import MORE
from repo import REPO

REAL = Path(os.environ.get("FASTLOC_REAL", REPO.parent / "shared" / "real"))
pytestmark = pytest.mark.skipif(not (REAL / "photos.json").exists(), reason="the real weights and photographs are not at hand")
UNLABELLED = 0


@cache
def described() -> dict[str, Any]:
    return json.loads((REAL / "photos.json").read_text(encoding="utf-8"))


def names() -> dict[int, str]:
    return {int(number): name for number, name in described()["classes"].items() if int(number) != UNLABELLED}


def numbers(photo: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(REAL / photo["mask"]))


def write_folder(root: Path, named: dict[int, str]) -> dict[str, str]:
    """The photographs as a folder whose masks keep COCO's numbers; returns the options that ignore all numbers without a name."""
    shutil.copytree(REAL / "photos", root / "pictures")
    shutil.copytree(REAL / "masks", root / "masks")
    miniature.write_json(root / "names.json", named)
    found = {int(each) for photo in described()["photos"] for each in np.unique(numbers(photo))}
    return {"ignore": ",".join(map(str, sorted(found - set(named))))}


def write_coco(root: Path) -> None:
    """The same as COCO's own layout: one annotation a class of a picture, with run lengths."""
    shutil.copytree(REAL / "photos", root / "val2017")
    images, annotations = [], []
    for photo in described()["photos"]:
        labels, file = numbers(photo), Path(photo["file"]).name
        number = int(Path(file).stem)
        images.append({"id": number, "file_name": file, "height": labels.shape[0], "width": labels.shape[1]})
        for each in np.unique(labels[labels != UNLABELLED]).tolist():
            mask = labels == each
            x0, y0, x1, y1 = miniature.box(mask)
            runs = {"size": list(labels.shape), "counts": miniature.runs_of(mask)}
            annotations.append({"id": len(annotations), "image_id": number, "category_id": each, "bbox": [x0, y0, x1 - x0, y1 - y0],
                                "segmentation": runs, "area": int(mask.sum()), "iscrowd": 1})  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in names().items()]
    (root / "annotations").mkdir()
    miniature.write_json(root / "annotations" / "instances_val2017.json",
                         {"images": images, "annotations": annotations, "categories": categories})  # fmt: skip


@pytest.mark.slow("decodes photographs")
def test_both_forms_have_the_masks_and_each_other_s_labels(tmp_path: Path) -> None:
    options = write_folder(tmp_path / "folder", names())
    assert options == {"ignore": str(UNLABELLED)}
    write_coco(tmp_path / "coco")
    assert MORE["folder"].missing("folder", tmp_path / "folder", options) == []
    assert MORE["coco-json"].missing("coco-json", tmp_path / "coco", {}) == []
    folder = MORE["folder"].open("folder", tmp_path / "folder", options)
    coco = MORE["coco-json"].open("coco-json", tmp_path / "coco", {"unlabelled": "ignore"})
    asked = MORE["coco-boxes"].open("coco-boxes", tmp_path / "coco", {})
    assert folder.classes == coco.classes == asked.classes == tuple(names()[number] for number in sorted(names()))
    items = {each.key: each for each in coco.items()}
    boxes = {each.key: each for each in asked.items()}
    assert len(items) == len(boxes) == len(folder.items()) == len(described()["photos"]) == 12
    for item, photo in zip(folder.items(), sorted(described()["photos"], key=lambda each: each["file"]), strict=True):
        sample, again = folder.read(item), coco.read(items[item.key])
        truth = numbers(photo)
        assert IGNORE == -1 and np.array_equal(sample.labels == IGNORE, truth == UNLABELLED)
        values = np.array([*sorted(names()), UNLABELLED])
        # IGNORE is the last index
        assert np.array_equal(values[sample.labels], truth)
        assert np.array_equal(sample.labels, again.labels)
        assert np.array_equal(np.asarray(sample.picture), np.asarray(again.picture))
        for question in asked.read(boxes[item.key]).questions:
            [(x0, y0, x1, y1)] = question.boxes
            inside = sample.labels == question.label
            assert inside[int(y0) : int(y1), int(x0) : int(x1)].sum() == inside.sum() > 0
