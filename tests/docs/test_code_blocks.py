"""Python on pages and in docstrings runs; a block that needs software or weights that are not here says so, and compiles."""

import doctest
import importlib
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastloc
from doc_tables.pages import pages
from embedded_model.moving_scenes import clip, write
from fastloc.recipes import RECIPES
from repo import REPO

# blocks of tabs and lists are indented
BLOCK = re.compile(
    r"^(?P<not_run>[ ]*<!-- not run: needs [^>\n]+ -->\n\s*?)?^(?P<indent>[ ]*)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
PAGES = (*pages(), REPO / "CONTRIBUTING.md")
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]
SAMPLES = REPO / "fastloc" / "embedded" / "samples"


def blocks(page: Path) -> Iterator[tuple[str, bool]]:
    """The page's blocks, each with False where it is compiled only."""
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield textwrap.dedent(block["code"]), not block["not_run"]


def test_indented_and_marked_blocks_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\na = 1\n```\n<!-- not run: needs a GPU -->\n```python title='x'\nb\n```\n"
        "=== tab\n\n    ```python\n    c\n      d\n    ```\n"
        "<!-- not run: needs a GPU -->\n\ntext\n```python\ne\n```\n"
    )
    assert list(blocks(page)) == [("a = 1\n", True), ("b\n", False), ("c\n  d\n", True), ("e\n", True)]


def runs(page: Path) -> bool:
    return any(run for _, run in blocks(page))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pages speak of: the samples where the checkout has them, pictures and a clip; the current one."""
    shutil.copytree(SAMPLES, tmp_path / "fastloc" / "embedded" / "samples")
    (tmp_path / "photos").mkdir()
    for path in ("photos/market.webp", "market.webp", "photo.webp"):
        shutil.copy(SAMPLES / "market.webp", tmp_path / path)
    write(clip(seed=2, seconds=0.5, things=("cat", "pizza"), size=(96, 128)), tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(REPO)))
def test_every_block_compiles(page: Path) -> None:
    for code, _ in blocks(page):
        compile(code, str(page), "exec")


@pytest.mark.slow("models are loaded and run")
@pytest.mark.parametrize("page", [page for page in WITH_CODE if runs(page)], ids=lambda page: str(page.relative_to(REPO)))
def test_every_block_runs(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page are one program; one that begins in the middle goes on from `localizer = fastloc.Localizer()`."""
    if page.name == "batch.md":
        rows_of_a_batch()
    names: dict[str, Any] = {"__name__": "page", "fastloc": fastloc}
    mine = [code for code, run in blocks(page) if run]
    if "localizer" in "".join(mine):
        names["localizer"] = fastloc.Localizer()
    # the row that a page puts there goes again with the test
    monkeypatch.setitem(RECIPES, "mine", RECIPES["naclip"])
    for code in mine:
        exec(compile(code, str(page), "exec"), names)


def rows_of_a_batch() -> None:
    from fastloc.scale import Locate
    from fastloc.scale.batch import batch

    batch(["photos"], Locate(["a dog", "a red car"], threshold=0.6), Path("OUT"))


def test_the_front_page_s_six_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = next(blocks(REPO / "README.md"))
    assert len(code.splitlines()) == 6
    exec(compile(code, "README.md", "exec"), {"__name__": "page"})
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r" \d+ \d+ [\d.]+$", "", line) for line in lines] == ["cat", "pizza", "red car"], lines
    assert (folder / "where.png").stat().st_size > 1000


@pytest.mark.slow("runs the embedded model on a clip")
def test_the_front_page_s_video_delivers_every_frame(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = [code for code, _ in blocks(REPO / "README.md") if "fastloc.stream(" in code]
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, "README.md", "exec"), names)
    counts = names["stream"].counters.to_dict()
    assert counts["delivered"] == counts["captured"] == 15 and capsys.readouterr().out.count("Point(text='cat'") >= 5


@pytest.mark.slow("runs the embedded model on two large frames")
def test_shapes_that_a_comment_states(folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    code = "".join(code for code, run in blocks(REPO / "docs" / "guide" / "python.md") if run)
    exec(compile(code, "python.md", "exec"), names)
    stated = dict(re.findall(r"^(\w+) = localizer.*# \[([\d, ]+)\]", code, re.MULTILINE))
    assert set(stated) == {"heat", "best"} and {name: str(list(names[name].shape))[1:-1] for name in stated} == stated


EXAMPLES = sorted(path for path in (REPO / "fastloc").rglob("*.py") if "\n    >>> " in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(REPO)))
def test_a_docstring_s_examples(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(REPO).with_suffix("").parts))
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert tried and not failed
