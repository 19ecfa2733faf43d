"""Camera frames: from the host and from the device, to grids and to maps; latencies by the clock, with the host's part in them."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastloc.imaging.geometry import Geometry, fit
from fastloc.recipes import RECIPES
from gpu_parts import models, timing
from gpu_parts.job import Job, Row
from gpu_parts.parity_io import noise
from gpu_parts.speed import number

FRAMES = {"1080p": (1080, 1920), "4K": (2160, 3840)}
QUICK = {"tiny": (24, 40)}
KEPT = 4
# frames of a sample where two are under way
TWENTY = 20


def run(job: Job) -> None:
    job.rows.clear()
    models.strict()
    small = job.quick or not job.cuda
    settings, why = models.fallback(job)
    for label, frame in (QUICK if small else FRAMES).items():
        for batch in (1,) if small else (1, 8, 32) if label == "1080p" else (1,):
            if not job.late(f"{label} b{batch}", need=3.0 if job.cuda else 0.0):
                problem = timing.attempt(lambda: _size(job, label, frame, batch, settings, why, small), job.device)  # noqa: B023
                if problem:
                    job.row(frame=label, batch=batch, what="all", ms=None, failed=problem)


def _size(job: Job, label: str, frame: tuple[int, int], batch: int, settings: dict[str, str], why: str, small: bool) -> None:
    from fastloc.engine.vit_engine import Engine

    name, dtype = ("tiny", "float32") if small else ("B/16", "float16")
    geometry = fit(frame, 32 if small else 448, models.seeded(name).spec.patch)
    # a CPU's plan would have Pillow resize
    chosen = {**settings, "dtype": dtype} if job.cuda else {"dtype": dtype, "frames": "torch"}
    engine = Engine(models.tower(name, job.device, dtype), RECIPES["gem"], chosen)
    words = models.texts(name, job.device)
    here = [noise(frame, 1, seed) for seed in range(KEPT)]
    # a batch of one picture: what is in it makes no difference
    there = [each.to(job.device).repeat(batch, 1, 1, 1) for each in here]
    for each in there[:3]:
        engine(each, words, geometry=geometry)
    head = {"frame": label, "batch": batch, "plan": models.brief(engine.plan(batch, geometry.input)), **({"fallback": why} if why else {}),
            "picture": list(frame), "model": name, "input": list(geometry.input), "dtype": dtype}  # fmt: skip
    seconds = 0.05 if small else 1.0

    def add(measured: str, ms: list[float], inner: int = 1, **more: Any) -> None:
        row = job.row(what=measured, **head, **timing.spread(ms, inner), **more)
        print(f"{label} b{batch} {measured}: {row['ms']:.3f} ms, p99 {row['ms_p99']:.3f}")

    device_call: timing.Call = lambda i: engine(there[i % KEPT], words, geometry=geometry)[0]  # noqa: E731
    contender = timing.warmed(device_call, job.device)
    timing.rounds({"": contender}, job.device, seconds, most=200)
    error = _error(job, name, engine, there[0], geometry, words)
    add("device frame to grid, back to back", contender.ms, contender.inner, working_mb=contender.working_mb, error=error)

    def waited(i: int) -> None:
        device_call(i)
        timing.wait(job.device)

    add("device frame to grid, one at a time", _latencies(waited, seconds))
    if batch > 1:
        return
    grids = device_call(0)
    for measured, call in _maps(grids, geometry, settings).items():
        drawn = timing.warmed(call, job.device)
        if drawn.error:
            job.row(what=measured, **head, ms=None, failed=drawn.error)
            continue
        timing.rounds({"": drawn}, job.device, seconds / 2, most=100)
        add(measured, drawn.ms, drawn.inner, working_mb=drawn.working_mb)
    if job.cuda:
        whole = {**head, "plan": models.brief(_eager(engine).plan(batch, geometry.input))}
        _whole_step(job, whole, engine, there, geometry, words, fused=settings.get("readout") != "torch")
        grid_of = lambda pixels: engine(pixels, words, geometry=geometry)[0]  # noqa: E731
        add("host frame to grid on the host", _latencies(_through(job.device, here, grid_of), 2 * seconds))
        add("a frame of many, two lanes", _streamed(job.device, here, grid_of, 2 * seconds), inner=TWENTY)


def _whole_step(job: Job, head: Row, engine: Any, frames: list[Tensor], geometry: Geometry, words: Tensor, fused: bool) -> None:
    """A step of a stream, frame in and uint8 heatmaps out: one graph of all of it, beside the engine's graph and the kernels after it."""
    from fastloc.engine.cuda_graphs import Captured
    from fastloc.engine.device_heatmaps import heatmaps

    @torch.inference_mode()
    def step(run: Any, frame: Tensor) -> tuple[Tensor]:
        return (heatmaps(run(frame, words, geometry=geometry)[0], geometry, dtype=torch.uint8, fused=fused),)

    made: list[Any] = []
    eager = _eager(engine)
    problem = timing.attempt(lambda: made.append(Captured(lambda frame: step(eager, frame), (frames[0],), None)), job.device)
    apart = [int((one(frame)[0] != step(engine, frame)[0]).sum()) for one in made for frame in frames]
    if problem or any(apart):
        failed = problem or f"{max(apart)} bytes of a heatmap are not those of the steps one by one"
        job.row(what="frame to uint8 heatmaps, one graph", **head, ms=None, failed=failed)
        return
    both = {
        "frame to uint8 heatmaps, one graph": timing.warmed(lambda i: made[0](frames[i % KEPT]), job.device),
        "frame to uint8 heatmaps, a graph and its read-out": timing.warmed(lambda i: step(engine, frames[i % KEPT]), job.device),
    }
    timing.rounds(both, job.device, 0.05 if job.quick else 1.5, most=200)
    for what, each in both.items():
        row = job.row(what=what, **head, **timing.fields(each))
        print(f"{head['frame']} b1 {what}: {number(row['ms'], '.3f')} ms")


