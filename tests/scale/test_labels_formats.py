"""Labels hold what the rows hold: pictures, boxes, masks and scores, read back from each format."""

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from scipy import ndimage

from fastloc.imaging import images
from fastloc.scale import Locate
from fastloc.scale.batch import batch
from fastloc.scale.labels.convert import convert
from fastloc.scale.labels.label_studio import brush
from fastloc.scale.labels.masks import polygon
from label_rows import TEXTS, Drawn, blobs, comparable, drawn, objects, save_pictures, write_batch
from repo import REPO


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    return write_batch(tmp_path / "out", drawn())


def test_pycocotools_reads_pictures_categories_boxes_and_masks(folder: Path, tmp_path: Path) -> None:
    written = convert(folder, "coco", tmp_path / "found.json")
    read = COCO(str(tmp_path / "found.json"))
    assert [(each["id"], each["name"]) for each in read.loadCats(read.getCatIds())] == list(enumerate(TEXTS, 1))
    assert (written.pictures, written.objects, written.texts) == (5, len(read.anns), 3)
    for number, picture in enumerate(drawn(), 1):
        [image] = read.loadImgs(number)
        assert (image["file_name"], image["height"], image["width"]) == (picture.key, *picture.masks[0].shape)
        labels = read.loadAnns(read.getAnnIds(number))
        found = [(each["category_id"] - 1, each["bbox"], read.annToMask(each)) for each in labels]
        assert comparable(found) == comparable(objects(picture))
        for each in labels:
            assert each["area"] == read.annToMask(each).sum() and each["iscrowd"] == 0
            assert each["score"] == pytest.approx(picture.scores[each["category_id"] - 1])


def test_pycocotools_evaluates_the_labels_against_themselves(folder: Path, tmp_path: Path) -> None:
    from pycocotools.cocoeval import COCOeval

    convert(folder, "coco", tmp_path / "found.json")
    truth = COCO(str(tmp_path / "found.json"))
    results = truth.loadRes([dict(each) for each in truth.anns.values()])
    for kind in ("bbox", "segm"):
        judged = COCOeval(truth, results, kind)
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
        assert judged.stats[0] == pytest.approx(1)


def test_rows_without_masks_are_boxes(tmp_path: Path) -> None:
    convert(write_batch(tmp_path / "out", drawn(), masks=False), "coco", tmp_path / "found.json")
    labels = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["annotations"]
    assert labels and all("segmentation" not in each and each["area"] == each["bbox"][2] * each["bbox"][3] for each in labels)


@pytest.mark.parametrize("seed", range(20))
def test_a_polygon_follows_the_edge_of_its_region(seed: int) -> None:
    numbered, count = ndimage.label(blobs(seed, 150, 200), np.ones((3, 3)))
    region = numbered == 1 + seed % count
    corners = polygon(region)
    grown = Image.new("1", (200 * 8, 150 * 8))
    ImageDraw.Draw(grown).polygon([(x * 8, y * 8) for x, y in corners.tolist()], fill=1)
    # how much of each pixel lies within
    share = np.asarray(grown).reshape(150, 8, 200, 8).mean((1, 3))
    filled = ndimage.binary_fill_holes(region)
    inner, outer = ndimage.binary_erosion(filled, np.ones((3, 3))), ndimage.binary_dilation(filled, np.ones((3, 3)))
    assert (share[inner] > 0.5).all() and (share[~outer] < 0.5).all()
    assert abs(share.sum() - filled.sum()) < 0.05 * filled.sum() + 8
    assert len(corners) < 3 + np.count_nonzero(filled & ~inner)


@pytest.mark.parametrize("mask", [[[1]], [[1, 1]], [[1], [1], [1]], [[1, 0], [0, 1]], [[0, 1], [1, 0]], [[1, 1, 1], [1, 0, 1], [1, 1, 1]]])
def test_a_polygon_of_few_pixels_encloses_them(mask: list[list[int]]) -> None:
    corners = polygon(np.array(mask, bool))
    assert len(corners) >= 3
    assert corners.min(0).tolist() == [0, 0] and corners.max(0).tolist() == [len(mask[0]), len(mask)]


