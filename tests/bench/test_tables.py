"""Rows as tables in a terminal and in the README: readable at any width, failures in full, nothing that was not measured."""

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

import bench_rows as made
from doc_tables import bench, pages
from doc_tables import tables as readme_tables
from doc_tables.markdown_table import TableError
from fastloc.bench.report.grid import Grid, Head, Line
from fastloc.bench.report.rows import AXES, along, names
from fastloc.bench.report.tables import header, show, tables
from fastloc.bench.report.words import digits, packages, percent
from fastloc.bench.schema import Row, checked

EVERYTHING = made.everything()
OTHER = [made.row("gpu-kernels", "kernels", 0.0123, case="N=785 d=64"), made.row("gpu-kernels", "sdpa", failed="no such head")]
SUBSETS: dict[str, list[Row]] = {
    "everything": EVERYTHING,
    "one contender": made.methods(("torch",), names=("gem",)),
    "dozens": made.methods(tuple(f"contender-{i}" for i in range(24)), names=("gem", "sclip")),
    "nothing but failures": [made.row("methods", "torch", failed=made.WHY, method="gem", model="ViT-B-16", height=224, width=224)],
    "a peer whose environment does not start": [made.row("methods", "gem_torch", failed="no such file", by="peer", versions={})],
    "a suite without a table of its own": OTHER,
    "no rows": [],
}  # fmt: skip


def printed(rows: list[Row], width: int) -> str:
    out = io.StringIO()
    show(rows, Console(file=out, width=width))
    return out.getvalue()


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("name", SUBSETS)
def test_no_line_of_a_table_is_wider_than_the_terminal(name: str, width: int) -> None:
    for grid in tables(SUBSETS[name]):
        wide = [text for text, _ in grid.drawn(width) if len(text) > width]
        assert not wide, f"{grid.title}, {width} columns: {wide}"
    assert printed(SUBSETS[name], width)


def test_columns_are_left_out_and_numbers_never_wrapped() -> None:
    narrow, wide = printed(EVERYTHING, 80), printed(EVERYTHING, 200)
    assert "left out for want of room: dtype, p20 … p80, p99, 95 %, floor ms" in flat(narrow)
    assert "left out" not in wide and "1.13 … 1.20" in wide
    line = next(line for line in narrow.splitlines() if line.startswith("gem ") and " ort " in line)
    assert line.split() == ["gem", "ort", "87.0", "96.0", "0.87", "70", "%", "52", "1e-06"]
    assert wide.count("1e-06") == narrow.count("1e-06") > 20


@pytest.mark.parametrize("width", [50, 80, 200])
def test_why_there_are_no_times_is_reported_in_full(width: int) -> None:
    lines = printed(EVERYTHING, width).splitlines()
    start = next(i for i, line in enumerate(lines) if "gem_torch newest" in line and "1.0.1" not in line)
    text = flat(" ".join(line[18:] if width > 50 else line for line in lines[start : start + 6]))
    assert flat(made.WHY) in text.replace("gem_torch newest ", "").replace("gem ", ""), text


def test_the_encoder_is_shown_once_and_cost_only_peers_are_marked() -> None:
    grid, beside = tables(made.methods() + made.peers())
    assert [line.cells[1] for line in grid.lines].count("encoder") == 1 and grid.lines[0].cells[3] == "103"
    assert "encoder: its median over 8 groups" in grid.notes
    clipseg = next(line for line in beside.lines if line.cells[1] == "clipseg")
    assert clipseg.cells[-1] == "cost only" and clipseg.cells[0] == "CLIPSeg"


def test_what_an_error_is_of_and_notes_stand_below() -> None:
    rows = made.methods(("torch",), names=("gem",), checked="at 448x448, the largest that the reference fits", note="its own resize")
    grid = tables(rows)[0]
    assert grid.lines[1].cells[-1] == "1e-06 *"
    assert grid.notes == ["* error of encoder, torch: at 448x448, the largest that the reference fits", "encoder, torch: its own resize"]


