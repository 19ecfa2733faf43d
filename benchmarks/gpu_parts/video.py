"""Streams of decoded frames: how many a second go through `fastloc.stream`, and how old a live source's are when they are answered.

Frames are in memory, on the host or on the device; a source that keeps time hands them out as a camera would. Nothing is timed before the
stream's answers were compared: with those of the same frames one at a time, and of the first with float64.
"""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from fastloc.imaging.geometry import Geometry, fit
from fastloc.recipes import RECIPES
from gpu_parts import models, timing
from gpu_parts.frames import KEPT, TWENTY
from gpu_parts.frames import _error as error_of
from gpu_parts.job import Job, Row
from gpu_parts.parity_io import noise
from gpu_parts.speed import number
from video_parts.paced import paced

FRAMES = {"720p": (720, 1280), "1080p": (1080, 1920)}
QUICK = {"tiny": (24, 40)}
RATES = (60, 200)
# a stream's first answers are not counted: threads begin, and the model's first pass in a new thread
FIRST = 20
# how far an answer of the stream may be from the same frame's alone: they are the same pass
APART = 1e-6


class Bare:
    """A localizer for a stream without open_clip: an engine and texts that are embedded already."""

    def __init__(self, job: Job, name: str, dtype: str, size: int, settings: dict[str, str]) -> None:
        from fastloc.engine.vit_engine import Engine

        self.name, self.size, self.patch = name, size, models.seeded(name).spec.patch
        self.engine = Engine(models.tower(name, job.device, dtype), RECIPES["gem"], {**settings, "dtype": dtype})
        self.words = models.texts(name, job.device)

    def encode_texts(self, texts: Any) -> Any:
        return tuple(texts)

    def predict_frame(self, frame: Any, prompts: Any, bgr: bool = False) -> Any:
        """One frame's similarities, on the host."""
        from fastloc.results.prediction import Prediction

        pixels, where = torch.as_tensor(frame)[None], self.geometry((frame.shape[0], frame.shape[1]))
        grids = self.engine(pixels, self.words, geometry=where, bgr=bgr)[0]
        readout = RECIPES["gem"].readout
        return Prediction(texts=prompts, similarity=grids[0].float().cpu().numpy(), geometry=where, order=readout.order, method="gem")

    def geometry(self, frame: tuple[int, int]) -> Geometry:
        return fit(frame, self.size, self.patch)

    def __call__(self, *_: Any) -> Any:
        raise NotImplementedError("a stream asks `predict_frame`")


def run(job: Job) -> None:
    job.rows.clear()
    models.strict()
    small = job.quick or not job.cuda
    settings, why = models.fallback(job)
    name, dtype = ("tiny", "float32") if small else ("B/16", "float16")
    # a CPU's plan would have Pillow resize
    localizer = Bare(job, name, dtype, 32 if small else 448, settings if job.cuda else {"frames": "torch"})
    for label, frame in (QUICK if small else FRAMES).items():
        if not job.late(label, need=6.0 if job.cuda else 0.0):
            problem = timing.attempt(lambda: _size(job, label, frame, localizer, dtype, why, small), job.device)  # noqa: B023
            if problem:
                job.row(frame=label, batch=1, what="all", ms=None, failed=problem)


def _size(job: Job, label: str, frame: tuple[int, int], localizer: Bare, dtype: str, why: str, small: bool) -> None:
    here = [noise(frame, 1, seed)[0] for seed in range(KEPT)]
    places: dict[str, list[Any]] = {"host": [each.numpy() for each in here]}
    if job.cuda:
        places["device"] = [each.to(job.device) for each in here]
    where = localizer.geometry(frame)
    head = {"frame": label, "batch": 1, "plan": models.brief(localizer.engine.plan(1, where.input)), **({"fallback": why} if why else {}),
            "picture": list(frame), "model": localizer.name, "input": list(where.input), "dtype": dtype}  # fmt: skip
    first = here[0][None].to(job.device)
    head["error"] = error_of(job, localizer.name, localizer.engine, first, where, localizer.words)
    for place, frames in places.items():
        largest = _apart(localizer, frames)
        if largest > APART:
            failed = f"a stream's answers are not those of the same frames alone: off by {largest:.1e}"
            job.row(what=f"{place} frames", **head, ms=None, failed=failed)
            continue
        _every(job, head, place, localizer, frames, 0.1 if small else 2.5)
        for rate in RATES:
            if not job.late(f"{label} {place} frames, {rate} a second", need=3.0 if job.cuda else 0.0):
                _live(job, head, place, localizer, frames, rate, 0.4 if small else 3.0)


