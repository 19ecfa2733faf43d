"""Streams and pipelines: waiting, dropped frames, counters, and a change of texts without a stall."""

import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

import fastloc
from fastloc.errors import FastlocError, ImageError, TextError, VideoError
from fastloc.imaging.geometry import fit
from fastloc.results.prediction import Prediction
from fastloc.results.result import Result
from fastloc.video.channel import Channel
from fastloc.video.counters import WINDOW, Timings
from fastloc.video.pipeline import FrameDropped, Pipeline
from fastloc.video.sources.base import Info
from fastloc.video.sources.frame import Frame
from fastloc.video.stream import Stream
from fastloc.video.worker import Worker

SIZE = (16, 24)
# threads that other tests of this process have left behind
BEFORE: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads_before() -> None:
    BEFORE.clear()
    BEFORE.update(threading.enumerate())


class Engine:
    """A localizer that takes its time: the similarity of a text is its length, plus the frame's number in one cell."""

    def __init__(self, seconds: float = 0.0, encoding: float = 0.0) -> None:
        self.seconds, self.encoding = seconds, encoding
        self.asked: list[tuple[int, tuple[str, ...]]] | deque[tuple[int, tuple[str, ...]]] = []

    def __call__(self, picture: Image.Image, texts: list[str]) -> Result:
        raise AssertionError("a localizer that prepares is not called")

    def encode_texts(self, texts: list[str]) -> list[str]:
        time.sleep(self.encoding)
        if "wrong" in texts:
            raise TextError("prompt 'wrong' is wrong")
        return list(texts)

    def predict_frame(self, frame: np.ndarray, texts: list[str], bgr: bool = False) -> Prediction:
        time.sleep(self.seconds)
        number = int(frame[0, 0, 0])
        self.asked.append((number, tuple(texts)))
        similarity = np.zeros((len(texts), 2, 3), np.float32)
        similarity[:, 1, 1] = [number + len(text) for text in texts]
        return Prediction(texts=tuple(texts), similarity=similarity, geometry=fit(frame.shape[:2], 48, 8), order="picture", method="test")


class Source:
    """Numbered frames, at a pace or as fast as they are taken."""

    name = "numbers"

    def __init__(
        self, count: int = 20, pace: float = 0.0, live: bool = False, broken: tuple[int, ...] = (), error: Exception | None = None
    ) -> None:
        self.count, self.pace, self.live, self.broken, self.error = count, pace, live, broken, error
        self.info, self.corrupt, self.reconnects = Info(SIZE, 30.0, count), 0, 0
        self.closed = threading.Event()
        self.sent: list[Frame] = []
        self.keep = True

    def frames(self) -> Iterator[Frame]:
        start = time.monotonic()
        for i in range(self.count):
            if self.closed.wait(max(start + i * self.pace - time.monotonic(), 0) if self.pace else 0):
                return
            frame = Frame(i, i / 30, time.monotonic(), SIZE, lambda i=i: self.convert(i))
            if self.keep:
                self.sent.append(frame)
            yield frame
        if self.error is not None:
            raise self.error

    def convert(self, index: int) -> np.ndarray:
        if index in self.broken:
            raise ImageError(f"frame {index} cannot be converted")
        return np.full((*SIZE, 3), index % 256, np.uint8)

    def close(self) -> None:
        self.closed.set()


def streamed(source: Source, engine: Engine, policy: str | None = None, texts: tuple[str, ...] = ("cat",), **options) -> Stream:
    return Stream(source, Worker(texts, engine, **options), policy)


def numbers(stream: Stream) -> list[int]:
    return [found.index for found in stream]


def each_into(found: list[int], stream: Stream) -> None:
    for each in stream:
        found.append(each.index)


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.002)


@pytest.mark.parametrize(("engine", "pace", "reader"), [(0.01, 0, 0), (0, 0.01, 0), (0, 0, 0.01), (0, 0, 0)])
def test_every_frame_comes_once_and_in_order_whoever_is_slow(engine: float, pace: float, reader: float):
    source = Source(pace=pace)
    with streamed(source, Engine(engine)) as stream:
        found = []
        for each in stream:
            found.append((each.index, each.time, int(each.result.similarity[0, 1, 1])))
            time.sleep(reader)
    assert found == [(i, i / 30, i + 3) for i in range(20)]
    assert stream.counters.to_dict() == {
        "captured": 20, "located": 20, "reused": 0, "delivered": 20, "dropped": 0, "corrupt": 0, "reconnects": 0,
    }  # fmt: skip
    assert stream.policy == "every"


