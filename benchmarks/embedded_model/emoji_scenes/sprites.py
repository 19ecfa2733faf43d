"""Emoji as RGBA sprites, rendered once from the Noto Color Emoji font (SIL Open Font License 1.1)."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
# the one bitmap size the font holds
STRIKE = 109
CANVAS = 136


@cache
def _font() -> ImageFont.FreeTypeFont:
    if not FONT.exists():
        raise FileNotFoundError(f"{FONT} is missing: install Debian's package fonts-noto-color-emoji")
    return ImageFont.truetype(str(FONT), STRIKE)


@cache
def sprite(emoji: str, hue: float | None = None) -> Image.Image:
    """One emoji cropped to its ink, RGBA; with `hue` its saturated pixels are turned to that hue (0..1)."""
    canvas = Image.new("RGBA", (CANVAS + 40, CANVAS + 40))
    ImageDraw.Draw(canvas).text((10, 10), emoji, font=_font(), embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font draws nothing for {emoji!r}")
    cropped = canvas.crop(box)
    return cropped if hue is None else _tinted(cropped, hue)


def _tinted(picture: Image.Image, hue: float) -> Image.Image:
    alpha = picture.getchannel("A")
    hsv = np.array(picture.convert("RGB").convert("HSV"))
    coloured = hsv[..., 1] > 70
    hsv[..., 0][coloured] = int(hue * 255)
    # yellow and orange read as such only when bright
    if 0.05 < hue < 0.2:
        hsv[..., 2][coloured] = np.clip(hsv[..., 2][coloured].astype(int) + 60, 0, 255)
    tinted = Image.fromarray(hsv, "HSV").convert("RGB")
    tinted.putalpha(alpha)
    return tinted


@cache
def mipmap(emoji: str, hue: float | None, size: int) -> Image.Image:
    """The sprite with its longer side reduced to `size` pixels, antialiased."""
    full = sprite(emoji, hue)
    scale = size / max(full.size)
    return full.resize((max(1, round(full.width * scale)), max(1, round(full.height * scale))), Image.Resampling.LANCZOS)