def test_the_header_says_where_and_when() -> None:
    rows = [checked({**row, "throttled": "power cap"}) if row["suite"] == "cold" else row for row in made.gpu(EVERYTHING)]
    text = header(rows)
    assert text[0] == "NVIDIA H200, driver 570.1, capability 9.0, host Xeon, 16 threads, threads: 2 of 16, load average before the run 0.2"
    assert text[1] == "2026-11-21, commit a5d76c8" and text[-1].startswith("throttled: power cap (2 of ")
    assert "gem_torch, gem_torch newest, clipseg: gem_torch 1.0.1, open_clip_torch 2.23.0, torch 2.15.0" in text
    busy = header([checked({**EVERYTHING[0], "load_before": 1.7})])[0]
    assert busy.endswith("load average before the run 1.7 (not an idle machine)")


def test_tokens_tell_growth_and_where_it_no_longer_fits() -> None:
    (grid,) = tables(made.tokens())
    assert [head.name for head in grid.heads] == ["contender", "tokens", "197", "442", "785", "1765", "3137", "7057", "15877"]
    cells = {line.cells[:2]: line.cells[2:] for line in grid.lines}
    assert cells["official", "ms"][-1] == "no fit" and grid.lines[-1].cells[-1] == "48.4 GB"
    assert cells["torch", "ms"] == ("109", "250", "472", "1262", "2755", "9511", "")
    assert "torch: 6 + 0.5 N + 1.2e-4 N² ms; at the largest sizes as N^1.5" in grid.notes
    assert any(note.startswith("official at 15877 tokens: does not fit, would take 48.4 GB: its N x N maps") for note in grid.notes)


@pytest.mark.parametrize(("suite", "values"), [("batch", (1, 2, 4)), ("texts", (1, 100)), ("blocks", (1, 6, 12))])
def test_the_encoder_stands_at_the_value_it_was_measured_beside(suite: str, values: tuple[int, ...]) -> None:
    found = along(AXES[suite], made.axis(suite, values))
    assert len(found) == 1, list(found)
    (lines,) = found.values()
    assert {name: tuple(by_value) for name, by_value in lines.items()} == dict.fromkeys(("encoder", "torch", "official"), values)


def test_the_waterfall_counts_from_the_first_step_and_from_the_last() -> None:
    rows = made.waterfall()
    # a step that failed is not what the next is compared with
    same = {key: rows[1][key] for key in ("group", "model", "method", "weights", "height", "width", "batch", "texts")}
    rows[1] = made.row("waterfall", "torch", step="restructured", failed="out of memory", **same)
    (grid,) = tables(rows)
    assert [line.cells[2:4] for line in grid.lines] == [("", ""), ("", ""), ("1.10", "1.10"), ("1.45", "1.32"), ("2.79", "1.92")]
    assert grid.lines[1].why == "out of memory"
    # of the same rounds, where they were compared
    rows[2] = checked({**rows[2], "ratios": {"official form": [0.8, 0.7, 0.9]}})
    rows[3] = checked({**rows[3], "ratios": {"official form": [0.4, 0.3, 0.5]}})
    (grid,) = tables(rows)
    assert [line.cells[2:4] for line in grid.lines[2:4]] == [("1.25", "1.25"), ("2.50", "2.00")] and "same rounds" in grid.notes[0]


def test_contenders_are_distinguished_by_what_they_differ_in() -> None:
    rows = [made.row("methods", "torch", 1, dtype="float32"), made.row("methods", "torch", 1, dtype="float16"),
            made.row("methods", "ort", 1, dtype="float32"), made.row("methods", "gem_torch", 1, dtype="float32", compiled=True),
            made.row("methods", "compile", 1, dtype="float32", compiled=True)]  # fmt: skip
    assert names(rows) == ["torch float32", "torch float16", "ort", "gem_torch compiled", "compile"]


def test_a_terminal_without_these_letters() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    show(EVERYTHING, Console(file=file, width=200))
    file.flush()
    assert b"naclip" in raw.getvalue()