def test_yolo_names_classes_and_labels_pictures(folder: Path, tmp_path: Path) -> None:
    pictures = save_pictures(tmp_path / "pictures", drawn()[:3] + drawn()[4:])
    (pictures / "rows.parquet#7").write_bytes(b"")
    convert(folder, "yolo", tmp_path / "yolo", images=str(pictures))
    with (tmp_path / "yolo/labels.csv").open(encoding="utf-8", newline="") as table:
        listed = {row["key"]: row["label"] for row in csv.DictReader(table)}
    # a.png beside a.jpg has a name of its own, and all others theirs
    odd = listed["a.png"]
    assert odd.startswith("labels/a-")
    names = ["labels/a.txt", "labels/deep/er/ä b.txt", "labels/shard-0.tar/x.txt", "labels/rows.parquet#7.txt", odd]
    assert list(listed.items()) == list(zip((each.key for each in drawn()), names, strict=True))
    for picture in drawn():
        lines = (tmp_path / "yolo" / listed[picture.key]).read_text(encoding="utf-8").splitlines()
        assert [int(line.split()[0]) for line in lines] == [index for index, _, _ in objects(picture)]
        assert all(0 <= float(each) <= 1 for line in lines for each in line.split()[1:])
    links = {link.relative_to(tmp_path / "yolo/images"): link.resolve().relative_to(pictures.resolve()).as_posix()
             for link in (tmp_path / "yolo/images").rglob("*") if link.is_symlink()}  # fmt: skip
    # a reader replaces the ending, and the folder's name
    assert all(listed[key] == f"labels/{link.with_suffix('.txt').as_posix()}" for link, key in links.items() if "#" not in key)
    assert sorted(links.values()) == sorted(listed)


def test_yolo_has_rectangles_where_there_are_no_masks(tmp_path: Path) -> None:
    write_batch(tmp_path / "out", drawn()[1:2], masks=False)
    with pytest.warns(UserWarning, match="3 objects have no mask: their polygons are the boxes' rectangles"):
        convert(tmp_path / "out", "yolo", tmp_path / "yolo")
    text = (tmp_path / "yolo/labels/deep/er/ä b.txt").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "0 0.25 0.166667 0.75 0.166667 0.75 0.666667 0.25 0.666667"


def decoded(data: list[int]) -> Any:
    """The values of Label Studio's RLE, by its decoder (thi.ng/rle-pack)."""
    bits, at = "".join(f"{each:08b}" for each in data), 0

    def read(size: int) -> int:
        nonlocal at
        at += size
        return int(bits[at - size : at], 2)

    values, word = np.zeros(read(32), np.uint8), read(5) + 1
    sizes, index = [read(4) + 1 for _ in range(4)], 0
    while index < len(values):
        same, length = read(1), 1 + read(sizes[read(2)])
        assert same
        values[index : index + length] = read(word)
        index += length
    return values


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 47), (300, 400)])
@pytest.mark.parametrize("kind", ["blobs", "all", "none"])
def test_a_brush_decodes_to_its_mask(height: int, width: int, kind: str) -> None:
    mask = {"blobs": blobs(3, height, width), "all": np.ones((height, width), bool), "none": np.zeros((height, width), bool)}[kind]
    layers = decoded(brush(mask, 0, 0, height, width)).reshape(height, width, 4)
    assert (layers == np.where(mask, 255, 0)[:, :, None]).all()


