"""The choice among runtimes and threads by a short measurement, kept for this file on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloc import OnnxLocalizer
from fastloc.embedded import GEM_ONNX, SAMPLES
from fastloc.errors import FastlocError, PlanError
from fastloc.onnx_file.header import read
from fastloc.runtime import choice, fastest
from fastloc.runtime.choice import Choice, Timed, kept, kept_choices
from onnx_files import tiny_model

PROCESSORS = 4


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(fastest, "SECONDS", 0.0)
    monkeypatch.setattr(fastest, "processors", lambda: PROCESSORS)
    monkeypatch.setattr(fastest, "_providers", lambda: ["cpu", "openvino"])
    monkeypatch.setattr(fastest, "time", Clock())


class Clock:
    """A clock that only calls of stubs move, so that other work on the machine changes nothing."""

    seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


class Stub:
    """A session whose calls take so many milliseconds."""

    choice: Choice | None = None

    def __init__(self, path: Path, ms: float, clock: Clock) -> None:
        self.manifest, self.ms, self.clock = read(path).manifest(), ms, clock

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        self.clock.seconds += self.ms / 1e3
        return {}


class Loads:
    """Loads stubs by a table of (provider, threads) -> milliseconds, or the error that is raised; `asked`: what was loaded."""

    def __init__(self, path: Path, table: dict[tuple[str, int], float | FastlocError]) -> None:
        self.path, self.table, self.asked = path, table, list[tuple[str, int | None]]()
        self.clock: Clock = vars(fastest)["time"]

    def __call__(self, provider: str, threads: int | None) -> Any:
        self.asked.append((provider, threads))
        found = self.table[provider, threads or 0]
        if isinstance(found, FastlocError):
            raise found
        return Stub(self.path, found, self.clock)


def run(folder: Path, table: dict[tuple[str, int], float | FastlocError], threads: int | None = None) -> tuple[Choice, Loads]:
    tiny_model(folder / "a.onnx")
    loads = Loads(folder / "a.onnx", table)
    found = fastest.fastest(folder / "a.onnx", loads, threads).choice
    assert found is not None
    return found, loads


def test_the_faster_runtime_and_number_of_threads_is_taken_and_all_are_told(tmp_path: Path) -> None:
    found, loads = run(tmp_path, {("cpu", 4): 12, ("openvino", 4): 6, ("openvino", 2): 1})
    assert (found.fastest.provider, found.fastest.threads) == ("openvino", 2)
    assert [(way.provider, way.threads) for way in found.ways] == [("openvino", 2), ("openvino", 4), ("cpu", 4)]
    assert "openvino, 2 threads: " in str(found) and "cpu, 4 threads: 1" in str(found) and len(loads.asked) == 3
    assert kept_choices() == [found]


def test_the_usual_way_stands_unless_another_takes_a_tenth_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "MARGIN", 0.5)
    found, _ = run(tmp_path, {("cpu", 4): 6, ("openvino", 4): 5, ("cpu", 2): 5})
    assert (found.fastest.provider, found.fastest.threads) == ("cpu", 4)


def test_a_choice_is_kept_for_the_file_and_measured_again_where_something_differs(tmp_path: Path) -> None:
    table: dict[tuple[str, int], float | FastlocError] = {("cpu", 4): 6, ("openvino", 4): 1, ("openvino", 2): 3}
    first, _ = run(tmp_path, table)
    again, loads = run(tmp_path, table)
    assert again == first and loads.asked == [("openvino", 4)]
    file = next((tmp_path / "cache" / "choices").glob("*.json"))
    whole = file.read_text(encoding="utf-8")
    for damaged in ("", "{}", whole.replace('"format": 1', '"format": 2'), whole[:-30], whole.replace(first.key, "0" * 24)):
        file.write_text(damaged, encoding="utf-8")
        assert len(run(tmp_path, table)[1].asked) == 3
    assert len(run(tmp_path, {("cpu", 1): 1, ("openvino", 1): 4}, threads=1)[1].asked) == 2, "threads of yours are another question"
    tiny_model(tmp_path / "a.onnx", seed=8, golden=False)
    loads = Loads(tmp_path / "a.onnx", table)
    fastest.fastest(tmp_path / "a.onnx", loads)
    assert len(loads.asked) == 3, "another file"


def test_a_way_that_cannot_run_the_file_is_told_and_left_out(tmp_path: Path) -> None:
    found, _ = run(tmp_path, {("cpu", 4): 1, ("openvino", 4): PlanError("it does not load"), ("cpu", 2): 4})
    assert found.fastest.provider == "cpu" and "openvino, 4 threads: it does not load" in str(found)
    with pytest.raises(PlanError, match="the first"):
        run(tmp_path / "..", {("cpu", 3): PlanError("the first"), ("openvino", 3): PlanError("the second")}, threads=3)


def test_a_cache_that_cannot_be_written_to_costs_only_the_next_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    found, _ = run(tmp_path, {("cpu", 4): 1, ("openvino", 4): 3, ("cpu", 2): 3})
    assert kept(found.key) is None and found.fastest.provider == "cpu"


def test_a_localizer_says_what_it_chose_and_answers_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "_providers", lambda: ["cpu"])
    monkeypatch.setattr(fastest, "processors", lambda: 2)
    monkeypatch.setattr(fastest, "time", time)
    found, plain = OnnxLocalizer(providers="fastest"), OnnxLocalizer()
    assert found.choice is not None and plain.choice is None and found.session.names == ("cpu",)
    assert "of embedded, float32" in found.choice.model and {way.threads for way in found.choice.ways} == {1, 2}
    assert [each.key for each in kept_choices()] == [found.choice.key]
    pair = [each(SAMPLES / "market.webp", "cat").similarity for each in (found, plain)]
    assert np.abs(pair[0] - pair[1]).max() < 1e-6
    with pytest.raises(PlanError, match="options and cuda_graph must be left out with providers='fastest'"):
        OnnxLocalizer(GEM_ONNX, providers="fastest", options={"device_id": 0})


def test_a_way_as_text() -> None:
    assert str(Timed("cpu", 1, 3.21)) == "cpu, 1 thread: 3.2 ms" and str(Timed("cuda", None, reason="no driver")) == "cuda: no driver"
