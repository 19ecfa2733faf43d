"""Pipelines and streams that are closed, dropped and broken at any moment: no hang, no thread, right answers."""

import gc
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloc import Pipeline, stream
from fastloc.errors import FastlocError, ImageError, VideoError
from fastloc.video.pipeline import FrameDropped, Handle
from fastloc.video.sources.iterables import FramesOf
from fastloc.video.sources.open_source import open_source
from stand_in import BROKEN, StandIn, frame, value_of
from watchdog import PATIENCE, SEEDS, clean, dice, in_threads, in_time

POLICIES = ("every", "newest")


@pytest.mark.slow("more seeds", quick=2)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_pipeline_that_threads_share_and_one_of_them_closes(seed: int, policy: str) -> None:
    """Every handle has the answer to its own frame, or says that the frame was dropped; of policy "every" none is before the end."""
    localizer = StandIn(0.001)
    with clean():
        shared_pipeline(seed, policy, localizer)
    # none, where the end came first
    assert localizer.most <= 1, "one thread answers"


def shared_pipeline(seed: int, policy: str, localizer: StandIn) -> None:
    random, ends = dice(seed), threading.Event()
    pipeline = Pipeline(["cat"], localizer, policy=policy, room=random.randint(1, 3))

    def one(thread: int) -> list[tuple[int, Handle, bool]]:
        own, handed = dice(100 * seed + thread), []
        for _ in range(20):
            number = own.choice([BROKEN, *range(20, 250)])
            late = ends.is_set()
            handed.append((number, pipeline.submit(frame(number)), late))
            if own.random() < 0.1:
                set_texts(pipeline, own.choice(["dog", "bird"]))
            time.sleep(own.uniform(0, 0.002))
        return handed

    def end() -> list[tuple[int, Handle, bool]]:
        time.sleep(random.uniform(0, 0.05))
        pipeline.close()
        ends.set()
        return []

    works = [*(lambda thread=thread: one(thread) for thread in range(4)), end]
    handed = [each for part in in_threads(works) for each in part]
    for number, handle, late in handed:
        try:
            assert value_of(handle.result(PATIENCE).result) == number != BROKEN and not late
        except FrameDropped:
            assert handle.dropped
        except ImageError:
            assert number == BROKEN
    counters = pipeline.counters
    broken = sum(not handle.dropped and number == BROKEN for number, handle, _ in handed)
    assert counters.captured == len(handed) == counters.delivered + counters.dropped + broken


def set_texts(pipeline: Any, text: str) -> None:
    """Other texts, which a pipeline takes until it is closed."""
    with suppress(CancelledError, VideoError):
        pipeline.set_texts([text]).result(PATIENCE)


def test_threads_that_submit_first_at_the_same_moment_start_one_thread() -> None:
    for _ in range(30):
        localizer = StandIn(0.0005)
        with Pipeline(["cat"], localizer, policy="every", room=8) as pipeline:
            handles = in_threads([lambda number=number: pipeline.submit(frame(number)) for number in range(8)])
            assert sorted(value_of(each.result(PATIENCE).result) for each in handles) == list(range(8))
            assert sum(thread.name == "fastloc-pipeline" for thread in threading.enumerate()) == 1
        assert localizer.most == 1


@pytest.mark.slow("more seeds", quick=2)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_that_is_closed_or_dropped_at_any_moment(seed: int, policy: str) -> None:
    source = Source(40)
    with clean():
        ended_stream(seed, policy, source)
        gc.collect()
    # of a stream that is closed before its first frame nothing is read
    assert not source.begun or source.ended.wait(PATIENCE)


def ended_stream(seed: int, policy: str, source: "Source") -> None:
    random = dice(seed)
    localizer, batch = StandIn(random.choice([0.0, 0.001, 0.004])), random.choice([1, 3]) if policy == "every" else 1
    frames = stream(source.frames(), ["cat"], localizer, policy=policy, batch=batch)
    closer = threading.Timer(random.uniform(0, 0.03), frames.close) if seed % 3 else None
    if closer is not None:
        closer.start()
    leave, seen = random.randrange(40) if seed % 2 else 1000, -1
    while seen < leave:
        try:
            found = in_time(lambda: next(frames))
        except StopIteration:
            break
        assert found.index > seen and value_of(found.result) == found.index
        assert policy == "newest" or found.index == seen + 1, "no frame is left out before the end"
        seen = found.index
    if closer is not None:
        closer.join()
    elif seed % 2 == 0:
        assert seen == 39
    if random.random() < 0.5:
        in_time(frames.close)
        with pytest.raises(StopIteration):
            in_time(lambda: next(frames))
        with pytest.raises(VideoError, match="before the stream or pipeline is closed"):
            frames.set_texts("dog")


