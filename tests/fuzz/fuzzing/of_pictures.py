"""Targets of pictures and videos, of every format that is read."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fuzzing.mutators import edited, png
from fuzzing.target import Target, written

# of a decoded picture: what a larger limit lets through is in the program's hand
PIXELS = 1_000_000


def _pictures() -> list[bytes]:
    return list(_every_picture())


def _every_picture() -> Iterator[bytes]:
    import numpy as np
    from PIL import Image

    from fastloc.imaging.picture_formats import FORMATS

    drawn = Image.effect_mandelbrot((20, 14), (-2, -1, 1, 1), 20)
    rgb = drawn.convert("RGB")
    exif = Image.Exif()
    exif[274] = 6
    deep = Image.fromarray(np.arange(280, dtype=np.uint16).reshape(14, 20) * 200)
    saved = [
        *((rgb, {"format": kind}) for kind in FORMATS),
        (rgb, {"format": "JPEG", "exif": exif, "progressive": True}), (rgb.convert("CMYK"), {"format": "JPEG"}),
        (drawn.convert("P"), {"format": "PNG", "transparency": 3}), (deep, {"format": "PNG"}), (rgb.convert("RGBA"), {"format": "PNG"}),
        (drawn.convert("1"), {"format": "PNG"}), (drawn.convert("P"), {"format": "GIF", "save_all": True, "append_images": [drawn]}),
        (deep, {"format": "TIFF"}), (rgb, {"format": "TIFF", "compression": "tiff_lzw"}),
        (drawn, {"format": "TIFF", "compression": "jpeg"}),
        (rgb, {"format": "WEBP", "lossless": True, "exif": exif}),
        (drawn.convert("F").point(lambda value: value * 0.003), {"format": "TIFF"}),
    ]  # fmt: skip
    for picture, options in saved:
        file = io.BytesIO()
        try:
            picture.save(file, **options)
        # Pillow reads formats that it does not write, or was built without
        except Exception:
            continue
        yield file.getvalue()


def _loaded(content: bytes, folder: Path) -> object:
    from fastloc.imaging.images import load

    return load(content, max_pixels=PIXELS).size


def _reduced(content: bytes, folder: Path) -> object:
    from fastloc.imaging.images import load

    return load(content, max_pixels=PIXELS, enough=lambda size: (4, 4)).size


def _jpegs() -> list[bytes]:
    from PIL import Image

    made = []
    for options in ({}, {"progressive": True}, {"subsampling": 2, "quality": 30}):
        file = io.BytesIO()
        Image.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 20).convert("RGB").save(file, "JPEG", **options)
        made.append(file.getvalue())
    return made


def _videos() -> list[bytes]:
    from clips import colours, write_clip

    made = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".mp4", ".mkv", ".webm", ".avi", ".ts"):
            audio = "mp3" if suffix == ".mkv" else None
            made.append(write_clip(Path(folder) / f"a{suffix}", colours(4, (32, 32)), audio=audio).read_bytes())
    return made


def _video(content: bytes, folder: Path) -> object:
    from fastloc.video.sources.open_source import open_source

    source = open_source(written(folder, "video.bin", content), max_pixels=PIXELS)
    count = 0
    for frame in source.frames():
        count += frame.rgb.size > 0
        if count == 50:
            break
    source.close()
    return count


_IMAGING = "fastloc.imaging"
ROWS = (
    Target("pictures", _loaded, _pictures, png, (f"{_IMAGING}.images", f"{_IMAGING}.picture_formats", f"{_IMAGING}.colour")),
    Target("reduced-pictures", _reduced, _jpegs, edited, (f"{_IMAGING}.reduced_picture",)),
    Target(
        "videos", _video, _videos, edited, ("fastloc.video.sources.av_reader", "fastloc.video.sources.timestamps"), memory=256,
        imports=("av",),
    ),
)  # fmt: skip
