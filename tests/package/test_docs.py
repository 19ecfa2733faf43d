"""Pages say what is so: tables, command lines, Python, links, and the scores they speak of."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from doc_tables import headline, pages, tables
from doc_tables.page import BLOCK
from embedded_model.moving_scenes import clip, write
from fastloc.bench.cli import SUITES
from fastloc.bench.cli import parser as bench_parser
from fastloc.bench.quality import embedded_quality
from fastloc.cli.app import build_parser, words
from fastloc.embedded import QUALITY
from fastloc.engine.classifier_localizer import METHODS as CLASSIFIERS
from fastloc.recipes import RECIPES
from fastloc.text.templates import sentences
from repo import REPO

README = (REPO / "README.md").read_text(encoding="utf-8")
PAGES = tuple(path.relative_to(REPO).as_posix() for path in (*pages.pages(), REPO / "CONTRIBUTING.md", REPO / "SECURITY.md"))
# pages whose Python needs nothing but the sample pictures and a clip
RUN = ("README.md", "docs/start.md", "docs/guide/python.md", "docs/guide/video.md", "docs/guide/export.md")
SCORES = {"pointing", "miou", "auc", "msc"}


def command_lines() -> list[str]:
    """Every `fastloc` command of every page, in blocks and in running text, without comment and redirection."""
    text = "\n".join((REPO / page).read_text(encoding="utf-8") for page in PAGES)
    # a line that ends in a backslash goes on
    text = re.sub(r"\\\n *", "", text)
    found = re.findall(r"(?:^|`)python -m fastloc( [^`\n]+)(?:$|`)", text, re.MULTILINE)
    return [re.split(r" [>|#]", line)[0].strip() for line in found]


def bench_lines() -> list[str]:
    """Every command of the benchmark on every page."""
    text = "\n".join((REPO / page).read_text(encoding="utf-8") for page in PAGES)
    found = re.findall(r"(?:^|`)python -m fastloc\.bench([^`\n]*)(?:$|`)", text, re.MULTILINE)
    return [re.split(r" [>#…]", line)[0].strip() for line in found]


def named(path: str) -> Path:
    """A file of the repository that a page speaks of."""
    return REPO / path.partition("#")[0]


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (REPO / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: page.relative_to(REPO).as_posix())
def test_tables_are_what_recipes_and_records_say(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert pages.current(page, text) == (text, [])
    # a marker that was never closed would swallow the next table
    assert text.count("<!-- table:") == text.count("<!-- end -->") == len(list(BLOCK.finditer(text)))


def test_every_table_stands_on_one_page() -> None:
    texts = {page: page.read_text(encoding="utf-8") for page in pages.pages()}
    assert pages.missing(texts) == []
    assert pages.missing(dict(list(texts.items())[:1]))


def test_the_check_says_which_table_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- table: recipes -->\n| old |\n<!-- end -->\n<!-- table: precision -->\n<!-- end -->\nafter\n")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "RECORDS", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results")
    before = page.read_text()
    monkeypatch.setattr(sys, "argv", ["docs.py", "--check"])
    assert pages.main() == 1 and page.read_text() == before
    said = capsys.readouterr().err
    assert "'recipes': differs" in said and "table 'quality' must stand on one page, got 0" in said
    assert "precision.json does not exist: make it with `python benchmarks/quality_parts/precision.py --record`" in said
    monkeypatch.setattr(sys, "argv", ["docs.py"])
    assert pages.main() == 1
    written = page.read_text()
    # what can be made is written, what cannot is left alone
    assert all(f"| `{name}` |" in written for name in RECIPES) and written.startswith("before\n") and written.endswith("after\n")
    assert "'recipes'" not in capsys.readouterr().err


def test_links_of_a_table_start_at_its_page() -> None:
    text = "<!-- table: recipes -->\n<!-- end -->"
    assert "](docs/methods/temperature.md)" in tables.filled(text)[0]
    assert "](temperature.md)" in tables.filled(text, "docs/methods")[0] and "](https://arxiv.org" in tables.filled(text, "docs/methods")[0]


def test_the_headline_is_of_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        "quality.json": {"methods": {"itsm": {"pointing": 0.1}, "gem": {"pointing": 0.523}}},
        "presence.json": {"methods": [{"method": "gem", "auc": 0.876}]},
        "onnx_parity.json": {"rows": [{"dtype": "float32", "similarity": 3e-6}, {"dtype": "float16", "similarity": 1e-2}]},
    }
    for name, content in made.items():
        (tmp_path / name).write_text(json.dumps(content))
    monkeypatch.setattr(headline, "QUALITY", tmp_path / "quality.json")
    monkeypatch.setattr(headline, "RECORDS", tmp_path)
    monkeypatch.setattr(headline, "RESULTS", tmp_path / "none")
    found = headline.headline_table({})
    assert "raw map 10.0%, `gem` 52.3%" in found and "`gem` 0.88" in found and "3e-06" in found and "times" not in found


@pytest.mark.parametrize("line", command_lines())
def test_command_line_parses(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        given = words(shlex.split(line))
        args = build_parser(given).parse_args(given)
    except SystemExit:
        pytest.fail(f"fastloc {line}: {capsys.readouterr().err.splitlines()[-1]}")
    assert (getattr(args, "method", None) or "gem") in {*RECIPES, *CLASSIFIERS}
    if getattr(args, "template", None):
        sentences(args.template)


@pytest.mark.parametrize("line", bench_lines())
def test_bench_line_parses(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        args = bench_parser().parse_args(shlex.split(line.replace("RECORDS", "records")))
    except SystemExit:
        pytest.fail(f"fastloc.bench {line}: {capsys.readouterr().err.splitlines()[-1]}")
    assert set(args.methods or ()) <= set(RECIPES) and set(args.suites or ()) <= {*SUITES, "all"}


def test_there_are_command_lines() -> None:
    assert len(bench_lines()) >= 4, bench_lines()
    assert any(line.startswith("evaluate") for line in command_lines())
    assert len(command_lines()) >= 8, command_lines()


@pytest.mark.parametrize("line", [line for line in command_lines() if "--model" in line])
def test_command_line_names_a_model_that_there_is(line: str) -> None:
    from fastloc.checkpoints.sources.listing import models

    given = words(shlex.split(line))
    args = build_parser(given).parse_args(given)
    if re.search(r"[:/]|\.(json|onnx|pt)$", args.model):
        return
    known = {row["name"]: row for row in models()}
    assert args.model in known and known[args.model]["refused"] is None, args.model
    assert args.pretrained in known[args.model]["pretrained"] or Path(args.pretrained).suffix in (".safetensors", ".pt"), args.pretrained


@pytest.mark.parametrize("page", RUN)
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # the paths in it are the repository's
    shutil.copytree(REPO / "fastloc" / "embedded" / "samples", tmp_path / "fastloc" / "embedded" / "samples")
    write(clip(seed=2, seconds=1, things=("cat", "pizza"), size=(96, 128)), tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    # a block goes on where the one before it ends, and says the shapes that come out
    for number, code in enumerate(python_blocks(page)):
        exec(compile(code, f"{page}, block {number}", "exec"), names)
        said = dict(re.findall(r"^(\w+) = localizer.*# \[([\d, ]+)\]", code, re.MULTILINE))
        assert {name: str(list(names[name].shape))[1:-1] for name in said} == said
    assert names["result" if "result" in names else "stream"] is not None
    if page == "README.md":
        assert [re.sub(r" \d+ \d+ [\d.]+$", "", line) for line in capsys.readouterr().out.splitlines()[:3]] == ["cat", "pizza", "red car"]
        assert (tmp_path / "where.png").stat().st_size > 1000
        counts = names["stream"].counters.to_dict()
        assert counts["delivered"] == counts["captured"] == 30
        assert type(names["localizer"]).__name__ == "OnnxLocalizer" and len(names["result"].points()) == 3


def test_the_first_example_has_six_lines() -> None:
    assert len(python_blocks("README.md")[0].splitlines()) == 6 and README.count("\n") <= 200


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)])
def test_python_compiles(page: str) -> None:
    for number, code in enumerate(python_blocks(page)):
        compile(code, f"{page}, block {number}", "exec")


@pytest.mark.parametrize("page", PAGES)
def test_no_dead_links(page: str) -> None:
    text = (REPO / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", link)]
    folder = (REPO / page).parent
    dead = [link for link in links if not (folder / link.partition("#")[0]).exists()]
    assert not dead, f"{page} links to what is not there: {', '.join(dead)}"


@pytest.mark.parametrize("page", PAGES)
def test_files_and_make_targets_that_are_named_exist(page: str) -> None:
    text = (REPO / page).read_text(encoding="utf-8")
    rooms = "|".join(("benchmarks", "export", "fastloc", "kernels", "tests"))
    paths = set(re.findall(rf"(?:^|[`\s(])((?:{rooms})/[\w./-]*)", text, re.MULTILINE))
    missing = sorted(path for path in paths if not named(path).exists())
    assert not missing, f"{page} speaks of what is not there: {', '.join(missing)}"
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= targets


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
