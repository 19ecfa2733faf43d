"""Sets of your own, COCO files, ImageNet-Segmentation, OpenImages points and phrases: true layouts are read exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import miniature_more as miniature
from fastloc.errors import FastlocError
from fastloc.evaluation.samples import IGNORE
from fastloc.evaluation.sets import coco_file
from fastloc.evaluation.sets.more import MORE
from miniature_more import in_mat, opened, pointed, samples

SCENES = miniature.scenes()
NAMES = miniature.classes(SCENES)
FORMS = ("own", "mdetr", "qwen", "refs")


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
