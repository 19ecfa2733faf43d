"""A card a method: the same three scenes under each, so that any two can be compared."""

from collections.abc import Iterator, Sequence

from PIL import Image

from fastloc import Localizer
from fastloc.recipes import RECIPES
from gallery_parts.tiles import Picture, Scene, heat, plain, scene, where

__all__ = ["GROUP", "SCENES", "cards"]

GROUP = "methods"
# two wide scenes, one below the other, and a high one at their right; of each the text that is shown
SCENES = {"market": "cat", "garden": "owl", "street": "dog"}
WIDTH, GAP = 320, 4


def cards(localizer: Localizer) -> Iterator[Picture]:
    """The scenes as they are, then every method's answers to all of a scene's texts, one of them shown."""
    shown = [(scene(name), text) for name, text in SCENES.items()]
    named = ", ".join(f"a {text} in the {each.name}" for each, text in shown)
    yield Picture("scenes", GROUP, f"Three drawn scenes: {named}", "the scenes", (_card(_plain(shown)),))
    for method in RECIPES:
        yield _method(localizer.with_method(method), shown)


def _method(localizer: Localizer, shown: Sequence[tuple[Scene, str]]) -> Picture:
    answers = [(localizer(each.picture, list(each.positives)), text, each) for each, text in shown]
    peaks = ", ".join(f"of {text} on {where(result, text, each)}" for result, text, each in answers)
    name = localizer.method
    tiles = [heat(result, text, WIDTH if each.picture.width > each.picture.height else _high()) for result, text, each in answers]
    return Picture(name, GROUP, f"Heat under {name}; peak {peaks}", f"[`{name}`](methods/each.md#{name})", (_card(tiles),))


def _plain(shown: Sequence[tuple[Scene, str]]) -> list[Image.Image]:
    return [plain(each.picture, WIDTH if each.picture.width > each.picture.height else _high()) for each, _ in shown]


def _high() -> int:
    """The width of the high scene beside the two wide ones, which are 4 : 3, as it is 3 : 4."""
    return round((2 * WIDTH * 3 / 4 + GAP) * 3 / 4)


def _card(tiles: Sequence[Image.Image]) -> Image.Image:
    upper, lower, beside = tiles
    card = Image.new("RGB", (WIDTH + GAP + beside.width, upper.height + GAP + lower.height), "white")
    card.paste(upper, (0, 0))
    card.paste(lower, (0, upper.height + GAP))
    card.paste(beside.resize((beside.width, card.height), Image.Resampling.LANCZOS), (WIDTH + GAP, 0))
    return card
