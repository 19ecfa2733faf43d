"""The benchmark of edge models: its turns, a row of a model, and the table that is made of the rows."""

from pathlib import Path
from typing import Any

import pytest

import edge
from doc_tables.edge import HEAD, edge_table
from edge_parts import pointing, speed


def row(model: str, **changed: Any) -> dict[str, Any]:
    def times(ms: float) -> dict[str, Any]:
        return {"ms": ms, "ms_p20": ms - 1, "ms_p80": ms + 1, "faster": [60 / ms, 50 / ms, 70 / ms]}

    ways = {"open_clip": 60.0, "float32": 20.0, "int8-static": 15.0}
    return {
        "model": model, "weights": "random", "tower": "resnet", "size": 224, "parameters": 38_300_000, "rounds": 3,
        "errors": {"int8-static": 0.0625}, "mb": {"float32": 153.0, "float16": 76.5, "int8-static": 45.25},
        "times": {way: times(ms) for way, ms in ways.items()}, **changed,
    }  # fmt: skip


def record(*rows: dict[str, Any]) -> dict[str, Any]:
    head = {"machine": "m", "load_before": 0.1, "commit": "c", "day": "d", "versions": {"onnxruntime": "1", "torch": "2+cpu"}}
    return {"parts": {"models": {**head, "texts": 4, "used_threads": 2, "rows": list(rows)}}}


def test_the_table_has_the_best_file_and_leaves_out_what_a_tower_does_not_have() -> None:
    points = {"method": "gem", "scenes": 2, "questions": 5, "files": {"float32": 0.8, "float16": 0.8, "int8-static": 0.6}}
    lines = edge_table(record(row("RN50"), row("embedded", weights="trained", pointing=points))).splitlines()
    assert lines[0].count("|") == len(HEAD) + 1
    times = "60.0 (59.0 … 61.0) | 20.0 (19.0 … 21.0) |  | 15.0 (14.0 … 16.0) | int8-static, 4.0 (3.3 … 4.7)"
    assert lines[2] == f"| RN50 | random | 224 | 38.3 | 153.0 | 76.5 | 45.2 | {times} |  | 0.062 |  |  |"
    assert lines[3].startswith("| embedded | trained |") and lines[3].endswith("| 0.800 | 0.600 |")
    assert "`gem`, 5 questions" in lines[-1] and "torch 2," in lines[-1]


def test_a_tower_that_open_clip_does_not_have_has_times_of_its_own_alone() -> None:
    own = row("embedded-device")
    del own["times"]["open_clip"]
    for each in own["times"].values():
        del each["faster"]
    line = edge_table(record(own)).splitlines()[2]
    assert line.endswith("| 45.2 |  | 20.0 (19.0 … 21.0) |  | 15.0 (14.0 … 16.0) | int8-static |  | 0.062 |  |  |")
    spent = [[2.0], [4.0]]
    assert "faster" not in speed._time(spent, None) and speed._time(spent, [[6.0], [12.0]])["faster"][0] == 3.0


def test_a_record_is_of_all_models() -> None:
    with pytest.raises(SystemExit):
        edge.main(["--record", "--models", "RN50"])
    assert set(pointing.EMBEDDED) <= set(edge.MODELS) and set(edge.QUICK) <= set(edge.MODELS)


@pytest.mark.slow("exports, quantises and times a model")
def test_a_row_of_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "TURN", 0.0)
    found = speed.measured("embedded", tmp_path, 2)
    assert found["weights"] == "trained" and found["size"] == 96 and found["tower"] == "vit"
    assert found["mb"]["float32"] > 1.8 * found["mb"]["float16"] > 2 * found["mb"]["int8-static"]
    # open_clip's parameters of the image tower, in four bytes each, and the graph around them
    assert found["mb"]["float32"] == pytest.approx(4 * found["parameters"] / 1e6, rel=0.05)
    assert all(each["ms_p20"] <= each["ms"] <= each["ms_p80"] for each in found["times"].values())
    assert 0 < found["errors"]["int8-static"] < 0.5
    points = pointing.measured("embedded", tmp_path, 8)
    assert points["scenes"] == 8 and points["questions"] > 8 and 0.5 < points["files"]["float32"] <= 1
    assert abs(points["files"]["float16"] - points["files"]["float32"]) < 0.2
