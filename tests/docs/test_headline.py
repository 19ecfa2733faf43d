"""The front page's figures are those of the records, and the speed is that of the newest run in which both were measured in turns."""

import json
from pathlib import Path

import pytest

import bench_rows as made
from doc_tables import headline
from fastloc.bench.schema import Row, checked


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records of three methods with figures that are easily told from one another."""
    quality = {"methods": {"itsm": {"pointing": 0.1}, "gem": {"pointing": 0.625}, "naclip": {"pointing": 0.5}}}
    rows = [{"dtype": "float32", "similarity": 3e-6}, {"dtype": "float32", "similarity": 7e-6}, {"dtype": "float16", "similarity": 2e-2}]
    presence = {"methods": [{"method": "naclip", "auc": 0.99}, {"method": "gem", "auc": 0.875}]}
    for name, content in (("quality", quality), ("onnx_parity", {"rows": rows}), ("presence", presence)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr(headline, "QUALITY", tmp_path / "quality.json")
    monkeypatch.setattr(headline, "RECORDS", tmp_path)
    monkeypatch.setattr(headline, "RESULTS", tmp_path / "results")
    return tmp_path


def measured(folder: Path, rows: list[Row]) -> None:
    folder.mkdir(parents=True)
    (folder / "run.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_each_figure_is_its_record_s(records: Path) -> None:
    lines = headline.headline_table({}).splitlines()
    assert "| raw map 10.0%, `gem` 62.5% | [page](docs/performance/quality.md) |" in lines[2]
    # the score of the best method at pointing, not the highest score
    assert "| `gem` 0.88 |" in lines[3]
    # of float32 alone
    assert lines[4].startswith("| a float32 ONNX file") and "| 7e-06 |" in lines[4] and len(lines) == 5


def test_speed_is_of_the_size_that_is_quoted_and_names_its_device(records: Path) -> None:
    rows = made.peers()
    measured(records / "results" / "machine", rows)
    assert "official package" not in headline.headline_table({}), "these rows are of 224 pixels"
    large = [checked({**row, "height": 448, "width": 448}) for row in rows]
    measured(records / "results" / "other", large)
    [line] = [line for line in headline.headline_table({}).splitlines() if "official package" in line]
    assert f"ViT-B-16 at 448 px, {large[0]['device']} |" in line and "torch " in line and " times" in line
    assert line.endswith("[page](docs/performance/peers.md) |")
