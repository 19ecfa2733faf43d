"""The draws, counts, limits and warnings of a self-check, whatever the runtime."""

import json
import math
import re
import threading
import warnings
from typing import Any

import numpy as np
import pytest

from fastloc.errors import FastlocError, FastlocWarning, PlanError
from fastloc.onnx_file.formats import DTYPES
from fastloc.onnx_file.golden import TOLERANCES
from fastloc.onnx_file.self_check import LIMITS, TENTH, SelfCheck, share_of

RNG = np.random.default_rng(0)
RIGHT = RNG.uniform(-0.3, 0.3, (1, 3, 4, 5)).astype(np.float32)


def check(share: float = 1.0, dtype: str = "float32", score: str = "cosine") -> SelfCheck:
    return SelfCheck(share, "gem", dtype, score, seed=0)


def off_by(error: float, output: str = "similarity") -> dict[str, np.ndarray]:
    wrong = RIGHT.copy()
    wrong[0, 1, 2, 3] += error
    return {output: wrong}


def again(made: SelfCheck, found: dict[str, Any], expected: dict[str, Any] | None = None) -> list[str]:
    """The warnings of one comparison."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made.again(lambda: found, lambda: {"similarity": RIGHT} if expected is None else expected)
    assert all(each.category is FastlocWarning for each in caught)
    return [str(each.message) for each in caught]


def test_every_dtype_has_limits() -> None:
    assert set(LIMITS) == {*DTYPES, "float64", "bfloat16"}
    assert all(LIMITS[dtype].similarity == TOLERANCES[dtype] for dtype in TOLERANCES)
    with pytest.raises(FastlocError, match="unknown dtype 'float8'"):
        check(dtype="float8")


@pytest.mark.parametrize(
    ("given", "share"), [(None, 0.0), (False, 0.0), (0, 0.0), (True, TENTH), (1, 1.0), (0.25, 0.25), (np.float64(0.5), 0.5)]
)
def test_shares(given: Any, share: float) -> None:
    assert share_of(given) == share


@pytest.mark.parametrize("given", [-0.1, 1.01, math.nan, math.inf, "0.1", (0.1,)])
def test_what_is_no_share(given: Any) -> None:
    with pytest.raises(FastlocError, match=r"self_check must be a share of the calls from 0 to 1, or True for 0.1, got "):
        share_of(given)


def test_about_the_share_is_drawn_and_every_call_is_counted() -> None:
    made = check(TENTH)
    drawn = sum(made.drawn() for _ in range(5000))
    # five deviations of a binomial
    assert made.calls == 5000 and abs(drawn - 500) < 5 * math.sqrt(450)
    assert all(check(1.0).drawn() for _ in range(3))
    assert {made.index(3) for _ in range(100)} == {0, 1, 2}


def test_draws_of_two_processes_differ() -> None:
    first, second = (SelfCheck(0.5, "gem", "float32") for _ in range(2))
    assert [first.drawn() for _ in range(200)] != [second.drawn() for _ in range(200)]


@pytest.mark.parametrize("dtype", LIMITS)
def test_the_limit_of_each_dtype(dtype: str) -> None:
    limit = LIMITS[dtype].similarity
    made = check(dtype=dtype)
    assert again(made, off_by(0.9 * limit)) == []
    assert (made.checked, made.different) == (1, 0) and made.largest == pytest.approx(0.9, abs=0.01)
    (message,) = again(made, off_by(1.1 * limit))
    assert f"similarity of method 'gem', 3 texts on a grid of 4 x 5, is off by {1.1 * limit:.1e} from another plan's" in message
    assert f"{limit:.0e} is allowed for {dtype}" in message and "`fastloc verify`" in message
    # the first is said, all are counted
    assert again(made, off_by(3 * limit)) == [] and (made.checked, made.different) == (3, 2)
    assert made.largest == pytest.approx(3, abs=0.02)


def test_cosines_count_too() -> None:
    made, cosines = check(), np.array([[0.1, 0.2, 0.3]], np.float32)
    (message,) = again(made, {"similarity": RIGHT, "scores": cosines + 0.01}, {"similarity": RIGHT, "scores": cosines})
    assert "scores of method 'gem'" in message


def test_heatmaps_by_their_mean_and_labels_by_their_share() -> None:
    labels = RNG.integers(0, 3, (1, 40, 50)).astype(np.uint8)
    other = labels.copy()
    other[0, 0, 0] += 1
    assert again(check(), {"labels": other}, {"labels": labels}) == []
    other[0, :2] += 1
    assert "labels of method" in again(check(), {"labels": other}, {"labels": labels})[0]
    # one pixel says little about a map
    assert again(check(), off_by(0.01, "heatmaps"), {"heatmaps": RIGHT}) == []
    assert "heatmaps of method" in again(check(), {"heatmaps": RIGHT + np.float32(0.01)}, {"heatmaps": RIGHT})[0]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
def test_a_relevance_has_no_unit(scale: float) -> None:
    right = np.abs(RIGHT) * np.float32(scale)
    # a share of a softmax, half of what it was
    shares = right * np.array([0.5, 1, 1.01], np.float32)[:, None, None]
    assert again(check(score="relevance"), {"similarity": shares}, {"similarity": right}) == []
    wrong = right.copy()
    wrong[0, 1, 2, 3] = right[0, 1].max() - right[0, 1, 2, 3]
    assert again(check(score="relevance"), {"similarity": wrong}, {"similarity": right})


def test_a_relevance_that_is_zero_everywhere() -> None:
    nothing = {"similarity": RIGHT * 0}
    made = check(score="relevance")
    assert again(made, nothing, nothing) == [] and made.checked == 1


@pytest.mark.parametrize("found", [off_by(math.nan), off_by(math.inf), {"similarity": RIGHT[:, :2]}, {}])
def test_what_cannot_be_compared_differs(found: dict[str, np.ndarray]) -> None:
    made = check()
    (message,) = again(made, found)
    assert "is off by inf" in message and made.different == 1
    assert made.describe()["largest"] is None
    json.dumps(made.describe(), allow_nan=False)
    assert "(largest difference NaN)" in str(made)


def test_another_plan_that_gives_nan_is_a_difference() -> None:
    assert again(check(), {"similarity": RIGHT}, off_by(math.nan))


@pytest.mark.parametrize("error", [PlanError("out of shapes"), RuntimeError("out of memory\nmore"), MemoryError("host")])
def test_a_plan_that_fails_does_not_stop_the_program(error: Exception) -> None:
    made = check()

    def fails() -> Any:
        raise error

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            made.again(dict, fails)
    (warning,) = caught
    assert re.search(r"the other plan cannot answer a call of method 'gem' \(.+\)$", str(warning.message))
    assert made.unanswered == 3 and made.checked == 0
    assert "3 could not be answered again" in str(made)


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        check().again(dict, lambda: {}["similarity"])


def test_a_listener_counts_both_results() -> None:
    made, results = check(), list[bool]()
    made.listener = results.append
    again(made, {"similarity": RIGHT})
    again(made, off_by(1.0))
    assert results == [True, False]


def test_what_it_says_of_itself() -> None:
    made = check()
    for _ in range(3):
        made.drawn()
    again(made, off_by(0.5e-4))
    described = made.describe()
    assert described == {
        "share": 1.0, "method": "gem", "dtype": "float32", "calls": 3, "checked": 1, "different": 0, "unanswered": 0,
        "largest": made.largest, "limit": 1e-4,
    }  # fmt: skip
    assert str(made).startswith("self-check of gem: 1 of 3 calls were answered again by another plan; 0 differ (largest difference 5")


def test_threads_share_it() -> None:
    made = check(0.5)

    def work() -> None:
        for _ in range(200):
            if made.drawn():
                made.again(lambda: {"similarity": RIGHT}, lambda: {"similarity": RIGHT})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert made.calls == 800 and 300 < made.checked < 500
