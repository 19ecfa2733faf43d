"""Growth of a quantity over hours: a slope with an error that allows for values that are like their neighbours, and a verdict."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from video_parts.flat import sloped

__all__ = ["FALLS", "FLAT", "GROWS", "MEANS", "growth"]

Floats = NDArray[np.float64]
# stretches whose means the line goes through, and the share of the time that is left out at the beginning
MEANS, WARM = 20, 0.5
FLAT, GROWS, FALLS = "flat", "grows", "falls"


def growth(seconds: ArrayLike, values: ArrayLike, most: float) -> dict[str, Any]:
    """The slope an hour of the second half of a series, its standard error, its 95 % interval and a verdict.

    The error is that of the least squares line through the means of `MEANS` stretches. Where neighbouring means are alike, r being the
    correlation of the line's residuals with those after them, there is less in them than their number says, and the error is larger by
    sqrt((1 + r) / (1 - r)). Of n residuals r comes out too low by about 2 / n, which is added.

    Args:
        seconds, values: the samples, [N] each, in the order of time.
        most: growth an hour that counts as none.

    Returns: first, last, least and most of the second half; slope, error, low and high an hour; verdict: "grows" where the interval lies
    above 0 and the slope above `most`, "falls" where the same holds downwards, else "flat". None where there are fewer than 6 samples.
    """
    times, held = np.asarray(seconds, float), np.asarray(values, float)
    kept = times >= times[0] + WARM * (times[-1] - times[0]) if len(times) else np.zeros(0, bool)
    times, held = times[kept] / 3600, held[kept]
    if len(times) < 6:
        return {"verdict": None, "samples": len(times)}
    count = min(MEANS, len(times) // 2)
    hours, means = (np.array([part.mean() for part in np.array_split(each, count)]) for each in (times, held))
    slope, error = sloped(hours, means)
    error *= _widened(means - means.mean() - slope * (hours - hours.mean()))
    low, high = slope - _quantile(count) * error, slope + _quantile(count) * error
    verdict = GROWS if low > 0 and slope > most else FALLS if high < 0 and slope < -most else FLAT
    return {
        "samples": len(times), "first": float(means[0]), "last": float(means[-1]), "least": float(held.min()), "most": float(held.max()),
        "slope": slope, "error": error, "low": low, "high": high, "verdict": verdict,
    }  # fmt: skip


def _widened(rest: Floats) -> float:
    """The factor of an error whose residuals are correlated with those after them."""
    square = float((rest**2).sum())
    if square == 0:
        return 1.0
    r = min(max(float((rest[1:] * rest[:-1]).sum()) / square + 2 / len(rest), 0.0), 0.9)
    return float(np.sqrt((1 + r) / (1 - r)))


def _quantile(count: int) -> float:
    """Student's t at 97.5 % of a line through so many means."""
    from scipy.stats import t

    return float(t.ppf(0.975, max(count - 2, 1)))
