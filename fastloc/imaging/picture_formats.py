"""The raster formats that are read, and no other: EPS would start Ghostscript, and readers that nobody needs can still be attacked."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from fastloc.errors import ImageError

__all__ = ["EXTENSIONS", "FORMATS", "SCANS", "check_scans", "identified"]

# what Pillow's `preinit` registers, and the modules of the others: importing all of its readers takes longer than reading most pictures.
# the reader of JPEG opens a camera's MPO
_COMMON = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM")
_MODULES = {
    "WEBP": "WebPImagePlugin", "TIFF": "TiffImagePlugin", "AVIF": "AvifImagePlugin", "JPEG2000": "Jpeg2KImagePlugin",
    "ICO": "IcoImagePlugin", "QOI": "QoiImagePlugin", "TGA": "TgaImagePlugin",
}  # fmt: skip
FORMATS = (*_COMMON, *_MODULES, "HEIF")
# what a folder is searched for
EXTENSIONS = frozenset({
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp",
})  # fmt: skip
# passes over a JPEG: a progressive one has about ten, and each costs a walk over all its blocks, however few bytes it has
SCANS = 100
# brands of HEIC and HEIF, bytes 8 to 11 of a file whose bytes 4 to 7 are "ftyp"
_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def identified(file: BinaryIO, name: str) -> Image.Image:
    """Open a picture of one of `FORMATS`; nothing is decoded yet.

    Raises UnidentifiedImageError for another format, ImageError for HEIC without pillow-heif, and the errors of Pillow's readers.
    """
    head = file.read(12)
    file.seek(0)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF:
        _register_heif(name)
        return Image.open(file, formats=("HEIF",))
    with suppress(UnidentifiedImageError):
        opened = Image.open(file, formats=_COMMON)
        if "progressive" in opened.info:
            at = file.tell()
            file.seek(0)
            check_scans(file.read(), name)
            file.seek(at)
        return opened
    return Image.open(file, formats=_registered())


def check_scans(content: bytes, name: str) -> None:
    """Raise ImageError for a JPEG of more than `SCANS` scans: some bytes each could keep a core busy for minutes."""
    # within a scan no such marker can occur
    if content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > SCANS:
        raise ImageError(f"{name} must be a JPEG of at most {SCANS} scans, got {content.count(bytes([0xFF, 0xDA]))}; save it again")


def _registered() -> tuple[str, ...]:
    for module in _MODULES.values():
        # AVIF came with Pillow 11.3
        with suppress(ImportError):
            import_module(f"PIL.{module}")
    return tuple(name for name in _MODULES if name in Image.OPEN)


def _register_heif(name: str) -> None:
    if find_spec("pillow_heif") is None:
        raise ImageError(f'{name}: HEIC needs pillow-heif: pip install "fastloc[heif]", or save it as JPEG or PNG')
    import pillow_heif

    pillow_heif.register_heif_opener()
