"""The gallery: a picture and a paragraph for every method, nothing missing and nothing too much, and its script makes what lies there."""

import hashlib
import json
import re
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gallery
from doc_tables.markdown_table import TableError
from fastloc import Localizer
from fastloc.recipes import RECIPES
from gallery_parts import blocks, cards, record
from gallery_parts.tiles import Picture

GALLERY, EACH = blocks.GALLERY.read_text(encoding="utf-8"), blocks.EACH.read_text(encoding="utf-8")
SECTION = re.compile(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", re.DOTALL | re.MULTILINE)


def test_the_folder_is_what_the_record_says() -> None:
    rows = record.read()
    assert record.faults(rows) == []
    assert sum(path.stat().st_size for path in record.FOLDER.iterdir()) == sum(row.bytes for row in rows) < record.MOST == 3_000_000


def test_every_picture_stands_on_the_gallery_with_words_of_its_own() -> None:
    rows = record.read()
    shown = re.findall(r"!\[([^]]*)\]\(assets/gallery/([\w.-]+)\)", GALLERY)
    assert sorted(shown) == sorted((row.alt, row.file) for row in rows)
    assert all(row.alt and row.caption for row in rows)
    alts = [row.alt for row in rows if row.group != "methods"]
    assert len(set(alts)) == len(alts), "two tiles of one strip have the same words"


def test_every_method_has_its_picture_and_three_sentences() -> None:
    sections = dict(SECTION.findall(EACH))
    assert list(sections) != [] and set(sections) == set(RECIPES)
    for name, text in sections.items():
        assert f"(../assets/gallery/{name}.webp)" in text and "(index.md#every-row)" in text, name
        prose = text.partition("<!-- end -->")[2].strip()
        assert len(prose.splitlines()) == 3 and all(re.search(r"[.)]$", line) for line in prose.splitlines()), name
    assert [row.name for row in record.read() if row.group == "methods"] == ["scenes", *RECIPES]


def test_every_picture_opens_and_only_the_loop_moves() -> None:
    for row in record.read():
        with Image.open(record.FOLDER / row.file) as picture:
            assert picture.format == "WEBP" and min(picture.size) >= 200, row.file
            assert (getattr(picture, "n_frames", 1) > 1) == (row.name == "live"), row.file


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Record and folder of an empty gallery."""
    monkeypatch.setattr(record, "FOLDER", tmp_path / "pictures")
    monkeypatch.setattr(record, "RECORD", tmp_path / "gallery.json")
    return tmp_path


def drawn(name: str, group: str = "methods") -> Picture:
    return Picture(name, group, f"alt of {name}", f"caption of {name}", (Image.new("RGB", (8, 6), "red"),))


def test_what_is_missing_changed_or_too_much_is_said(elsewhere: Path) -> None:
    rows = record.write([drawn(name) for name in ("scenes", *RECIPES)])
    assert record.faults(rows) == [] and record.read() == rows
    folder = elsewhere / "pictures"
    (folder / "gem.webp").unlink()
    (folder / "itsm.webp").write_bytes(b"another")
    (folder / "orphan.webp").touch()
    assert [line.split()[0] for line in record.faults(rows)] == ["orphan.webp", "itsm.webp", "gem.webp"]
    record.remove_orphans(rows)
    assert not (folder / "orphan.webp").exists()
    (line,) = record.faults([row for row in record.write([drawn(name) for name in ("scenes", *RECIPES)]) if row.name != "gem"])[1:]
    assert line.startswith("the cards are not of the methods")


def test_some_pictures_are_made_again_in_their_places(elsewhere: Path) -> None:
    first = record.write([drawn("a"), drawn("b", "strip")])
    again = record.write([Picture("a", "methods", "other", "words", (Image.new("RGB", (8, 6), "blue"),))], first)
    assert [row.name for row in again] == ["a", "b"] and again[1] == first[1] and again[0].sha256 != first[0].sha256
    assert again[0].sha256 == hashlib.sha256((elsewhere / "pictures" / "a.webp").read_bytes()).hexdigest()


def test_a_page_without_a_picture_s_block_is_refused() -> None:
    with pytest.raises(TableError, match="gallery-gem"):
        blocks.each(EACH.replace("<!-- table: gallery-gem -->", "<!-- table: gallery-other -->", 1))
    with pytest.raises(TableError, match="gallery-live"):
        blocks.gallery(GALLERY.replace("<!-- table: gallery-live -->", "", 1))


def test_check_says_which_page_differs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "gallery.md"
    page.write_text(GALLERY.replace("![", "![old ", 1), encoding="utf-8")
    monkeypatch.setattr(gallery, "PAGES", ((page, blocks.gallery), (blocks.EACH, blocks.each)))
    monkeypatch.setattr(sys, "argv", ["gallery.py", "--check"])
    assert gallery.main() == 1
    assert capsys.readouterr().err == "gallery.md differs from the record: run `python benchmarks/gallery.py`\n"
    page.write_text(GALLERY, encoding="utf-8")
    assert gallery.main() == 0


def test_a_name_of_no_picture_ends_with_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gallery.py", "--only", "nothing-like-it"])
    assert gallery.main() == 1
    assert capsys.readouterr().err == "--only must name pictures of the gallery, got nothing-like-it\n"


@pytest.mark.slow("runs the embedded model and encodes pictures")
def test_the_script_makes_the_picture_that_lies_there(elsewhere: Path) -> None:
    localizer = Localizer(device="cpu")
    for method in ("itsm", "gem", "legrad"):
        made = cards.card(localizer.with_method(method))
        (row,) = record.write([made])
        stored = blocks.DOCS / "assets" / "gallery" / row.file
        one, other = (np.asarray(Image.open(file).convert("RGB"), np.float32) for file in (elsewhere / "pictures" / row.file, stored))
        # other machines round otherwise; another model, sample or method is far off
        assert one.shape == other.shape and float(np.abs(one - other).mean()) < 2, f"{row.file} is out of date: run `{record.COMMAND}`"
        assert row.alt in EACH
    assert json.loads((elsewhere / "gallery.json").read_text())["pictures"][0]["name"] == "legrad"
    assert Image.open(BytesIO(record.encoded(made))).size == made.frames[0].size
