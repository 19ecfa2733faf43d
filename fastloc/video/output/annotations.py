"""Small things drawn over a picture, made once and kept: chips with a text, rings around a peak, boxes."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from fastloc.imaging.overlay import fitted, font_for
from fastloc.video.output.canvas import Mark

__all__ = ["Colour", "chip", "font_size", "outline", "ring"]

Colour = tuple[int, int, int]

# drawn this much larger and scaled down: Pillow's shapes have hard edges
SMOOTH = 4
INK, CARD = (255, 255, 255), (16, 18, 22, 190)
# lines of the picture to one of a caption, and the least that can be read
LINES, LEAST = 32, 11


def font_size(high: int) -> int:
    """Pixels of a caption's letters on a picture of this height."""
    return max(round(high / LINES), LEAST)


@lru_cache(maxsize=512)
def chip(text: str, value: str, colour: Colour | None, size: int, width: int) -> Mark:
    """A dark card that can be read on anything, at most `width` pixels: a dot of the colour, the text, and a number after it."""
    pad, dot = round(size * 0.45), round(size * 0.55) if colour else 0
    lead = pad + (dot + pad if dot else 0)
    font, numbers = font_for(text, size), font_for(value, size)
    tail = round(numbers.getlength(value)) + pad if value else 0
    line = fitted(text, max(width - lead - tail - pad, size), font)
    # numbers keep their place while they change
    length = lead + round(font.getlength(line)) + tail + pad
    high = round(size * 1.5)
    card = _card(length, high, round(size * 0.4))
    if colour:
        card.alpha_composite(_dot(dot, colour), (pad, (high - dot) // 2))
    draw = ImageDraw.Draw(card)
    _letters(draw, (lead, high), line, font, INK)
    if value:
        _letters(draw, (length - tail, high), value, numbers, (190, 196, 204))
    return Mark(card)


@lru_cache(maxsize=256)
def ring(radius: int, colour: Colour) -> Mark:
    """A white ring between two dark lines, which shows on any picture, and a centre of this colour."""
    half, line = radius + 4, max(radius * 0.26, 2.2)
    mark = Image.new("RGBA", (2 * half * SMOOTH, 2 * half * SMOOTH), (0, 0, 0, 0))
    draw, at = ImageDraw.Draw(mark), (half * SMOOTH, half * SMOOTH)
    for far, width, ink in ((radius + 1.2, line + 2.4, (0, 0, 0, 160)), (radius, line, (*INK, 255))):
        draw.circle(at, far * SMOOTH, outline=ink, width=round(width * SMOOTH))
    draw.circle(at, (line + 1.2) * SMOOTH, fill=(0, 0, 0, 160))
    draw.circle(at, line * SMOOTH, fill=(*colour, 255))
    return Mark(mark.resize((2 * half, 2 * half), Image.Resampling.BOX))


def outline(corners: tuple[int, int, int, int], colour: Colour, width: int) -> list[tuple[Mark, int, int]]:
    """A rectangle from (x0, y0) to just before (x1, y1), with a dark edge inside and outside: its sides, and where their left tops lie.

    The sides begin and end at even pixels, so that no sample of chroma is touched by two of them.
    """
    x0, y0, x1, y1 = corners
    edge = width + 2
    left, top, right, bottom = (x0 - 1) // 2 * 2, (y0 - 1) // 2 * 2, x1 + 1, y1 + 1
    # the part inside of the sides
    x, y, far, low = (x0 + edge) // 2 * 2, (y0 + edge) // 2 * 2, (x1 + 1 - edge) // 2 * 2, (y1 + 1 - edge) // 2 * 2
    parts = [(left, top, right, bottom)]
    if x < far and y < low:
        parts = [(left, top, right, y), (left, low, right, bottom), (left, y, x, low), (far, y, right, low)]
    return [(_part_of_outline(part, corners, colour, width), part[0], part[1]) for part in parts]


def _part_of_outline(part: tuple[int, int, int, int], corners: tuple[int, int, int, int], colour: Colour, width: int) -> Mark:
    (left, top, right, bottom), (x0, y0, x1, y1) = part, corners
    picture = Image.new("RGBA", (right - left, bottom - top), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((x0 - 1 - left, y0 - 1 - top, x1 - left, y1 - top), outline=(0, 0, 0, 130), width=width + 2)
    draw.rectangle((x0 - left, y0 - top, x1 - 1 - left, y1 - 1 - top), outline=(*colour, 255), width=width)
    return Mark(picture)


def _letters(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, font: ImageFont.FreeTypeFont, ink: Colour) -> None:
    draw.text((at[0], at[1] / 2), text, fill=ink, font=font, anchor="lm")


def _card(width: int, height: int, radius: int) -> Image.Image:
    card = Image.new("RGBA", (width * SMOOTH, height * SMOOTH), (*CARD[:3], 0))
    ImageDraw.Draw(card).rounded_rectangle((0, 0, card.width - 1, card.height - 1), radius * SMOOTH, fill=CARD)
    return card.resize((width, height), Image.Resampling.BOX)


def _dot(size: int, colour: Colour) -> Image.Image:
    dot = Image.new("RGBA", (size * SMOOTH, size * SMOOTH), (*colour, 0))
    ImageDraw.Draw(dot).ellipse((0, 0, dot.width - 1, dot.height - 1), fill=(*colour, 255))
    return dot.resize((size, size), Image.Resampling.BOX)
