"""Every page is current: its tables, its command lines, its links, and the scores that it speaks of."""

import json
import re
import shlex
import subprocess
import sys
import textwrap
from argparse import Namespace
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from doc_tables import pages, tables
from doc_tables.page import BLOCK
from fastloc.bench.cli import SUITES
from fastloc.bench.cli import parser as bench_parser
from fastloc.bench.quality import embedded_quality
from fastloc.cli.app import build_parser, words
from fastloc.eclip.cli import parser as eclip_parser
from fastloc.embedded import FOLDERS, QUALITY
from fastloc.engine.classifier_localizer import METHODS as CLASSIFIERS
from fastloc.recipes import RECIPES
from fastloc.text.templates import sentences
from repo import REPO

PAGES = pages.pages()
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
SPEAKING = (*PAGES, REPO / "CONTRIBUTING.md", REPO / "SECURITY.md")
# blocks of tabs and lists are indented
FENCE = re.compile(r"^([ ]*)```(?:sh|bash|console|shell)\b[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
ANY_FENCE = re.compile(r"^([ ]*)```.*?^\1```$", re.DOTALL | re.MULTILINE)
OTHERS = {"fastloc.bench": bench_parser, "fastloc.eclip": eclip_parser}
SCORES = {"pointing", "miou", "auc", "msc"}


def shown(page: Path) -> str:
    return str(page.relative_to(REPO))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def commands(page: Path) -> tuple[list[str], list[str]]:
    """The fastloc commands of a page's shell blocks, and those that its text speaks of, without comment and redirection."""
    text = re.sub(r"\\\n\s*", "", text_of(page))
    blocks = "\n".join(textwrap.dedent(block) for _, block in FENCE.findall(text))
    written = re.findall(r"^(?:\$ )?(?:[./\w]*bin/)?((?:python -m fastloc|fastloc)\b[^\n]*)", blocks, re.MULTILINE)
    sentences_only = ANY_FENCE.sub("", text)
    named = re.findall(r"`(?:[./\w]*bin/)?((?:python -m fastloc|fastloc)(?:\.bench)?(?: [^`\n]+)?)`", sentences_only)
    return [bare(line) for line in written], [bare(line) for line in named]


def bare(line: str) -> str:
    return re.split(r" (?:2?>|[|#&…])", line.removeprefix("python -m "))[0].strip()


WRITTEN = list(dict.fromkeys(line for page in SPEAKING for line in commands(page)[0]))
NAMED = list(dict.fromkeys(line for page in SPEAKING for line in commands(page)[1] if " " in line))


def parsed(line: str) -> Namespace | None:
    """The options of a command of fastloc, of its benchmark or its training; None for one that prints its help.

    Raises:
        ValueError: the command's own error line.
    """
    name, *options = shlex.split(line)
    found: Namespace | None = None
    errors = StringIO()
    with redirect_stderr(errors), redirect_stdout(StringIO()):
        try:
            found = OTHERS[name]().parse_args(options) if name in OTHERS else build_parser().parse_args(words(options))
        except SystemExit as end:
            if end.code:
                raise ValueError(f"{line}: {errors.getvalue().splitlines()[-1]}") from None
    return found


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_table_of_a_page_is_what_recipes_and_records_say(page: Path) -> None:
    text = TEXTS[page]
    assert pages.current(page, text) == (text, []), "run `python benchmarks/docs.py`"
    # a marker that was never closed would swallow the next table
    assert text.count("<!-- table:") == text.count("<!-- end -->") == len(BLOCK.findall(text))


def test_every_table_stands_on_one_page_and_every_plot_is_drawn() -> None:
    assert pages.missing(TEXTS) == [] and pages.plots_missing(draw=False) == []


def test_the_check_says_which_table_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page, inside = tmp_path / "README.md", tmp_path / "docs" / "guide" / "page.md"
    inside.parent.mkdir(parents=True)
    inside.write_text("<!-- table: methods -->\n<!-- end -->\n")
    page.write_text("before\n<!-- table: recipes -->\n| old |\n<!-- end -->\n<!-- table: precision -->\n<!-- end -->\nafter\n")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "RECORDS", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results")
    before = page.read_text()
    monkeypatch.setattr(sys, "argv", ["docs.py", "--check"])
    assert pages.main() == 1 and page.read_text() == before
    output = capsys.readouterr().err
    assert "README.md, table 'recipes': differs" in output and "table 'quality' must stand on one page, got 0" in output
    assert "precision.json does not exist: make it with `python benchmarks/quality_parts/precision.py --record`" in output
    monkeypatch.setattr(sys, "argv", ["docs.py"])
    assert pages.main() == 1
    written = page.read_text()
    # what can be made is written, what cannot is left alone; links start at the page's folder
    assert all(f"| `{name}` |" in written for name in RECIPES) and written.startswith("before\n") and written.endswith("after\n")
    assert "](../methods/temperature.md)" in inside.read_text()
    assert "recipes" not in capsys.readouterr().err


@pytest.mark.parametrize("line", WRITTEN)
def test_a_command_of_a_block_parses(line: str) -> None:
    args = parsed(line)
    if args is None or line.startswith("fastloc.eclip"):
        return
    if line.startswith("fastloc.bench"):
        assert set(args.methods or ()) <= set(RECIPES) and set(args.suites or ()) <= {*SUITES, "all"}
        return
    method = getattr(args, "method", None) or "gem"
    assert {*([method] if isinstance(method, str) else method)} <= {*RECIPES, *CLASSIFIERS, "best"}
    if getattr(args, "template", None):
        sentences(args.template)


@pytest.mark.parametrize("line", NAMED)
def test_a_command_that_a_sentence_names_exists(line: str) -> None:
    """A sentence may leave out what it does not speak of: a command's operands, an option's value."""
    try:
        parsed(line)
    except ValueError as error:
        if not re.search(r"arguments are required|expected (one|at least one) argument", str(error)):
            raise


def test_there_are_command_lines() -> None:
    assert sum(line.startswith("fastloc.bench") for line in WRITTEN) >= 3, WRITTEN
    assert len(WRITTEN) >= 40 and len(NAMED) >= 8, (WRITTEN, NAMED)


@pytest.mark.parametrize("line", [line for line in WRITTEN if "--model " in line and not line.startswith("fastloc.bench")])
def test_a_command_names_a_model_that_there_is(line: str) -> None:
    from fastloc.checkpoints.sources.listing import models

    args = parsed(line)
    assert args is not None
    if re.search(r"[:/]|\.(json|onnx|pt)$", args.model):
        return
    known = {row["name"]: row for row in models()}
    assert args.model in known and known[args.model]["refused"] is None, args.model
    if args.model in FOLDERS:
        assert args.pretrained is None, f"{args.model} comes with its weights"
        return
    assert args.pretrained in known[args.model]["pretrained"] or Path(args.pretrained).suffix in (".safetensors", ".pt"), args.pretrained


@pytest.mark.parametrize("page", SPEAKING, ids=shown)
def test_no_dead_links(page: Path) -> None:
    text = ANY_FENCE.sub("", text_of(page))
    links = re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text) + re.findall(r'\b(?:src|href)="([^"]+)"', text)
    links = [link for link in links if not re.match(r"[a-z]+:", link)]
    dead = [link for link in links if not leads_somewhere(page, link)]
    assert not dead, f"{shown(page)} links to what is not there: {', '.join(dead)}"


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or target.suffix != ".md" or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """The headings of a page as its links name them."""
    text = ANY_FENCE.sub("", text_of(page))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}
    return slugs | set(re.findall(r"\{ ?#([\w-]+)", text)) | set(re.findall(r"""\bid=["']([\w-]+)""", text))


