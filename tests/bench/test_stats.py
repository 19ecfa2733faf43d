"""Statistics of times: exact where they can be, and on planted noise."""

import math

import numpy as np
import pytest

from fastloc.bench.stats import growth, percentiles, ratio_interval, slower
from fastloc.errors import FastlocError


def test_percentiles() -> None:
    assert percentiles(range(1, 102)) == {"ms": 51, "ms_p20": 21, "ms_p80": 81, "ms_p99": 100}
    assert percentiles([7.0], "end_") == {"end_ms": 7, "end_ms_p20": 7, "end_ms_p80": 7, "end_ms_p99": 7}


@pytest.mark.parametrize("rounds", [2, 3, 4, 5, 30])
def test_a_constant_ratio_has_an_interval_without_width(rounds: int) -> None:
    # a machine that slows down between rounds slows both
    theirs = np.linspace(10, 40, rounds)
    assert ratio_interval(1.5 * theirs, theirs) == pytest.approx((1.5, 1.5, 1.5), rel=1e-12)


def test_one_round_says_nothing_of_its_spread() -> None:
    assert ratio_interval([3.0], [2.0]) == pytest.approx((1.5, 0.15, 15))
    assert not slower(ratio_interval([3.0], [2.0]), 0.05)


@pytest.mark.parametrize("rounds", [2, 3, 4, 5, 12, 40])
def test_the_interval_holds_the_planted_ratio(rounds: int) -> None:
    """In nineteen of twenty runs, more or less; 100 runs of a ratio of 1.2 with noise of 5 % on both sides."""
    noise = np.random.default_rng(3).lognormal(0, 0.05, (100, 2, rounds))
    found = [ratio_interval(12 * ours, 10 * theirs) for ours, theirs in noise]
    held = np.mean([low <= 1.2 <= high for _, low, high in found])
    assert 0.9 <= held <= 1, f"{rounds} rounds: {held:.1%} of the intervals hold it"
    assert all(low <= middle <= high for middle, low, high in found)


def test_more_rounds_give_a_narrower_interval_and_the_same_one_again() -> None:
    noise = np.random.default_rng(5).lognormal(0, 0.05, (20, 2, 100))
    ends = [[ratio_interval(ours[:n], theirs[:n])[1:] for ours, theirs in noise] for n in (2, 3, 10, 100)]
    widths = [float(np.mean([high - low for low, high in each])) for each in ends]
    assert widths == sorted(widths, reverse=True) and widths[-1] > 0, widths
    assert ratio_interval(*noise[0]) == ratio_interval(*noise[0])


def test_one_outlier_of_many_rounds_changes_little() -> None:
    ours = [10.0] * 19 + [500.0]
    assert ratio_interval(ours, [10.0] * 20) == (1, 1, 1)


@pytest.mark.parametrize(("interval", "expected"), [
    ((1.20, 1.15, 1.25), True),
    ((1.04, 1.03, 1.05), False),
    ((1.20, 0.99, 1.50), False),
    ((1.05, 1.02, 1.06), False),
    ((0.80, 0.75, 0.85), False),
])  # fmt: skip
def test_slower(interval: tuple[float, float, float], expected: bool) -> None:
    assert slower(interval, 0.05) is expected


SIZES = (197, 442, 785, 1765, 3137, 7057)


@pytest.mark.parametrize(("terms", "power"), [
    ((5.0, 0.25, 2e-4), None),
    ((0.0, 0.25, 0.0), 1.0),
    ((0.0, 0.0, 3e-3), 2.0),
    ((80.0, 0.0, 0.0), 0.0),
])  # fmt: skip
def test_growth_finds_what_was_planted(terms: tuple[float, float, float], power: float | None) -> None:
    a, b, c = terms
    found = growth(SIZES, [a + b * n + c * n * n for n in SIZES])
    assert (found.constant, found.linear, found.quadratic) == pytest.approx(terms, rel=1e-8, abs=1e-12)
    assert found.at(1000) == pytest.approx(a + 1000 * b + 1e6 * c)
    if power is None:
        assert 1 < found.exponent < 2
    else:
        assert found.exponent == pytest.approx(power, abs=1e-9)


def test_growth_with_noise_and_with_two_sizes() -> None:
    noise = np.random.default_rng(1).lognormal(0, 0.02, len(SIZES))
    found = growth(SIZES, [(5 + 0.25 * n + 2e-4 * n * n) * by for n, by in zip(SIZES, noise, strict=True)])
    assert found.quadratic == pytest.approx(2e-4, rel=0.1) and found.linear == pytest.approx(0.25, rel=0.2)
    # times that fall with size have no negative term
    assert min(growth((1, 2, 4), (9.0, 5.0, 1.0)).at(0), growth((1, 2), (9.0, 5.0)).linear) >= 0
    two = growth((100, 200), (3.0, 5.0))
    assert (two.constant, two.linear, two.quadratic) == pytest.approx((1, 0.02, 0)) and two.exponent == pytest.approx(math.log2(5 / 3))


def test_the_formula_leaves_out_what_is_zero() -> None:
    assert growth(SIZES, [5 + 0.25 * n + 2e-4 * n * n for n in SIZES]).formula() == "5 + 0.25 N + 2e-4 N²"
    assert growth(SIZES, [80.0] * 6).formula("T") == "80"
    assert growth(SIZES, [12.4 * n for n in SIZES]).formula() == "12 N"


@pytest.mark.parametrize(("call", "message"), [
    (lambda: percentiles([]), "times must be one or more, and all finite, got 0"),
    (lambda: percentiles([1.0, float("nan")]), "got 2, 1 of them finite"),
    (lambda: ratio_interval([1.0], [1.0, 2.0]), "rounds of two contenders must be as many of each, got 1 and 2"),
    (lambda: ratio_interval([1.0], [0.0]), "rounds must be positive numbers, got 0.0"),
    (lambda: growth([196, 196], [1.0, 2.0]), r"sizes must be two different ones or more, got \[196.0\]"),
    (lambda: growth([196, 784], [1.0]), "times must be one a size, got 1 for 2 sizes"),
])  # fmt: skip
def test_what_cannot_be_computed_is_an_error(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(FastlocError, match=message):
        call()
