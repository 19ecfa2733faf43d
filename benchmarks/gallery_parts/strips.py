"""Strips: one scene and one text, and a single thing that changes from tile to tile."""

from collections.abc import Callable, Iterator
from functools import partial

from PIL import Image

from fastloc import Localizer
from fastloc.results.result import Result
from gallery_parts import readouts
from gallery_parts.tiles import Picture, heat, plain, scene, where

__all__ = ["strips"]

WIDTH = 320
# the raw map, its reversal, and what mends the encoder's attention
REPAIRS = {
    "itsm": "the raw map", "rclip": "the raw map reversed", "clip_surgery": "v-v attention, and what all texts share taken away",
    "gem": "v-v, k-k and q-q attention", "gem_calibrated": "the same at measured temperatures",
}  # fmt: skip
ITERATIONS, ITERATED = (0, 1, 2, 3, 5, 8), {"adaptive": "adaptive", "5": 5.0}
TEMPERATURES = (0.5, 1.0, 2.0, 5.0, 10.0, 50.0)
BLOCKS = (1, 2, 3, 4, 5, 6)
SIZES = (64, 96, 160, 224, 448)
REFINEMENTS = {"": "as it is", "pamr": '`refined("pamr")`', "propagate": '`refined("propagate")`'}
# rows whose own read-out is a softmax over the texts
COMPETING = ("sclip", "clearclip", "naclip")
ASKED = ("red car", "green balloon", "dog", "bus")


def strips(localizer: Localizer) -> Iterator[Picture]:
    """Every strip, tile by tile. localizer: the embedded model's."""
    for part in (opposite, iterations, temperatures, blocks, attention, sizes, orders, refinements, presence, readouts.readouts):
        yield from part(localizer)


def opposite(localizer: Localizer) -> Iterator[Picture]:
    """Two texts on one scene: the raw map is hot where the thing is not, its reversal is hot on a thing whatever the text."""
    texts, street = ("dog", "bus"), scene("street")
    both = _side_by_side([plain(street.picture, WIDTH)] * 2)
    yield Picture("opposite-scene", "opposite", "A dog, a traffic light and a bus", "the scene, twice: left *dog*, right *bus*", (both,))
    for method, words in REPAIRS.items():
        result = localizer.with_method(method)(street.picture, list(street.positives))
        peaks = ", ".join(f"of {text} on {where(result, text, street)}" for text in texts)
        tile = _side_by_side([heat(result, text, WIDTH) for text in texts])
        caption = f"[`{method}`](methods/each.md#{method}): {words}"
        yield Picture(f"opposite-{method}", "opposite", f"Heat of dog and of bus, {method}; peak {peaks}", caption, (tile,))


def iterations(localizer: Localizer) -> Iterator[Picture]:
    """GEM's iterations at its own inverse temperature, and at another."""
    for name, inverse in ITERATED.items():
        for count in ITERATIONS:
            changed = localizer.with_method("gem", recommended=False, inv_temp=inverse, iterations=count)
            caption = f"`inv_temp={name}`, `iterations={count}`"
            yield _one(f"iterations-{name}-{count}", "iterations", changed, "street", "dog", caption)


def temperatures(localizer: Localizer) -> Iterator[Picture]:
    """GEM's recommended form, not iterated, at ever higher inverse temperatures."""
    for inverse in TEMPERATURES:
        changed = localizer.with_method("gem", inv_temp=inverse)
        yield _one(f"temperature-{inverse:g}", "temperature", changed, "market", "cat", f"`inv_temp={inverse:g}`")


def blocks(localizer: Localizer) -> Iterator[Picture]:
    """GEM's recommended form over the last block, then over more."""
    for count in BLOCKS:
        changed = localizer.with_method("gem", blocks=count)
        yield _one(f"blocks-{count}", "blocks", changed, "market", "cat", f"`blocks={count}`")


def attention(localizer: Localizer) -> Iterator[Picture]:
    """Attention rollout from the last block on, then from earlier ones on, up to all."""
    for count in BLOCKS:
        changed = localizer.with_method("rollout", start=-count)
        words = "the last block" if count == 1 else f"the last {count} blocks"
        yield _one(f"attention-{count}", "attention", changed, "street", "dog", words)


def sizes(localizer: Localizer) -> Iterator[Picture]:
    """The recommended method on ever larger inputs."""
    for size in SIZES:
        sized = Localizer(device=localizer.device, size=size)
        rows, columns = sized(scene("market").picture, "cat").similarity.shape[1:]
        yield _one(f"size-{size}", "sizes", sized, "market", "cat", f"`size={size}`, {columns} x {rows} patches")


def orders(localizer: Localizer) -> Iterator[Picture]:
    """The same features by shares of a softmax over the texts, and by min-max of each text alone."""
    for method in COMPETING:
        for order, words in (("softmax", "softmax over the texts"), ("picture", '`order="picture"`')):
            changed = localizer.with_method(method, order=order)
            yield _one(f"order-{method}-{order}", "orders", changed, "market", "cat", f"`{method}`, {words}")


def refinements(localizer: Localizer) -> Iterator[Picture]:
    """One result, and its two refinements."""
    for method, words in REFINEMENTS.items():
        after = partial(Result.refined, method=method) if method else None
        yield _one(f"refined-{method or 'not'}", "refinements", localizer, "street", "dog", words, after)


def presence(localizer: Localizer) -> Iterator[Picture]:
    """Texts that are there and texts that are not: each has a hottest place, and the score is the difference."""
    market = scene("market")
    result = localizer(market.picture, list(ASKED))
    if result.scores is None:
        raise ValueError("the embedded model must give scores")
    for text, score in zip(ASKED, result.scores.tolist(), strict=True):
        there = "in the picture" if text in market.positives else "not in the picture"
        caption = f"*{text}*, {there}: score {score:.2g}"
        alt = f"Heat of {text}, {there}; peak on {where(result, text, market)}"
        yield Picture(f"presence-{text.replace(' ', '-')}", "presence", alt, caption, (heat(result, text, WIDTH),))


def _one(
    name: str, group: str, localizer: Localizer, place: str, text: str, caption: str, after: Callable[[Result], Result] | None = None
) -> Picture:
    """One tile: a text on a sample scene, asked for with all of the scene's texts."""
    shown = scene(place)
    result = localizer(shown.picture, list(shown.positives))
    result = after(result) if after else result
    alt = f"Heat of {text}, {caption.replace('`', '')}; peak on {where(result, text, shown)}".replace('"', "")
    return Picture(name, group, alt, caption, (heat(result, text, WIDTH),))


def _side_by_side(tiles: list[Image.Image]) -> Image.Image:
    both = Image.new("RGB", (sum(tile.width for tile in tiles) + 4, tiles[0].height), "white")
    both.paste(tiles[0], (0, 0))
    both.paste(tiles[1], (tiles[0].width + 4, 0))
    return both
