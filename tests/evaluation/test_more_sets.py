"""Sets of your own, COCO files, ImageNet-Segmentation, OpenImages points and phrases: true layouts are read exactly, others in one line."""

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
from fastloc.evaluation.samples import IGNORE, DataSet, Sample, SampleError
from fastloc.evaluation.sets import coco_file
from fastloc.evaluation.sets.more import MORE
from mutations import byte_edits, json_edits, raw

SCENES = miniature.scenes()
NAMES = miniature.classes(SCENES)
FORMS = ("own", "mdetr", "qwen", "refs")


def opened(name: str, root: Path, **options: str) -> DataSet:
    assert MORE[name].missing(name, root, options) == []
    found = MORE[name].open(name, root, options)
    assert (found.name, found.task) == (name, MORE[name].task)
    return found


def samples(found: DataSet) -> list[Sample]:
    read = [found.read(item) for item in found.items()]
    assert len({sample.key for sample in read}) == len(read) == len(SCENES)
    assert [sample.key for sample in read] == [item.key for item in found.items()]
    return read


def test_a_folder_of_your_own(tmp_path: Path) -> None:
    miniature.write_folder(tmp_path, SCENES)
    found = opened("folder", tmp_path)
    assert found.background and found.classes == ("background", *NAMES)
    assert found.names[0] == ("background", "backdrop")
    for sample, scene in zip(samples(found), SCENES, strict=True):
        truth = miniature.labels(scene, NAMES).astype(np.int16)
        truth[[0, -1]] = truth[:, [0, -1]] = IGNORE
        assert sample.labels.dtype == np.int16 and np.array_equal(sample.labels, truth)
        assert np.array_equal(np.asarray(sample.picture), np.asarray(scene.picture))


def test_a_folder_s_masks_of_16_bits_by_number_and_a_part_of_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "p" / "far").mkdir(parents=True)
    (tmp_path / "m" / "far").mkdir(parents=True)
    numbers = np.array([[300, 7, 65535], [7, 255, 0]], np.uint16)
    for name in ("far/a", "b"):
        Image.new("RGB", (3, 2)).save(tmp_path / "p" / f"{name}.jpg")
    Image.fromarray(numbers).save(tmp_path / "m" / "far" / "a.png")
    (tmp_path / "kinds.json").write_text('{"300": "cat", "7": ["dog", "hound"], "255": "sky"}', encoding="utf-8")
    (tmp_path / "val.txt").write_text("far/a\n\n", encoding="utf-8")
    options = {"pictures": "p", "masks": "m", "names": "kinds.json", "only": "val.txt", "ignore": "0, 65535"}
    found = opened("folder", tmp_path, **options)
    assert found.classes == ("dog", "sky", "cat") and found.names[0] == ("dog", "hound") and not found.background
    [item] = found.items()
    assert found.read(item).labels.tolist() == [[2, 0, IGNORE], [0, 1, IGNORE]]
    with pytest.raises(FastlocError, match=r"b\.png is missing"):
        MORE["folder"].open("folder", tmp_path, options | {"only": ""}).items()


def test_coco_s_objects_are_labels_and_boxes(tmp_path: Path) -> None:
    miniature.write_coco(tmp_path, SCENES)
    labels, ignored = opened("coco-json", tmp_path), opened("coco-json", tmp_path, unlabelled="ignore")
    boxes = opened("coco-boxes", tmp_path)
    assert labels.classes == ("background", *NAMES) and labels.background and not ignored.background
    assert boxes.classes == ignored.classes == tuple(NAMES)
    for sample, bare, asked, scene in zip(samples(labels), samples(ignored), samples(boxes), SCENES, strict=True):
        truth = miniature.labels(scene, NAMES).astype(np.int16)
        assert np.array_equal(sample.labels, truth) and np.array_equal(bare.labels, truth - 1)
        expected = {thing: (miniature.box(mask),) for thing, mask in zip(scene.things, scene.masks, strict=True)}
        assert {question.text: question.boxes for question in asked.questions} == expected
        assert all(NAMES[question.label] == question.text for question in asked.questions)


