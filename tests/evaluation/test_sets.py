"""The eight label sets: their true layouts are read exactly, and one line names everything that is wrong with one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import icc
from fastloc.errors import FastlocError
from fastloc.evaluation.samples import IGNORE, Sample, SampleError
from fastloc.evaluation.sets import masks
from fastloc.evaluation.sets.classes import CLASSES
from fastloc.evaluation.sets.label_sets import LAYOUTS
from fastloc.evaluation.sets.table import SETS, check, open_set
from gpu_parts.scenes import quality_set
from miniature_sets import CITYSCAPES_IDS, COCO_IDS, STUFF_IDS, VOC_PALETTE, Miniature, write
from mutations import byte_edits, raw
from repo import REPO

RAW = ("coco-object", "coco-stuff", "cityscapes")
BYTES = np.arange(256)


def samples(made: Miniature, **options: str) -> dict[str, Sample]:
    found = open_set(made.name, made.root, **options)
    return {item.key: found.read(item) for item in found.items()}


def line(call: Callable[[], object], kind: type[FastlocError] = FastlocError) -> str:
    """The message of the error that a call ends in: one line."""
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def replaced(made: Miniature, mask: Image.Image, **options: object) -> Miniature:
    """The set with another mask for its first picture."""
    mask.save(made.mask(next(iter(made.labels))), format=options.pop("format", "PNG"), **options)
    return made


def stored(made: Miniature) -> NDArray[np.uint8]:
    """The numbers in the first picture's mask."""
    with Image.open(made.mask(next(iter(made.labels)))) as mask:
        return np.asarray(mask)


def first(made: Miniature) -> Sample:
    found = open_set(made.name, made.root)
    return found.read(found.items()[0])


@pytest.mark.parametrize(("name", "shipped"), [*((name, False) for name in LAYOUTS), *((name, True) for name in RAW)])
def test_a_set_is_read_exactly(name: str, shipped: bool, tmp_path: Path) -> None:
    made = write(name, tmp_path, raw=shipped)
    assert check(name, tmp_path) == []
    found = open_set(name, tmp_path)
    assert (found.name, found.task, found.classes) == (name, "labels", CLASSES[name])
    assert found.background == (found.classes[0] == "background") == SETS[name].background
    read = samples(made)
    assert [*read] == [*made.labels] == [*dict.fromkeys(made.labels)]
    for (key, sample), scene in zip(read.items(), quality_set(), strict=False):
        assert sample.key == key and sample.labels.dtype == np.int16
        assert np.array_equal(sample.labels, made.labels[key])
        assert sample.picture.mode == "RGB"
        assert np.abs(np.asarray(sample.picture, float) - np.asarray(scene.picture)).mean() < 3
    seen = {int(label) for labels in made.labels.values() for label in np.unique(labels)}
    assert len(made.things) > 5 and set(made.things) <= seen
    assert [made.names[label] for label in made.things] == [*made.things.values()]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_set_is_read_as_mmsegmentation_reads_it(name: str, tmp_path: Path) -> None:
    made = write(name, tmp_path)
    found = open_set(name, tmp_path)
    read = []
    for item in found.items():
        labels = found.read(item).labels
        digest = hashlib.sha256(np.where(labels == IGNORE, 255, labels).astype(np.uint8).tobytes()).hexdigest()
        read.append({"picture": made.picture(item.key).relative_to(tmp_path).as_posix(), "labels": digest})
    assert read == json.loads((REPO / "tests/goldens/label_sets.json").read_text(encoding="utf-8"))[name]


def test_classes_are_those_of_the_rows() -> None:
    for name, row in ((name, SETS[name]) for name in LAYOUTS):
        assert row.classes == len(CLASSES[name]) == len(set(CLASSES[name]))
        # the last number of every form is the last class
        assert {int(each.table.max()) for each in LAYOUTS[name].stored} == {row.classes - 1}
    counts = {name: len(names) for name, names in CLASSES.items()}
    assert counts == {
        "voc21": 21, "voc20": 20, "context60": 60, "context59": 59, "coco-object": 81, "coco-stuff": 171, "ade20k": 150, "cityscapes": 19,
    }  # fmt: skip
    assert CLASSES["voc21"][1:] == CLASSES["voc20"] and CLASSES["context60"][1:] == CLASSES["context59"]
    assert CLASSES["coco-object"][1:] == CLASSES["coco-stuff"][:80]


def labels_of(table: NDArray[np.int16]) -> dict[int, int]:
    """Number -> label, of what a table knows."""
    return {number: int(label) for number, label in enumerate(table) if label >= IGNORE}


