"""The cost of a frame around the model: every stage alone, and the stream beside the model alone, in turns.

    stages    milliseconds a frame, each on its own in one thread: `decode` h264, `convert` to RGB, which reduced frames do not need,
              `locate` (resize and model), `draw` the heat, `encode` h264; and of what a caller may ask: `read` (heatmaps at the frame's
              size, their peaks and boxes)
    rounds    the same frames by `model` (a loop over pixels that are there already), `stream` (a file decoded, converted and located, and
              nothing done with what is found) and `video` (drawn and encoded as well), one after the other, again and again
    over      time of a frame over that of the model alone, of the same round
    overlap   time of a frame over that of the thread that has most to do, by its stages: 1 is all that threads can give; processors that
              the model keeps busy can do nothing beside it
    handed over    microseconds a frame through threads and queues, with a model that takes no time

Files and models are made here; the ViT has random weights, which cost the same as trained ones.
"""

import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import fastloc
from embedded_model import moving_scenes
from fastloc.video.locator import Locator
from fastloc.video.sources.frame import Frame
from video_parts.paced import Nothing

Row = dict[str, Any]
THINGS = ("cat", "pizza")
SIZES = {"720p": (720, 1280), "1080p": (1080, 1920)}
QUICK = {"tiny": (96, 128)}
# frames of a file, those of which pixels are kept, and those with which handing over is timed
FRAMES, KEPT, MANY = 90, 16, 4000
ROUNDS = 15


def run(quick: bool = False, seconds: float = 600.0) -> dict[str, Any]:
    """A row of stages and rounds for every size and model, in about so many seconds; and what is handed over costs."""
    rows: list[Row] = []
    sizes, cases = (QUICK, CASES[:1]) if quick else (SIZES, CASES)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        models = {name: MODELS[name](folder) for name in dict.fromkeys(name for name, _ in cases)}
        share = seconds / len(cases) / len(sizes)
        for label, size in sizes.items():
            clip = moving_scenes.clip(2, THINGS, size, seconds=(KEPT if quick else FRAMES) / 30, noise=2.0)
            path = moving_scenes.write(clip, folder / f"{label}.mp4")
            for name, decode in cases:
                measured = Bench(path, models[name], decode).row(0 if quick else share)
                rows.append({"size": label, "model": name if decode == "full" else f"{name}, {decode}", **measured})
                print("\n".join(lines({"rows": rows[-1:]})), flush=True)
    return {"texts": len(THINGS), "rows": rows, "handed_over": handed_over(200 if quick else MANY)}


def _embedded(_: Path) -> Any:
    from fastloc.engine.localizer import Localizer

    return Localizer()


def _embedded_onnx(_: Path) -> Any:
    from fastloc.runtime.localizer import OnnxLocalizer

    return OnnxLocalizer()


def _vit(_: Path) -> Any:
    from fastloc.engine.localizer import Localizer

    return Localizer("ViT-B-16", "random", size=(448, 448))


def _vit_onnx(folder: Path) -> Any:
    from fastloc.export.options import Options
    from fastloc.export.to_onnx import export
    from fastloc.runtime.localizer import OnnxLocalizer

    export(_vit(folder), folder / "vit.onnx", Options(texts=THINGS))
    return OnnxLocalizer(folder / "vit.onnx")


MODELS: dict[str, Callable[[Path], Any]] = {
    "embedded, torch": _embedded, "embedded, onnxruntime": _embedded_onnx, "ViT-B/16 448 px, torch": _vit,
    "ViT-B/16 448 px, onnxruntime": _vit_onnx,
}  # fmt: skip


# a model, and how frames are decoded for it
CASES = (*((name, "full") for name in MODELS), ("embedded, onnxruntime", "reduced"), ("ViT-B/16 448 px, onnxruntime", "reduced"))


