"""Inference beside decoding and encoding: threads that spin while they wait, threads that sleep, threads bound to cores."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fastloc
from embedded_model import moving_scenes
from fastloc import OnnxLocalizer
from fastloc.bench.stats import ratio_interval

Part = dict[str, Any]
THINGS = ("cat", "pizza")
SIZE = (720, 1280)
SPINNING = "session.intra_op.allow_spinning"
WAYS: dict[str, dict[str, Any]] = {
    "onnxruntime, sleeping": {"providers": "cpu", "options": {SPINNING: 0}},
    "onnxruntime, spinning": {"providers": "cpu", "options": {SPINNING: 1}},
    "OpenVINO, free": {"providers": "openvino", "options": {"ENABLE_CPU_PINNING": False}},
    "OpenVINO, bound": {"providers": "openvino", "options": {"ENABLE_CPU_PINNING": True}},
}
# the timed work, and the reference of the candidates
MEASURES = ("alone", "camera", "beside", "stream")
USUAL = "onnxruntime, sleeping"
ROUNDS, QUICK = 10, 2
CALLS, GAP, REST = 8, 0.03, 0.1


def run(folder: Path, quick: bool) -> Part:
    """Rows of each way and measure, milliseconds a frame of 720p with the embedded model, and the ratio to the usual way.

    alone: call after call. camera: with a gap before each call. beside: while one thread decodes and another encodes; `decoded` and
    `encoded` are their frames a second. stream: `fastloc.stream` over a file.
    """
    ways = {name: OnnxLocalizer(**options) for name, options in WAYS.items() if options["providers"] == "cpu" or find_spec("openvino")}
    clip = moving_scenes.clip(2, THINGS, SIZE, seconds=0.3 if quick else 1.0, noise=2.0)
    path = moving_scenes.write(clip, folder / "clip.mp4")
    frame = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    found: dict[str, dict[str, list[float]]] = {name: {key: [] for key in (*MEASURES, "decoded", "encoded")} for name in ways}
    order = list(ways)
    for _ in range(QUICK if quick else ROUNDS):
        for name in order:
            one = Bench(ways[name], path, frame, folder)
            for measure in MEASURES:
                time.sleep(REST)
                for key, value in getattr(one, measure)().items():
                    found[name][key].append(value)
        order.reverse()
    return {"size": list(SIZE), "rounds": QUICK if quick else ROUNDS, "rows": [_row(name, found) for name in ways]}


def _row(name: str, found: dict[str, dict[str, list[float]]]) -> Part:
    mine = found[name]
    ratios = {f"{key}_ratio": [round(value, 3) for value in ratio_interval(mine[key], found[USUAL][key])] for key in MEASURES}
    return {"way": name, **{f"{key}_ms": round(median(mine[key]), 1) for key in MEASURES}, **ratios,
            **{key: round(median(mine[key]), 1) for key in ("decoded", "encoded")}}  # fmt: skip


class Bench:
    """One localizer, a file, and a frame."""

    def __init__(self, localizer: OnnxLocalizer, path: Path, frame: Any, folder: Path) -> None:
        self.localizer, self.path, self.frame, self.folder = localizer, path, frame, folder
        self.texts = localizer.encode_texts(THINGS)
        self._call()

    def _call(self) -> float:
        began = time.perf_counter()
        self.localizer.predict_frame(self.frame, self.texts)
        return (time.perf_counter() - began) * 1e3

    def alone(self) -> dict[str, float]:
        return {"alone": median(self._call() for _ in range(CALLS))}

    def camera(self) -> dict[str, float]:
        spent = []
        for _ in range(CALLS):
            time.sleep(GAP)
            spent.append(self._call())
        return {"camera": median(spent)}

    def beside(self) -> dict[str, float]:
        counts = [0, 0]
        with _running(self._decode, counts), _running(self._encode, counts):
            time.sleep(GAP)
            before, began = list(counts), time.perf_counter()
            spent = [self._call() for _ in range(CALLS)]
            seconds = time.perf_counter() - began
            decoded, encoded = ((now - then) / seconds for now, then in zip(counts, before, strict=True))
        return {"beside": median(spent), "decoded": decoded, "encoded": encoded}

    def stream(self) -> dict[str, float]:
        began, count = time.perf_counter(), 0
        with fastloc.stream(self.path, THINGS, self.localizer, policy="every") as stream:
            for _ in stream:
                count += 1
        return {"stream": (time.perf_counter() - began) * 1e3 / count}

    def _decode(self, stop: threading.Event, counts: list[int]) -> None:
        import av

        while not stop.is_set():
            with av.open(str(self.path)) as container:
                for frame in container.decode(video=0):
                    frame.to_ndarray(format="rgb24")
                    counts[0] += 1
                    if stop.is_set():
                        return

    def _encode(self, stop: threading.Event, counts: list[int]) -> None:
        import av

        with av.open(str(self.folder / "encoded.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.height, stream.width = SIZE
            while not stop.is_set():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(self.frame, format="rgb24")))
                counts[1] += 1
            container.mux(stream.encode())


@contextmanager
def _running(work: Any, counts: list[int]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop, counts))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def lines(part: Part) -> list[str]:
    return [f"{row['way']:24}" + "".join(f"  {key} {row[f'{key}_ms']:6.1f} ms ({row[f'{key}_ratio'][0]:.2f})" for key in MEASURES)
            + f"  decoded {row['decoded']:.0f}/s, encoded {row['encoded']:.0f}/s" for row in part["rows"]]  # fmt: skip