def test_every_page_is_in_the_navigation_and_two_clicks_from_the_front_page() -> None:
    docs = REPO / "docs"
    there = set(docs.rglob("*.md"))
    navigation = re.findall(r"([\w/]+\.md)$", (REPO / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(docs / name for name in navigation) == sorted(there)
    reached = near = {docs / "index.md"}
    for _ in range(2):
        near = {page for former in near for page in linked(former)} & there
        reached = reached | near
    assert not there - reached, f"more than two clicks from the front page: {', '.join(map(shown, sorted(there - reached)))}"


def linked(page: Path) -> list[Path]:
    """The pages that a page links to."""
    links = re.findall(r"\]\(([\w./]+\.md)(?:#[\w-]+)?\)", ANY_FENCE.sub("", text_of(page)))
    return [(page.parent / link).resolve() for link in links]


@pytest.mark.parametrize("page", SPEAKING, ids=shown)
def test_files_and_make_targets_that_are_named_exist(page: Path) -> None:
    rooms = "|".join(("benchmarks", "docs", "examples", "export", "fastloc", "kernels", "tests"))
    paths = set(re.findall(rf"(?:^|[`\s(])((?:{rooms})/[\w./-]*)", text_of(page), re.MULTILINE))
    missing = sorted(path for path in paths if not (REPO / path.rstrip(".")).exists())
    assert not missing, f"{shown(page)} speaks of what is not there: {', '.join(missing)}"
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text_of(page), re.MULTILINE)) <= targets


@pytest.mark.slow("the whole quality set")
def test_quality_prints_json_of_the_documented_shape() -> None:
    command = [sys.executable, "benchmarks/quality.py", "--json", "--limit", "8", "--methods", "itsm", "gem"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [name for name in found if not name.endswith(tables.RECOMMENDED)] == ["itsm", "gem"]
    for name, scores in found.items():
        assert set(scores) == SCORES, name
        assert all(isinstance(value, float) and -(key == "msc") <= value <= 1 for key, value in scores.items()), f"{name}: {scores}"


def test_the_quality_record_holds_what_is_claimed() -> None:
    assert QUALITY.exists(), f"no {QUALITY.name}: make it with `{tables.TABLES['quality'].command}`"
    record = json.loads(QUALITY.read_text())
    found = record["methods"]
    assert embedded_quality() == found
    assert record["scenes"] >= 200 and record["questions"] >= record["scenes"]
    assert set(RECIPES) <= set(found) and all(set(scores) == SCORES for scores in found.values())
    best, raw = max(scores["pointing"] for scores in found.values()), found["itsm"]["pointing"]
    assert best >= 3 * raw, f"the best method points at the thing in {best:.1%}, the raw map in {raw:.1%}"
    assert best >= 3 * record["chance"], f"the best method points at the thing in {best:.1%}, chance in {record['chance']:.1%}"
