"""Scenes: one to five emoji on a varied background, with the exact visible mask of each.

Everything is drawn from one numpy Generator, so a seed is a scene.
"""

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from embedded_model.emoji_scenes.concepts import Concept
from embedded_model.emoji_scenes.sprites import mipmap


@dataclass(frozen=True)
class Scene:
    """A picture (RGB), its things, and for each thing its visible pixels (bool [H, W])."""

    picture: Image.Image
    things: tuple[Concept, ...]
    masks: tuple[np.ndarray, ...]

    @property
    def truths(self) -> frozenset[str]:
        return frozenset().union(*(thing.truths for thing in self.things))


def compose(rng: np.random.Generator, vocabulary: list[Concept], size: tuple[int, int], things: list[Concept] | None = None) -> Scene:
    """Draw one scene of `size` (h, w) pixels; the things are chosen at random unless given."""
    height, width = size
    picture = _background(rng, height, width)
    if things is None:
        count = int(rng.choice([1, 2, 3, 4, 5], p=[0.15, 0.25, 0.3, 0.2, 0.1]))
        things = [vocabulary[i] for i in rng.choice(len(vocabulary), count, replace=False)]
    boxes: list[tuple[float, float, float]] = []
    layers = []
    for thing in things:
        side, centre = _place(rng, height, width, boxes, len(things))
        boxes.append((*centre, side))
        layers.append(_draw(rng, picture, thing, side, centre))
    return Scene(picture, tuple(things), _visible(layers))


def _background(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Plain, gradient, soft noise, stripes or blobs, in two random colours."""
    first, second = _colour(rng), _colour(rng)
    kind = rng.choice(["plain", "gradient", "noise", "stripes", "blobs"])
    if kind == "plain":
        return Image.new("RGB", (width, height), tuple(first))
    if kind in ("blobs", "stripes"):
        return _shapes(rng, kind, first, second, height, width)
    if kind == "gradient":
        angle = rng.uniform(0, 2 * math.pi)
        y, x = np.mgrid[0:height, 0:width]
        along = x * math.cos(angle) + y * math.sin(angle)
        mix = (along - along.min()) / (np.ptp(along) + 1e-9)
    else:
        cells = int(rng.integers(3, 12))
        soft = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
        mix = np.asarray(soft.resize((width, height), Image.Resampling.BICUBIC)) / 255.0
    colours = first + (second - first) * mix[..., None]
    return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))


def _shapes(rng: np.random.Generator, kind: str, first: np.ndarray, second: np.ndarray, height: int, width: int) -> Image.Image:
    picture = Image.new("RGB", (width, height), tuple(first))
    draw = ImageDraw.Draw(picture)
    # keep the pattern quieter than the objects
    second = (first + (second - first) * 0.4).astype(int)
    if kind == "stripes":
        step = int(rng.integers(max(4, width // 16), max(6, width // 4)))
        slant = int(rng.integers(-height, height + 1))
        for x in range(-2 * width, 3 * width, 2 * step):
            draw.line([(x, 0), (x + slant, height)], fill=tuple(second), width=step)
    else:
        for _ in range(int(rng.integers(3, 9))):
            radius = rng.uniform(0.05, 0.25) * width
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=tuple(second))
    return picture


def _colour(rng: np.random.Generator) -> np.ndarray:
    hue, saturation, value = rng.uniform(), rng.uniform(0, 0.6), rng.uniform(0.35, 1)
    return (np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255).astype(int)


def _place(rng: np.random.Generator, height: int, width: int, boxes: list, count: int) -> tuple[float, tuple[float, float]]:
    """A side and a centre that overlap the boxes so far little; the least overlapping of a few tries."""
    short = min(height, width)
    largest = {1: 0.65, 2: 0.5, 3: 0.45}.get(count, 0.38)
    best = None
    for _ in range(8):
        side = short * rng.uniform(0.2, largest)
        y, x = rng.uniform(0.42 * side, height - 0.42 * side), rng.uniform(0.42 * side, width - 0.42 * side)
        overlap = max((_overlap(y, x, side, box) for box in boxes), default=0.0)
        if best is None or overlap < best[0]:
            best = (overlap, side, (y, x))
        if overlap < 0.1:
            break
    return best[1], best[2]


def _overlap(y: float, x: float, side: float, box: tuple[float, float, float]) -> float:
    other_y, other_x, other = box
    reach = (side + other) / 2
    down, across = max(0.0, reach - abs(y - other_y)), max(0.0, reach - abs(x - other_x))
    return min(down, side, other) * min(across, side, other) / min(side, other) ** 2


def _draw(rng: np.random.Generator, picture: Image.Image, thing: Concept, side: float, centre: tuple[float, float]) -> np.ndarray:
    """Paste one jittered sprite; returns its opacity over the whole picture, float32 [H, W]."""
    emoji = thing.emoji[int(rng.integers(len(thing.emoji)))]
    size = max(8, round(side))
    # a few sizes are kept ready, so that most of the reduction is done once
    ready = next((level for level in (24, 32, 48, 64, 96) if level >= size), 128)
    patch = mipmap(emoji, thing.tint, ready)
    if rng.uniform() < 0.5 and not thing.name.endswith("book"):
        patch = patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    patch = patch.resize((max(1, round(patch.width * size / ready)), max(1, round(patch.height * size / ready))), Image.Resampling.BILINEAR)
    patch = patch.rotate(rng.uniform(-25, 25), Image.Resampling.BILINEAR, expand=True)
    colours = patch.convert("RGB")
    colours = ImageEnhance.Brightness(colours).enhance(rng.uniform(0.75, 1.2))
    colours = ImageEnhance.Color(colours).enhance(rng.uniform(0.7, 1.3))
    alpha = patch.getchannel("A")
    corner = (round(centre[1] - patch.width / 2), round(centre[0] - patch.height / 2))
    picture.paste(colours, corner, alpha)
    layer = Image.new("L", picture.size)
    layer.paste(alpha, corner)
    return np.asarray(layer)


def _visible(layers: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Each layer's opaque pixels that no later layer covers."""
    masks = []
    covered = np.zeros_like(layers[0], dtype=bool)
    for layer in reversed(layers):
        opaque = layer > 127
        masks.append(opaque & ~covered)
        covered |= opaque
    return tuple(reversed(masks))
