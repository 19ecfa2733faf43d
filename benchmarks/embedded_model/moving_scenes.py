"""Moving scenes: clips of the embedded model's world, whose truth is known in every frame. A seed is a clip.

    clip = moving_scenes.clip(seed=3, things=("cat", "pizza"), size=(240, 320), rate=30, seconds=10)
    for moment in clip.moments():                       # one frame at a time; the clip is nowhere in memory as a whole
        moment.rgb, moment.time, moment.truths[0].mask

Things are cut out of the sample scenes and the quality set, which the model was not trained on, where they show wholly; they move over a
background as the training scenes have it. Each is drawn in front of those before it. Needs numpy, scipy and Pillow; `write` needs PyAV.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from embedded_model.emoji_scenes.compose import _background
from fastloc.embedded import SAMPLES
from gpu_parts.scenes import quality_set

Size = tuple[int, int]
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
# the smallest thing that is cut out, its longer side in pixels, and the room around it that is free of border and other things
SMALLEST, ROOM = 48, 2
# the longer side of a thing in the clip, as shares of the frame's shorter side, by the number of things, as in the training scenes
SIDES = {1: (0.35, 0.6), 2: (0.3, 0.48), 3: (0.26, 0.4)}
# ticks of a second in a written file, and those a frame comes early or late where the rate varies, as shares of the usual gap
TICKS, GAPS = 90_000, (0.5, 0.75, 1.0, 1.0, 1.25, 2.0)
# the height of a stamped number, and how many frames it counts (as a power of two) before it begins again
STAMP, BITS = 8, 16
WAVES = {"lissajous": np.sin, "bouncing": lambda phase: 2 / np.pi * np.arcsin(np.sin(phase))}


@dataclass(frozen=True)
class Cutout:
    """One thing on its own: colours uint8 [h, w, 3], which go on beyond its edge, and its mask bool [h, w]."""

    name: str
    colours: Pixels
    mask: Mask


@dataclass(frozen=True)
class Truth:
    """The place of one thing in one frame: its visible pixels bool [H, W], the box around them (x0, y0, x1, y1; ends are outside) and the
    centre (x, y) of the whole thing. `visible`: the share of it that nothing covers. A thing that left has an empty mask and no box."""

    name: str
    mask: Mask
    centre: tuple[float, float]
    box: tuple[int, int, int, int] | None
    visible: float


@dataclass(frozen=True)
class Moment:
    """One frame: rgb uint8 [H, W, 3], its time in seconds, and the truth of each thing. `changed` bool [H, W]: where anything covers
    the background."""

    index: int
    time: float
    rgb: Pixels
    truths: tuple[Truth, ...]
    changed: Mask


@dataclass(frozen=True)
class Path2D:
    """A smooth way: for each axis (y, x) the middle and reach in pixels, the swings per second and the phase."""

    wave: str
    middle: tuple[float, float]
    reach: tuple[float, float]
    swings: tuple[float, float]
    phase: tuple[float, float]

    def at(self, time: float) -> tuple[float, float]:
        """(y, x) at a time in seconds."""
        axes = zip(self.middle, self.reach, self.swings, self.phase, strict=True)
        y, x = (float(middle + reach * WAVES[self.wave](2 * np.pi * swings * time + phase)) for middle, reach, swings, phase in axes)
        return y, x


@dataclass(frozen=True)
class Actor:
    """A thing at the size at which it is seen, with a soft edge: colours float32 [h, w, 3], alpha float32 [h, w]; gone after `until`."""

    name: str
    colours: NDArray[np.float32]
    alpha: NDArray[np.float32]
    path: Path2D
    until: float = np.inf


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip that is drawn as it is asked for. times: of each frame, seconds, from 0. noise: of a camera, in steps of 255 (one sigma).
    stamp: whether each frame carries its number, which `stamped` reads."""

    seed: int
    size: Size
    times: NDArray[np.float64]
    background: Pixels
    actors: tuple[Actor, ...]
    noise: float = 0.0
    stamp: bool = False

    def __len__(self) -> int:
        return len(self.times)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(actor.name for actor in self.actors)

    @cached_property
    def pts(self) -> list[int]:
        """Timestamps of a written file, in ticks."""
        return [round(float(time) * TICKS) for time in self.times]

    def moments(self, start: int = 0, stop: int | None = None) -> Iterator[Moment]:
        for index in range(*slice(start, stop).indices(len(self))):
            yield self.at(index)

    def pictures(self) -> Iterator[Pixels]:
        """The pixels alone."""
        return (self._drawn(index)[0] for index in range(len(self)))

    def at(self, index: int) -> Moment:
        """One frame with its truth; the same however often and in whatever order it is asked for."""
        rgb, layers = self._drawn(index)
        covered, truths = np.zeros(self.size, np.bool_), []
        for actor, (corner, alpha) in reversed(list(zip(self.actors, layers, strict=True))):
            whole = _placed(alpha > 0.5, corner, self.size)
            truths.append(_truth(actor, whole, whole & ~covered, self.times[index]))
            covered |= whole
        changed = np.zeros(self.size, np.bool_)
        for corner, alpha in layers:
            changed |= _placed(alpha > 0, corner, self.size)
        return Moment(index, float(self.times[index]), rgb, tuple(reversed(truths)), changed)

    def _drawn(self, index: int) -> tuple[Pixels, list[tuple[Size, NDArray[np.float32]]]]:
        """The pixels, and of each actor its upper left corner and alpha."""
        time, layers = float(self.times[index]), []
        drawn = self.background.copy()
        for actor in self.actors:
            corner, colours, alpha = _moved(actor, time)
            y, x = corner
            region = drawn[y : y + alpha.shape[0], x : x + alpha.shape[1]]
            region[:] = np.rint(region + (colours - region) * alpha[..., None])
            layers.append((corner, alpha))
        if self.noise:
            grain = np.random.default_rng([self.seed, index]).normal(0, self.noise, drawn.shape)
            drawn = np.clip(np.rint(drawn + grain), 0, 255).astype(np.uint8)
        if self.stamp:
            _stamp(drawn, index)
        return drawn, layers


