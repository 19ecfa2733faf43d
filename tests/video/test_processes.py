"""Pipelines and streams in a forked child, and what can be sent to another process."""

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloc import Pipeline, stream
from fastloc.errors import VideoError
from fastloc.imaging.geometry import fit
from fastloc.results.result import Result
from fastloc.video.counters import Counters
from fastloc.video.pipeline import FrameDropped
from fastloc.video.sources.frame import Frame
from forked import forked, needs_fork

FRAME = np.zeros((8, 8, 3), np.uint8)


class StandIn:
    """Stand-in for a localizer: waits until it may answer."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()

    def __call__(self, picture: Image.Image, texts: list[str]) -> Result:
        self.go.wait()
        similarity = np.linspace(0, 1, 4 * len(texts), dtype=np.float32).reshape(-1, 2, 2)
        return Result(picture=picture, texts=tuple(texts), similarity=similarity, geometry=fit((8, 8), 8, 4), order="picture")

    def __reduce__(self) -> Any:
        return StandIn, ()


@needs_fork
def test_a_pipeline_goes_on_in_a_child_and_what_waits_is_the_parents() -> None:
    engine = StandIn()
    with Pipeline(["cat"], engine, policy="every") as pipeline:
        pipeline.submit(FRAME).result(10)
        engine.go.clear()
        handle = pipeline.submit(FRAME)

        def there() -> tuple[tuple[str, ...], bool, tuple[str, ...]]:
            engine.go = threading.Event()
            engine.go.set()
            found = pipeline.submit(FRAME).result(10).texts
            notes = pipeline.set_texts(["pizza"]).result(10)
            pipeline.close()
            return found, handle.dropped, notes

        assert forked(there) == (("cat",), True, ("pizza",))
        with pytest.raises(FrameDropped, match=r"handed in before fork\(\)"):
            forked(handle.result)
        engine.go.set()
        assert handle.result(10).texts == ("cat",)


@needs_fork
def test_a_pipeline_that_was_closed_is_so_in_a_child() -> None:
    pipeline = Pipeline(["cat"], StandIn())
    pipeline.close()
    assert forked(lambda: pipeline.submit(FRAME).dropped)


@needs_fork
@pytest.mark.parametrize("begun", [False, True])
def test_a_stream_belongs_to_the_process_that_opened_it(begun: bool) -> None:
    with stream([FRAME] * 3, ["cat"], StandIn()) as frames:
        if begun:
            next(frames)
        with pytest.raises(VideoError, match=r"frames: was opened before fork\(\); open it in the process that reads it"):
            forked(lambda: next(frames))
        assert forked(frames.close) is None
        assert len(list(frames)) == (2 if begun else 3), "a child that closes it ends nothing here"


@needs_fork
def test_counts_and_frames_whose_locks_were_held() -> None:
    counters, frame = Counters(), Frame(0, 0.0, 0.0, (8, 8), lambda: FRAME)
    with counters._lock, frame._lock:
        assert forked(lambda: (counters.add("located"), counters.located, frame.rgb.shape), patience=5) == (None, 1, (8, 8, 3))


def test_a_pipeline_pickles_with_its_texts_of_now() -> None:
    with Pipeline(["cat"], StandIn(), every=2, policy="every") as pipeline:
        pipeline.set_texts(["pizza"]).result(10)
        with pickle.loads(pickle.dumps(pipeline)) as other:
            assert other.texts == ("pizza",) and other._worker.every == 2
            assert other.submit(FRAME).result(10).texts == ("pizza",)
            assert pipeline.counters.captured == 0


def test_results_of_a_stream_pickle_with_their_pixels() -> None:
    with stream([FRAME + 7], ["cat"], StandIn()) as frames:
        (here,) = list(frames)
    for there in (pickle.loads(pickle.dumps(here)), copy.deepcopy(here)):
        assert np.array_equal(there.frame.rgb, here.frame.rgb) and there.index == here.index and there.age == here.age
        assert there.result.points() == here.result.points()
    assert pickle.loads(pickle.dumps(frames.counters)) == frames.counters