def test_words_fold_where_nothing_can_be_left_out() -> None:
    grid = Grid("t", (Head("step", right=False), Head("ms")), [Line(("a step with a long name", "123456"))])
    assert [text for text, _ in grid.drawn(20)][-2:] == ["a step with   123456", "a long name         "]


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0.0, "0"), (0.01234, "0.0123"), (1.234, "1.23"), (45.67, "45.7")])
def test_numbers(value: float | None, text: str) -> None:
    assert digits(value) == text
    assert digits(1234.4) == "1234"
    assert percent(0.614) == "61 %" and percent(0.0123) == "1.2 %"


# the README's


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the records of a processor, older and newer, and of a GPU."""
    older = [checked({**row, "run": "20251224-000000", "device": "an older run"}) for row in EVERYTHING]
    write(tmp_path / "amd-epyc" / "20251224-000000.jsonl", older)
    write(tmp_path / "amd-epyc" / "20261121-184005.jsonl", EVERYTHING)
    write(tmp_path / "nvidia-h200" / "20261121-184005.jsonl", made.gpu(EVERYTHING))
    monkeypatch.setattr(readme_tables, "RESULTS", tmp_path)
    return tmp_path


def write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


OF_RUNS = [name for name, source in readme_tables.TABLES.items() if source.runs]


@pytest.mark.parametrize("name", OF_RUNS)
def test_a_table_a_machine_a_gpu_first_each_with_its_circumstances(name: str, results: Path) -> None:
    text = readme_tables.table(name)
    gpu, _, cpu = text.partition("**AMD EPYC, 2 threads**")
    assert gpu.startswith("**NVIDIA H200**\n\n| ") and cpu.startswith("\n\n| ")
    for part, machine in ((gpu, "NVIDIA H200, driver 570.1"), (cpu, "AMD EPYC, 2 threads, threads: 2 of 2")):
        last = part.strip().splitlines()[-1]
        assert machine in last and "load average before the run 0.2" in last and "torch 2.15.0" in last
        assert last.endswith("2026-11-21, commit a5d76c8.")
    assert "older" not in text
    for table in text.split("\n\n"):
        widths = {line.count(" | ") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, table


@pytest.mark.parametrize(("name", "line"), [
    ("bench-methods-exported", "| ViT-B-16 | `gem` | 224 | ort | 87.0 | 0.87 (0.84 … 0.91) | 52 | 70 % | 1e-06 |"),
    ("bench-methods", "| embedded | `gem (recommended)` | 96 | torch | 6.00 | 1.00 (0.97 … 1.04) | 40 | 61 % | 1e-06 |"),
    ("bench-methods", "| ViT-B-16 | untouched encoder | 224 |  | 103 |  |  |  |  |"),
    ("bench-methods-exported", "| ViT-B-16 | untouched encoder | 224 |  | 103 |  |  |  |  |"),
    ("bench-peers", "| ViT-B-16 | 224 | gem | gem_torch | 160 (154 … 168) |  | 1.60 (1.55 … 1.66) | 89 | 9e-07 |"),
    ("bench-peers", "| ViT-B-16 | 224 | gem | **ort** | 75.0 (72.0 … 78.8) | 1.60 (1.54 … 1.67) | 0.75 (0.72 … 0.79) | 40 | 1e-06 |"),
    ("bench-peers", f"| ViT-B-16 | 224 | gem | gem_torch newest |  |  |  |  | {made.WHY} |"),
    ("bench-peers", "| ViT-B-16 | 224 | CLIPSeg | clipseg | 210 (202 … 220) |  | 2.10 (2.00 … 2.20) | 120 | cost only |"),
    ("bench-scaling", "| 2016 | 15877 |  |  |  |  | does not fit | would take 48.4 GB |"),
    ("bench-scaling", "| 448 | 785 | 381 | 59 | 472 | 77 | 723 | 410 |"),
    ("bench-cold", "| embedded | ort | 0.31 | 0.09 | 6.40 | 88 |"),
    ("bench-waterfall", "| 8-bit products | 107 | 2.79 | 1.92 | 30 | 5e-02 |"),
])  # fmt: skip
def test_rows_of_the_readme(name: str, line: str, results: Path) -> None:
    assert readme_tables.table(name).splitlines().count(line) == 2, line


def test_methods_in_pytorch_and_exported_may_be_of_different_days(results: Path) -> None:
    """Each table is of the newest run that has its rows, and names that run's day."""
    later = [{**row, "run": "20261122-100000"} for row in made.methods() if row["contender"] in ("torch", "encoder")]
    write(results / "amd-epyc" / "20261122-100000.jsonl", later)
    names = "bench-methods", "bench-methods-exported"
    torch, exported = (readme_tables.table(name).partition("**AMD EPYC, 2 threads**")[2] for name in names)
    assert "2026-11-22" in torch and " ort |" not in torch
    assert "2026-11-21" in exported and " ort |" in exported and " torch |" not in exported


