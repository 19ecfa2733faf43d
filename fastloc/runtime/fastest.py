"""The fastest way to run a file on this machine, found by about a second of calls: each runtime that is installed, and the threads.

Every way computes in the precision that the file has. Runtimes are measured with all processors of the process, and the fastest of them
with half as many, in turns, so that another process that comes or goes slows all alike. The usual way stands unless another takes a tenth
less: smaller differences come and go.
"""

from __future__ import annotations

import datetime
import importlib.util
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError
from fastloc.imaging.geometry import both_sides
from fastloc.onnx_file.golden import picture, unit_texts
from fastloc.onnx_file.header import Header, read
from fastloc.onnx_file.manifest import Manifest
from fastloc.runtime.choice import FORMAT, Choice, Timed, keep, kept, key_of, versions
from fastloc.runtime.placement import Placement
from fastloc.runtime.providers import OPENVINO, PROVIDERS, available, runtime
from fastloc.utils.hardware import cpu, processors

__all__ = ["FASTEST", "Session", "fastest"]

FASTEST = "fastest"
# seconds of the calls of a race, and calls of each that there are at least, after one that warms up
SECONDS, LEAST = 0.5, 3
# texts of a call to a file that takes any number
TEXTS = 4
# the share of the usual way's time that another must stay below
MARGIN = 0.9


class Session(Protocol):
    """A loaded file. `names`: the providers that run it. `recorded`: True where `placement` has each node. `choice`: the measurement that
    chose it, None where you did."""

    header: Header
    manifest: Manifest
    choice: Choice | None

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def recorded(self) -> bool: ...

    def device(self) -> str: ...

    def versions(self) -> dict[str, str]: ...

    def placement(self) -> Placement: ...

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]: ...

    def compile(self, path: str | os.PathLike[str]) -> Path: ...


# loads the file on a provider with a number of threads
Load = Callable[[str, int | None], Session]
Way = tuple[str, int | None]


def fastest(path: str | os.PathLike[str], load: Load, threads: int | None = None) -> Session:
    """The session of the fastest way, with its `choice`: an earlier one of this file on this machine, or measured now, and kept.

    threads: of the CPU, where you choose them.

    Raises the error of the first way where none can run the file.
    """
    header = read(path)
    key = key_of(header, threads)
    if (before := kept(key)) is not None:
        session = load(before.fastest.provider, before.fastest.threads)
        session.choice = before
        return session
    # the first way is the one that "auto" takes on a CPU: its error is the file's
    ways: list[Way] = [(name, threads or processors()) for name in _providers()]
    raced, sessions = _race(ways, load)
    best = raced[0]
    if threads is None and best.threads is not None and best.threads > 1:
        half, sessions = _race([(best.provider, best.threads), (best.provider, best.threads // 2)], load, sessions)
        raced = [*half, *raced[1:]]
    chosen = sessions[raced[0].provider, raced[0].threads]
    manifest = header.manifest()
    model = f"{manifest.recipe.name} of {manifest.model.name}, {manifest.dtype}"
    chosen.choice = Choice(FORMAT, key, model, cpu(), versions(), datetime.date.today().isoformat(), tuple(raced))
    keep(chosen.choice)
    return chosen


def _providers() -> list[str]:
    """The providers to measure, the one that "auto" takes on a CPU first."""
    there = available(runtime())
    found = ["cpu", *(name for name in ("cuda",) if PROVIDERS[name].ort in there)]
    return [*found, *([OPENVINO] if importlib.util.find_spec("openvino") is not None else [])]


def _race(ways: list[Way], load: Load, loaded: Mapping[Way, Session] | None = None) -> tuple[list[Timed], dict[Way, Session]]:
    """The candidates, the chosen one first, those that cannot run the file last; and the session of the chosen one alone.

    The first way is the usual one, see MARGIN.
    """
    sessions: dict[Way, Session] = {}
    failed: list[Timed] = []
    errors: list[FastlocError] = []
    for way in ways:
        try:
            session = (loaded or {}).get(way) or load(*way)
            feeds = _feeds(session.manifest)
            session.run(feeds)
            sessions[way] = session
        except FastlocError as error:
            errors.append(error)
            failed.append(Timed(*way, reason=str(error)))
    if not sessions:
        raise errors[0]
    times: dict[Way, list[float]] = {way: [] for way in sessions}
    began, order = time.perf_counter(), list(sessions)
    while min(map(len, times.values())) < LEAST or time.perf_counter() - began < SECONDS:
        for way in order:
            start = time.perf_counter()
            sessions[way].run(feeds)
            times[way].append((time.perf_counter() - start) * 1e3)
        order.reverse()
    medians = {way: median(each) * (1.0 if way == ways[0] else 1 / MARGIN) for way, each in times.items()}
    ranked = sorted(times, key=lambda way: medians[way])
    raced = [Timed(*way, ms=round(median(times[way]), 3), calls=len(times[way])) for way in ranked]
    return [*raced, *failed], {ranked[0]: sessions[ranked[0]]}


def _feeds(manifest: Manifest) -> dict[str, NDArray[Any]]:
    """One call's inputs: a picture of the usual size."""
    given = manifest.input
    size = given.frame or given.size or both_sides(given.usual)
    shown = np.stack([picture(seed, (size[0], size[1])) for seed in range(given.batch or 1)])
    feeds: dict[str, NDArray[Any]] = {given.name: given.laid_out(shown, manifest.model)}
    if not manifest.texts.baked:
        feeds["text_embeddings"] = unit_texts(0, manifest.texts.count or TEXTS, manifest.model.embed)
    return feeds