class Source:
    """Frames of their own numbers; `ended` once nobody takes any more."""

    def __init__(self, count: int, broken: BaseException | None = None) -> None:
        self.count, self.broken, self.begun, self.ended = count, broken, False, threading.Event()

    def frames(self) -> Iterator[Any]:
        self.begun = True
        try:
            for number in range(self.count):
                yield frame(number)
            if self.broken is not None:
                raise self.broken
        finally:
            self.ended.set()


class Broken(StandIn):
    """A localizer that raises what it is given at a frame."""

    def __init__(self, error: BaseException, at: int) -> None:
        super().__init__()
        self.error, self.at = error, at

    def predict_frames(self, frames: Any, prompts: list[str], bgr: bool = False) -> Any:
        if any(int(np.asarray(each)[0, 0, 0]) == self.at for each in frames):
            raise self.error
        return super().predict_frames(frames, prompts, bgr)


def until_error(localizer: StandIn, source: Source) -> tuple[list[int], BaseException | None]:
    """The indices that come, and what is raised behind them."""
    seen: list[int] = []

    def take() -> BaseException | None:
        try:
            for found in stream(source.frames(), ["cat"], localizer, policy="every"):
                seen.append(found.index)
        except BaseException as error:
            return error
        return None

    return seen, in_time(take)


ERRORS = (ImageError, SystemExit, RuntimeError, MemoryError)


@pytest.mark.slow("more kinds of errors", quick=2)
@pytest.mark.parametrize("kind", ERRORS)
def test_whatever_a_localizer_or_a_source_raises_comes_behind_what_went_well(kind: type[BaseException]) -> None:
    """SystemExit and its like too: a stream that just ended would seem to be complete."""
    error = kind("this is a test")
    for localizer, source in ((Broken(error, 3), Source(9)), (StandIn(), Source(3, error))):
        with clean():
            seen, raised = until_error(localizer, source)
            # what would end the caller's program comes as an error that names it
            assert seen == [0, 1, 2] and (raised is error if isinstance(error, Exception) else raised.__cause__ is error)


@pytest.mark.parametrize("kind", ERRORS)
def test_whatever_a_localizer_raises_is_the_handles_and_the_next_frame_goes_on(kind: type[BaseException]) -> None:
    with clean(), Pipeline(["cat"], Broken(kind("this is a test"), 3), policy="every") as pipeline:
        for number in (2, 3, 4):
            handle = pipeline.submit(frame(number))
            if number == 3:
                with pytest.raises(kind if issubclass(kind, Exception) else FastlocError, match="this is a test"):
                    in_time(handle.result)
            else:
                assert value_of(in_time(handle.result).result) == number


def test_texts_cannot_be_set_behind_the_end_and_no_thread_begins_for_them() -> None:
    with clean():
        pipeline = Pipeline(["cat"], StandIn())
        pipeline.close()
        with pytest.raises(VideoError, match="texts must be set before the stream or pipeline is closed; open another one"):
            pipeline.set_texts("dog")
        assert not [each.name for each in threading.enumerate() if each.name.startswith("fastloc-texts")]


def test_a_source_that_is_closed_when_reading_begins_has_just_no_frames(tmp_path: Path) -> None:
    """Who closes holds the turn for a moment; that is nobody else's reading."""
    pytest.importorskip("av")
    from clips import colours, write_clip

    path = write_clip(tmp_path / "clip.mp4", colours(3))
    for made in (lambda: FramesOf([frame(1)]), lambda: open_source(path), lambda: open_source(path, live=True, loop=True)):
        source = made()
        source._stop.set()
        with source._turn:
            assert list(source.frames()) == []
        source.close()
        again = made()
        with again._turn, pytest.raises(VideoError, match="being read already"):
            next(iter(again.frames()))
        again.close()


def test_streams_side_by_side_on_one_localizer() -> None:
    localizer = StandIn(0.0005)

    def one(number: int) -> list[int]:
        frames = (frame(10 * number + each) for each in range(10))
        with stream(frames, ["cat"], localizer, policy="every", batch=1 + number % 3) as found:
            return [value_of(each.result) for each in found]

    with clean():
        for number, values in enumerate(in_threads([lambda number=number: one(number) for number in range(8)])):
            assert values == [10 * number + each for each in range(10)]


def test_what_belongs_to_one_process_says_so_when_it_is_pickled() -> None:
    with Pipeline(["cat"], StandIn()) as pipeline:
        handle = pipeline.submit(frame(1))
        with pytest.raises(FastlocError, match=r"cannot be pickled; send what its result\(\) returns"):
            pickle.dumps(handle)
        handle.result(PATIENCE)
    with stream([frame(1)], ["cat"], StandIn()) as frames, pytest.raises(FastlocError, match="open it in the other one"):
        pickle.dumps(frames)
