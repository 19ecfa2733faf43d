"""Frames of a file in batches: the answers of each alone, in order, whatever is wrong with one of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import fastloc
from fastloc.errors import FastlocError, ImageError
from fastloc.imaging.geometry import fit
from fastloc.results.prediction import Prediction
from fastloc.runtime.localizer import OnnxLocalizer
from fastloc.video.stream_result import StreamResult
from onnx_files import tiny_model

SIZE = (16, 24)


class Engine:
    """The similarity is the frame's number; the 13th fails, and 14 fails beside others. `calls` are the numbers of each call."""

    logit_scale = 100.0

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, picture: object, texts: list[str]) -> None:
        raise AssertionError("a localizer that prepares is not called")

    def encode_texts(self, texts: list[str]) -> list[str]:
        return list(texts)

    def predict_frame(self, frame: np.ndarray, texts: list[str], bgr: bool = False) -> Prediction:
        return self.predict_frames([frame], texts, bgr)[0]

    def predict_frames(self, frames: Sequence[np.ndarray], texts: list[str], bgr: bool = False) -> list[Prediction]:
        numbers = [int(frame[0, 0, 0]) for frame in frames]
        self.calls.append(numbers)
        if 13 in numbers or (14 in numbers and len(numbers) > 1):
            raise ImageError("an odd frame")
        return [
            Prediction(
                texts=tuple(texts), similarity=np.full((len(texts), 2, 3), number, np.float32),
                geometry=fit(frame.shape[:2], 48, 8), order="picture", method="test",
            )
            for frame, number in zip(frames, numbers, strict=True)
        ]  # fmt: skip


def frames(numbers: Sequence[int], tall: Sequence[int] = ()) -> list[np.ndarray]:
    return [np.full((*(SIZE[::-1] if number in tall else SIZE), 3), number, np.uint8) for number in numbers]


def answers(found: Iterator[StreamResult]) -> list[tuple[int, float, bool]]:
    return [(each.index, float(each.located.similarity.max()), each.reused) for each in found]


@pytest.mark.parametrize("settings", [{}, {"every": 3}, {"smooth": 0.1}, {"every": 2, "maps": "running"}], ids=str)
def test_a_batch_says_what_each_frame_says(settings: dict) -> None:
    given = frames(range(11), tall=(5, 6))
    expected = answers(fastloc.stream(given, ["cat"], Engine(), **settings))
    for batch in (2, 4, 32):
        engine = Engine()
        stream = fastloc.stream(given, ["cat"], engine, batch=batch, **settings)
        assert answers(stream) == expected
        # a batch ends where the frame's size does; of every few frames the others need no model
        assert 1 < max(map(len, engine.calls)) <= batch
        assert stream.batch is not None and stream.batch.batch == batch
        counters = stream.counters
        assert counters.captured == counters.delivered == 11 == counters.located + counters.reused


def test_of_a_batch_that_fails_all_before_the_fault_come() -> None:
    engine = Engine()
    stream = fastloc.stream(frames([0, 1, 14, 2, 13, 3, 4, 5]), ["cat"], engine, batch=8)
    assert [int(next(stream).located.similarity.max()) for _ in range(4)] == [0, 1, 14, 2]
    with pytest.raises(ImageError, match="an odd frame"):
        next(stream)
    counters = stream.counters
    # the frame that failed is neither
    assert counters.captured == counters.delivered + counters.dropped + 1


def test_auto_measures_before_the_first_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastloc.video.locator.SECONDS", 0.05)
    engine = Engine()
    stream = fastloc.stream(frames(range(9)), ["cat"], engine, batch="auto")
    assert stream.batch is None
    found = answers(stream)
    assert [each[:2] for each in found] == [(number, number) for number in range(9)]
    assert stream.batch is not None and {1, 2} <= set(stream.batch.rates) and engine.calls[:2] == [[0], [0]]
    live = fastloc.stream(frames(range(3)), ["cat"], Engine(), policy="newest", batch="auto")
    assert live.batch is not None and live.batch.batch == 1
    live.close()


def test_a_batch_that_cannot_be_is_refused(tmp_path: Path) -> None:
    tiny_model(tmp_path / "two.onnx", batch=2, names=("cat",))
    two = OnnxLocalizer(tmp_path / "two.onnx")
    for batch, more, said in (
        (0, {}, "batch must be 'auto' or a whole number, 1 or more, got 0"),
        (2, {"policy": "newest"}, "batch must be 1 for policy 'newest'"),
        (4, {"localizer": two}, "batch must be at most 2, got 4: .*two.onnx takes no other; `fastloc export --batch dynamic`"),
        (2, {"localizer": lambda picture, texts: None}, "batch must be 1 for a localizer that takes one frame a call, got 2"),
    ):
        with pytest.raises(FastlocError, match=said):
            fastloc.stream(frames(range(2, 4)), ["cat"], **{"localizer": Engine(), **more}, batch=batch)
    pair = fastloc.stream(frames(range(2, 5)), ["cat"], two, batch="auto")
    assert len(answers(pair)) == 3
    assert pair.batch is not None and pair.batch.batch == 2