class Bench:
    """One file, one model, and how its frames are decoded."""

    def __init__(self, path: Path, localizer: Any, decode: str = "full") -> None:
        self.path, self.localizer, self.decode, self.locator = path, localizer, decode, Locator(localizer, decode)
        self.prompts = self.locator.prepare(THINGS)
        self.kept = list(itertools.islice(_frames(path), KEPT))

    def row(self, seconds: float) -> Row:
        """Stages, and rounds within so many seconds, three at least."""
        began = time.perf_counter()
        stages = self.stages()
        # of a slow model few frames are enough
        count = max(KEPT // 2, min(FRAMES, int(seconds / 30 / (stages["locate"] / 1000))))
        ways = {"model": self.model, "stream": self.stream, "video": self.video}
        times: dict[str, list[float]] = defaultdict(list)
        while len(times["video"]) < 3 or (time.perf_counter() - began < seconds and len(times["video"]) < ROUNDS):
            for name, way in ways.items():
                times[name].append(_each(way(count)))
        return {"frames": count, "rounds": len(times["video"]), **{f"{name}_alone_ms": ms for name, ms in stages.items()},
                **_compared(times, stages)}  # fmt: skip

    def stages(self) -> dict[str, float]:
        """Milliseconds a frame of each stage alone: the median of the kept frames, of decoding the mean of the file's."""
        from fastloc.video.output.drawing import Drawer

        drawer, times, found = Drawer(), {"decode": _each(_frames(self.path))}, []
        times["convert"] = _median(lambda frame: frame.rgb, self.kept) if self.locator.reads_pixels(self.kept[0]) else 0.0
        # the first call takes its time
        self.locator.locate(self.kept[0], self.prompts)
        some = self.kept[: KEPT // 2]
        times["locate"] = _median(lambda frame: found.append(self.locator.locate(frame, self.prompts)), some)
        results = [located.result(Image.fromarray(frame.rgb)) for located, frame in zip(found, some, strict=True)]
        drawn: list[Any] = []
        times["draw"] = _median(lambda pair: drawn.append(drawer.on(pair[0], pair[1])), list(zip(some, results, strict=True)))
        times["read"] = _median(lambda result: result.to_dict(), results)
        with self._writer() as writer:
            times["encode"] = _each(writer.write(pixels) for pixels in itertools.islice(itertools.cycle(drawn), 2 * KEPT))
        return times

    def model(self, count: int) -> Iterator[Any]:
        return (self.locator.locate(frame, self.prompts) for frame in itertools.islice(itertools.cycle(self.kept), count))

    def stream(self, count: int) -> Iterator[Any]:
        with fastloc.stream(self.path, THINGS, self.localizer, policy="every", decode=self.decode) as stream:
            yield from itertools.islice(stream, count)

    def video(self, count: int) -> Iterator[Any]:
        from fastloc.video.output.drawing import Drawer

        drawer = Drawer()
        with self._writer() as writer:
            for found in self.stream(count):
                yield writer.write(drawer.on(found.frame, found.result), found.frame.pts)

    def _writer(self) -> Any:
        from fastloc.video.output.writer import VideoWriter

        return VideoWriter(self.path.with_name("out.mp4"), time_base=self.kept[0].time_base, force=True)


def _frames(path: Path) -> Iterator[Frame]:
    from fastloc.video.sources.open_source import open_source

    source = open_source(path)
    try:
        yield from source.frames()
    finally:
        source.close()


def _each(work: Iterable[Any]) -> float:
    """Milliseconds from one of these to the next: without what comes before the first, and after the last, when a stream that is closed
    waits for the frame under way."""
    moments = []
    for _ in work:
        moments.append(time.perf_counter())
    return 1000 * (moments[-1] - moments[0]) / max(len(moments) - 1, 1)


def _median(work: Callable[[Any], Any], items: Iterable[Any]) -> float:
    times = []
    for item in items:
        began = time.perf_counter()
        work(item)
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))


def _compared(times: dict[str, list[float]], stages: dict[str, float]) -> Row:
    """Medians and spreads of what was measured in turns."""
    fields: Row = {}
    for name, ms in times.items():
        over = np.divide(ms, times["model"])
        fields |= {f"{name}_ms": float(np.median(ms)), f"{name}_ms_p20": float(np.quantile(ms, 0.2)),
                   f"{name}_ms_p80": float(np.quantile(ms, 0.8)), f"{name}_fps": 1000 / float(np.median(ms))}  # fmt: skip
        if name != "model":
            fields |= {f"{name}_over": float(np.median(over)), f"{name}_over_p20": float(np.quantile(over, 0.2)),
                       f"{name}_over_p80": float(np.quantile(over, 0.8))}  # fmt: skip
    threads = {"stream": [("decode", "convert"), ("locate",)], "video": [("decode", "convert"), ("locate",), ("draw", "encode")]}
    for name, each in threads.items():
        fields[f"{name}_overlap"] = fields[f"{name}_ms"] / max(sum(stages[stage] for stage in thread) for thread in each)
    return fields


def handed_over(count: int) -> Row:
    """Microseconds a frame: a stream of frames in memory, and frames that are handed in and waited for one by one."""
    pixels = np.zeros((*SIZES["720p"], 3), np.uint8)
    engine = Nothing()
    alone = _each(engine.predict_frame(pixels, THINGS) for _ in range(count))
    with fastloc.stream(itertools.repeat(pixels, count), THINGS, engine, live=False) as stream:
        pulled = _each(stream)
    with fastloc.Pipeline(THINGS, engine, policy="every") as pipeline:
        pushed = _each(pipeline.submit(pixels).result() for _ in range(count))
    return {"frames": count, "engine_us": 1000 * alone, "stream_us": 1000 * pulled, "pipeline_us": 1000 * pushed}


def lines(part: dict[str, Any]) -> list[str]:
    lines = []
    for row in part["rows"]:
        stages = ", ".join(f"{name} {row[f'{name}_alone_ms']:.2f}" for name in ("decode", "convert", "locate", "draw", "encode", "read"))
        lines.append(f"{row['size']}, {row['model']}: ms a frame {stages}")
        lines.append(f"  model {row['model_fps']:.1f} frames/s")
        for name in ("stream", "video"):
            over = f"{row[f'{name}_over']:.3f} times the model ({row[f'{name}_over_p20']:.3f} … {row[f'{name}_over_p80']:.3f})"
            lines.append(f"  {name} {row[f'{name}_fps']:.1f} frames/s, {over}, {row[f'{name}_overlap']:.2f} times its busiest thread")
    if "handed_over" in part:
        row = part["handed_over"]
        lines.append(f"handed over: {row['stream_us']:.0f} µs a frame by a stream, {row['pipeline_us']:.0f} by submit and result, "
                     f"{row['engine_us']:.0f} of them the model that does nothing")  # fmt: skip
    return lines