def test_tables_are_the_converters_and_the_loader_s() -> None:
    # mmsegmentation's reduce_zero_label, on bytes
    numbers = BYTES.astype(np.uint8)
    numbers[numbers == 0] = 255
    numbers = numbers - 1
    numbers[numbers == 254] = 255
    expected = {int(number): IGNORE if label == 255 else int(label) for number, label in enumerate(numbers) if label < 150 or label == 255}
    assert labels_of(masks.reduced(150)) == expected
    assert labels_of(masks.counted(21)) == {**{number: number for number in range(21)}, 255: IGNORE}
    assert labels_of(masks.stuff_ids()) == {**{number - 1: label for label, number in enumerate(STUFF_IDS)}, 255: IGNORE}
    things = {number - 1: label + 1 for label, number in enumerate(COCO_IDS)}
    assert labels_of(masks.objects_of_stuff_ids()) == {**things, **dict.fromkeys(range(91, 182), 0), 255: 0}
    assert labels_of(masks.objects_of_labels()) == {**{n: n + 1 for n in range(80)}, **dict.fromkeys(range(80, 171), 0), 255: 0}
    cities = {number: CITYSCAPES_IDS.index(number) if number in CITYSCAPES_IDS else IGNORE for number in (*range(34), 255)}
    assert labels_of(masks.cityscapes_ids()) == cities
    assert masks.voc_colours() == {colour: number for number, colour in VOC_PALETTE.items()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_set_is_found_below_the_folder_that_is_given(name: str, tmp_path: Path) -> None:
    for home in LAYOUTS[name].homes:
        made = write(name, tmp_path / home, 1)
        for root in (tmp_path, str(made.root)):
            assert check(name, root) == []
            assert [item.key for item in open_set(name, root).items()] == [*made.labels]
        shutil.rmtree(made.root)
    assert check(name, tmp_path)[0].startswith(f"{tmp_path / LAYOUTS[name].pictures} is missing")


def test_coco_object_is_made_of_stuff_s_labels_too(tmp_path: Path) -> None:
    stuff, objects = write("coco-stuff", tmp_path), CLASSES["coco-object"]
    for key in stuff.labels:
        (stuff.root / "annotations/val2017" / f"{key}.png").unlink()
    for key, sample in samples(Miniature("coco-object", tmp_path, {}, {})).items():
        labels = stuff.labels[key]
        assert np.array_equal(sample.labels, np.where((labels >= 0) & (labels < len(objects) - 1), labels + 1, 0))


def test_each_mask_is_read_in_the_form_it_has(tmp_path: Path) -> None:
    made = write("coco-stuff", tmp_path)
    made.mask([*made.labels][1]).unlink()
    assert all(np.array_equal(sample.labels, made.labels[key]) for key, sample in samples(made).items())


@pytest.mark.parametrize("mode", ["P", "L", "I;16", "grey palette"])
def test_masks_of_palettes_and_grey_levels_are_the_same(mode: str, tmp_path: Path) -> None:
    made = write("voc21", tmp_path, 1)
    numbers = stored(made)
    mask = Image.fromarray(numbers.astype(np.uint16) if mode == "I;16" else numbers)
    if "P" in mode:
        mask.putpalette([part for number in range(256) for part in VOC_PALETTE.get(number, (1, 1, 1))])
    elif mode == "grey palette":
        mask.putpalette([part for number in range(256) for part in (number,) * 3])
    replaced(made, mask)
    assert np.array_equal(first(made).labels, *made.labels.values())


def colours(numbers: NDArray[np.uint8]) -> Image.Image:
    """A mask as a viewer shows it."""
    table = np.array([VOC_PALETTE.get(number, (0, 0, 0)) for number in range(256)], np.uint8)
    return Image.fromarray(table[numbers])


def test_masks_of_colours_and_renumbered_palettes_are_refused(tmp_path: Path) -> None:
    made = write("voc21", tmp_path, 1)
    numbers = stored(made)
    path = made.mask(*made.labels)
    coloured = colours(numbers)
    assert line(lambda: first(replaced(made, coloured)), SampleError) == (
        f"mask {path} must hold one number a pixel (a palette or grey levels), got RGB; save indices, not colours"
    )
    # what drawing programs and `quantize` make of it: all colours are right and all numbers are wrong
    assert line(lambda: first(replaced(made, coloured.quantize(32))), SampleError).startswith(f"mask {path} must have ")
    assert "its palette was renumbered" in line(lambda: first(made), SampleError)
    assert "must be lossless, got JPEG" in line(lambda: first(replaced(made, Image.fromarray(numbers), format="JPEG")), SampleError)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("voc21", 21, "0 to 20 or 255"), ("voc20", 77, "0 to 20 or 255"), ("ade20k", 151, "0 to 150 or 255"),
        ("context60", 60, "0 to 59 or 255"), ("context59", 254, "0 to 59 or 255"), ("coco-object", 81, "0 to 80 or 255"),
        ("coco-stuff", 171, "0 to 170 or 255"), ("cityscapes", 33, "0 to 18 or 255"), ("voc21", 256, "0 to 20 or 255"),
        ("voc21", 65535, "0 to 20 or 255"),
    ],
)  # fmt: skip
def test_a_number_of_no_class_is_refused_with_its_file(name: str, value: int, rule: str, tmp_path: Path) -> None:
    made = write(name, tmp_path, 1)
    numbers = stored(made).astype(np.uint16 if value > 255 else np.uint8)
    numbers[3, 4:7] = value
    replaced(made, Image.fromarray(numbers))
    expected = f"mask {made.mask(*made.labels)} must hold {rule}, got {value} in 3 of {numbers.size:,} pixels; take the set's own mask"
    assert line(lambda: first(made), SampleError) == expected


