"""HTML pages in one file that load nothing: the document around a body, and pictures as data."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

from PIL import Image

__all__ = ["document", "picture_bytes", "picture_element", "table"]

# settings of Pillow's encoders
_FORMATS = {"JPEG": {"quality": 88, "subsampling": 0}, "WEBP": {"quality": 82, "method": 4}}


def document(title: str, style: str, body: str) -> str:
    """The page, HTML in UTF-8. title is plain text and gets escaped; style and body are CSS and HTML already."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def picture_bytes(picture: Image.Image, kind: str = "JPEG") -> bytes:
    """The picture's file: kind "JPEG" or "WEBP"."""
    file = io.BytesIO()
    picture.save(file, format=kind, **_FORMATS[kind])
    return file.getvalue()


def picture_element(content: bytes, size: tuple[int, int], about: str, kind: str = "JPEG") -> str:
    """An img element that holds a file of `picture_bytes`; size is (width, height) in pixels, and about, plain text, stands for it."""
    data = base64.b64encode(content).decode()
    shape = f'width="{size[0]}" height="{size[1]}"'
    return f'<img src="data:image/{kind.lower()};base64,{data}" alt="{escape(about)}" {shape} loading="lazy">'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table element; heads and cells are plain text and get escaped."""
    lines = ["".join(f"<th>{escape(head)}</th>" for head in heads)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
