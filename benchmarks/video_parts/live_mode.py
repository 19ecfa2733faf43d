"""Live mode: a source that keeps time, and an engine that cannot keep up, or can; for minutes.

Measurements, each compared with its bound:

    age        from capture to the result's delivery: at most one inference and one frame interval. `excess` is what is over that; what a
               loaded machine's scheduler adds is in it
    counts     captured = delivered + dropped + under way; indices only grow; each picture carries the number of its result
    memory     resident memory, Python's memory blocks, threads and open files after a warm-up: slopes with their errors
    drift      slopes of inference time and age over the run
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastloc
from embedded_model import moving_scenes
from video_parts.flat import Trend, Watch
from video_parts.paced import Slow, endless, paced

Row = dict[str, Any]
SIZE = (240, 320)
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Case:
    """A row: frames a second of the source, and seconds that are added to each inference."""

    name: str
    rate: float
    slow: float
    method: str = "gem_calibrated"


# the case; the embedded model as quick as it is; more frames than it can take
CASES = {"slow": Case("an engine of 500 ms and the embedded model", 30.0, 0.5), "fast": Case("the embedded model", 30.0, 0.0),
         "flood": Case("the embedded model", 240.0, 0.0)}  # fmt: skip


def run(case: Case, seconds: float, warm: float | None = None, localizer: Any = None) -> dict[str, Any]:
    """Stream for so many seconds. warm: seconds that are left out of the slopes, a fifth of all unless given."""
    warm = seconds / 5 if warm is None else warm
    clip = moving_scenes.clip(2, 2, SIZE, rate=case.rate, seconds=min(20.0, seconds), stamp=True)
    localizer = _localizer(case) if localizer is None else localizer
    ages, inferences, problems, last, end = Trend(), Trend(), set[str](), -1, np.inf
    pictures = paced(endless(clip.pictures), case.rate, seconds)
    with Watch(min(1.0, seconds / 40)) as watch, fastloc.stream(pictures, list(clip.texts), localizer, live=True) as stream:
        for found in stream:
            now = time.monotonic()
            ages.add(now, found.age or 0.0)
            inferences.add(now, found.inference)
            if moving_scenes.stamped(found.frame.rgb) != found.index % len(clip):
                problems.add("an index is not the frame's")
            if found.index <= last:
                problems.add("frames came out of order")
            # slopes are of the time in which the source ran
            last, end = found.index, found.captured
        counters = stream.counters
    waiting = counters.captured - counters.delivered - counters.dropped - counters.corrupt
    if waiting:
        problems.add(f"{counters.captured} captured, {counters.delivered} delivered and {counters.dropped} dropped: {waiting} are missing")
    row = {
        "case": case.name, "rate": case.rate, "slow_s": case.slow, "method": case.method, "seconds": seconds, "source": stream.source.name,
        **{key: value for key, value in counters.to_dict().items() if key not in ("corrupt", "reconnects")},
        **_ages(ages, inferences, case), **watch.fields(warm, end), **ages.fields("age_s", warm, end),
        **inferences.fields("inference_s", warm, end),
    }  # fmt: skip
    return {"size": list(SIZE), "rows": [row], "problems": sorted(problems)}


def _localizer(case: Case) -> Any:
    from fastloc.engine.localizer import Localizer

    model = Localizer(method=case.method)
    return Slow(model, case.slow) if case.slow else model


def _ages(ages: Trend, inferences: Trend, case: Case) -> Row:
    """Without the first two frames, in which the model takes its time, and the last one, which no newer one replaces while it waits."""
    age, inference = ages.values[2:-1], inferences.values[2:-1]
    if not len(age):
        return {}
    over = age - inference - 1 / case.rate
    fields: Row = {"excess_worst_ms": 1000 * float(over.max()), "over": int((over > 0).sum()), "judged": len(over)}
    for name, values in (("age", age), ("inference", inference), ("excess", over)):
        fields |= {f"{name}_p{p}_ms": 1000 * float(np.percentile(values, p)) for p in PERCENTILES}
    return fields


def lines(part: dict[str, Any]) -> list[str]:
    lines = []
    for row in part["rows"]:
        lines += [
            f"{row['case']}, {row['rate']:g} frames a second, {row['seconds']:g} s: {row['captured']} captured, {row['located']} located, "
            f"{row['delivered']} delivered, {row['dropped']} dropped",
            "  ms p50/p95/p99: " + "; ".join(f"{name} " + "/".join(f"{row.get(f'{name}_p{p}_ms', np.nan):.1f}" for p in PERCENTILES)
                                             for name in ("age", "inference", "excess")),
            f"  age is over one inference and one interval in {row.get('over')} of {row.get('judged')} frames, "
            f"by {row.get('excess_worst_ms', np.nan):.1f} ms at most",
        ]  # fmt: skip
        for name, unit in (("rss_mb", "MB"), ("blocks", "blocks"), ("threads", ""), ("files", ""), ("age_s", "s"), ("inference_s", "s")):
            if row.get(name) is not None:
                slope, error = row[f"{name}_slope"], row[f"{name}_slope_error"]
                lines.append(f"  {name}: {row[name]:.5g}, slope {slope:.3g} ± {error:.2g} {unit} a minute, from {row[f'{name}_first']:.5g} "
                             f"to {row[f'{name}_last']:.5g}, at most {row[f'{name}_most']:.5g}")  # fmt: skip
    return [*lines, *part["problems"]]