def test_an_id_that_coco_left_out_is_refused(tmp_path: Path) -> None:
    made = write("coco-stuff", tmp_path, 1, raw=True)
    path = tmp_path / "annotations/val2017" / f"{next(iter(made.labels))}.png"
    Image.new("L", first(made).picture.size, 11).save(path)
    assert "must hold 0 to 10, 12 to 24, 26 to 27, 30 to 43, " in line(lambda: first(made), SampleError)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    made = write("ade20k", tmp_path, 1)
    width, height = first(made).picture.size
    replaced(made, Image.new("L", (width + 1, height)))
    message = line(lambda: first(made), SampleError)
    assert f"{made.mask(*made.labels)} must be {height} x {width} as its picture is, got {height} x {width + 1}" in message


def test_damaged_files_are_refused_and_the_others_read(tmp_path: Path) -> None:
    made = write("voc21", tmp_path)
    broken, without, whole = made.labels
    made.picture(broken).write_bytes(made.picture(broken).read_bytes()[:200])
    made.mask(without).write_bytes(b"no picture")
    found = open_set("voc21", tmp_path)
    by_key = {item.key: item for item in found.items()}
    assert str(made.picture(broken)) in line(lambda: found.read(by_key[broken]), SampleError)
    assert str(made.mask(without)) in line(lambda: found.read(by_key[without]), SampleError)
    made.mask(broken).unlink()
    assert np.array_equal(found.read(by_key[whole]).labels, made.labels[whole])


def test_lists_are_read_with_blank_lines_and_any_ends_of_lines(tmp_path: Path) -> None:
    made = write("context59", tmp_path)
    made.list.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([b"", *(f" {key} ".encode() for key in reversed(made.labels)), b"", b""]))
    assert [*samples(made)] == [*reversed(made.labels)]
    for content, rule in ((b"\n \r\n", "must list pictures, a name a line, got none"), (b"\xff", "must be UTF-8"), (b"a\x07b", "one line")):
        made.list.write_bytes(content)
        (found,) = check("context59", tmp_path)
        assert str(made.list) in found and rule in found
        assert line(lambda: open_set("context59", tmp_path).items()) == found
    made.list.write_text("\n".join([*made.labels, next(iter(made.labels))]), encoding="utf-8")
    assert check("context59", tmp_path) == [f"{made.list} must list each picture once, got '2008_000033' 2 times; remove the others"]


def test_what_is_missing_has_a_line_each(tmp_path: Path) -> None:
    made = write("voc20", tmp_path, 4)
    pictures, truth = made.picture("x").parent, made.mask("x").parent
    assert len(check("voc20", tmp_path / "nowhere")) == 3
    assert line(lambda: open_set("voc20", tmp_path / "nowhere")).startswith(f"{tmp_path / 'nowhere' / 'JPEGImages'} is missing: ")
    made.list.rename(made.list.with_name("kept"))
    assert check("voc20", tmp_path) == [f"{made.list} is missing: the list of the pictures, a name a line"]
    made.list.with_name("kept").rename(made.list)
    first_key, second, *_ = made.labels
    made.picture(first_key).unlink()
    made.mask(second).unlink()
    assert check("voc20", tmp_path) == [
        f"{pictures / first_key}.jpg is missing: a picture", f"{truth / second}.png is missing: a mask",
    ]  # fmt: skip
    message = line(lambda: open_set("voc20", tmp_path).items())
    assert message == f"{pictures / first_key}.jpg is missing: a picture (the first of 2 lines of `fastloc evaluate check`)"
    with made.list.open("a", encoding="utf-8") as names:
        names.writelines(f"{number}\n" for number in range(2000))
    found = check("voc20", tmp_path)
    assert found[9:11] == [f"{pictures / '8'}.jpg is missing: a picture", "1,991 more pictures are missing"]
    assert len(found) == 22 and found[-1] == "1,991 more masks are missing"
    shutil.rmtree(truth)
    assert check("voc20", tmp_path) == [f"{truth} is missing: the folder of their masks"]


