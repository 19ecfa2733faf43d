"""Pairs for ECLIP's trainer: folders with a table, shards, and what is wrong with them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from eclip_pairs import encoded, picture, write_folder
from fastloc.eclip.pairs import Left, read_pairs
from fastloc.errors import FastlocError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pairs")


def test_a_folder_with_a_table(folder: Path) -> None:
    pairs = read_pairs([folder], Left(strict=True))
    assert [pair.name for pair in pairs] == [f"{i}.png" for i in range(10)]
    assert pairs[3].captions == ("a photo of a banana", "one banana") and pairs[0].picture().size == (40, 40)
    assert read_pairs([folder / "captions.csv"], Left())[3].captions == pairs[3].captions


def test_a_table_of_json_lines(folder: Path) -> None:
    (folder / "captions.csv").unlink()
    rows = [{"file_name": "0.png", "text": ["one", "two"]}, {"file_name": "1.png", "text": "three"}]
    (folder / "metadata.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows))
    assert [pair.captions for pair in read_pairs([folder], Left())] == [("one", "two"), ("three",)]


def shard(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_shards(tmp_path: Path) -> None:
    one = shard(tmp_path / "a.tar", {"x/0.png": encoded(0)(), "x/0.txt": b"a cat", "x/1.seg.png": b"", "x/1.json": b"{}"})
    two = shard(tmp_path / "b.tar", {"0.JPG": encoded(2)(), "0.json": b'{"caption": ["an owl", "a bird"]}', "3.png": b"?", "3.txt": b"x"})
    left = Left()
    pairs = read_pairs([one, two], left)
    assert [pair.name for pair in pairs] == ["a.tar/x/0", "b.tar/0", "b.tar/3"]
    assert [pair.captions for pair in pairs] == [("a cat",), ("an owl", "a bird"), ("x",)]
    np.testing.assert_array_equal(np.asarray(pairs[1].picture()), np.asarray(picture(2)))
    assert left.lines() == ["1 left out, no picture (jpg, jpeg, png, webp): a.tar/x/1"]


def test_what_cannot_be_used_is_counted_and_named_or_an_error(folder: Path) -> None:
    with (folder / "captions.csv").open("a") as table:
        table.write("none.png,a ghost\n4.png,\nnone.png,still none\n")
    picture(0).save(folder / "silent.png")
    with (folder / "captions.csv").open("a") as table:
        table.write("silent.png,  \n")
    left = Left()
    assert len(read_pairs([folder], left)) == 10
    assert left.lines() == ["1 left out, no such picture: none.png", "1 left out, no caption: silent.png"]
    with pytest.raises(FastlocError, match=r"none\.png: no such picture; without --strict it is left out"):
        read_pairs([folder], Left(strict=True))


BROKEN: dict[str, tuple[dict[str, bytes], str]] = {
    "empty": ({}, "must hold a table, captions.csv or captions.jsonl"),
    "columns": ({"captions.csv": b"photo,caption\na,b\n"}, "line 2: no column 'image' among 'photo', 'caption'"),
    "no rows": ({"captions.csv": b"image,caption\n"}, "must hold two or more usable pairs of picture and caption, got 0"),
    "missing": ({"captions.csv": b"image,caption\na.png,x\n"}, "got 0; 1 left out, no such picture: a.png"),
    "json": ({"captions.jsonl": b"{]"}, "line 1: is not JSON"),
    "deep": ({"captions.jsonl": b"[" * 100_000}, "line 1: is not JSON (it must not be nested so deep)"),
    "huge": ({"captions.jsonl": b'{"image": 1e999}'}, "line 1: is not JSON ([...]: Number out of range)"),
    "list": ({"captions.jsonl": b"[1]"}, "line 1: must be a JSON object"),
    "number": ({"captions.jsonl": b'{"image": 3, "caption": "x"}'}, "must hold a path and a caption, or a list of them, got 3"),
    "bytes": ({"captions.csv": b"\xff\xfe\xfd"}, "captions.csv: cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_data(tmp_path: Path, case: str) -> None:
    files, message = BROKEN[case]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FastlocError) as caught:
        read_pairs([tmp_path], Left())
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_broken_shards(tmp_path: Path) -> None:
    packed = shard(tmp_path / "c.tar", {"0.png": b"1"}, "w:gz")
    for path, message in ((packed, "must be an uncompressed tar file"), (tmp_path / "no.tar", "No such file")):
        with pytest.raises(FastlocError, match=message):
            read_pairs([path], Left())
    with pytest.raises(FastlocError, match=r"data must be one folder or table, or \.tar shards alone"):
        read_pairs([packed, tmp_path], Left())
