"""Tracking: measures heat that should follow a moving thing, stay still where nothing happens, and be cold where there is nothing.

Every mode sees the same frames. What is measured, over clips of `moving_scenes` in which the first thing leaves before the end:

    pointing  the peak lies on the thing's visible pixels, in frames in which at least half of it is seen
    contrast  mean heat on the thing minus mean heat beside it
    lag_s     how far the peak is behind the thing's centre along its way, in seconds of its own speed; the median. Where the peak lies on a
              thing is the same whichever way it moves, so that it is nearly 0 for maps of each frame alone
    lag_px    the same in pixels
    flicker   mean absolute change of the heat from frame to frame, at places whose pixels are background in both
    absent    for a text of which nothing was ever in the clip: `absent_warm`, the share of pixels of at least 0.5, and `absent_peak`, the
              mean of each map's highest value
    gone      the same of the first thing's text once it has left
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedded_model import moving_scenes
from embedded_model.moving_scenes import Clip, Moment
from fastloc.results.prediction import Prediction
from fastloc.results.result import Result
from fastloc.video.sources.frame import Frame
from fastloc.video.worker import Worker

Row = dict[str, Any]
METHODS = ("gem_calibrated", "gem", "clip_surgery")
# measured with each frame alone: the raw map that others are better than
RAW = "itsm"
WARM, SEEN = 0.5, 0.5
# names that a text of this world can be compared with; none of them is ever looked for
WORLD = ("house", "tree", "star", "chair", "hammer", "guitar", "bread", "rose", "robot", "key", "shirt", "bird")
CLIPS, SIZE, SECONDS, LEAVES = 6, (180, 240), 8.0, 6.5


@dataclass(frozen=True)
class Mode:
    """A row of the table: the arguments of `fastloc.stream`. maps "fixed": the range of the first second's similarities."""

    name: str
    smooth: float = 0.0
    every: int = 1
    maps: str = "frame"
    background: tuple[str, ...] = ()


MODES = (
    Mode("each frame alone"),
    *(Mode(f"smooth={half}", smooth=half) for half in (0.05, 0.1, 0.2, 0.4)),
    *(Mode(f"every={step}", every=step) for step in (2, 5, 10)),
    Mode("maps=running", maps="running"),
    Mode("maps=running, smooth=0.1", maps="running", smooth=0.1),
    Mode("maps=(low, high)", maps="fixed"),
    Mode("maps=background", maps="background"),
    Mode("maps=background, names of this world", maps="background", background=WORLD),
    Mode("maps=background, names of this world, smooth=0.1", maps="background", background=WORLD, smooth=0.1),
)  # fmt: skip


class Remembered:
    """A localizer that runs once for every frame, however many modes ask, where texts take nothing from one another; else once for every
    set of texts. `begin` starts the next frame."""

    def __init__(self, localizer: Any) -> None:
        self.localizer, self.logit_scale = localizer, localizer.logit_scale
        recipe = getattr(localizer, "recipe", None)
        self.alone = recipe is not None and recipe.readout.score == "cosine"
        self.every: list[str] = []
        self.predictions = dict[tuple[str, ...], Prediction]()

    def begin(self) -> None:
        self.predictions.clear()

    def encode_texts(self, texts: Sequence[str]) -> tuple[str, ...]:
        self.every += [text for text in texts if text not in self.every]
        self.localizer.encode_texts(texts)
        return tuple(texts)

    def predict_frame(self, frame: Any, texts: tuple[str, ...], bgr: bool = False) -> Prediction:
        asked = tuple(self.every) if self.alone else texts
        if asked not in self.predictions:
            self.predictions[asked] = self.localizer.predict_frame(frame, self.localizer.encode_texts(asked), bgr)
        found = self.predictions[asked]
        if asked == texts:
            return found
        index = [asked.index(text) for text in texts]
        kept = {name: values[index] for name in ("scores", "image_scores") if (values := getattr(found, name)) is not None}
        return replace(found, texts=texts, similarity=found.similarity[index], **kept)

    def __call__(self, *_: Any) -> Any:
        raise NotImplementedError("it is asked by `predict_frame`")


@dataclass
class Judge:
    """The results of one mode in one clip."""

    clip: Clip
    hits: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    last: tuple[Moment, NDArray[np.float32]] | None = None

    def note(self, moment: Moment, result: Result) -> None:
        heat, points = result.heatmaps, result.points()
        for place, truth in enumerate(moment.truths):
            if truth.visible >= SEEN:
                self.hits[truth.name].append(bool(truth.mask[points[place].y, points[place].x]))
                self.values["contrast"].append(float(heat[place][truth.mask].mean() - heat[place][~truth.mask].mean()))
                self._lag(moment, place, (points[place].x, points[place].y))
            elif moment.time >= self.clip.actors[place].until:
                self._cold("gone", heat[place])
        self._cold("absent", heat[-1])
        if self.last is not None:
            before, old = self.last
            still = ~(moment.changed | before.changed)
            self.values["flicker"].append(float(np.abs(heat - old)[:, still].mean()))
        self.last = moment, heat

    def _cold(self, name: str, heat: NDArray[np.float32]) -> None:
        self.values[f"{name}_warm"].append(float((heat >= WARM).mean()))
        self.values[f"{name}_peak"].append(float(heat.max()))

    def _lag(self, moment: Moment, place: int, peak: tuple[int, int]) -> None:
        if self.last is None:
            return
        before = self.last[0]
        way = np.subtract(moment.truths[place].centre, before.truths[place].centre)
        far = float(np.hypot(*way))
        # where it turns round there is no behind
        if far < 0.3 * self._speed(moment):
            return
        behind = float(np.dot(np.subtract(moment.truths[place].centre, peak), way)) / far
        self.values["lag_px"].append(behind)
        self.values["lag_s"].append(behind * (moment.time - before.time) / far)

    def _speed(self, moment: Moment) -> float:
        """The usual motion of a thing in a frame, in pixels, which separates things that move from those that stand still."""
        return 0.25 * self.clip.size[1] * (moment.time - self.last[0].time) if self.last else 0.0


