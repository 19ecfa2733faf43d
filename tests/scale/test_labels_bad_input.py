"""Rows that cannot be converted, and outputs that cannot be written: one line, and nothing left behind."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from command_line import Run, run_fixture  # noqa: F401  # a fixture
from fastloc.scale.labels.convert import FORMATS
from fastloc.scale.labels.names import relative_name
from label_rows import SETTINGS, TEXTS, Drawn, blobs, drawn, rows_of, save_pictures, write_batch
from written import largest_file

# format -> what `-o` names
OUTPUT = {name: "found.json" if name == "coco" else "found" for name in FORMATS}


def fails(run: Run, tmp_path: Path, *argv: object, to: str = "coco") -> str:
    """The line that `batch convert out` ends with, of which nothing may be left."""
    before = sorted(tmp_path.rglob("*"))
    ended = run("batch", "convert", "out", "--to", to, "-o", OUTPUT[to], *argv)
    assert ended.status == 1 and ended.out == ""
    assert sorted(tmp_path.rglob("*")) == before
    last = ended.err.splitlines()[-1]
    assert last.startswith("fastloc: error: ") and "Traceback" not in ended.err
    return last


@pytest.mark.parametrize("to", FORMATS)
def test_no_rows(run: Run, tmp_path: Path, to: str) -> None:
    assert "out must hold manifest.json and rows/part-….parquet" in fails(run, tmp_path, to=to)


def test_an_empty_batch_has_an_empty_label_file(run: Run, tmp_path: Path) -> None:
    write_batch(tmp_path / "out", [Drawn("a.jpg", [np.zeros((4, 5), bool)] * 3, [None] * 3)])
    part = tmp_path / "out/rows/part-000000.parquet"
    table = pq.read_table(part)
    pq.write_table(table.slice(0, 0), part)
    for to in FORMATS:
        assert run("batch", "convert", "out", "--to", to, "-o", OUTPUT[to]).out.endswith("(0 pictures, 0 objects of 3 texts)\n")
        (tmp_path / OUTPUT[to]).rename(tmp_path / f"{to}.done")
    read = json.loads((tmp_path / "coco.done").read_text(encoding="utf-8"))
    assert (read["images"], read["annotations"], len(read["categories"])) == ([], [], 3)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("part", [0, 2])
def test_a_half_written_shard(run: Run, tmp_path: Path, to: str, part: int) -> None:
    write_batch(tmp_path / "out", drawn())
    file = tmp_path / f"out/rows/part-00000{part}.parquet"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert f"part-00000{part}.parquet must be a whole Parquet file, got a damaged one" in fails(run, tmp_path, to=to)


@pytest.mark.parametrize("to", FORMATS)
def test_damage_within_a_shard_is_found_while_it_is_read(run: Run, tmp_path: Path, to: str) -> None:
    write_batch(tmp_path / "out", drawn())
    file = tmp_path / "out/rows/part-000002.parquet"
    content = bytearray(file.read_bytes())
    content[4:1200] = bytes(1196)
    file.write_bytes(content)
    assert "part-000002.parquet must be a whole Parquet file" in fails(run, tmp_path, to=to)


def test_a_shard_that_is_being_written_is_not_read(run: Run, tmp_path: Path) -> None:
    write_batch(tmp_path / "out", drawn())
    (tmp_path / "out/rows/.part-000003.parquet.0a1b2c.part").write_bytes(b"PAR1")
    assert run("batch", "convert", "out", "--to", "coco", "-o", "found.json").status == 0


def test_a_missing_shard_is_reported(run: Run, tmp_path: Path) -> None:
    write_batch(tmp_path / "out", drawn())
    (tmp_path / "out/rows/part-000001.parquet").unlink()
    ended = run("batch", "convert", "out", "--to", "coco", "-o", "found.json")
    assert ended.status == 0 and "the batch is not finished, 2 shards of 3 are there" in ended.err


def rewritten(tmp_path: Path, metadata: dict[str, str] | None, **columns: pa.Array) -> None:
    part = tmp_path / "out/rows/part-000000.parquet"
    table = pq.read_table(part)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    pq.write_table(table.replace_schema_metadata(metadata), part)


def test_rows_of_another_format(run: Run, tmp_path: Path) -> None:
    write_batch(tmp_path / "out", drawn()[:2])
    rewritten(tmp_path, {"fastloc": json.dumps({**asdict(SETTINGS), "format": 0})})
    assert "its format must be 1, got 0; run the batch again into a new folder" in fails(run, tmp_path)


def test_other_parquet_files(run: Run, tmp_path: Path) -> None:
    write_batch(tmp_path / "out", drawn()[:2])
    rewritten(tmp_path, None)
    assert "must be a row file of `fastloc batch`, got another Parquet file" in fails(run, tmp_path)
    rewritten(tmp_path, {"fastloc": "{"})
    assert "its metadata is damaged" in fails(run, tmp_path)


def test_columns_of_another_type_and_missing_ones(run: Run, tmp_path: Path) -> None:
    write_batch(tmp_path / "out", drawn()[:2])
    rewritten(tmp_path, SETTINGS.metadata(), width=pa.array(["80"] * 6))
    assert "its column 'width' must be of int32, got string" in fails(run, tmp_path)
    part = tmp_path / "out/rows/part-000000.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["width"]), part)
    assert "its column 'width' must be of int32, got none" in fails(run, tmp_path)


def test_shards_of_two_runs(run: Run, tmp_path: Path) -> None:
    write_batch(tmp_path / "out", drawn())
    rewritten(tmp_path, replace(SETTINGS, texts=("dog", *TEXTS[1:])).metadata())
    assert "its settings must be those of manifest.json, got others" in fails(run, tmp_path)


@pytest.mark.parametrize("mask", ["", "?" * 50, "Z" * 9, "\x7f\x00"])
def test_masks_that_are_none(run: Run, tmp_path: Path, mask: str) -> None:
    write_batch(tmp_path / "out", drawn()[:1])
    rewritten(tmp_path, SETTINGS.metadata(), mask=pa.array([mask] * 3))
    assert "a.jpg, 'cat': its mask is damaged" in fails(run, tmp_path)


def test_a_box_outside_its_picture(run: Run, tmp_path: Path) -> None:
    write_batch(tmp_path / "out", drawn()[:1])
    rewritten(tmp_path, SETTINGS.metadata(), width=pa.array([8] * 3, pa.int32()))
    assert "a.jpg, 'cat': its boxes must lie within 8 x 120, got " in fails(run, tmp_path)


@pytest.mark.parametrize("masks", [True, False])
def test_a_picture_without_pixels(run: Run, tmp_path: Path, masks: bool) -> None:
    write_batch(tmp_path / "out", drawn()[:1], masks=masks)
    rewritten(tmp_path, replace(SETTINGS, masks=masks).metadata(), width=pa.array([0] * 3, pa.int32()))
    assert "a.jpg, 'cat': its boxes must lie within 0 x 120" in fails(run, tmp_path, to="yolo")


def test_texts_that_were_given_twice_are_one_label(run: Run, tmp_path: Path) -> None:
    mask = blobs(1, 40, 50)
    write_batch(tmp_path / "out", [Drawn("a.jpg", [mask] * 3, [None] * 3)], texts=("cat", "dog", "cat"))
    ended = run("batch", "convert", "out", "--to", "coco", "-o", "found.json")
    assert ended.status == 0 and "texts that were given twice become one label" in ended.err
    read = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in read["categories"]] == ["cat", "dog"]
    objects = len(rows_of(Drawn("", [mask], [None]), ["cat"])[0]["boxes"])
    assert [each["category_id"] for each in read["annotations"]] == [1] * objects + [2] * objects


def test_a_least_score_where_there_are_none(run: Run, tmp_path: Path) -> None:
    write_batch(tmp_path / "out", [Drawn("a.jpg", [blobs(1, 40, 50)] * 3, [None] * 3)])
    assert "the rows have no scores" in fails(run, tmp_path, "--min-score", "0.5")
    for name, value in (("--min-score", "1.5"), ("--min-score", "nan"), ("--min-heat", "nan")):
        assert " must be a number from " in fails(run, tmp_path, name, value)


@pytest.mark.parametrize("to", FORMATS)
def test_what_is_there_is_not_written_over(run: Run, tmp_path: Path, to: str) -> None:
    write_batch(tmp_path / "out", drawn()[:1])
    (tmp_path / OUTPUT[to]).mkdir()
    (tmp_path / OUTPUT[to] / "mine").write_text("mine", encoding="utf-8")
    assert "output must be a name that is free, got found" in fails(run, tmp_path, to=to)


@pytest.mark.parametrize("to", FORMATS)
def test_a_folder_that_is_not_there(run: Run, tmp_path: Path, to: str) -> None:
    write_batch(tmp_path / "out", drawn()[:1])
    assert "the folder no does not exist" in fails(run, tmp_path, "-o", f"no/{OUTPUT[to]}", to=to)


@pytest.mark.parametrize("to", FORMATS)
def test_a_full_disk(run: Run, tmp_path: Path, to: str) -> None:
    write_batch(tmp_path / "out", drawn())
    with largest_file(300):
        line = fails(run, tmp_path, to=to)
    assert "File too large" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device of a full disk")
def test_a_pipe_takes_coco(run: Run, tmp_path: Path) -> None:
    write_batch(tmp_path / "out", drawn())
    assert "No space left" in fails(run, tmp_path, "-o", "/dev/full")
    reader, writer = os.pipe()
    with os.fdopen(reader, encoding="utf-8") as pipe:
        ended = run("batch", "convert", "out", "--to", "coco", "--min-score", "0.95", "-o", f"/dev/fd/{writer}")
        os.close(writer)
        assert len(json.load(pipe)["images"]) == 5
    assert ended.out == "" and "5 pictures, 0 objects" in ended.err


@pytest.mark.parametrize("to", [each for each in FORMATS if each != "coco"])
def test_no_folder_takes_a_stream_s_place(run: Run, tmp_path: Path, to: str) -> None:
    write_batch(tmp_path / "out", drawn()[:1])
    with (tmp_path / "printed").open("wb") as file:
        line = fails(run, tmp_path, "-o", f"/dev/fd/{file.fileno()}", to=to)
    assert "output must be a name that is free" in line and (tmp_path / "printed").is_file()


def test_pictures_that_are_not_where_one_says(run: Run, tmp_path: Path) -> None:
    write_batch(tmp_path / "out", drawn()[:2])
    save_pictures(tmp_path / "pictures", drawn()[:1])
    line = fails(run, tmp_path, "--images", "pictures", to="yolo")
    assert "--images must be the folder that the keys are relative to, got one without" in line and "ä b.jpg" in line


def test_keys_never_leave_the_folder(run: Run, tmp_path: Path) -> None:
    keys = [
        "../../a.jpg", "/etc/passwd", "https://host/x.jpg?size=3", "C:\\pictures\\a.png", "a/../../b", "x" * 400 + ".jpg", "a\nb.jpg", "..",
        "", "a.txt/b.jpg", "a.jpg", "A.jpg", "a.txt.png", "a/b.jpg", "trailing. /x.jpg",
    ]  # fmt: skip
    write_batch(tmp_path / "out", [Drawn(key, [np.ones((3, 4), bool)] * 3, [None] * 3) for key in keys], shard=20)
    before = set(tmp_path.rglob("*"))
    ended = run("batch", "convert", "out", "--to", "yolo", "-o", "found")
    assert ended.status == 0, ended.err
    made = set(tmp_path.rglob("*")) - before
    labels = [each for each in made if each.is_file() and each.suffix == ".txt"]
    assert len(labels) == len(keys) and all((tmp_path / "found/labels") in each.parents for each in labels)
    assert all((tmp_path / "found") in (each, *each.parents) for each in made)


@pytest.mark.parametrize(
    ("key", "name"),
    [("a.jpg", "a"), ("b/c.d.JPEG", "b/c.d"), ("x.tar/1.png", "x.tar/1"), ("p.parquet#3", "p.parquet#3"), ("ü & co.webp", "ü & co")],
)
def test_names_stay_where_they_can(key: str, name: str) -> None:
    assert relative_name(key) == name
