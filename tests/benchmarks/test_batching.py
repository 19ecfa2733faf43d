"""The benchmark of batches: ratios of one round, and a run that works."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import batching


def test_a_ratio_is_of_its_own_round(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls, seconds = 0.0, [], {1: 6.0, 2: 3.0, 4: 2.0}

    def work(size: int) -> None:
        nonlocal now
        calls.append(size)
        # each round is twice as slow as the one before
        now += 2.0 ** ((len(calls) - 1) // 3) * seconds[size]

    monkeypatch.setattr(batching.time, "perf_counter", lambda: now)
    found = batching.compared(work, (1, 2, 4), 3)
    assert len(calls) == 9 and calls[:3] == [1, 2, 4] and calls[3:6] == [2, 4, 1]
    assert found == {1: [1.0] * 3, 2: [2.0] * 3, 4: [3.0] * 3}
    sizes = [{"size": 2, "ratios": [2.0, 1.0, 4.0], "error": 1e-7}]
    row = {"model": "m", "work": "w", "rounds": 3, "pictures": 4, "auto": 2, "sizes": sizes}
    assert batching.lines([row])[1] == "  batch  2: 2.00x (1.00 to 4.00), error 1.0e-07"


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 3), (3.0, 3), (5.5, 5), (99.0, 7)])
def test_rounds_keep_to_the_time_but_are_three(seconds: float, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of one second is not begun where it would end later."""
    now = 0.0

    def work(size: int) -> None:
        nonlocal now
        now += 0.5

    monkeypatch.setattr(batching.time, "perf_counter", lambda: now)
    assert {size: len(each) for size, each in batching.compared(work, (1, 2), 7, seconds).items()} == {1: rounds, 2: rounds}
    assert now == rounds
    assert len(batching.compared(work, (1, 2), 2, 0.0)[1]) == 2


def test_each_row_has_its_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what is left for the first of two; what it does not use is the other's."""
    now, ends = 0.0, []
    grids = [np.zeros(2)] * 4

    def kind(*given: object) -> object:
        return (lambda size: None), (lambda: 1), (lambda size: grids)

    def compared(work: object, sizes: tuple[int, ...], rounds: int, end: float) -> dict[int, list[float]]:
        nonlocal now
        ends.append(end)
        now += 30
        return {size: [1.0] * 3 for size in sizes}

    monkeypatch.setattr(batching.time, "perf_counter", lambda: now)
    monkeypatch.setattr(batching, "compared", compared)
    monkeypatch.setattr(batching, "WORK", {"a": kind, "b": kind})
    rows = batching.run(["embedded"], ["a", "b"], tmp_path, 7, True, 100.0)
    assert ends == [50.0, 100.0] and [row["rounds"] for row in rows] == [3, 3]


@pytest.mark.slow("every kind of work twice")
def test_it_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert batching.main(["--quick", "--models", "embedded"]) == 0
    said = capsys.readouterr().out
    assert [f"embedded, {kind}: 2 rounds" in said for kind in batching.WORK] == [True] * 3
    with pytest.raises(SystemExit):
        batching.main(["--quick", "--record"])
