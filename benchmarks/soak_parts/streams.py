"""Streams in one process: a file that is opened again and again, a camera that one stream reads throughout, and a pipeline."""

import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fastloc
from embedded_model import moving_scenes
from fastloc.errors import FastlocError, FastlocWarning, VideoError
from soak_parts.tally import Tally
from video_parts.paced import endless, paced

__all__ = ["run"]

SIZE, RATE, FRAMES = (96, 128), 10.0, 20
TEXTS = (["cat", "pizza"], ["red car"], ["a dog", "a tree", "a ball"])


def run(tally: Tally, seconds: float, pause: float, folder: Path) -> None:
    """All three for so many seconds, each in a thread of its own."""
    warnings.simplefilter("ignore", FastlocWarning)
    clip = moving_scenes.clip(2, 2, SIZE, rate=RATE, seconds=FRAMES / RATE, stamp=True)
    film = moving_scenes.write(clip, folder / "film.mp4")
    until = time.monotonic() + seconds
    jobs: tuple[Callable[[], None], ...] = (
        lambda: _files(tally, until, pause, film),
        lambda: _camera(tally, seconds, pause, clip),
        lambda: _pipeline(tally, until, pause, list(clip.pictures())),
    )
    threads = [threading.Thread(target=_kept, args=(tally, job)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _kept(tally: Tally, job: Callable[[], None]) -> None:
    try:
        job()
    except Exception as error:
        tally.problem(f"streams: {type(error).__name__}: {error}")


def _localizer() -> fastloc.Localizer:
    return fastloc.Localizer(size=64, method="gem", device="cpu")


def _files(tally: Tally, until: float, pause: float, film: Path) -> None:
    """A stream a time over the whole file, in several ways; each third is left in the middle, closed or just dropped."""
    localizer, random, number = _localizer(), np.random.default_rng(1), 0
    while time.monotonic() < until:
        number += 1
        more = {"every": int(random.integers(1, 4)), "batch": int(random.choice([1, 3])), "smooth": float(random.choice([0.0, 0.5]))}
        stream = fastloc.stream(film, TEXTS[number % len(TEXTS)], localizer, policy="every", **more)
        leave = int(random.integers(1, FRAMES)) if number % 3 == 0 else None
        for seen, found in enumerate(stream, 1):
            if found.index != seen - 1:
                tally.problem(f"file: frame {seen - 1} has the index {found.index}")
            tally.add("frames of files")
            time.sleep(pause)
            if seen == leave or time.monotonic() > until:
                break
        else:
            if seen != FRAMES:
                tally.problem(f"file: {seen} frames came of {FRAMES}")
        if number % 2:
            stream.close()
        del stream
        tally.add("files")
        if number % 5 == 0:
            _refused(tally, film.with_name("no such film.mp4"), localizer)


def _refused(tally: Tally, path: Path, localizer: fastloc.Localizer) -> None:
    try:
        fastloc.stream(path, "cat", localizer)
    except VideoError:
        tally.add("files refused")
    else:
        tally.problem(f"{path.name} was opened")


def _camera(tally: Tally, seconds: float, pause: float, clip: moving_scenes.Clip) -> None:
    """One live stream all the time, with other texts every now and then."""
    pictures = paced(endless(clip.pictures), RATE, seconds)
    last = -1
    with fastloc.stream(pictures, TEXTS[0], _localizer(), live=True) as stream:
        for number, found in enumerate(stream):
            if found.index <= last:
                tally.problem(f"camera: frame {found.index} came after {last}")
            if moving_scenes.stamped(found.frame.rgb) != found.index % len(clip):
                tally.problem(f"camera: frame {found.index} is another one")
            last = found.index
            tally.add("frames of the camera")
            time.sleep(pause)
            if number % 40 == 39:
                stream.set_texts(TEXTS[number // 40 % len(TEXTS)])
        counters = stream.counters
    if counters.captured != counters.delivered + counters.dropped + counters.corrupt:
        tally.problem(f"camera: {counters.captured} captured, {counters.delivered} delivered, {counters.dropped} dropped")


def _pipeline(tally: Tally, until: float, pause: float, frames: list[np.ndarray]) -> None:
    """Pipelines of both policies, a few hundred frames each, some handles never asked."""
    localizer, random, number = _localizer(), np.random.default_rng(2), 0
    while time.monotonic() < until:
        number += 1
        policy = ("newest", "every")[number % 2]
        with fastloc.Pipeline(TEXTS[number % len(TEXTS)], localizer, policy=policy) as pipeline:
            handles = []
            for _ in range(100):
                if time.monotonic() > until:
                    break
                handles.append(pipeline.submit(frames[int(random.integers(len(frames)))]))
                time.sleep(max(pause, 0.05))
                if random.random() < 0.5:
                    _asked(tally, handles.pop(), policy)
                if random.random() < 0.02:
                    pipeline.set_texts(TEXTS[int(random.integers(len(TEXTS)))])
        tally.add("pipelines")


def _asked(tally: Tally, handle: object, policy: str) -> None:
    try:
        handle.result(60)  # type: ignore[attr-defined]
        tally.add("frames of pipelines")
    except FastlocError as error:
        if policy == "every":
            tally.problem(f"pipeline: {error}")
        tally.add("frames replaced")
