"""Frames, arrays, weights and results go with the last reference to them, and do not wait for the collector of cycles: it counts objects,
not their bytes, and a cycle with a frame of 3 MB or a model of 2 GB is a few objects to it."""

import gc
import itertools
import re
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastloc
import resnet_towers
from clips import colours, write_clip
from fastloc.engine.resnet_engine import ResNetEngine, ResNetTower
from fastloc.errors import FastlocError
from fastloc.recipes import RECIPES
from fastloc.runtime.localizer import OnnxLocalizer
from fastloc.utils.lru_cache import remembered
from fastloc.video.pipeline import FrameDropped

PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
# rooms of what may be large
LARGE = ("fastloc.", "torch", "av.", "numpy", "PIL.", "onnxruntime")


def in_cycles(work: Callable[[], object]) -> Counter[str]:
    """The kinds of large objects that only the collector frees after the work, which is done once before: it fills caches."""
    work()
    before = set(threading.enumerate())
    gc.collect()
    # what is there by now is in no cycle of the work; its half a million objects take long to look at
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.garbage.clear()
        work()
        # threads that nobody waits for end by themselves
        until = time.monotonic() + 10
        while set(threading.enumerate()) - before and time.monotonic() < until:
            time.sleep(0.01)
        gc.collect()
        kinds = [f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage]
        return Counter(kind for kind in kinds if kind.startswith(LARGE))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.fixture(scope="module")
def localizer() -> fastloc.Localizer:
    return fastloc.Localizer(size=64, method="gem", device="cpu")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("film") / "film.mp4", colours(12))


def test_a_cycle_is_found() -> None:
    class Holding:
        def __init__(self) -> None:
            self.array, self.self = [PICTURE.copy()], self

    Holding.__module__ = "fastloc.somewhere"
    assert in_cycles(Holding) == {"fastloc.somewhere.test_a_cycle_is_found.<locals>.Holding": 1}


def read(film: Path, localizer: Any, leave: int | None = None, close: bool = True, **settings: Any) -> None:
    stream = fastloc.stream(film, ["cat", "dog"], localizer, policy="every", **settings)
    for found in itertools.islice(stream, leave):
        _ = found.frame.rgb, found.frame.planes, found.result.points()
    if close:
        stream.close()


@pytest.mark.slow("a clip is read twice in each way", quick=2)
@pytest.mark.parametrize(
    "settings", [{}, {"close": False}, {"leave": 5}, {"leave": 5, "close": False}, {"batch": 3}, {"smooth": 0.5, "every": 2}], ids=repr
)
def test_frames_of_a_file(film: Path, localizer: fastloc.Localizer, settings: dict[str, Any]) -> None:
    assert not in_cycles(lambda: read(film, localizer, **settings))


def test_frames_of_a_camera_whose_texts_change(localizer: fastloc.Localizer) -> None:
    def look() -> None:
        with fastloc.stream(iter([PICTURE] * 12), ["cat"], localizer, live=True) as stream:
            for number, _ in enumerate(stream):
                if number == 1:
                    stream.set_texts(["dog"])

    assert not in_cycles(look)


@pytest.mark.parametrize("policy", ["newest", "every"])
def test_frames_that_are_handed_in(localizer: fastloc.Localizer, policy: str) -> None:
    def push() -> None:
        with fastloc.Pipeline(["cat"], localizer, policy=policy) as pipeline:
            handles = [pipeline.submit(PICTURE) for _ in range(12)]
            for handle in handles[::2]:
                with suppress(FrameDropped):
                    handle.result(60)

    assert not in_cycles(push)


@pytest.mark.parametrize("model", ["embedded", "embedded-device"])
def test_models(model: str) -> None:
    """Each with what it keeps of a shape."""
    assert not in_cycles(lambda: fastloc.Localizer(model, size=64, device="cpu", method="itsm")(PICTURE, ["cat", "dog"]))


def test_a_resnet() -> None:
    def run() -> None:
        engine = ResNetEngine(ResNetTower(resnet_towers.tower(), torch.device("cpu"), "float64"), RECIPES["itsm"], {"dtype": "float64"})
        engine(resnet_towers.pixels(1, (2, 3)), resnet_towers.texts(2))

    assert not in_cycles(run)


@pytest.mark.slow("a model and two passes each", quick=1)
@pytest.mark.parametrize("method", ["gem", "grad_cam", "bi_modal", "rollout", "legrad", "cliper"])
def test_methods(method: str) -> None:
    assert not in_cycles(lambda: fastloc.Localizer(size=64, device="cpu", method=method)(PICTURE, ["cat", "dog"]))


def test_a_checked_model_and_one_that_is_exported() -> None:
    assert not in_cycles(lambda: fastloc.Localizer(size=64, device="cpu", self_check=1.0)(PICTURE, ["cat"]))
    assert not in_cycles(lambda: OnnxLocalizer()(PICTURE, ["cat"]))


def test_results_and_their_pictures(localizer: fastloc.Localizer) -> None:
    def answers() -> None:
        found = localizer(PICTURE, ["cat", "dog"])
        _ = found.points(), found.boxes(), found.heatmaps, found.overlay(), found.to_dict()
        localizer.submit(PICTURE, ["cat"]).result()
        with suppress(FastlocError):
            localizer(PICTURE, [])

    assert not in_cycles(answers)


def test_methods_are_remembered_without_their_object() -> None:
    kept = re.compile(r"self\.\w+ *=.*cache(?:\(.*?\))?\((?:partial\()?self\.")
    assert kept.search("self.plan = lru_cache(maxsize=SHAPES)(self._plan)") and kept.search("self.plan = cache(self._plan)")
    files = sorted(Path(fastloc.__file__).parent.rglob("*.py"))
    assert len(files) > 300 and not [str(file) for file in files if kept.search(file.read_text(encoding="utf-8"))]


def test_a_remembered_method() -> None:
    class Asked:
        def __init__(self) -> None:
            self.asked: list[int] = []
            self.twice = remembered(self._twice, 2)

        def _twice(self, number: int) -> int:
            self.asked.append(number)
            return 2 * number

    asked = Asked()
    assert [asked.twice(number) for number in (1, 1, 2, 3, 1)] == [2, 2, 4, 6, 2] and asked.asked == [1, 2, 3, 1]
    twice, gone = asked.twice, weakref.ref(asked)
    del asked
    assert gone() is None
    with pytest.raises(ReferenceError, match="gone"):
        twice(4)