def test_scaling_has_a_line_for_each_other_axis(results: Path) -> None:
    text = readme_tables.table("bench-scaling")
    assert "- pictures 1 · 2 · 4 · 8 · 16 · 32 (`gem`, ViT-B-16 (random weights), 224 px, 4 texts): encoder 81.0 · 162" in text
    assert text.count("\n- texts ") == text.count("\n- changed blocks ") == 2 and "torch 6 + 0.5 N + 1.2e-4 N²" in text


def test_tables_of_runs_are_asked_for_where_there_are_runs(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(OF_RUNS) <= set(readme_tables.asked())
    write(results / "amd-epyc" / "20261121-184005.jsonl", made.methods())
    for other in (results / "nvidia-h200", results / "amd-epyc" / "20251224-000000.jsonl"):
        for file in [other] if other.is_file() else list(other.iterdir()):
            file.unlink()
    assert [name for name in readme_tables.asked() if name in OF_RUNS] == ["bench-methods", "bench-methods-exported"]
    monkeypatch.setattr(readme_tables, "RESULTS", results / "nothing")
    assert not set(OF_RUNS) & set(readme_tables.asked())


@pytest.mark.parametrize(("name", "command"), [
    ("bench-methods", "`python -m fastloc.bench -o benchmarks/results`"),
    ("bench-scaling", "`python -m fastloc.bench --suites tokens,batch,texts,blocks -o benchmarks/results`"),
])  # fmt: skip
def test_missing_records_name_the_command(name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme_tables, "RESULTS", tmp_path)
    with pytest.raises(TableError, match="there are no records") as caught:
        readme_tables.table(name)
    assert command in str(caught.value)


def test_a_line_that_is_no_row_is_an_error(results: Path) -> None:
    (results / "amd-epyc" / "broken.jsonl").write_text('{"run": "20261121-184005"}\n')
    with pytest.raises(TableError, match=r"broken.jsonl', line 1, is not a record"):
        readme_tables.table("bench-cold")


def test_the_check_names_plots_that_are_missing(results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # one plot a machine is enough here
    for folder in bench.machines(results):
        for file in folder.glob("*.jsonl"):
            file.unlink()
        write(folder / "run.jsonl", made.waterfall())
    page = results / "README.md"
    page.write_text("".join(f"<!-- table: {name} -->\n<!-- end -->\n" for name in readme_tables.asked()))
    monkeypatch.setattr(pages, "ROOT", results)
    monkeypatch.setattr(bench, "PLOTS", results / "plots")
    monkeypatch.setattr(sys, "argv", ["docs.py"])
    assert pages.main() == 0, capsys.readouterr().err
    assert (results / "plots" / "amd-epyc" / "waterfall.svg").stat().st_size > 10_000
    (results / "plots" / "amd-epyc" / "waterfall.svg").unlink()
    monkeypatch.setattr(sys, "argv", ["docs.py", "--check"])
    assert pages.main() == 1
    assert "amd-epyc/waterfall.svg does not exist: run `python benchmarks/docs.py`" in capsys.readouterr().err


def test_versions_that_all_have_are_reported_once() -> None:
    assert packages(made.cold()) == ["python 3.11.7, fastloc 0.1.0, numpy 2.4.6", "torch: torch 2.15.0", "ort: onnxruntime 1.31.1"]
    assert packages([made.row("methods", "gem_torch", failed="x", versions={})]) == []
