"""The benchmark of batches: ratios of one round, and a run that works."""

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
    assert len(calls) == 12 and calls[3:6] == [1, 2, 4] and calls[6:9] == [2, 4, 1]
    assert found == {1: [1.0] * 3, 2: [2.0] * 3, 4: [3.0] * 3}
    sizes = [{"size": 2, "ratios": [2.0, 1.0, 4.0], "error": 1e-7}]
    row = {"model": "m", "work": "w", "rounds": 3, "pictures": 4, "auto": 2, "sizes": sizes}
    assert batching.lines([row])[1] == "  batch  2: 2.00x (1.00 to 4.00), error 1.0e-07"


@pytest.mark.slow("every kind of work twice")
def test_it_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert batching.main(["--quick", "--models", "embedded"]) == 0
    said = capsys.readouterr().out
    assert [f"embedded, {kind}: 2 rounds" in said for kind in batching.WORK] == [True] * 3
    with pytest.raises(SystemExit):
        batching.main(["--quick", "--record"])