def test_two_categories_on_a_pixel_are_ignored_and_polygons_are_drawn(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "pictures" / "a.png")
    square = [[1, 1, 5, 1, 5, 5, 1, 5]]
    objects = [
        {"id": 1, "image_id": 3, "category_id": 1, "segmentation": square, "bbox": [1, 1, 4, 4]},
        {"id": 2, "image_id": 3, "category_id": 2, "segmentation": {"size": [6, 8], "counts": [24, 24]}, "bbox": [6, 2, 9, 9]},
        {"id": 3, "image_id": 3, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]], "bbox": [-1, 0, 3, 2]},
        {"id": 4, "image_id": 3, "category_id": 2, "segmentation": {"size": [6, 8], "counts": [48]}, "bbox": [8, 0, 3, 3]},
    ]
    content = {"images": [{"id": 3, "file_name": "a.png", "width": 8, "height": 6}], "annotations": objects,
               "categories": [{"id": 2, "name": "tree"}, {"id": 1, "name": "car"}]}  # fmt: skip
    miniature.write_json(tmp_path / "annotations.json", content)
    found = opened("coco-json", tmp_path)
    labels = found.read(found.items()[0]).labels
    assert found.classes == ("background", "car", "tree")
    assert labels.tolist() == [
        [1, 1, 0, 0, 2, 2, 2, 2],
        [1, 1, 1, 1, -1, 2, 2, 2],
        [0, 1, 1, 1, -1, 2, 2, 2],
        [0, 1, 1, 1, -1, 2, 2, 2],
        [0, 1, 1, 1, -1, 2, 2, 2],
        [0, 0, 0, 0, 2, 2, 2, 2],
    ]
    boxes = opened("coco-boxes", tmp_path)
    car, tree = boxes.read(boxes.items()[0]).questions
    # cut at the picture's edge; one that lies beside it is none
    assert car.boxes == ((1, 1, 5, 5), (0, 0, 2, 2)) and tree.boxes == ((6, 2, 8, 6),)


def test_run_lengths_are_read_as_pycocotools_writes_them() -> None:
    from pycocotools import mask as coco

    rng = np.random.default_rng(0)
    for height, width, share in ((1, 1, 0.5), (7, 5, 0.5), (64, 48, 0.01), (40, 90, 0.97)):
        mask = rng.random((height, width)) < share
        mask[height // 3 :, width // 2] = True
        text = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        for counts in (text, miniature.runs_of(mask)):
            segmentation = json.dumps({"size": [height, width], "counts": counts}).encode()
            annotation = coco_file.Annotation(1, segmentation=coco_file.msgspec.Raw(segmentation))
            assert np.array_equal(coco_file.mask(annotation, width, height, "it"), mask)


def test_imagenet_segmentation(tmp_path: Path) -> None:
    rows = miniature.write_imagenet_segmentation(tmp_path, SCENES)
    found = opened("imagenet-segmentation", tmp_path)
    for sample, scene, (key, thing) in zip(samples(found), SCENES, rows, strict=True):
        [question] = sample.questions
        assert (sample.key, question.text, found.classes[question.label]) == (key, thing, thing)
        assert np.array_equal(question.mask, scene.masks[0])
        assert np.array_equal(np.asarray(sample.picture), np.asarray(scene.picture))
    # a target that is no synset: the id begins with one
    in_mat(lambda file: pointed(file, "target", np.array([[99]], np.uint16)))(tmp_path)
    assert samples(opened("imagenet-segmentation", tmp_path))[0].questions[0].text == rows[0][1]


@pytest.mark.slow("imports timm")
def test_imagenet_s_classes_have_wordnet_s_names(tmp_path: Path) -> None:
    miniature.write_imagenet_segmentation(tmp_path, SCENES[1:2])
    (tmp_path / "names.txt").rename(tmp_path / "others.txt")
    assert opened("imagenet-segmentation", tmp_path).classes == ("cat",)
    (tmp_path / "others.txt").write_text("n02121620\ttom, tomcat", encoding="utf-8")
    assert opened("imagenet-segmentation", tmp_path, names="others.txt").classes == ("tom",)


def test_open_images_points(tmp_path: Path) -> None:
    miniature.write_open_images(tmp_path, SCENES)
    found = opened("open-images", tmp_path)
    assert sorted(found.classes) == NAMES
    for sample, scene in zip(samples(found), SCENES, strict=True):
        asked = {question.text: question for question in sample.questions}
        assert set(asked) == set(scene.things)
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            assert found.classes[asked[thing].label] == thing
            assert [inside for *_, inside in asked[thing].points] == [True] * 6 + [False] * 6
            assert all(mask[int(y), int(x)] == inside for x, y, inside in asked[thing].points)


def test_points_on_the_edge_lie_within_and_labels_without_a_yes_are_not_asked(tmp_path: Path) -> None:
    (tmp_path / "validation").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "validation" / "a.jpg")
    lines = ("ImageId,TextLabel,X,Y,Label,EstimatedYesNo", "a,sea,1,1,/m/1,Yes", "a,sky,0.5,0.5,/m/2,no", "b,sea,0.5,0.5,/m/1,no")
    (tmp_path / "oidv7-val-annotations-point-labels.csv").write_text("\n".join(lines), encoding="utf-8")
    found = opened("open-images", tmp_path)
    [item] = found.items()
    [question] = found.read(item).questions
    assert question.text == "sea" and found.classes == ("sea",)
    [(x, y, inside)] = question.points
    assert (int(x), int(y), inside) == (29, 19, True)


