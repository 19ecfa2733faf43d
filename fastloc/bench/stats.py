"""Statistics of measured times: percentiles, the ratio of two contenders that took turns, and the growth of time with a size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError

Times = Sequence[float]
# of a ratio: the ratio, and the low and the high end of its 95 % interval
Interval = tuple[float, float, float]

DRAWS, SEED = 10_000, 0
# from so many rounds on the interval is drawn from the rounds alone: the extremes of four enclose the median seven times in eight at best
BOOTSTRAPPED = 5
# Student's t, 97.5 %, by rounds: one degree of freedom fewer
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182}
# stands for "unknown": as far as an interval of few rounds may reach to either side
_WIDEST = 10.0


def percentiles(ms: Times, prefix: str = "") -> dict[str, float]:
    """{"ms", "ms_p20", "ms_p80", "ms_p99"} of the times of single calls: median and percentiles, between neighbours by a straight line.

    `prefix` comes before each name: "end_" gives "end_ms", "end_ms_p20" …

    Raises:
        FastlocError: no times, or one that is not finite.
    """
    found = np.asarray(ms, np.float64)
    finite = int(np.isfinite(found).sum())
    if not found.size or finite < found.size:
        raise FastlocError(f"times must be one or more, and all finite, got {found.size}, {finite} of them finite")
    p20, p50, p80, p99 = np.percentile(found, (20, 50, 80, 99)).tolist()
    return {f"{prefix}ms": p50, f"{prefix}ms_p20": p20, f"{prefix}ms_p80": p80, f"{prefix}ms_p99": p99}


def ratio_interval(ours: Times, theirs: Times) -> Interval:
    """The time of one contender over that of another: (median, low, high) with the ends of a 95 % interval.

    `ours` and `theirs` are medians of rounds: the i-th of both were measured right after one another, so what is compared are the
    ratios ours[i] / theirs[i]. The first number is their median.

    Five rounds or more: percentile bootstrap, the 2.5 % and 97.5 % quantiles of the medians of 10,000 draws of rounds with
    replacement (seeded: the same rounds give the same interval). Two to four: Student's t interval of the logarithms, since draws
    from so few cannot reach 95 %; it is wide, encloses the median, and ends at a factor of ten to either side. One: a factor of ten to
    either side, since one round says nothing of how rounds differ.

    Raises:
        FastlocError: no rounds, not as many of one as of the other, or a time that is not a positive number.
    """
    if len(ours) != len(theirs):
        raise FastlocError(f"rounds of two contenders must be as many of each, got {len(ours)} and {len(theirs)}")
    ratios = _times("rounds", ours) / _times("rounds", theirs)
    middle = float(np.median(ratios))
    if len(ratios) >= BOOTSTRAPPED:
        draws = np.random.default_rng(SEED).integers(0, len(ratios), (DRAWS, len(ratios)))
        low, high = np.quantile(np.median(ratios[draws], 1), (0.025, 0.975)).tolist()
        return middle, low, high
    return middle, *_few(np.log(ratios), math.log(middle))


def _few(logs: NDArray[np.float64], middle: float) -> tuple[float, float]:
    """The ends for fewer than BOOTSTRAPPED rounds, from the logarithms of their ratios and of the median."""
    widest = math.log(_WIDEST)
    if len(logs) == 1:
        return math.exp(middle - widest), math.exp(middle + widest)
    reach = _STUDENT[len(logs)] * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    low, high = float(logs.mean()) - reach, float(logs.mean()) + reach
    return math.exp(max(min(low, middle), middle - widest)), math.exp(min(max(high, middle), middle + widest))


def slower(interval: Interval, threshold: float) -> bool:
    """True if a ratio to an earlier time is a loss: its median beyond 1 + threshold (0.05 for 5 %), and the interval's low end beyond 1."""
    middle, low, _ = interval
    return middle > 1 + threshold and low > 1


@dataclass(frozen=True)
class Growth:
    """Milliseconds as constant + linear N + quadratic N², none of them negative; and the power of N that they grow with at the end."""

    constant: float
    linear: float
    quadratic: float
    exponent: float

    def at(self, size: float) -> float:
        """Milliseconds that the three terms give."""
        return self.constant + self.linear * size + self.quadratic * size * size

    def formula(self, symbol: str = "N") -> str:
        """The terms that are not zero, as in "12 + 0.31 N + 2.2e-4 N²"."""
        terms = ((self.constant, ""), (self.linear, f" {symbol}"), (self.quadratic, f" {symbol}²"))
        return " + ".join(f"{_short(value)}{power}" for value, power in terms if value > 0) or "0"


def growth(sizes: Times, ms: Times) -> Growth:
    """Growth of times with a size (tokens, pictures, texts, blocks).

    The terms minimise the sum of ((a + b N + c N² - t) / t)² over a, b, c ≥ 0, so that every size weighs the same; with two sizes c is 0.
    The exponent is the slope of log t over log N, by least squares over the three largest sizes (two, if there are no more).

    Raises:
        FastlocError: fewer than two different sizes, not as many times as sizes, or a number that is not positive.
    """
    from scipy.optimize import nnls

    if len(sizes) != len(ms):
        raise FastlocError(f"times must be one a size, got {len(ms)} for {len(sizes)} sizes")
    n, t = _times("sizes", sizes), _times("times", ms)
    different = np.unique(n)
    if len(different) < 2:
        raise FastlocError(f"sizes must be two different ones or more, got {different.tolist()}")
    powers = min(3, len(different))
    # sizes as parts of the largest: N² beside 1 is beyond what single equations resolve
    scaled = n / n.max()
    terms, _ = nnls(np.stack([scaled**power for power in range(powers)], 1) / t[:, None], np.ones_like(t))
    # rounding's dust is no term
    terms[terms < 1e-9 * t.min()] = 0
    constant, linear, quadratic = [float(term) / float(n.max()) ** power for power, term in enumerate(terms)] + [0.0] * (3 - powers)
    last = n >= different[-3:].min()
    slope = float(np.polyfit(np.log(n[last]), np.log(t[last]), 1)[0])
    return Growth(constant, linear, quadratic, slope)


def _times(name: str, values: Times) -> NDArray[np.float64]:
    """Times as float64 [n]."""
    found = np.asarray(values, np.float64)
    if not found.size:
        raise FastlocError(f"{name} must be one or more, got none")
    wrong = found[~(np.isfinite(found) & (found > 0))]
    if wrong.size:
        raise FastlocError(f"{name} must be positive numbers, got {wrong[0]}")
    return found


def _short(value: float) -> str:
    """Two significant digits: "0.31", "1200", "2.2e-4"."""
    digits, power = f"{value:.1e}".split("e")
    return f"{float(f'{value:.2g}'):.12g}" if int(power) > -3 else f"{float(digits):g}e{int(power)}"
