"""A stream of a file says of each frame what a call with that frame says, once and in order, in both runtimes."""

from pathlib import Path

import av
import numpy as np
import pytest

import fastloc
from embedded_model.moving_scenes import clip, write
from fastloc.video.locator import Locator
from fastloc.video.temporal import Temporal

TEXTS = ["cat", "pizza"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of moving things, not evenly spaced in time."""
    things = clip(seed=3, seconds=0.8, rate=10, things=("cat", "pizza"), size=(120, 160), varying=True)
    return write(things, tmp_path_factory.mktemp("film") / "a.mp4")


@pytest.fixture(scope="module")
def decoded(film: Path) -> list[tuple[float, np.ndarray]]:
    """A film decoded by PyAV alone: times from the first frame on, and pixels."""
    with av.open(str(film)) as opened:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in opened.decode(video=0)]
    return [(time - frames[0][0], pixels) for time, pixels in frames]


@pytest.mark.parametrize("kind", ["torch", "onnxruntime"])
def test_each_frame_s_result_is_its_own(kind: str, film: Path, decoded: list[tuple[float, np.ndarray]]):
    engine = fastloc.Localizer(device="cpu") if kind == "torch" else fastloc.OnnxLocalizer(providers="cpu")
    found = list(fastloc.stream(film, TEXTS, engine))
    assert [each.index for each in found] == list(range(len(decoded))) and len(decoded) == 8
    np.testing.assert_allclose([each.time for each in found], [time for time, _ in decoded], atol=1e-9)
    for each, (_, pixels) in zip(found, decoded, strict=True):
        want = engine(each.frame.rgb, TEXTS)
        np.testing.assert_array_equal(each.result.similarity, want.similarity)
        np.testing.assert_array_equal(each.result.heatmaps, want.heatmaps)
        assert each.result.points() == want.points() and each.result.boxes() == want.boxes()
        # the frame itself is the file's, whatever the way its colours were converted
        assert np.abs(each.frame.rgb.astype(int) - pixels).mean() < 3


def test_smoothing_and_ranges_are_those_of_the_frames_in_order(film: Path):
    engine = fastloc.OnnxLocalizer(providers="cpu")
    options = {"smooth": 0.2, "maps": "running"}
    found = list(fastloc.stream(film, TEXTS, engine, **options))
    locator = Locator(engine)
    state = Temporal(**options, scale=locator.logit_scale)
    prompts = locator.prepare(TEXTS)
    for each in found:
        want = state.apply(locator.locate(each.frame, prompts), each.time, prompts)
        np.testing.assert_array_equal(each.located.similarity, want.similarity)
        np.testing.assert_array_equal(each.located.limits, want.limits)
    assert any(np.any(each.located.limits != found[0].located.limits) for each in found)


def test_arrays_of_opencv_and_pillow_s_pictures_stream_too(film: Path):
    engine = fastloc.OnnxLocalizer(providers="cpu")
    plain = list(fastloc.stream(film, TEXTS, engine))
    turned = [each.frame.rgb[..., ::-1] for each in plain]
    found = list(fastloc.stream(turned, TEXTS, engine, bgr=True, rate=10))
    for each, other in zip(found, plain, strict=True):
        np.testing.assert_array_equal(each.result.similarity, other.result.similarity)
    assert [each.time for each in found] == pytest.approx([i / 10 for i in range(8)])