def clips(count: int = CLIPS, seconds: float = SECONDS, leaves: float = LEAVES) -> Iterator[tuple[Clip, tuple[str, ...]]]:
    """Clips of one to three things, and the texts that are asked for: the things, and one that is not there."""
    for seed in range(count):
        clip = moving_scenes.clip(seed, 1 + seed % 3, SIZE, seconds=seconds, leaves=leaves, noise=2.0)
        others = [name for name in moving_scenes.absent(clip) if not set(name.split()) & set(WORLD)]
        yield clip, (*clip.texts, str(np.random.default_rng(seed).choice(others)))


def follow(localizer: Any, clip: Clip, texts: Sequence[str], modes: Iterable[Mode] = MODES) -> dict[str, Judge]:
    """The results of every mode in a clip."""
    remembered = Remembered(localizer)
    running = {mode.name: (_worker(remembered, clip, texts, mode), Judge(clip)) for mode in modes}
    for moment in clip.moments(0, None):
        remembered.begin()
        frame = frame_of(moment)
        for worker, judge in running.values():
            judge.note(moment, worker.answer(frame).result)
    return {name: judge for name, (_, judge) in running.items()}


def frame_of(moment: Moment) -> Frame:
    """A drawn frame as a source would hand it out."""
    return Frame(moment.index, moment.time, 0.0, moment.rgb.shape[:2], lambda: moment.rgb)


def _worker(localizer: Any, clip: Clip, texts: Sequence[str], mode: Mode) -> Worker:
    maps = _range(localizer, clip, texts) if mode.maps == "fixed" else mode.maps
    return Worker(list(texts), localizer, every=mode.every, smooth=mode.smooth, maps=maps, background=mode.background)


def _range(localizer: Remembered, clip: Clip, texts: Sequence[str]) -> tuple[float, float]:
    """The lowest and highest similarity of the things' texts in the first second."""
    ready, found = localizer.encode_texts(texts), []
    for moment in clip.moments(0, 30):
        localizer.begin()
        found.append(localizer.predict_frame(moment.rgb, ready).similarity[:-1])
    return float(min(each.min() for each in found)), float(max(each.max() for each in found))


def run(quick: bool = False, methods: Sequence[str] = METHODS, modes: Sequence[Mode] = MODES) -> dict[str, Any]:
    """Rows of every method and mode, and the pointing accuracy of every text of every clip, each frame alone."""
    from fastloc.engine.localizer import Localizer

    rows, things, base = [], [], Localizer()
    for method, own in [*((name, modes) for name in methods), (RAW, modes[:1])]:
        localizer = base.with_method(method)
        judges: dict[str, list[Judge]] = defaultdict(list)
        for clip, texts in clips(2, 1.0, 0.7) if quick else clips():
            for name, judge in follow(localizer, clip, texts, own).items():
                judges[name].append(judge)
            things += [{"method": method, "clip": clip.seed, "text": text, "pointing": _mean(hits), "frames": len(hits)}
                       for text, hits in judges[modes[0].name][-1].hits.items()]  # fmt: skip
            mine = [thing for thing in things if thing["method"] == method and thing["clip"] == clip.seed]
            line = ", ".join(f"{thing['text']} {thing['pointing']:.3f}" for thing in mine)
            print(f"{method}, clip {clip.seed}: {line}", flush=True)
        rows += [{"method": method, "mode": mode.name, **summed(judges[mode.name])} for mode in own]
    line = {"clips": 2 if quick else CLIPS, "size": list(SIZE), "rate": 30, "seconds": 1.0 if quick else SECONDS}
    return {**line, "rows": rows, "things": things}


def again(names: Sequence[str]) -> list[Row]:
    """The rows of these modes alone, of every method."""
    from fastloc.engine.localizer import Localizer

    modes, base, rows = [mode for mode in MODES if mode.name in names], Localizer(), []
    for method in METHODS:
        judges: dict[str, list[Judge]] = defaultdict(list)
        for clip, texts in clips():
            for name, judge in follow(base.with_method(method), clip, texts, modes).items():
                judges[name].append(judge)
        rows += [{"method": method, "mode": mode.name, **summed(judges[mode.name])} for mode in modes]
    return rows


def summed(judges: Sequence[Judge]) -> Row:
    """One mode's measures over its clips, every frame alike; lags are medians."""
    hits = [hit for judge in judges for each in judge.hits.values() for hit in each]
    of = {key: [value for judge in judges for value in judge.values[key]] for key in {key for judge in judges for key in judge.values}}
    fields = {key: float(np.median(of[key])) if key.startswith("lag") else _mean(of[key]) for key in sorted(of)}
    return {"pointing": _mean(hits), "questions": len(hits), **{key: float(f"{value:.4g}") for key, value in fields.items()}}


def _mean(values: Sequence[float | bool]) -> float:
    return round(float(np.mean(values)), 4) if values else float("nan")


def lines(part: dict[str, Any]) -> list[str]:
    columns = ("pointing", "contrast", "lag_px", "lag_s", "flicker", "absent_warm", "absent_peak", "gone_warm", "gone_peak")
    lines = [f"{'':66}" + "".join(f"{name:>12}" for name in columns)]
    for row in part["rows"]:
        lines.append(f"{row['method']:16}{row['mode']:50}" + "".join(f"{row.get(name, float('nan')):12.4g}" for name in columns))
    return lines
