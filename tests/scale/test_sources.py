"""Sources of a batch: every kind lists the same pictures under its keys, and an unusable one raises an error of one line."""

import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastloc.errors import ImageError
from fastloc.scale.sources.item import Item
from fastloc.scale.sources.listing import Columns, items
from fastloc.scale.sources.reading import content

# what stands for pictures: a listing reads none
FILES = {"b.png": b"one", "sub/a.jpg": b"two", "sub/deep/c.webp": b"three"}


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, data in {**FILES, "notes.md": b"no picture"}.items():
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(item: Item) -> bytes:
    found: Any = content(item)
    return found if isinstance(found, bytes) else Path(found).read_bytes()


def listed(*sources: str, **columns: str) -> dict[str, bytes]:
    found = list(items(sources, Columns(**columns)))
    assert len({item.key for item in found}) == len(found)
    return {item.key: read(item) for item in found}


def tar_of(folder: Path, path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in (*FILES, "notes.md"):
            archive.add(folder / "photos" / name, name)


def test_a_folder_and_patterns_have_keys_relative_to_them(folder: Path) -> None:
    assert listed("photos") == listed("photos/") == FILES
    assert list(listed("photos")) == ["b.png", "sub/a.jpg", "sub/deep/c.webp"]
    assert listed("photos/*.png") == {"b.png": b"one"}
    assert listed("photos/**/*.[jw]*") == {"sub/a.jpg": b"two", "sub/deep/c.webp": b"three"}
    assert listed("photos/b.png") == {"photos/b.png": b"one"}


def test_keys_of_several_sources_begin_with_the_source(folder: Path) -> None:
    assert list(listed("photos/sub", "photos/*.png")) == ["photos/sub/a.jpg", "photos/sub/deep/c.webp", "photos/b.png"]


def test_a_list_names_pictures_relative_to_itself(folder: Path) -> None:
    (folder / "photos" / "list.txt").write_text("# two\n\nb.png\nsub/a.jpg\n", encoding="utf-8")
    assert listed("photos/list.txt") == {"b.png": b"one", "sub/a.jpg": b"two"}


def test_a_tar_gives_its_pictures_without_being_unpacked(folder: Path) -> None:
    tar_of(folder, folder / "shard.tar")
    assert listed("shard.tar") == {f"shard.tar/{name}": data for name, data in FILES.items()}
    assert [item.span is not None for item in items(["*.tar"])] == [True] * 3


def test_a_table_holds_bytes_or_paths(folder: Path) -> None:
    names = list(FILES)
    pictures = [{"bytes": data, "path": name} for name, data in FILES.items()]
    pq.write_table(pa.table({"image": pictures, "id": names}), folder / "hugging_face.parquet", row_group_size=2)
    pq.write_table(pa.table({"path": names, "bild": list(FILES.values())}), folder / "photos" / "paths.parquet")
    assert listed("hugging_face.parquet") == {f"hugging_face.parquet#{name}": data for name, data in FILES.items()}
    by_row = {f"photos/paths.parquet#{row}": data for row, data in enumerate(FILES.values())}
    assert listed("photos/paths.parquet") == listed("photos/paths.parquet", picture="bild") == by_row


def test_stores_of_fsspec_are_listed_like_folders(folder: Path) -> None:
    store = fsspec.filesystem("memory")
    tar_of(folder, folder / "shard.tar")
    for name in ("photos/b.png", "photos/sub/a.jpg", "shard.tar"):
        store.pipe(f"/bucket/{name}", (folder / name).read_bytes())
    assert listed("memory://bucket/photos") == {"b.png": b"one", "sub/a.jpg": b"two"}
    assert listed("memory://bucket/*.tar") == {f"shard.tar/{name}": data for name, data in FILES.items()}
    assert listed("memory://bucket/photos/b.png") == {"memory://bucket/photos/b.png": b"one"}


def test_a_key_that_comes_twice_is_a_fault_of_the_second(folder: Path) -> None:
    found = list(items(["photos/sub", "photos/sub"]))
    assert [bool(item.fault) for item in found] == [False, False, True, True]
    with pytest.raises(ImageError, match=r"sub/a\.jpg: is a key that an earlier picture has"):
        content(found[2])


def test_a_tar_that_ends_too_soon_gives_what_it_has_and_a_fault(folder: Path) -> None:
    (folder / "photos" / "b.png").write_bytes(b"x" * 30000)
    tar_of(folder, folder / "shard.tar")
    (folder / "shard.tar").write_bytes((folder / "shard.tar").read_bytes()[:32500])
    found = list(items(["shard.tar"]))
    assert [item.key for item in found] == ["shard.tar/b.png", "shard.tar"]
    assert len(read(found[0])) == 30000
    with pytest.raises(ImageError, match="is a damaged tar"):
        content(found[1])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing", "nothing: no such file or folder"),
        ("photos/*.gif", "must hold pictures, got none"),
        ("nowhere://bucket", "nowhere://bucket: cannot be listed"),
        ("broken.tar", "must be a whole, uncompressed tar"),
        ("broken.parquet", "must be a Parquet file"),
        ("other.parquet", "must have a column 'image, bytes"),
        ("numbers.parquet", "column 'image' must hold bytes or paths of pictures, got int64"),
    ],
)
def test_what_cannot_be_listed_is_refused_in_one_line(folder: Path, source: str, message: str) -> None:
    for name in ("broken.tar", "broken.parquet"):
        (folder / name).write_bytes(b"neither" * 100)
    pq.write_table(pa.table({"x": [1]}), folder / "other.parquet")
    pq.write_table(pa.table({"image": [1]}), folder / "numbers.parquet")
    with pytest.raises(ImageError) as raised:
        list(items([source]))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_picture_whose_store_has_lost_it_is_an_error_of_its_own() -> None:
    with pytest.raises(ImageError, match=r"memory://bucket/gone\.png: cannot be read"):
        content(Item("gone.png", "memory://bucket/gone.png"))


@pytest.mark.parametrize("size", [1 << 40, 1 << 66])
def test_a_tar_reserves_no_more_than_it_has(tmp_path: Path, size: int) -> None:
    """A header of a long name that says to be a terabyte, or more than a read can ask for."""
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = b"L", size
    whole = tarfile.TarInfo("a.png")
    whole.size = 3
    blocks = whole.tobuf(tarfile.GNU_FORMAT) + b"abc".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(blocks + name.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    tracemalloc.start()
    try:
        found = list(items([str(tmp_path / "a.tar")]))
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
    assert content(found[0]) == b"abc" and len(found) == 2
    assert "is a damaged tar" in found[1].fault and found[1].fault.isprintable()