def test_little_waits_where_every_frame_counts():
    source, engine = Source(count=100), Engine()
    stream = streamed(source, engine)
    next(stream)
    time.sleep(0.1)
    # two before the model, two behind it, one in each hand
    assert stream.counters.captured <= 8
    stream.close()
    counters = stream.counters
    assert counters.captured == counters.delivered + counters.dropped and len(source.sent) < 10


def test_live_gives_the_newest_and_never_converts_what_it_skips():
    source = Source(count=60, pace=0.005, live=True)
    with streamed(source, Engine(0.05)) as stream:
        found = list(stream)
    counters = stream.counters
    indices = [each.index for each in found]
    assert stream.policy == "newest" and indices == sorted(set(indices)) and 3 <= len(found) <= 12
    assert counters.captured == 60 == counters.delivered + counters.dropped
    # the last frame of all is not replaced by any
    assert indices[-1] == 59
    assert [frame.index for frame in source.sent if frame.converted] == indices


def test_the_model_begins_with_the_newest_frame_there_is():
    source, newest = Source(count=60, pace=0.01, live=True), []

    class Watching(Engine):
        def predict_frame(self, frame: np.ndarray, texts: list[str], bgr: bool = False) -> Prediction:
            newest.append(source.sent[-1].index - int(frame[0, 0, 0]))
            return super().predict_frame(frame, texts)

    with streamed(source, Watching(0.035)) as stream:
        found = list(stream)
    # one more may have come in while this one was taken: so a frame is never older than one inference and one interval
    assert len(newest) == len(found) > 8 and set(newest) <= {0, 1}
    assert all(each.age >= each.inference >= 0.035 for each in found)


def test_a_reader_that_sleeps_gets_the_newest_result():
    source = Source(count=50, pace=0.004, live=True)
    with streamed(source, Engine()) as stream:
        first = next(stream)
        # all but the one that was read and the last, which waits
        wait_for(lambda: stream.counters.captured == 50 and stream.counters.dropped == 48)
        last = next(stream)
        # the first is a later one where this thread comes late
        assert first.index < last.index == 49
        with pytest.raises(StopIteration):
            next(stream)
    assert stream.counters.dropped == 48


