"""Mixed calls of localizers in one process: every method, many sizes and texts, an exported file, submitted pictures, files, and errors.

A call is chosen by a random number with a seed. Every so many calls a question comes that was asked before; its answer must be the same to
the last bit.
"""

import copy
import io
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastloc.errors import FastlocError, FastlocWarning
from fastloc.utils.lru_cache import MOST
from scale_parts import pictures
from soak_parts.tally import Tally

__all__ = ["Mixed", "run"]

Random = np.random.Generator
# what the embedded model reads, and what it does not: the second kind makes warnings
WORDS = ("cat", "dog", "pizza", "red car", "tree", "house", "ball", "fish", "bird", "flower")
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "")
STRANGE = ("xylophone {}", "the {}th thing", "{} of {}", "où est {}", "猫 {}")
# (height, width) of pictures, pixels; the model's input follows them
SIDES = (24, 40, 64, 88, 120)
MOST_TEXTS, AGAIN = 6, 50


@dataclass
class Mixed:
    """The localizers, and the answers to the questions that are asked again."""

    torch: dict[str, Any]
    exported: Any
    folder: Path
    kept: dict[str, Any]

    @classmethod
    def made(cls, folder: Path) -> "Mixed":
        """Load them: the embedded model with every method that it runs at the pictures' own size, and the embedded file."""
        from fastloc.engine.localizer import Localizer
        from fastloc.recipes import RECIPES
        from fastloc.runtime.localizer import OnnxLocalizer

        usual, found = Localizer(size=64, fit="own", device="cpu"), {}
        for name in RECIPES:
            try:
                found[name] = usual.with_method(name, fit="own")
            except FastlocError:
                # one that this model lacks a part of
                continue
        return cls(found, OnnxLocalizer(threads=1, size=64), folder, {})

    def fill(self) -> None:
        """Encode as many texts as the text towers remember, in several calls: the memory holds those of the largest call twice."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FastlocWarning)
            for first in range(0, MOST, 256):
                texts = [f"the {number}th thing" for number in range(first, first + 256)]
                self.torch["gem"].encode_texts(texts)
                self.exported.encode_texts(texts)

    def call(self, random: Random) -> str:
        """One call. Returns its kind; raises what a user would not expect."""
        kinds = list(KINDS)
        shares = np.array([KINDS[kind][1] for kind in kinds], float)
        kind = kinds[int(random.choice(len(kinds), p=shares / shares.sum()))]
        KINDS[kind][0](self, random)
        return kind

    def again(self) -> str:
        """Ask a question of the beginning again. Returns what is wrong with the answer, "" if nothing."""
        for name, localizer in (("gem", self.torch["gem"]), ("exported", self.exported)):
            found = localizer(_picture(np.random.default_rng(5)), ["cat", "red car"]).similarity
            if not np.array_equal(self.kept.setdefault(name, found), found):
                return f"{name} answers the same question in another way, by {np.abs(self.kept[name] - found).max():.3g}"
        return ""


def _call(mixed: Mixed, random: Random) -> None:
    localizer = mixed.torch[str(random.choice(list(mixed.torch)))]
    result = localizer(_picture(random), _texts(random))
    result.points()
    result.boxes()


def _batch(mixed: Mixed, random: Random) -> None:
    found = mixed.torch["gem"]([_picture(random) for _ in range(int(random.integers(2, 5)))], _texts(random))
    for result in found:
        result.labels()


def _other_method(mixed: Mixed, random: Random) -> None:
    name = str(random.choice(["naclip", "clip_surgery", "itsm"]))
    mixed.torch["gem"].with_method(name, fit="own")(_picture(random), _texts(random)).to_dict()


def _submitted(mixed: Mixed, random: Random) -> None:
    handles = [mixed.torch["gem"].submit(_picture(random), _texts(random)) for _ in range(int(random.integers(1, 5)))]
    # some are never asked for
    if random.random() < 0.7:
        for handle in handles:
            handle.result()


def _exported(mixed: Mixed, random: Random) -> None:
    mixed.exported(_picture(random), _texts(random)).heatmap_array("uint8")


def _written(mixed: Mixed, random: Random) -> None:
    result = mixed.torch["gem"](_encoded(random), _texts(random))
    with tempfile.TemporaryDirectory(dir=mixed.folder) as folder:
        result.save(Path(folder) / f"result.{random.choice(['png', 'jpg', 'webp'])}")
        result.to_npz(Path(folder) / "result.npz")


def _copied(mixed: Mixed, random: Random) -> None:
    result = mixed.torch["itsm"](_picture(random), _texts(random))
    assert np.array_equal(copy.deepcopy(result).heatmaps, result.heatmaps)


def _loaded(mixed: Mixed, random: Random) -> None:
    from fastloc.engine.localizer import Localizer
    from fastloc.runtime.localizer import OnnxLocalizer

    made = Localizer(size=int(random.choice([32, 48])), device="cpu") if random.random() < 0.5 else OnnxLocalizer(threads=1, size=48)
    made(_picture(random), "cat")


def _refused(mixed: Mixed, random: Random) -> None:
    gem, picture = mixed.torch["gem"], _picture(random)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: gem(picture, []), lambda: gem(picture, [""]), lambda: gem(picture, ["cat", 3]),
        lambda: gem(mixed.folder / "no such picture.png", "cat"), lambda: gem(_halved(random), "cat"),
        lambda: gem(b"no picture at all", "cat"), lambda: gem.with_method(f"method {random.integers(10**6)}"),
        lambda: gem.with_method("gem", blocks=99), lambda: gem(np.zeros((0, 4, 3), np.uint8), "cat"),
        lambda: gem.submit(b"GIF89a", "cat"), lambda: mixed.exported(picture, []), lambda: mixed.exported(b"\x89PNG", "cat"),
    )  # fmt: skip
    number = int(random.integers(len(calls)))
    try:
        calls[number]()
    except FastlocError:
        return
    raise AssertionError(f"wrong call {number} was answered")


# kind -> what does it, and how often
KINDS: dict[str, tuple[Callable[[Mixed, Random], None], float]] = {
    "call": (_call, 40), "batch": (_batch, 6), "other method": (_other_method, 6), "submitted": (_submitted, 8),
    "exported": (_exported, 20), "written": (_written, 2), "copied": (_copied, 4), "loaded": (_loaded, 0.3), "refused": (_refused, 14),
}  # fmt: skip


def run(tally: Tally, seconds: float, calls: int, pause: float, folder: Path, fill: bool) -> None:
    """Calls for so many seconds, spread over them: at most `calls`, fewer where the machine is slower.

    fill: first encode more texts than are remembered, so that the memory of texts is what it will be.
    """
    mixed, random = Mixed.made(folder), np.random.default_rng(0)
    if fill:
        mixed.fill()
    began = time.monotonic()
    for number in range(calls):
        now = time.monotonic() - began
        if now >= seconds:
            return
        time.sleep(max(number * seconds / calls - now, pause))
        try:
            with warnings.catch_warnings():
                # of words that the embedded model does not know
                warnings.simplefilter("ignore", FastlocWarning)
                tally.add(mixed.call(random))
                if number % AGAIN == 0 and (wrong := mixed.again()):
                    tally.problem(wrong)
        except Exception as error:
            tally.problem(f"call {number}: {type(error).__name__}: {error}")
        tally.add("calls")


def _picture(random: Random) -> Image.Image:
    """A crop of a sample scene, of one of many sizes."""
    scene = pictures.scenes()[int(random.integers(len(pictures.scenes())))][0]
    return scene.resize((int(random.choice(SIDES)), int(random.choice(SIDES))))


def _encoded(random: Random) -> bytes:
    file = io.BytesIO()
    _picture(random).save(file, str(random.choice(["PNG", "JPEG", "WEBP"])))
    return file.getvalue()


def _halved(random: Random) -> bytes:
    content = _encoded(random)
    return content[: len(content) // 2]


def _texts(random: Random) -> list[str]:
    """One to some texts: those that the model knows, in many colours, and now and then one that nobody ever asked for."""
    texts = [f"{random.choice(COLOURS)} {random.choice(WORDS)}".strip() for _ in range(int(random.integers(1, MOST_TEXTS + 1)))]
    if random.random() < 0.2:
        texts.append(str(random.choice(STRANGE)).replace("{}", str(random.integers(10**6))))
    return texts