def clip(
    seed: int = 0, things: int | Sequence[str] = 2, size: Size = (240, 320), rate: float = 30.0, seconds: float = 10.0, *, wave: str = "",
    speed: float = 0.25, varying: bool = False, noise: float = 0.0, leaves: float = np.inf,
    stamp: bool = False,
) -> Clip:  # fmt: skip
    """A clip by its seed.

    things    their names, or how many are drawn by lot (1 to 3)
    size      (height, width) of its frames
    wave      a row of WAVES; drawn by lot unless given
    speed     of things on the average, frame widths a second
    varying   whether the gaps between frames vary, by GAPS
    leaves    seconds after which the first thing is gone
    stamp     whether each frame carries its number in its upper edge

    Raises KeyError for a name of which there is no cutout.
    """
    rng = np.random.default_rng([seed, 20_261_122])
    background = np.asarray(_background(rng, *size)).copy()
    named = _by_lot(rng, things) if isinstance(things, int) else tuple(things)
    cuts = [cutouts()[name][int(rng.integers(len(cutouts()[name])))] for name in named]
    wave = wave or str(rng.choice(list(WAVES)))
    actors = [_actor(rng, cut, size, len(cuts), wave, speed, leaves if place == 0 else np.inf) for place, cut in enumerate(cuts)]
    return Clip(seed, size, _times(rng, rate, max(1, round(rate * seconds)), varying), background, tuple(actors), noise, stamp)


@cache
def cutouts() -> dict[str, tuple[Cutout, ...]]:
    """Every thing that shows wholly, by its name."""
    found: dict[str, list[Cutout]] = {}
    for picture, names, masks in _pictures():
        for place, name in enumerate(names):
            if _whole(masks, place):
                found.setdefault(name, []).append(_cut(name, picture, masks[place]))
    return {name: tuple(cuts) for name, cuts in sorted(found.items())}


def absent(clip: Clip) -> list[str]:
    """Names of things that could be in the clip and are not, nor anything of the same last word."""
    there = {name.split()[-1] for name in clip.texts}
    return [name for name in cutouts() if name.split()[-1] not in there]