def _apart(localizer: Bare, frames: list[Any]) -> float:
    """The largest difference between answers of a stream and of the same frames one at a time, over the largest value."""
    expected = [localizer.predict_frame(frame, ("a",) * models.TEXTS).similarity for frame in frames]
    found = _stream(localizer, itertools.islice(itertools.cycle(frames), 3 * len(frames)), live=False)
    off = [np.abs(each.located.similarity - expected[each.index % len(frames)]).max() for each in found]
    if len(off) != 3 * len(frames):
        return float("inf")
    return float(max(off) / max(np.abs(each).max() for each in expected))


def _every(job: Job, head: Row, place: str, localizer: Bare, frames: list[Any], seconds: float) -> None:
    """Every frame, as quickly as they go through."""
    ends = time.perf_counter() + seconds
    source = itertools.takewhile(lambda _: time.perf_counter() < ends, itertools.cycle(frames))
    moments = [time.perf_counter() for _ in _stream(localizer, source, live=False)]
    moments = moments[min(FIRST, len(moments) // 2) :]
    step = min(TWENTY, max(1, len(moments) // 4))
    ms = [1000 * float(each) / step for each in np.diff(moments[::step])]
    _add(job, head, f"{place} frames, every one", ms, step, fps=(len(moments) - 1) / (moments[-1] - moments[0]))


def _live(job: Job, head: Row, place: str, localizer: Bare, frames: list[Any], rate: int, seconds: float) -> None:
    """A source that keeps time: ages."""
    stream = _stream(localizer, paced(itertools.cycle(frames), rate, seconds + FIRST / rate), live=True)
    began = time.perf_counter()
    ages = [1000 * (found.age or 0.0) for found in stream]
    counters, spent = stream.counters, time.perf_counter() - began
    fields = {"fps": counters.delivered / spent, "captured": counters.captured, "dropped": counters.dropped}
    ages = ages[FIRST:] or ages
    _add(job, head, f"{place} frames, {rate} a second: age", ages, ms_p95=float(np.quantile(ages, 0.95)), **fields)


def _add(job: Job, head: Row, label: str, ms: list[float], inner: int = 1, **more: Any) -> None:
    row = job.row(what=label, **head, **timing.spread(ms, inner), **more)
    print(f"{row['frame']} {label}: {row['ms']:.3f} ms, p99 {row['ms_p99']:.3f}, {more['fps']:.0f} frames/s")


def _stream(localizer: Bare, frames: Iterator[Any], live: bool) -> Any:
    import fastloc

    return fastloc.stream(frames, ["a"] * models.TEXTS, localizer, live=live)


def lines(record: Row) -> list[str]:
    lines = [f"{'ms':44}{'p50':>9}{'p95':>9}{'p99':>9}{'frames/s':>10}{'dropped':>9}{'error':>9}"]
    for row in record["rows"]:
        line = f"{row['frame']:7}{row['what']:37}" + "".join(number(row.get(name), "9.3f") for name in ("ms", "ms_p95", "ms_p99"))
        line += number(row.get("fps"), "10.1f") + f"{row.get('dropped', '–'):>9}" + number(row.get("error"), "9.0e")
        lines.append(line + (f"  {row['failed'][:60]}" if row.get("failed") else ""))
    return lines
