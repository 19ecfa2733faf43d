"""Moving scenes: the truth of every frame is what is drawn, a seed is a clip, and a written clip keeps its times."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedded_model import moving_scenes
from fastloc.imaging.geometry import fit


def test_cutouts_are_whole_things() -> None:
    found = moving_scenes.cutouts()
    assert len(found) > 150 and {"cat", "pizza", "koala"} <= set(found)
    for name, cuts in found.items():
        for cut in cuts:
            assert cut.name == name and cut.colours.shape == (*cut.mask.shape, 3) and max(cut.mask.shape) >= moving_scenes.SMALLEST
            # cropped to itself, and more than a frame around nothing
            assert all(cut.mask.any(axis=axis).all() for axis in (0, 1)) or cut.mask.any(), name
            assert 0.1 < cut.mask.mean() <= 1, name


@pytest.mark.parametrize("wave", moving_scenes.WAVES)
@pytest.mark.parametrize("size", [(48, 64), (96, 64), (121, 203)])
def test_the_truth_is_what_is_drawn(wave: str, size: tuple[int, int]) -> None:
    clip = moving_scenes.clip(4, things=("cat", "pizza"), size=size, wave=wave, seconds=2)
    for moment in clip.moments(0, None):
        assert moment.rgb.shape == (*size, 3) and moment.rgb.dtype == np.uint8
        still = ~moment.changed
        assert (moment.rgb[still] == clip.background[still]).all(), moment.index
        first, second = moment.truths
        assert not (first.mask & second.mask).any() and not (first.mask & still).any()
        # the last thing is in front of all
        assert second.visible == 1
        x0, y0, x1, y1 = second.box or (0, 0, 0, 0)
        assert second.mask[y0:y1, x0:x1].sum() == second.mask.sum() and second.mask[y0, x0:x1].any() and second.mask[y0:y1, x1 - 1].any()
        # a whole thing's box is around its centre, give or take its soft edge
        assert abs((x0 + x1 - 1) / 2 - second.centre[0]) < 2 and abs((y0 + y1 - 1) / 2 - second.centre[1]) < 2


def test_things_move_smoothly_and_stay_inside() -> None:
    clip = moving_scenes.clip(5, things=1, size=(120, 160), rate=30, seconds=20, speed=0.25)
    centres = np.array([moment.truths[0].centre for moment in clip.moments(0, None)])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert steps.max() < 160 * 0.02 and 0.1 < steps.sum() / 20 / 160 < 0.5
    areas = np.array([moment.truths[0].mask.sum() for moment in clip.moments(0, None)])
    # nothing is ever cut off by the border
    assert np.ptp(areas) < 0.05 * areas.mean()
    assert np.ptp(centres, axis=0).min() > 20


def test_a_seed_is_a_clip() -> None:
    def make(seed: int = 7, **more: float) -> moving_scenes.Clip:
        return moving_scenes.clip(seed, things=3, size=(60, 80), seconds=1, **more)

    one, other = make(noise=3.0), make(noise=3.0)
    assert one.texts == other.texts and len(set(one.texts)) == 3
    # in any order, and the pixels alone
    assert (one.at(20).rgb == list(other.pictures())[20]).all() and (one.at(3).rgb == other.at(3).rgb).all()
    assert make(8).texts != one.texts
    assert np.abs(one.at(3).rgb.astype(int) - make().at(3).rgb).mean() > 1
    assert not set(one.texts) & set(moving_scenes.absent(one)) and len(moving_scenes.absent(one)) > 100


def test_what_left_is_gone() -> None:
    clip = moving_scenes.clip(1, things=("cat", "pizza"), size=(60, 80), seconds=2, leaves=1.0)
    before, after = clip.at(29).truths[0], clip.at(30).truths[0]
    assert before.mask.any() and before.box and not after.mask.any() and after.box is None and after.visible == 0
    assert clip.at(30).truths[1].mask.any()


def test_the_model_is_at_home() -> None:
    """The model finds a text's thing more often than not, or clips of this world would measure nothing."""
    from fastloc.engine.localizer import Localizer

    localizer, hits = Localizer(), []
    for seed in range(12):
        clip = moving_scenes.clip(seed, things=1 + seed % 3, seconds=2)
        moment = clip.at(30)
        located = localizer.predict_frame(moment.rgb, localizer.encode_texts(clip.texts))
        assert located.geometry == fit(clip.size, 96, (8, 8), "aspect")
        for truth, point in zip(moment.truths, located.result(picture=_picture(moment.rgb)).points(), strict=True):
            hits.append(bool(truth.mask[point.y, point.x]))
    assert np.mean(hits) > 0.7, hits


def _picture(rgb: np.ndarray) -> Image.Image:
    return Image.fromarray(rgb)


def test_a_written_clip_keeps_frames_and_times(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    clip = moving_scenes.clip(2, things=2, size=(96, 128), seconds=3, varying=True, stamp=True)
    assert len(set(np.diff(clip.pts))) > 3
    path = moving_scenes.write(clip, tmp_path / "clip.mp4")
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert [moving_scenes.stamped(frame.to_ndarray(format="rgb24")) for frame in frames] == list(range(len(clip)))
    times = [frame.pts * frame.time_base for frame in frames]
    assert [round((time - times[0]) * moving_scenes.TICKS) for time in times] == clip.pts
    apart = [np.abs(frame.to_ndarray(format="rgb24").astype(int) - clip.at(i).rgb).mean() for i, frame in enumerate(frames)]
    assert max(apart) < 8


def test_a_stamp_is_read_back() -> None:
    clip = moving_scenes.clip(0, things=1, size=(64, 64), seconds=10, stamp=True)
    assert [moving_scenes.stamped(pixels) for pixels in clip.pictures()] == list(range(300))