@pytest.mark.parametrize("form", FORMS)
def test_phrases_in_each_published_form(form: str, tmp_path: Path) -> None:
    miniature.write_phrases(tmp_path, SCENES, form)
    found = opened("refcoco", tmp_path)
    read = [(number, question.text, question.boxes) for number, sample in enumerate(samples(found)) for question in sample.questions]
    assert read == [(number, phrase, (box,)) for number, phrase, box in miniature.phrases(SCENES)]
    assert found.classes == () and all(question.label == -1 for sample in samples(found) for question in sample.questions)


def test_pictures_that_a_list_names_and_nobody_has_are_counted(tmp_path: Path) -> None:
    miniature.write_coco(tmp_path, SCENES)
    miniature.write_open_images(tmp_path, SCENES)
    miniature.write_phrases(tmp_path, SCENES, "qwen")
    for folder in ("val2017", "validation", "train2014"):
        sorted((tmp_path / folder).iterdir())[1].unlink()
    for name in ("coco-json", "coco-boxes", "open-images", "refcoco"):
        [line] = MORE[name].missing(name, tmp_path, {})
        assert "2." in line and "is missing, as are 0 more of 4 pictures" in line


@pytest.mark.parametrize("name", MORE)
def test_an_empty_folder_lacks_each_part_of_the_layout(name: str, tmp_path: Path) -> None:
    lines = MORE[name].missing(name, tmp_path, {})
    assert lines and all("is missing: " in line and str(tmp_path) in line for line in lines)
    with pytest.raises(FastlocError, match="is missing") as raised:
        MORE[name].open(name, tmp_path / "nowhere", {})
    assert "\n" not in str(raised.value)
    with pytest.raises(FastlocError, match=f"unknown {name} option 'colour'"):
        MORE[name].open(name, tmp_path, {"colour": "red"})


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


def in_mat(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        with h5py.File(root / "gtsegs_ijcv.mat", "r+") as file:
            change(file)

    return write


def pointed(file: h5py.File, field: str, array: np.ndarray) -> None:
    """Let a field of the first picture refer to another array."""
    made = file["#refs#"].create_dataset(f"other {field}", data=array)
    if field == "gt":
        file[file["/value/gt"][0, 0]][0, 0] = made.ref
    else:
        file[f"/value/{field}"][0, 0] = made.ref


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
