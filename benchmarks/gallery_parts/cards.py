"""A card a method: the same three scenes under each, so that any two can be compared."""

from collections.abc import Iterator, Sequence

from PIL import Image

from fastloc import Localizer
from fastloc.recipes import RECIPES
from gallery_parts.tiles import Picture, heat, plain, scene, where

__all__ = ["GROUP", "SCENES", "card", "cards"]

GROUP = "methods"
# two wide scenes, one below the other, and a high one at their right; of each the text that is shown
SCENES = {"market": "cat", "garden": "owl", "street": "dog"}
# pixels: the width of a wide scene, 4 : 3, and of the gap
WIDTH, GAP = 320, 4
# a tile's width by its scene; the high one, 3 : 4, is as high as the other two
WIDTHS = {"market": WIDTH, "garden": WIDTH, "street": round((2 * WIDTH * 3 / 4 + GAP) * 3 / 4)}


def cards(localizer: Localizer) -> Iterator[Picture]:
    """The scenes as they are, then every method's answers."""
    named = ", ".join(f"{'an' if text[0] in 'aeiou' else 'a'} {text} in the {name}" for name, text in SCENES.items())
    tiles = [plain(scene(name).picture, WIDTHS[name]) for name in SCENES]
    yield Picture("scenes", GROUP, f"Three drawn scenes: {named}", "the scenes", (_joined(tiles),))
    for method in RECIPES:
        yield card(localizer.with_method(method))


def card(localizer: Localizer) -> Picture:
    """One method's answers to all texts of the scenes, one text of each shown."""
    method, tiles, peaks = localizer.method, [], []
    for name, text in SCENES.items():
        shown = scene(name)
        result = localizer(shown.picture, list(shown.positives))
        tiles.append(heat(result, text, WIDTHS[name]))
        peaks.append(f"of {text} on {where(result, text, shown)}")
    alt = f"Heat under {method}; peak {', '.join(peaks)}"
    return Picture(method, GROUP, alt, f"[`{method}`](methods/each.md#{method})", (_joined(tiles),))


def _joined(tiles: Sequence[Image.Image]) -> Image.Image:
    upper, lower, beside = tiles
    whole = Image.new("RGB", (WIDTH + GAP + beside.width, upper.height + GAP + lower.height), "white")
    whole.paste(upper, (0, 0))
    whole.paste(lower, (0, upper.height + GAP))
    # rounding leaves it a pixel off
    whole.paste(beside.resize((beside.width, whole.height), Image.Resampling.LANCZOS), (WIDTH + GAP, 0))
    return whole
