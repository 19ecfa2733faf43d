"""The README says what is so: its tables, its command lines, its Python, its links, and the scores it speaks of."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from doc_tables import tables as readme_tables
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
PAGES = ("README.md", "CONTRIBUTING.md")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SCORES = {"pointing", "miou", "auc", "msc"}


def command_lines() -> list[str]:
    """Every `fastloc` command of every page, in blocks and in running text, without comment and redirection."""
    text = "\n".join((REPO / page).read_text(encoding="utf-8") for page in PAGES)
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


@pytest.mark.parametrize("name", readme_tables.TABLES)
def test_table_is_what_recipes_and_records_say(name: str) -> None:
    _, wrong = readme_tables.filled(README)
    assert name not in wrong, f"README.md, table {name!r}: {wrong[name]}"


def test_every_marker_is_a_table() -> None:
    blocks = [block["name"] for block in readme_tables.BLOCK.finditer(README)]
    assert sorted(blocks) == sorted(readme_tables.asked())
    # a marker that was never closed would swallow the next table
    assert README.count("<!-- table:") == README.count("<!-- end -->") == len(blocks)


def test_the_check_says_which_table_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- table: recipes -->\n| old |\n<!-- end -->\n<!-- table: precision -->\n<!-- end -->\nafter\n")
    monkeypatch.setattr(readme_tables, "README", page)
    monkeypatch.setattr(readme_tables, "RECORDS", tmp_path)
    monkeypatch.setattr(readme_tables, "RESULTS", tmp_path / "results")
    before = page.read_text()
    monkeypatch.setattr(sys, "argv", ["docs.py", "--check"])
    assert readme_tables.main() == 1 and page.read_text() == before
    said = capsys.readouterr().err
    assert "'recipes': differs" in said and "'quality': is not in the README" in said
    assert "precision.json does not exist: make it with `python benchmarks/quality_parts/precision.py --record`" in said
    monkeypatch.setattr(sys, "argv", ["docs.py"])
    assert readme_tables.main() == 1
    written = page.read_text()
    # what can be made is written, what cannot is left alone
    assert all(f"| `{name}` |" in written for name in RECIPES) and written.startswith("before\n") and written.endswith("after\n")
    assert "recipes" not in capsys.readouterr().err


@pytest.mark.parametrize("line", command_lines())
def test_command_line_parses(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        args = build_parser().parse_args(words(shlex.split(line)))
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
    assert len(command_lines()) >= 8, command_lines()


@pytest.mark.parametrize("line", [line for line in command_lines() if "--model" in line])
def test_command_line_names_a_model_that_there_is(line: str) -> None:
    from fastloc.checkpoints.sources.listing import models

    args = build_parser().parse_args(words(shlex.split(line)))
    if re.search(r"[:/]|\.(json|onnx|pt)$", args.model):
        return
    known = {row["name"]: row for row in models()}
    assert args.model in known and known[args.model]["refused"] is None, args.model
    assert args.pretrained in known[args.model]["pretrained"] or Path(args.pretrained).suffix in (".safetensors", ".pt"), args.pretrained


def test_six_lines_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, pipeline, video, exported = (text for kind, text in BLOCKS if kind == "python")
    assert len(code.splitlines()) == 6
    # the paths in it are the repository's
    shutil.copytree(REPO / "fastloc" / "embedded" / "samples", tmp_path / "fastloc" / "embedded" / "samples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r" \d+ \d+ [\d.]+$", "", line) for line in lines] == ["cat", "pizza", "red car"], lines
    assert (tmp_path / "where.png").stat().st_size > 1000
    # the second block goes on where the first ends, and says the shapes that come out
    exec(compile(pipeline, "README.md", "exec"), names)
    for name in ("frames", "grids", "heat", "best"):
        assert names[name].ndim == 4 - (name == "best")
    said = dict(re.findall(r"^(\w+) = localizer.*# \[([\d, ]+)\]", pipeline, re.MULTILINE))
    assert {name: str(list(names[name].shape))[1:-1] for name in said} == said and set(said) == {"heat", "best"}
    assert names["result"].texts == ("cat",)
    write(clip(seed=2, seconds=1, things=("cat", "pizza"), size=(96, 128)), tmp_path / "clip.mp4")
    exec(compile(video, "README.md", "exec"), names)
    counts = names["stream"].counters.to_dict()
    assert counts["delivered"] == counts["captured"] == 30 and capsys.readouterr().out.count("Point(text='cat'") >= 5
    exec(compile(exported, "README.md", "exec"), names)
    assert type(names["localizer"]).__name__ == "OnnxLocalizer" and len(names["result"].points()) == 3


@pytest.mark.parametrize("page", PAGES)
def test_no_dead_links(page: str) -> None:
    text = (REPO / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", link)]
    dead = [link for link in links if not named(link).exists()]
    assert not dead, f"{page} links to what is not there: {', '.join(dead)}"


@pytest.mark.parametrize("page", PAGES)
def test_files_and_make_targets_that_are_named_exist(page: str) -> None:
    text = (REPO / page).read_text(encoding="utf-8")
    rooms = "|".join(("benchmarks", "export", "fastloc", "kernels", "tests"))
    paths = set(re.findall(rf"(?:^|[`\s(])((?:{rooms})/[\w./-]*)", text, re.MULTILINE))
    missing = sorted(path for path in paths if not named(path).exists())
    assert not missing, f"{page} speaks of what is not there: {', '.join(missing)}"
    targets = set(re.findall(r"^([a-z]+):", (REPO / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)) <= targets


@pytest.mark.slow("the whole quality set")
def test_quality_prints_json_of_the_documented_shape() -> None:
    command = [sys.executable, "benchmarks/quality.py", "--json", "--limit", "8", "--methods", "itsm", "gem"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [name for name in found if not name.endswith(readme_tables.RECOMMENDED)] == ["itsm", "gem"]
    for name, scores in found.items():
        assert set(scores) == SCORES, name
        assert all(isinstance(value, float) and -(key == "msc") <= value <= 1 for key, value in scores.items()), f"{name}: {scores}"


def test_the_quality_record_holds_what_is_claimed() -> None:
    assert QUALITY.exists(), f"no {QUALITY.name}: make it with `{readme_tables.TABLES['quality'].command}`"
    record = json.loads(QUALITY.read_text())
    found = record["methods"]
    assert embedded_quality() == found
    assert record["scenes"] >= 200 and record["questions"] >= record["scenes"]
    assert set(RECIPES) <= set(found) and all(set(scores) == SCORES for scores in found.values())
    best, raw = max(scores["pointing"] for scores in found.values()), found["itsm"]["pointing"]
    assert best >= 3 * raw, f"the best method points at the thing in {best:.1%}, the raw map in {raw:.1%}"
    assert best >= 3 * record["chance"], f"the best method points at the thing in {best:.1%}, chance in {record['chance']:.1%}"
