"""Small ICC profiles of version 2: RGB by its primaries and one gamma, and grey by a gamma."""

from __future__ import annotations

import struct

import numpy as np

__all__ = ["ADOBE_RGB", "PROPHOTO", "grey", "rgb"]

# the media white of every profile, and the xy of its primaries' own white
D50 = (0.9642, 1.0, 0.8249)
D65_XY, D50_XY = (0.3127, 0.3290), (0.3457, 0.3585)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1, (1 - x - y) / y])


def matrix(primaries: tuple[tuple[float, float], ...], white: tuple[float, float]) -> np.ndarray:
    """Linear RGB -> XYZ relative to D50, [3, 3], by the primaries' and the white's xy."""
    columns = np.stack([_xyz(*each) for each in primaries], 1)
    to_xyz = columns * np.linalg.solve(columns, _xyz(*white))
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ np.array(D50)) / (BRADFORD @ _xyz(*white))) @ BRADFORD
    return adapt @ to_xyz


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78), b"wtpt": b"XYZ " + bytes(4) + _fixed(*D50), **tags}
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I", start + len(body)) + bytes(4) + struct.pack(">I", 0x02400000) + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp"
    head += bytes(28) + _fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def rgb(primaries: tuple[tuple[float, float], ...], white: tuple[float, float], gamma: float) -> bytes:
    """An RGB profile."""
    columns = matrix(primaries, white).T
    points = {name: b"XYZ " + bytes(4) + _fixed(*each) for name, each in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    return _profile(b"RGB ", {**points, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma))})


def grey(gamma: float) -> bytes:
    """A grey profile."""
    return _profile(b"GRAY", {b"kTRC": _curve(gamma)})


ADOBE_PRIMARIES = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
ADOBE_RGB = rgb(ADOBE_PRIMARIES, D65_XY, 563 / 256)
PROPHOTO = rgb(((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), D50_XY, 1.8)
SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))


def adobe_to_srgb(values: np.ndarray) -> np.ndarray:
    """Colours [..., 3] of Adobe RGB, 0 to 255, in sRGB, by the two standards' formulas."""
    linear = (values / 255) ** (563 / 256)
    moved = linear @ (np.linalg.inv(matrix(SRGB_PRIMARIES, D65_XY)) @ matrix(ADOBE_PRIMARIES, D65_XY)).T
    moved = np.clip(moved, 0, 1)
    return 255 * np.where(moved <= 0.0031308, 12.92 * moved, 1.055 * moved ** (1 / 2.4) - 0.055)