def test_every_third_frame_goes_through_the_model():
    engine = Engine()
    with streamed(Source(count=10), engine, every=3) as stream:
        found = [(each.index, each.reused, int(each.result.similarity[0, 1, 1]), each.inference > 0) for each in stream]
    assert found == [(i, i % 3 > 0, i // 3 * 3 + 3, i % 3 == 0) for i in range(10)]
    assert [number for number, _ in engine.asked] == [0, 3, 6, 9]
    assert (stream.counters.located, stream.counters.reused) == (4, 6)


def test_texts_change_between_two_frames_without_a_stall():
    encoded = threading.Event()

    class Encoding(Engine):
        def encode_texts(self, texts: list[str]) -> list[str]:
            assert texts == ["cat"] or encoded.wait(10)
            return super().encode_texts(texts)

    engine, seen = Encoding(seconds=0.001), []
    with streamed(Source(count=100_000), engine) as stream:
        for each in stream:
            seen.append(each.texts)
            if each.index == 10:
                waited = stream.set_texts(["an owl", "bus"])
                assert stream.texts == ("cat",) and not waited.done()
            # frames go on while the texts are encoded, however long that takes
            if each.index == 50:
                assert not waited.done()
                encoded.set()
            if each.texts != ("cat",):
                break
        assert waited.result(1) == ("an owl", "bus") == stream.texts
    assert len(seen) > 50 and set(seen[:-1]) == {("cat",)} and seen[-1] == ("an owl", "bus")
    assert {texts for _, texts in engine.asked} == {("cat",), ("an owl", "bus")}


def test_of_several_changes_the_last_counts_and_a_wrong_one_changes_nothing():
    with streamed(Source(count=3), Engine(encoding=0.02)) as stream:
        asked = [stream.set_texts([text]) for text in ("a", "b", "c")]
        assert [each.result(2) for each in asked][-1] == ("c",) == stream.texts
        with pytest.raises(TextError, match="'wrong' is wrong"):
            stream.set_texts(["wrong"]).result(2)
        with pytest.raises(TextError, match="empty"):
            stream.set_texts([" "]).result(2)
        assert stream.texts == ("c",)


def test_a_frame_that_cannot_be_converted_is_skipped_and_counted():
    with streamed(Source(count=6, broken=(2, 3), pace=0.01), Engine()) as stream:
        assert numbers(stream) == [0, 1, 4, 5]
    assert stream.counters.corrupt == 2 and stream.counters.delivered == 4
    # a live source's frames are dropped where this thread comes late
    with streamed(Source(count=6, broken=(2, 3), live=True, pace=0.01), Engine()) as stream:
        found = numbers(stream)
    assert found == sorted(set(found)) and set(found) <= {0, 1, 4, 5} and found[-1] == 5
    assert stream.counters.corrupt == 2 and stream.counters.delivered + stream.counters.dropped == 4


def test_an_error_of_the_source_comes_after_what_it_gave():
    stream = streamed(Source(count=4, error=VideoError("the camera is gone")), Engine())
    found: list[int] = []
    with pytest.raises(VideoError, match="the camera is gone"):
        each_into(found, stream)
    assert found == [0, 1, 2, 3]


def test_an_error_of_the_model_ends_everything():
    class Broken(Engine):
        def predict_frame(self, frame: np.ndarray, texts: list[str], bgr: bool = False) -> Prediction:
            if frame[0, 0, 0] == 3:
                raise RuntimeError("out of memory")
            return super().predict_frame(frame, texts)

    source = Source(count=100)
    stream = streamed(source, Broken())
    with pytest.raises(RuntimeError, match="out of memory"):
        numbers(stream)
    wait_for(lambda: source.closed.is_set() and not alive())


def alive() -> list[str]:
    """Names of this test's threads."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fastloc") and thread not in BEFORE]


def test_closing_ends_threads_in_the_middle_of_everything():
    for read in (0, 1, 5):
        source = Source(count=10_000)
        stream = streamed(source, Engine(0.001))
        stream.set_texts(["x"])
        for _ in range(read):
            next(stream)
        stream.close()
        stream.close()
        assert source.closed.is_set() and not [name for name in alive() if "texts" not in name]
        assert len(numbers(stream)) <= 3
    wait_for(lambda: not alive())


def test_a_loop_that_is_left_frees_its_source():
    source = Source(count=10_000)
    for found in streamed(source, Engine()):
        if found.index == 3:
            break
    del found
    gc.collect()
    wait_for(lambda: source.closed.is_set() and not alive())


def test_a_reader_in_another_thread_is_let_go_by_close():
    stream = streamed(Source(count=2, pace=60, live=True), Engine())
    got: list[int] = []
    reader = threading.Thread(target=lambda: got.extend(numbers(stream)))
    reader.start()
    wait_for(lambda: got == [0] or stream.counters.delivered == 1)
    stream.close()
    reader.join(5)
    assert not reader.is_alive() and got == [0]


def test_frames_of_another_size_begin_a_map_of_their_own():
    class Growing(Source):
        def frames(self) -> Iterator[Frame]:
            for i, size in enumerate([SIZE, SIZE, (20, 20), (20, 20)]):
                yield Frame(i, i / 30, time.monotonic(), size, lambda i=i, size=size: np.full((*size, 3), i, np.uint8))

    with streamed(Growing(), Engine(), every=2, smooth=1.0, maps="running") as stream:
        found = [(each.reused, each.result.heatmaps.shape) for each in stream]
    assert found == [(False, (1, 16, 24)), (True, (1, 16, 24)), (False, (1, 20, 20)), (True, (1, 20, 20))]


@pytest.mark.slow("long streams")
def test_memory_of_a_long_stream_is_that_of_a_short_one():
    import tracemalloc

    source, engine = Source(count=4000), Engine()
    source.keep, engine.asked = False, deque(maxlen=1)
    with streamed(source, engine, maps="running", smooth=0.1) as stream:
        held = {}
        tracemalloc.start()
        for each in stream:
            # after the windows of percentiles are full
            if each.index in (500, 1000, 3999):
                gc.collect()
                held[each.index] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    grown = held[3999] - held[1000]
    # three windows of floats may still fill
    assert grown < 3 * WINDOW * 40, f"{grown} bytes more after 3000 frames"


def test_pushing_gives_a_handle_that_is_waited_for():
    engine = Engine(0.01)
    with Pipeline(["cat"], engine, policy="every") as pipeline:
        handles = [pipeline.submit(np.full((*SIZE, 3), i, np.uint8), time=i / 10) for i in range(5)]
        found = [handle.result(5) for handle in handles]
    assert [(each.index, each.time, int(each.result.similarity[0, 1, 1])) for each in found] == [(i, i / 10, i + 3) for i in range(5)]
    assert all(handle.done() and not handle.dropped for handle in handles)
    assert pipeline.counters.delivered == 5 and {"age", "inference"} <= set(pipeline.timings())
    assert all(each.age is not None and each.age >= each.inference for each in found)


def test_pushing_the_newest_drops_what_waits_and_reports_it():
    with Pipeline(["cat"], Engine(0.1)) as pipeline:
        handles = []
        for i in range(6):
            handles.append(pipeline.submit(np.full((*SIZE, 3), i, np.uint8)))
            if i == 0:
                wait_for(lambda: len(pipeline._inbox) == 0)
        assert [handle.dropped for handle in handles] == [False, True, True, True, True, False]
        assert handles[5].result(5).index == 5 and handles[0].result(5).index == 0
        with pytest.raises(FrameDropped, match="a newer frame took its place"):
            handles[2].result(1)
    assert pipeline.counters.dropped == 4
    late = pipeline.submit(np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(VideoError, match="the pipeline is closed"):
        late.result(1)


def test_pushing_brings_the_model_s_error_to_its_own_frame():
    class Odd(Engine):
        def predict_frame(self, frame: np.ndarray, texts: list[str], bgr: bool = False) -> Prediction:
            if frame[0, 0, 0] == 1:
                raise RuntimeError("odd")
            return super().predict_frame(frame, texts)

    with Pipeline(["cat"], Odd(), policy="every") as pipeline:
        handles = [pipeline.submit(np.full((*SIZE, 3), i, np.uint8)) for i in range(3)]
        with pytest.raises(RuntimeError, match="odd"):
            handles[1].result(5)
        assert handles[2].result(5).index == 2


def test_a_pipeline_that_nobody_holds_ends_once_its_frames_are_answered():
    found = Pipeline(["cat"], Engine(0.02)).submit(np.full((*SIZE, 3), 7, np.uint8)).result(5)
    assert int(found.result.similarity[0, 1, 1]) == 10
    gc.collect()
    wait_for(lambda: not alive())


def test_a_channel_that_has_ended_takes_nothing():
    channel: Channel[int] = Channel(newest=False, room=3)
    assert [channel.put(i) for i in range(2)] == [None, None]
    channel.end(VideoError("gone"))
    assert channel.put(7) == 7
    assert [channel.get(), channel.get()] == [0, 1]
    with pytest.raises(VideoError, match="gone"):
        channel.get()
    with pytest.raises(TimeoutError):
        Channel[int](newest=True).get(0.01)


def test_percentiles_are_of_the_last_values():
    timings = Timings()
    for i in range(2 * WINDOW):
        timings.add("age", float(i))
    found = timings.percentiles()["age"]
    np.testing.assert_allclose([found["p50"], found["p95"]], np.percentile(np.arange(WINDOW, 2 * WINDOW), [50, 95]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"texts": ()}, TextError, "no prompts"),
        ({"every": 0}, FastlocError, "every must be a whole number, 1 or more, got 0"),
        ({"every": 1.5}, FastlocError, "got 1.5"),
        ({"maps": "nothing"}, FastlocError, "unknown kind of maps 'nothing'"),
        ({"background": ("sky",)}, FastlocError, "maps must be 'background' where background texts are set, got 'frame'"),
        ({"localizer": 3}, FastlocError, "localizer must be .*, got a int"),
    ],
)
def test_wrong_arguments_are_reported_at_once(options: dict, error: type[Exception], message: str):
    arguments = {"texts": ("cat",), "localizer": Engine(), **options}
    with pytest.raises(error, match=message):
        Worker(arguments.pop("texts"), arguments.pop("localizer"), **arguments)


def test_a_wrong_policy_is_reported():
    with pytest.raises(FastlocError, match="unknown policy 'neuest': did you mean 'newest'"):
        Pipeline(["cat"], Engine(), policy="neuest")
    with pytest.raises(FastlocError, match="unknown policy 'all'"):
        fastloc.stream([], ["cat"], Engine(), policy="all")