def test_folders_without_pictures_are_reported(tmp_path: Path) -> None:
    (tmp_path / "images/val2017").mkdir(parents=True)
    (tmp_path / "annotations/val2017").mkdir(parents=True)
    assert check("coco-stuff", tmp_path) == [f"{tmp_path / 'images/val2017'} must hold pictures *.jpg, got none"]
    Image.new("RGB", (4, 4)).save(tmp_path / "images/val2017" / "7.jpg")
    assert check("coco-stuff", tmp_path) == [f"{tmp_path / 'annotations/val2017' / '7_labelTrainIds.png'} is missing: a mask"]
    Image.new("RGB", (4, 4)).save(tmp_path / "images/val2017" / "a\nb.jpg")
    (found,) = check("coco-stuff", tmp_path)
    assert "must be one line" in found and "\n" not in found


@pytest.mark.parametrize("name", ["voc21", "cityscapes"])
def test_suffixes_are_read_in_upper_case(name: str, tmp_path: Path) -> None:
    made = write(name, tmp_path)
    for key in made.labels:
        for path in (made.picture(key), made.mask(key)):
            path.rename(path.with_suffix(path.suffix.upper()))
    assert check(name, tmp_path) == []
    assert all(np.array_equal(sample.labels, made.labels[key]) for key, sample in samples(made).items())


def test_a_part_of_a_set_and_other_masks(tmp_path: Path) -> None:
    made = write("voc21", tmp_path)
    one, two, three = made.labels
    (tmp_path / "mine.txt").write_text(f"{three}\n{one}.jpg\n", encoding="utf-8")
    assert [*samples(made, only="mine.txt")] == [*samples(made, only=str(tmp_path / "mine.txt"))] == [three, one]
    (tmp_path / "SegmentationClassAug").mkdir()
    Image.fromarray(np.full_like(made.labels[two], 7, np.uint8)).save(tmp_path / "SegmentationClassAug" / f"{two}.png")
    (tmp_path / "mine.txt").write_text(two, encoding="utf-8")
    (sample,) = samples(made, only="mine.txt", masks="SegmentationClassAug").values()
    assert (sample.labels == 7).all()
    assert line(lambda: open_set("voc21", tmp_path, mask="x")).startswith("unknown voc21 option 'mask': did you mean 'masks'?")
    assert line(lambda: check("voc12", tmp_path)).startswith("unknown data set 'voc12': did you mean")


def test_pictures_are_upright_and_without_their_profile(tmp_path: Path) -> None:
    made = write("ade20k", tmp_path, 1)
    (key,) = made.labels
    pixels = np.asarray(first(made).picture)
    exif = Image.Exif()
    # turned by a quarter to the right
    exif[0x0112] = 6
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
    turned.save(made.picture(key), "PNG", exif=exif, icc_profile=icc.PROPHOTO)
    sample = first(made)
    assert np.array_equal(np.asarray(sample.picture), pixels) and np.array_equal(sample.labels, made.labels[key])


def test_threads_read_side_by_side(tmp_path: Path) -> None:
    made = write("cityscapes", tmp_path, 2)
    found = open_set("cityscapes", tmp_path)
    with ThreadPoolExecutor(4) as pool:
        for sample in pool.map(found.read, [*found.items()] * 8):
            assert np.array_equal(sample.labels, made.labels[sample.key])


@pytest.mark.slow("reads hundreds of damaged masks and lists")
@pytest.mark.parametrize("name", ["voc21", "coco-object"])
def test_edits_of_a_set_s_files_end_in_an_answer_or_one_line(name: str, tmp_path: Path) -> None:
    made = write(name, tmp_path, 1)
    files = [made.mask(*made.labels), made.picture(*made.labels)] + ([made.list] if name == "voc21" else [])
    for path in files:
        content = path.read_bytes()

        def read(edited: bytes, path: Path = path) -> None:
            path.write_bytes(edited)
            found = open_set(name, tmp_path)
            for item in found.items():
                found.read(item)

        assert raw(byte_edits(content, 0, 300), read) == []
        assert raw(byte_edits(content, 1, 100, 60), read) == []
        path.write_bytes(content)