def _eager(engine: Any) -> Any:
    """The same engine without a graph of its own, to be captured whole."""
    from fastloc.engine.vit_engine import Engine

    return Engine(engine.tower, engine.recipe, {**engine.settings, "launch": "eager"})


def _error(job: Job, name: str, engine: Any, frame: Tensor, geometry: Geometry, words: Tensor) -> float | None:
    """Error of the first frame's grids, against prepared pixels in float64."""
    from PIL import Image

    from fastloc.imaging.preprocess import prepare

    spec = models.seeded(name).spec
    pixels = torch.from_numpy(prepare(Image.fromarray(frame[0].cpu().numpy()), geometry, spec.mean, spec.std))[None].to(job.device)
    found: list[float] = []

    def work() -> None:
        with torch.no_grad():
            expected = models.exact(models.exact_weights(name, job.device), pixels, words, RECIPES["gem"])
            found.append(models.off(engine(frame, words, geometry=geometry)[0][:1], expected))

    timing.attempt(work, job.device)
    return found[0] if found else None


def _maps(grids: Tensor, geometry: Geometry, settings: dict[str, str]) -> dict[str, timing.Call]:
    from fastloc.engine.device_heatmaps import heatmaps, labels

    fused = settings.get("readout") != "torch"
    return {
        "heatmaps uint8, fused": lambda i: heatmaps(grids, geometry, dtype=torch.uint8, fused=fused),
        "heatmaps uint8, torch": lambda i: heatmaps(grids, geometry, dtype=torch.uint8),
        "labels, fused": lambda i: labels(grids, geometry, fused=fused),
        "labels, torch": lambda i: labels(grids, geometry),
    }


def _latencies(call: Callable[[int], Any], seconds: float, least: int = 5, most: int = 2000) -> list[float]:
    """Milliseconds by the clock of calls that wait for their result, after a few that are not counted."""
    ms: list[float] = []
    ends = time.perf_counter() + seconds
    while len(ms) < least + 3 or (time.perf_counter() < ends and len(ms) < most):
        began = time.perf_counter()
        call(len(ms))
        ms.append((time.perf_counter() - began) * 1000)
    return ms[3:]


def _through(device: torch.device, frames: list[Tensor], engine: Callable[[Tensor], Tensor]) -> Callable[[int], Any]:
    """One frame from a host array through a pinned buffer to the device, and its grids back."""
    from fastloc.engine.async_queue import StagingBuffers

    lane, arrays = StagingBuffers(device), [each[0].numpy() for each in frames]

    def call(i: int) -> Any:
        lane.download(engine(lane.upload(arrays[i % len(arrays)])[None])).synchronize()
        return lane.downloaded()

    return call


def _streamed(device: torch.device, frames: list[Tensor], engine: Callable[[Tensor], Tensor], seconds: float) -> list[float]:
    """Milliseconds a frame when two are under way, as `Localizer.submit` has it; a sample is twenty frames."""
    from fastloc.engine.async_queue import StagingBuffers

    lanes, arrays, events = [StagingBuffers(device), StagingBuffers(device)], [each[0].numpy() for each in frames], list[Any]([None, None])

    def twenty(_: int) -> None:
        for i in range(TWENTY):
            if events[i % 2] is not None:
                events[i % 2].synchronize()
                lanes[i % 2].downloaded()
            events[i % 2] = lanes[i % 2].download(engine(lanes[i % 2].upload(arrays[i % len(arrays)])[None]))

    return [each / TWENTY for each in _latencies(twenty, seconds)]


def lines(record: Row) -> list[str]:
    lines = [f"{'ms':50}{'p50':>9}{'p99':>9}{'MB':>8}"]
    for row in record["rows"]:
        line = f"{row['frame']} b{row['batch']} {row['what']:42}" + number(row["ms"], "9.3f") + number(row.get("ms_p99"), "9.3f")
        lines.append(line + number(row.get("working_mb"), "8.0f") + (f"  {row['failed'][:60]}" if row.get("failed") else ""))
    return lines