def write(clip: Clip, path: Path, codec: str = "libx264", **options: str) -> Path:
    """The clip as a video file, with its own timestamps."""
    import av

    height, width = clip.size
    rate = Fraction(len(clip) / max(float(clip.times[-1]), 1e-9)).limit_denominator(1000) if len(clip) > 1 else Fraction(30)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, options={"preset": "veryfast", "crf": "18", **options})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, TICKS)
        for pixels, pts in zip(clip.pictures(), clip.pts, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _pictures() -> Iterator[tuple[Pixels, tuple[str, ...], NDArray[np.bool_]]]:
    for row in json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8")).values():
        indices = np.asarray(Image.open(SAMPLES / row["mask"]))
        picture = Image.open(SAMPLES / row["file"]).convert("RGB")
        yield np.asarray(picture), tuple(row["texts"]), np.stack([indices == k for k in range(1, len(row["texts"]) + 1)])
    for scene in quality_set():
        yield np.asarray(scene.picture), scene.things, scene.masks


def _whole(masks: NDArray[np.bool_], place: int) -> bool:
    """True for a thing that nothing cuts off: neither the border nor another thing is near; and it is not small."""
    mask = masks[place]
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if max(np.ptp(rows), np.ptp(columns)) + 1 < SMALLEST:
        return False
    inside = min(rows[0], columns[0], mask.shape[0] - 1 - rows[-1], mask.shape[1] - 1 - columns[-1]) >= ROOM
    others = np.delete(masks, place, axis=0).any(axis=0)
    return bool(inside) and not (ndimage.binary_dilation(mask, iterations=ROOM) & others).any()


def _cut(name: str, picture: Pixels, mask: Mask) -> Cutout:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    # its outermost pixels are mixed with the background that it stood on: colours come from within
    kept = ndimage.binary_erosion(mask)[box]
    if not kept.any():
        kept = mask[box]
    nearest = ndimage.distance_transform_edt(~kept, return_distances=False, return_indices=True)
    return Cutout(name, picture[box][tuple(nearest)], mask[box])


def _by_lot(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """Names that do not share a last word: a red car and a blue one are hard to distinguish by their map."""
    named: list[str] = []
    for name in rng.permutation(list(cutouts())):
        if len(named) < count and name.split()[-1] not in {other.split()[-1] for other in named}:
            named.append(str(name))
    return tuple(named)


def _actor(rng: np.random.Generator, cut: Cutout, size: Size, count: int, wave: str, speed: float, until: float) -> Actor:
    side = rng.uniform(*SIDES[min(count, 3)]) * min(size)
    height, width = cut.mask.shape
    scale = side / max(height, width)
    shape = max(4, round(width * scale)), max(4, round(height * scale))
    colours = np.asarray(Image.fromarray(cut.colours).resize(shape, Image.Resampling.BICUBIC), np.float32)
    # the mask is hard: without a little blur its steps would be seen, scaled up
    soft = ndimage.gaussian_filter(cut.mask.astype(np.float32), 0.8, mode="constant")
    alpha = np.clip(np.asarray(Image.fromarray(soft).resize(shape, Image.Resampling.BICUBIC)), 0, 1)
    # an empty rim: a shift by part of a pixel spreads the edge by one
    rim = ((2, 2), (2, 2))
    path = _path(rng, size, (shape[1] + 4, shape[0] + 4), wave, speed)
    return Actor(cut.name, np.pad(colours, (*rim, (0, 0)), "edge"), np.pad(alpha, rim), path, until)


def _path(rng: np.random.Generator, size: Size, shape: Size, wave: str, speed: float) -> Path2D:
    """One that never leaves the frame."""
    reach = tuple(max(0.0, (whole - own) / 2 - 1) for whole, own in zip(size, shape, strict=True))
    # a swing goes over the reach four times; the axes' quotient is no simple one, so that the way is long
    along, ratio = speed * size[1] * rng.uniform(0.7, 1.3), rng.uniform(0.55, 0.85)
    swings = tuple(along * share / max(4 * one, 1.0) for one, share in zip(reach, (ratio, 1.0), strict=True))
    phase = rng.uniform(0, 2 * np.pi, 2)
    middle = ((size[0] - 1) / 2, (size[1] - 1) / 2)
    return Path2D(wave, middle, (reach[0], reach[1]), (swings[0], swings[1]), (float(phase[0]), float(phase[1])))


def _times(rng: np.random.Generator, rate: float, count: int, varying: bool) -> NDArray[np.float64]:
    gaps = rng.choice(GAPS, count) if varying else np.ones(count)
    return np.concatenate([[0.0], np.cumsum(gaps)[:-1]]) / rate


def _moved(actor: Actor, time: float) -> tuple[Size, NDArray[np.float32], NDArray[np.float32]]:
    """The upper left corner, colours and alpha at a time; whole pixels by the corner, the rest by interpolation."""
    (y, x), (height, width) = actor.path.at(time), actor.alpha.shape
    top, left = y - (height - 1) / 2, x - (width - 1) / 2
    corner = int(np.floor(top)), int(np.floor(left))
    by = top - corner[0], left - corner[1]
    alpha = _shifted(actor.alpha, by) * np.float32(time < actor.until)
    return corner, _shifted(actor.colours, by), alpha


def _shifted(values: NDArray[np.float32], by: tuple[float, float]) -> NDArray[np.float32]:
    """Down and to the right by less than a pixel, bilinear; the first row and column are only mixed with themselves."""
    for axis, share in enumerate(by):
        before = np.concatenate([values.take([0], axis), values.take(range(values.shape[axis] - 1), axis)], axis)
        values = values * np.float32(1 - share) + before * np.float32(share)
    return values


def _placed(mask: Mask, corner: Size, size: Size) -> Mask:
    whole = np.zeros(size, np.bool_)
    whole[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]] = mask
    return whole


def _truth(actor: Actor, whole: Mask, mask: Mask, time: float) -> Truth:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1) if len(rows) else None
    y, x = actor.path.at(time)
    return Truth(actor.name, mask, (x, y), box, float(mask.sum() / max(whole.sum(), 1)))


def _stamp(pixels: Pixels, index: int) -> None:
    """Write a frame's number into its upper edge, black and white fields that outlive a codec."""
    bits = (index >> np.arange(BITS)) & 1
    wide = pixels.shape[1] // BITS
    pixels[:STAMP, : wide * BITS] = np.repeat(bits * 255, wide)[None, :, None]


def stamped(pixels: Pixels) -> int:
    """The number of a frame that was drawn with `stamp`, read off its pixels uint8 [H, W, 3]."""
    wide = pixels.shape[1] // BITS
    fields = pixels[:STAMP, : wide * BITS].reshape(STAMP, BITS, wide, 3)
    bits = fields[STAMP // 4 : -STAMP // 4, :, wide // 4 : -(wide // 4) or None].mean(axis=(0, 2, 3)) > 127
    return int((bits << np.arange(BITS)).sum())
