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
from fastloc.evaluation.rows import Row, decoded
from fastloc.evaluation.running.evaluate import Evaluated, evaluate
from fastloc.evaluation.samples import IGNORE
from fastloc.evaluation.sets.more import MORE
from repo import REPO

REAL = Path(os.environ.get("FASTLOC_REAL", REPO.parent / "shared" / "real"))
pytestmark = pytest.mark.skipif(not (REAL / "photos.json").exists(), reason="the real weights and photographs are not at hand")
UNLABELLED = 0
HALF = (0.5, 0.5, 0.5)


@cache
def described() -> dict[str, Any]:
    found = json.loads((REAL / "photos.json").read_text(encoding="utf-8"))
    # as a folder lists them
    found["photos"].sort(key=lambda photo: photo["file"])
    return found


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


def write_coco(root: Path, named: dict[int, str]) -> None:
    """Write the set in COCO's own layout: one annotation of each named class of a picture, with run lengths."""
    shutil.copytree(REAL / "photos", root / "val2017")
    images, annotations = [], []
    for photo in described()["photos"]:
        labels, file = numbers(photo), Path(photo["file"]).name
        number = int(Path(file).stem)
        images.append({"id": number, "file_name": file, "height": labels.shape[0], "width": labels.shape[1]})
        for each in sorted(set(np.unique(labels).tolist()) & set(named)):
            mask = labels == each
            x0, y0, x1, y1 = miniature.box(mask)
            runs = {"size": list(labels.shape), "counts": miniature.runs_of(mask)}
            annotations.append({"id": len(annotations), "image_id": number, "category_id": each, "bbox": [x0, y0, x1 - x0, y1 - y0],
                                "segmentation": runs, "area": int(mask.sum()), "iscrowd": 1})  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in named.items()]
    (root / "annotations").mkdir()
    miniature.write_json(root / "annotations" / "instances_val2017.json",
                         {"images": images, "annotations": annotations, "categories": categories})  # fmt: skip


@pytest.mark.slow("decodes photographs")
def test_both_forms_have_the_masks_and_each_other_s_labels(tmp_path: Path) -> None:
    options = write_folder(tmp_path / "folder", names())
    assert options == {"ignore": str(UNLABELLED)}
    write_coco(tmp_path / "coco", names())
    assert MORE["folder"].missing("folder", tmp_path / "folder", options) == []
    assert MORE["coco-json"].missing("coco-json", tmp_path / "coco", {}) == []
    folder = MORE["folder"].open("folder", tmp_path / "folder", options)
    coco = MORE["coco-json"].open("coco-json", tmp_path / "coco", {"unlabelled": "ignore"})
    asked = MORE["coco-boxes"].open("coco-boxes", tmp_path / "coco", {})
    assert folder.classes == coco.classes == asked.classes == tuple(names()[number] for number in sorted(names()))
    items = {each.key: each for each in coco.items()}
    boxes = {each.key: each for each in asked.items()}
    assert len(items) == len(boxes) == len(folder.items()) == len(described()["photos"]) == 12
    for item, photo in zip(folder.items(), described()["photos"], strict=True):
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


def understood() -> dict[int, str]:
    """The numbers of things in the photographs whose names mean something to the model."""
    known = {name for photo in described()["photos"] for name in photo["understood"]}
    return {number: name for number, name in names().items() if name in known}


def evaluated(name: str, root: Path, output: Path, methods: tuple[str, ...], options: dict[str, str]) -> list[Evaluated]:
    return evaluate(
        name, root, methods=methods, model=REAL / "ViT-Ti-16-in1k.json", pretrained=str(REAL / "vit_tiny_in1k.safetensors"),
        changes={"template": "plain"}, set_options=options, output=output, size=336, mean=HALF, std=HALF,
    )  # fmt: skip


def rows(run: Evaluated) -> dict[str, Row]:
    found = [decoded(line, "a row") for line in (run.folder / "rows.jsonl").read_bytes().splitlines()]
    return {row.key: row for row in found}


@pytest.mark.slow("a real ViT on photographs, three times")
def test_a_folder_and_a_coco_file_of_the_same_photographs_have_the_same_rows(tmp_path: Path) -> None:
    options = write_folder(tmp_path / "folder", understood())
    write_coco(tmp_path / "coco", understood())
    raw, repaired = evaluated("folder", tmp_path / "folder", tmp_path / "runs", ("itsm", "clip_surgery"), options)
    for run in (raw, repaired):
        assert (run.summary.pictures, run.summary.failed) == (12, 0)
        assert len(run.summary.classes) == len(understood()) == 17
    # mIoU of 17 classes in 12 photographs: 0.26 with a standard error of 0.03, and 0.50 with one of 0.06
    assert repaired.summary.figures["miou"].value > raw.summary.figures["miou"].value + 0.1
    [again] = evaluated("coco-json", tmp_path / "coco", tmp_path / "coco runs", ("clip_surgery",), {"unlabelled": "ignore"})
    assert rows(again) == rows(repaired) and again.summary == repaired.summary
    # a photograph that is cut short, and a mask of another size, are counted, and the rest is as it was
    cut, other = sorted((tmp_path / "folder" / "pictures").iterdir())[2:4]
    cut.write_bytes(cut.read_bytes()[:9000])
    Image.new("L", (9, 9)).save(tmp_path / "folder" / "masks" / f"{other.stem}.png")
    [damaged] = evaluated("folder", tmp_path / "folder", tmp_path / "damaged", ("clip_surgery",), options)
    assert (damaged.summary.pictures, damaged.summary.failed) == (10, 2) and len(rows(damaged)) == 12
    assert {each.key for each in damaged.summary.failures} == {cut.name, other.name}
    kept = {key: row for key, row in rows(repaired).items() if key not in (cut.name, other.name)}
    assert {key: row for key, row in rows(damaged).items() if not row.error} == kept
