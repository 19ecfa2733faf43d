"""Faults of sets of your own, COCO files, ImageNet-Segmentation, OpenImages points and phrases: each is one line, and the rest is read."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import miniature_more as miniature
from fastloc.errors import FastlocError
from fastloc.evaluation.samples import SampleError
from fastloc.evaluation.sets.more import MORE
from miniature_more import in_mat, pointed
from mutations import byte_edits, json_edits, raw

SCENES = miniature.scenes()
NAMES = miniature.classes(SCENES)
FORMS = ("own", "mdetr", "qwen", "refs")


def changed(path: str, change: Callable[[dict], None]) -> Callable[[Path], None]:
    """A fault in a JSON file."""

    def write(root: Path) -> None:
        content = json.loads((root / path).read_text(encoding="utf-8"))
        change(content)
        miniature.write_json(root / path, content)

    return write


def replaced(path: str, content: str | bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / path).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def lines(path: str, number: int, text: str) -> Callable[[Path], None]:
    """A fault in a line, counted from 1."""

    def write(root: Path) -> None:
        every = (root / path).read_text(encoding="utf-8").splitlines()
        every[number - 1] = text
        (root / path).write_text("\n".join(every), encoding="utf-8")

    return write


def mask(size: tuple[int, int], mode: str, colour: object, kind: str = "png") -> Callable[[Path], None]:
    def write(root: Path) -> None:
        Image.new(mode, size, colour).save(root / "masks" / "000000000001.png", kind)

    return write


def nameless(file: h5py.File) -> None:
    for field in ("target", "id"):
        pointed(file, field, np.array([[99], [99]], np.uint16))


COCO, CSV = "annotations/instances_val2017.json", "oidv7-val-annotations-point-labels.csv"
HEADER = "ImageId,X,Y,Label,EstimatedYesNo,Source,YesVotes,NoVotes,UnsureVotes,TextLabel"
# set, what is wrong, and what the message of opening it and listing its pictures says
OF_THE_SET = [
    ("folder", replaced("names.txt", b"caf\xe9"), r"names\.txt must be UTF-8, got byte 0xe9 at 3"),
    ("folder", replaced("names.txt", ""), "must name 1 to 30,000 classes, got 0"),
    ("folder", replaced("names.txt", "a\n\nb"), "must have a name for each class, got none for 1"),
    ("folder", replaced("names.txt", "a\nb, c\na"), "must name each class once, got 'a' for 0 and 2"),
    ("folder", replaced("names.txt", "a\nb\x07"), "must be one line"),
    ("folder", lambda root: (root / "masks" / "000000000002.png").unlink(), r"000000000002\.png is missing, as are those of 0 more of 4"),
    ("coco-json", replaced(COCO, "[]"), "must be a COCO file .*must be object, got array"),
    ("coco-json", replaced(COCO, b"\x80\x04"), "must be a COCO file"),
    ("coco-json", changed(COCO, lambda content: content.pop("images")), "'images' is missing"),
    ("coco-json", changed(COCO, lambda content: content["annotations"][0].update(image_id=9)), "got image_id 9"),
    ("coco-json", changed(COCO, lambda content: content["annotations"][0].update(category_id=9)), "of a category in the file, got 9"),
    ("coco-json", changed(COCO, lambda content: content["images"][1].update(id=1)), "each picture an id of its own"),
    ("coco-json", changed(COCO, lambda content: content["images"][1].update(file_name="000000000001.png")), "a file_name twice"),
    ("coco-json", changed(COCO, lambda content: content["images"][1].update(width=0)), "must have a size, got 160 x 0"),
    ("coco-json", changed(COCO, lambda content: content["categories"][1].update(name="bed")), "categories of different names"),
    ("imagenet-segmentation", replaced("gtsegs_ijcv.mat", b"MATLAB 5.0 MAT-file"), r"must be a MATLAB 7\.3 file"),
    ("imagenet-segmentation", lambda root: os.truncate(root / "gtsegs_ijcv.mat", 9000), "got another or a damaged one|download it again"),
    ("imagenet-segmentation", in_mat(lambda file: file.pop("value/gt")), "must have /value/img, /value/gt and /value/id"),
    ("imagenet-segmentation", in_mat(lambda file: nameless(file)), "a class such as n01440764, got 'cc'"),
    ("imagenet-segmentation", in_mat(lambda file: pointed(file, "id", np.zeros((999, 1), np.uint16))), "a text of 999 characters"),
    ("imagenet-segmentation", replaced("names.txt", "n02121620 cat"), "must have names of all 4 classes, got none of n9"),
    ("imagenet-segmentation", replaced("names.txt", "cat"), 'line 1 must be such as "n01440764 tench'),
    ("open-images", replaced(CSV, "ImageId,X,Y\n"), "must have columns .* got no Label, EstimatedYesNo"),
    ("open-images", replaced(CSV, f"{HEADER}\na,1"), "line 2 must have 10 fields, got 2"),
    ("open-images", replaced(CSV, f"{HEADER}\na,1.5,0,/m/1,yes,ih,1,0,0,cat"), "line 2 must have X and Y from 0 to 1, got '1.5'"),
    ("open-images", replaced(CSV, f"{HEADER}\na,nan,0,/m/1,yes,ih,1,0,0,cat"), "from 0 to 1, got 'nan'"),
    ("open-images", replaced(CSV, f"{HEADER}\na,1,0,/m/1,perhaps,ih,1,0,0,cat"), "yes, no or unsure, got 'perhaps'"),
    ("open-images", replaced(CSV, f"{HEADER}\na,1,0,/m/1,no,ih,1,0,0,cat"), "must have a yes, got none"),
    ("open-images", replaced(CSV, f"{HEADER}\na,1,0,/m/1,yes,ih,1,0,0,\n"), "must have a TextLabel for /m/1 and 0 more"),
    ("open-images", replaced(CSV, b"ImageId\xff"), "cannot be read"),
    ("refcoco", replaced("phrases.json", b"\x80\x02]q\x00."), "must be JSON, got a pickle, which can run code"),
    ("refcoco", replaced("phrases.json", b"(lp1\n(dp2\nS'sent_ids'"), "must be JSON, got a pickle"),
    ("refcoco", replaced("phrases.json", "[]"), "must hold phrases, got none"),
    ("refcoco", replaced("phrases.json", '[{"picture": "a.jpg", "phrase": "cup"}]'), "must be a list of phrases .*'box' is missing"),
    ("refcoco", replaced("phrases.json", '[{"picture": "a", "phrase": "cup", "box": [1, 2, 1, 4]}]'), "x0 < x1"),
    ("refcoco", replaced("phrases.json", '[{"picture": "a", "phrase": " ", "box": [1, 2, 3, 4]}]'), "got an empty one"),
    ("refcoco", replaced("phrases.json", '[{"ann_id": 1, "image_id": 1, "split": "testA", "sentences": []}]'), "must be one of 'testA'"),
    ("refcoco", replaced("phrases.json", '{"images": [], "annotations": 3}'), "must be a COCO file"),
]  # fmt: skip


def write(name: str, root: Path) -> None:
    """Write the miniature of a set."""
    if name == "refcoco":
        miniature.write_phrases(root, SCENES, "own")
    else:
        writers = {"folder": miniature.write_folder, "open-images": miniature.write_open_images}
        writers |= {"imagenet-segmentation": miniature.write_imagenet_segmentation}
        writers.get(name, miniature.write_coco)(root, SCENES)
    if name == "open-images":
        (root / "oidv7-class-descriptions.csv").write_text("LabelName,DisplayName\n", encoding="utf-8")


@pytest.mark.slow("writes a miniature each", quick="name")
@pytest.mark.parametrize(("name", "fault", "message"), OF_THE_SET)
def test_what_is_wrong_with_a_set_is_one_line(name: str, fault: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    write(name, tmp_path)
    fault(tmp_path)
    with pytest.raises(FastlocError, match=message) as raised:
        MORE[name].open(name, tmp_path, {}).items()
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)
    assert MORE[name].missing(name, tmp_path, {}) == [str(raised.value)]


FIRST = "pictures/000000000001.png"


def drawn_as(segmentation: object) -> Callable[[Path], None]:
    return changed(COCO, lambda content: content["annotations"][0].update(segmentation=segmentation))


# set, what is wrong with its first picture, and what the message says
OF_A_PICTURE = [
    ("folder", replaced(FIRST, b"\x89PNG"), "is not a picture"),
    ("folder", replaced("masks/000000000001.png", b"\x89PNG"), "mask .*cannot be read"),
    ("folder", mask((160, 160), "L", 77), "numbers that names.txt names or ignored ones, got 77"),
    ("folder", mask((160, 160), "I;16", 60000), "got 60000"),
    ("folder", mask((160, 160), "RGB", (1, 2, 3)), "one number a pixel .* got RGB"),
    ("folder", mask((160, 160), "L", 1, "jpeg"), "must be lossless, got JPEG"),
    ("folder", mask((90, 160), "L", 1), "must be 160 x 160 as its picture is, got 160 x 90"),
    ("coco-json", lambda root: Image.new("RGB", (9, 8)).save(root / "val2017" / "000000000001.png"), "must be 160 x 160 .* got 8 x 9"),
    ("coco-json", drawn_as(None), "polygons or run lengths, got none"),
    ("coco-json", drawn_as(3), "polygons or run lengths"),
    ("coco-json", drawn_as([[1, 1, 2, 2]]), "polygons of three points or more, got 4 numbers"),
    ("coco-json", drawn_as([[1, 1, 2, 2, 3]]), "polygons of three points or more, got 5 numbers"),
    ("coco-json", drawn_as([[0, 0, 1e300, 0, 5, 5]]), "leads far out of it"),
    ("coco-json", drawn_as({"size": [160, 159], "counts": [1]}), "of its picture's 160 x 160, got 160 x 159"),
    ("coco-json", drawn_as({"size": [160, 160], "counts": [25599]}), "that fill its picture"),
    ("coco-json", drawn_as({"size": [160, 160], "counts": [-1, 25601]}), "that fill its picture"),
    ("coco-json", drawn_as({"size": [160, 160], "counts": "04"}), "that fill its picture"),
    ("coco-json", drawn_as({"size": [160, 160], "counts": "oooooooooooo"}), "that fill its picture"),
    ("coco-json", changed(COCO, lambda content: content["images"][0].update(file_name="../../secret.png")), "file name must lie in"),
    ("coco-boxes", changed(COCO, lambda content: content["annotations"][0].update(bbox=[1, 2, 3])), "a bbox of four numbers, got"),
    ("imagenet-segmentation", in_mat(lambda file: pointed(file, "gt", np.zeros((9, 9), np.uint8))), "a mask of its 160 x 160, got 9 x 9"),
    ("imagenet-segmentation", in_mat(lambda file: pointed(file, "gt", np.full((160, 160), 2, np.uint8))), "a mask of 0 and 1, got 2"),
    ("imagenet-segmentation", in_mat(lambda file: pointed(file, "img", np.zeros((9, 9), np.uint8))), "must have 3 dimensions"),
    ("imagenet-segmentation", in_mat(lambda file: pointed(file, "img", np.zeros((4, 9, 9), np.uint8))), "three bytes, got 4 of uint8"),
    ("open-images", lambda root: (root / "validation" / "0000000000000001.jpg").unlink(), "no such file"),
    ("refcoco", lambda root: (root / "train2014" / "COCO_train2014_000000000001.jpg").unlink(), "no such file"),
    ("refcoco", changed("phrases.json", lambda content: content[0].update(box=[900, 900, 990, 990])), "must lie in COCO_train2014_0000"),
]  # fmt: skip


@pytest.mark.slow("writes a miniature each", quick="name")
@pytest.mark.parametrize(("name", "fault", "message"), OF_A_PICTURE)
def test_what_is_wrong_with_a_picture_is_one_line_and_the_others_are_read(
    name: str, fault: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    write(name, tmp_path)
    if name == "open-images":
        miniature_names = "\n".join(["LabelName,DisplayName", *(f"/m/{index:05},{each}" for index, each in enumerate(NAMES))])
        (tmp_path / "oidv7-class-descriptions.csv").write_text(miniature_names, encoding="utf-8")
    fault(tmp_path)
    found = MORE[name].open(name, tmp_path, {})
    first, *others = found.items()
    with pytest.raises(SampleError, match=message) as raised:
        found.read(first)
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)
    assert [found.read(item).key for item in others] == [item.key for item in others]


def test_options_of_a_folder_are_checked(tmp_path: Path) -> None:
    miniature.write_folder(tmp_path, SCENES[:1])
    for options, message in (
        ({"ignore": "256,x"}, "ignore must be numbers from 0 to 65535"),
        ({"ignore": "3"}, "ignore must not hold the number of a class, got 3"),
        ({"background": "maybe"}, "background must be yes or no, got 'maybe'"),
        ({"only": "names.txt"}, r"names\.txt must list pictures .* got 'background, backdrop' and \d+ more"),
        ({"names": "../names.txt"}, "is missing: the names of the classes"),
    ):
        with pytest.raises(FastlocError, match=message):
            MORE["folder"].open("folder", tmp_path, options).items()
    (tmp_path / "names.json").write_text('{"x": "a"}', encoding="utf-8")
    with pytest.raises(FastlocError, match="numbers from 0 to 65535 as keys, got 'x'"):
        MORE["folder"].open("folder", tmp_path, {"names": "names.json"})


def test_a_pickle_that_lies_there_alone_is_refused_with_the_command_that_saves_it(tmp_path: Path) -> None:
    (tmp_path / "train2014").mkdir()
    (tmp_path / "refs(unc).p").write_bytes(b"(lp1\n.")
    [line] = MORE["refcoco"].missing("refcoco", tmp_path, {})
    assert "refs(unc).p must be JSON, got a pickle" in line and "json.dump(pickle.load(open('refs(unc).p', 'rb')" in line


DAMAGED = [
    ("coco-json", "coco", COCO), ("coco-boxes", "coco", COCO), ("refcoco", "own", "phrases.json"),
    ("refcoco", "mdetr", "finetune_refcoco_val.json"), ("refcoco", "refs", "refs(unc).json"), ("refcoco", "refs", "instances.json"),
    ("folder", "folder", "names.json"), ("refcoco", "qwen", "refcoco_val.jsonl"), ("open-images", "open-images", CSV),
    ("folder", "folder", "masks/000000000001.png"),
]  # fmt: skip


@pytest.mark.slow("reads a set for each of hundreds of edits")
@pytest.mark.parametrize(("name", "form", "file"), DAMAGED)
def test_a_damaged_file_is_an_answer_or_one_line(name: str, form: str, file: str, tmp_path: Path) -> None:
    if form in FORMS:
        miniature.write_phrases(tmp_path, SCENES[:2], form)
    else:
        writers = {"folder": miniature.write_folder, "open-images": miniature.write_open_images, "coco": miniature.write_coco}
        writers[form](tmp_path, SCENES[:2])
    path = tmp_path / file
    if file == "names.json":
        miniature.write_json(path, {str(number): name for number, name in enumerate(["nothing", *miniature.classes(SCENES[:2])])})
    options = {"names": file} if file == "names.json" else {}

    def read(content: object) -> None:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        # a fault of the set ends it; that of a picture does not
        found = MORE[name].open(name, tmp_path, options)
        MORE[name].missing(name, tmp_path, options)
        for item in found.items():
            with suppress(SampleError):
                found.read(item)

    content = path.read_bytes()
    edits = json_edits(json.loads(content), 0, 200) if path.suffix == ".json" else byte_edits(content, 0, 150, 3000)
    assert raw(edits, read) == []
