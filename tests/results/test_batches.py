"""Pictures a call: the knee that is found, and answers of a batch, which are those of its pictures alone whatever is wrong with others."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError, ImageError, ModelError
from fastloc.imaging.geometry import Geometry, fit
from fastloc.results.base_localizer import BaseLocalizer
from fastloc.results.batch_choice import BatchChoice, choose_batch, find_batch, fixed_batch
from fastloc.results.prediction import Prediction
from fastloc.runtime.localizer import OnnxLocalizer
from onnx_files import tiny_model

# a picture alone and in a batch: docs/design/tolerances.md
TOLERANCE = 3e-6


class Device:
    """A model whose pictures a second are given, on a clock of its own."""

    def __init__(self, rates: dict[int, float], fails: dict[int, Exception] | None = None) -> None:
        self.rates, self.fails, self.now = rates, fails or {}, 0.0
        self.asked: list[int] = []

    def work(self, size: int) -> int:
        self.asked.append(size)
        if size in self.fails:
            raise self.fails[size]
        self.now += size / self.rates.get(size, 100.0)
        return size

    def choice(self, **more: float) -> BatchChoice:
        return find_batch(self.work, clock=lambda: self.now, memory=lambda: None, **more)


@pytest.mark.parametrize(
    ("rates", "chosen", "tried"),
    [
        ({1: 100, 2: 150, 4: 200, 8: 204, 16: 205, 32: 205}, 4, 16),
        ({1: 100, 2: 101, 4: 99}, 1, 4),
        ({1: 100, 2: 90, 4: 140, 8: 141, 16: 141}, 4, 16),
        ({1 << n: 100 * 1.1**n for n in range(7)}, 64, 64),
    ],
)
def test_the_smallest_within_a_few_per_cent_of_the_best_is_chosen(rates: dict[int, float], chosen: int, tried: int) -> None:
    device = Device(rates)
    found = device.choice()
    assert (found.batch, max(found.rates)) == (chosen, tried)
    assert found.rates == pytest.approx({size: rates[size] for size in found.rates})
    assert str(found).startswith(f"batch {chosen}: 1 · 2 · 4")


def test_the_time_the_memory_and_a_failure_end_the_search() -> None:
    slow = Device({1: 1.0, 2: 1.2, 4: 1.4, 8: 1.6}).choice(seconds=6.0)
    assert slow.batch == 2 and "6 s are over" in slow.why
    full = Device({1: 100, 2: 150, 4: 300}, {4: ModelError("too large\nfor it")}).choice()
    assert full.batch == 2 and "4 failed (too large" in full.why
    for error in (ModelError("of every picture"), RuntimeError("a fault")):
        with pytest.raises(type(error)):
            Device({1: 100}, {1: error}).choice()
    # a fault of the code is none of the size's
    with pytest.raises(RuntimeError, match="a fault"):
        Device({1: 100, 2: 150}, {2: RuntimeError("a fault")}).choice()
    held = iter([(1000, 900), (1200, 900), (1400, 700)])
    device = Device({1: 100, 2: 150, 4: 300})
    found = find_batch(device.work, clock=lambda: device.now, memory=lambda: next(held))
    assert found.batch == 2 and "4 may not fit into memory" in found.why


class Cells(BaseLocalizer[list[str]]):
    """The similarity is the colour of the picture. A colour of 13 fails in a batch and alone, and 14 in a batch only."""

    def __init__(self, batch: int) -> None:
        self._describe(locals())
        self.batch = batch
        self.calls: list[int] = []

    def _texts(self, texts: object) -> list[str]:
        return [str(texts)]

    def _geometry(self, picture: tuple[int, int], name: str) -> Geometry:
        if picture == (5, 5):
            raise ImageError("a picture must not be 5x5")
        return fit(picture, 16 if picture[0] < picture[1] else 32, 8, "stretch")

    def _predict(self, images: list[Image.Image], geometries: list[Geometry], texts: list[str]) -> list[Prediction]:
        colours = [picture.getpixel((0, 0))[0] for picture in images]
        self.calls.append(len(images))
        if 13 in colours or (14 in colours and len(images) > 1):
            raise ImageError("an odd colour")
        return [
            Prediction(
                texts=tuple(texts), similarity=np.full((1, *each.grid(8)), colour, np.float32), geometry=each, order="picture", method="x"
            )
            for colour, each in zip(colours, geometries, strict=True)
        ]


def coloured(number: int) -> Image.Image:
    return Image.new("RGB", (8, 6) if number % 2 else (6, 8), (number, 0, 0))


def seen(found: Iterator[object]) -> list[object]:
    return [str(each) if isinstance(each, ImageError) else int(each.similarity.max()) for each in found]


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_one_picture_s_fault_loses_no_other_and_the_order_stays(batch: int) -> None:
    given = [*map(coloured, range(20)), Image.new("RGB", (5, 5)), b"no picture", ImageError("not there")]
    found = seen(Cells(batch).attempts(given, "cat"))
    assert [each for each in found if isinstance(each, int)] == [number for number in range(20) if number != 13]
    assert [i for i, each in enumerate(found) if isinstance(each, str)] == [13, 20, 21, 22]
    assert found[20] == "a picture must not be 5x5" and found[22] == "not there"
    # what came before it is not lost either where the first fault ends it
    one_by_one = Cells(batch).iterate(given, "cat")
    assert [int(next(one_by_one).similarity.max()) for _ in range(13)] == list(range(13))
    with pytest.raises(ImageError, match="an odd colour"):
        next(one_by_one)


def test_pictures_of_two_sizes_fill_batches() -> None:
    localizer = Cells(4)
    list(localizer.attempts([coloured(number) for number in range(12) if number != 13], "cat"))
    assert localizer.calls == [4, 2, 4, 2]


def test_batched_frames_are_those_alone(tmp_path: Path) -> None:
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), np.uint8))
    tiny_model(tmp_path / "tiny.onnx", batch=None, names=("cat",))
    exported = OnnxLocalizer(tmp_path / "tiny.onnx")
    for localizer in (Localizer(size=64), Localizer(size=64, plan={"frames": "pillow"}), exported):
        texts = localizer.encode_texts(["cat"])
        found = localizer.predict_frames(frames, texts, True)
        for frame, each in zip(frames, found, strict=True):
            alone = localizer.predict_frame(frame, texts, True)
            np.testing.assert_allclose(each.similarity, alone.similarity, atol=TOLERANCE, rtol=0)
            assert each.geometry == alone.geometry
    with pytest.raises(ImageError, match="one size"):
        Localizer(size=64).predict_frames([frames[0], frames[0][:20]], ["cat"])


def test_a_localizer_s_batch_is_set_and_a_file_keeps_its_own(tmp_path: Path) -> None:
    localizer = Cells(8)
    found = choose_batch(localizer, [coloured(2)], ["cat"])
    assert localizer.batch == found.batch and set(localizer.calls) >= {1, 2}
    with pytest.raises(FastlocError):
        choose_batch(localizer, [coloured(13)], ["cat"])
    assert localizer.batch == found.batch
    tiny_model(tmp_path / "two.onnx", batch=2, names=("cat",))
    fixed = OnnxLocalizer(tmp_path / "two.onnx")
    kept = fixed_batch(fixed)
    assert kept is not None and kept.batch == 2 and "two.onnx takes no other" in str(kept)