def test_label_studio_tasks_fit_their_configuration(folder: Path, tmp_path: Path) -> None:
    convert(folder, "label-studio", tmp_path / "tasks", images="https://pictures.example/all/")
    config = ElementTree.parse(tmp_path / "tasks/config.xml").getroot()
    controls = {each.get("name"): [label.get("value") for label in each] for each in config if each.get("toName") == "image"}
    assert controls == {"box": list(TEXTS), "mask": list(TEXTS)}
    tasks = json.loads((tmp_path / "tasks/tasks.json").read_text(encoding="utf-8"))
    assert tasks[1]["data"] == {"image": "https://pictures.example/all/deep/er/%C3%A4%20b.jpg", "key": "deep/er/ä b.jpg"}
    for task, picture in zip(tasks, drawn(), strict=True):
        [prediction] = task["predictions"]
        height, width = picture.masks[0].shape
        found, kinds = [], {"box": "rectanglelabels", "mask": "brushlabels"}
        for box, mask in zip(prediction["result"][::2], prediction["result"][1::2], strict=True):
            assert (box["type"], mask["type"]) == (kinds[box["from_name"]], kinds[mask["from_name"]])
            assert box["value"]["rectanglelabels"] == mask["value"]["brushlabels"]
            sides = [box["value"][name] * by / 100 for name, by in zip(("x", "y", "width", "height"), (width, height) * 2, strict=True)]
            pixels = decoded(mask["value"]["rle"]).reshape(height, width, 4)[:, :, 3] == 255
            found.append((TEXTS.index(box["value"]["rectanglelabels"][0]), [round(each, 6) for each in sides], pixels))
        assert comparable(found) == comparable(objects(picture))


def test_least_score_and_heat_choose_the_objects(folder: Path, tmp_path: Path) -> None:
    convert(folder, "coco", tmp_path / "sure.json", score=0.6)
    labels = json.loads((tmp_path / "sure.json").read_text(encoding="utf-8"))["annotations"]
    pairs = {(each["image_id"], each["category_id"]) for each in labels}
    expected = {(number, index) for number, picture in enumerate(drawn(), 1)
                for index, (score, mask) in enumerate(zip(picture.scores, picture.masks, strict=True), 1)
                if np.float32(score) >= 0.6 and mask.any()}  # fmt: skip
    assert pairs == expected
    convert(folder, "coco", tmp_path / "hot.json", heat=0.8)
    labels = json.loads((tmp_path / "hot.json").read_text(encoding="utf-8"))["annotations"]
    assert len(labels) == sum(bool(mask.any()) for picture in drawn() for mask in picture.masks)


def test_without_scores_the_heat_is_the_confidence(tmp_path: Path) -> None:
    pictures = [Drawn(each.key, each.masks, [None] * 3) for each in drawn()]
    convert(write_batch(tmp_path / "out", pictures), "coco", tmp_path / "found.json")
    labels = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["annotations"]
    assert labels and all(each["score"] == each["heat"] for each in labels)


def test_what_a_batch_found_is_what_its_labels_say(tmp_path: Path) -> None:
    from fastloc import Localizer

    paths = sorted((REPO / "fastloc/embedded/samples").glob("*.webp"))
    texts = ["cat", "red car"]
    batch([str(REPO / "fastloc/embedded/samples/*.webp")], Locate(texts, batch=2), tmp_path / "out", shard=2)
    convert(tmp_path / "out", "coco", tmp_path / "found.json")
    read = COCO(str(tmp_path / "found.json"))
    localizer = Localizer()
    assert [each["file_name"] for each in read.imgs.values()] == [path.name for path in paths]
    for number, path in enumerate(paths, 1):
        result = localizer(images.load(path), texts)
        labels = read.loadAnns(read.getAnnIds(number))
        sides = [[each["category_id"] - 1, *each["bbox"]] for each in labels]
        assert sides == [[texts.index(box.text), box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0] for box in result.boxes()]
        for each in labels:
            mask = read.annToMask(each).astype(bool)
            assert mask.any() and (result.masks()[each["category_id"] - 1] | ~mask).all()
