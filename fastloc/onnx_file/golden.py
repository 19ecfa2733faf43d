"""The golden of an exported file: an input that anyone can make again from a seed, and the float32 encoder's outputs for it.

The answers come from PyTorch in float32, before any export, so that a comparison on a device measures everything in between:
the export, the precision, the runtime, its kernels and the device.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError, ModelError, unknown
from fastloc.onnx_file import limits
from fastloc.utils.schema import count, one_of

__all__ = ["TOLERANCES", "Golden", "OutputComparison", "Sample", "compare", "picture", "unit_texts"]

Array = NDArray[Any]
# of an output's numbers
DTYPES = ("float32", "float16", "uint8")
# numbers of an output that are kept; of a larger one every n-th is
MOST = 1 << 15
# largest similarity error (cosines) that a file of this dtype may have against float32 PyTorch; int8 is reported, and judged by pointing
TOLERANCES = {"float32": 1e-4, "float16": 5e-3, "int8-dynamic": 0.15, "int8-static": 0.15}
# largest mean error of heatmaps: similarities stretched to [0, 1], whose largest error says more of the picture than of the file
MAP_TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "int8-dynamic": 0.1, "int8-static": 0.1}
# least share of equal labels
LEAST_AGREEMENT = {"float32": 0.999, "float16": 0.98, "int8-dynamic": 0.85, "int8-static": 0.85}


@dataclass(frozen=True)
class Sample:
    """Every `step`-th number of an output, flattened."""

    shape: tuple[int, ...]
    step: int
    dtype: str
    values: str  # base64 of little-endian numbers

    def __post_init__(self) -> None:
        one_of("dtype of a golden", self.dtype, DTYPES)
        for side in self.shape:
            count("a side of a golden's shape", side, 1 << 31)
        count("step of a golden", self.step, 1 << 40)
        numbers = -(-math.prod(self.shape) // self.step)
        # four characters for three bytes
        characters = -(-numbers * np.dtype(self.dtype).itemsize // 3) * 4
        if len(self.values) != characters:
            raise FastlocError(f"values of {numbers} numbers of {self.dtype} must be {characters} characters, got {len(self.values)}")

    @classmethod
    def take(cls, array: Array) -> Sample:
        step = max(math.ceil(array.size / MOST), 1)
        kept = np.ascontiguousarray(array).reshape(-1)[::step]
        little = kept.astype(kept.dtype.newbyteorder("<"))
        return cls(tuple(array.shape), step, kept.dtype.name, base64.b64encode(little.tobytes()).decode())

    def numbers(self) -> Array:
        """The stored numbers. Raises ModelError where they are not base64."""
        try:
            return np.frombuffer(base64.b64decode(self.values, validate=True), np.dtype(self.dtype).newbyteorder("<"))
        except ValueError as error:
            raise ModelError(f"values of a golden must be base64 of its numbers ({error}); export the file again") from error

    @property
    def whole(self) -> bool:
        return self.step == 1


@dataclass(frozen=True)
class Golden:
    """The input, as a seed and shapes, and samples of the right outputs by name."""

    seed: int
    batch: int
    size: tuple[int, int]  # of the picture that goes in, (height, width)
    texts: int  # how many embeddings go in; 0 where the vocabulary is baked
    outputs: Mapping[str, Sample]

    def __post_init__(self) -> None:
        count("seed of the golden", self.seed, (1 << 32) - 1, 0)
        count("batch of the golden", self.batch, limits.BATCH)
        count("texts of the golden", self.texts, limits.TEXTS, 0)
        for side in self.size:
            count("size of the golden", side, limits.SIDE)
        count("pixels of the golden", self.batch * self.size[0] * self.size[1], limits.PIXELS)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Golden:
        """Read a golden from JSON."""
        outputs = {name: Sample(**{**each, "shape": tuple(each["shape"])}) for name, each in content["outputs"].items()}
        return cls(content["seed"], content["batch"], (content["size"][0], content["size"][1]), content["texts"], outputs)

    def pictures(self) -> NDArray[np.uint8]:
        """The pictures that go in, uint8 [B, H, W, 3], RGB."""
        return np.stack([picture(self.seed + i, self.size) for i in range(self.batch)])


@dataclass(frozen=True)
class OutputComparison:
    """The comparison of one output. Errors are absolute; None where a number has no meaning for the output.

    Attributes:
        max_error, mean_error: of the values
        minmax_error: largest, after each map is scaled to [0, 1] as in a heatmap
        minmax_mean: mean of the same; where only every n-th number is kept, of all maps scaled by their largest value
        agreement: share of equal labels, or for maps of cells with the same best text
        peaks: share of maps whose highest cell is the same
    """

    output: str
    max_error: float | None
    mean_error: float | None
    minmax_error: float | None
    agreement: float | None
    peaks: float | None
    minmax_mean: float | None = None


def picture(seed: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture [H, W, 3] of soft blobs and a little noise, the same on every machine: only PCG64's raw bits are used."""
    height, width = size
    bits = np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(b"fastloc golden")]))

    def integers(*shape: int) -> NDArray[np.int64]:
        count = math.prod(shape)
        drawn = bits.random_raw(-(-count // 4)).astype("<u8").view("<u2")[:count].astype(np.int64)
        return drawn.reshape(shape)

    total = np.zeros((height, width, 3), np.int64)
    for cell, weight in ((64, 5), (24, 3), (9, 2), (1, 1)):
        coarse = integers(-(-height // cell) + 1, -(-width // cell) + 1, 3)
        total += weight * coarse.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    return (total // 11 >> 8).astype(np.uint8)


def unit_texts(seed: int, count: int, embed: int) -> NDArray[np.float32]:
    """Unit vectors [count, embed] that stand for encoded texts."""
    bits = np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(b"fastloc texts")]))
    drawn = bits.random_raw(count * embed).astype(np.float64).reshape(count, embed) / 2.0**63 - 1.0
    unit: NDArray[np.float32] = (drawn / np.sqrt((drawn**2).sum(1, keepdims=True))).astype(np.float32)
    return unit


def compare(golden: Golden, outputs: Mapping[str, Array]) -> list[OutputComparison]:
    """Compare the outputs for the golden's input with the right ones.

    Raises:
        ModelError: an output is missing, has another shape, or holds NaN or infinite numbers.
    """
    rows = []
    for name, sample in golden.outputs.items():
        if name not in outputs:
            raise ModelError(f"outputs must hold {name!r}, got {', '.join(outputs) or 'none'}")
        found = np.asarray(outputs[name])
        if tuple(found.shape) != sample.shape:
            raise ModelError(f"output {name!r} must have the golden's shape {list(sample.shape)}, got {list(found.shape)}")
        if not np.isfinite(found).all():
            raise ModelError(f"output {name!r} must be finite, got NaN or infinite numbers")
        rows.append(_row(name, sample, found))
    return rows


def _row(name: str, sample: Sample, found: Array) -> OutputComparison:
    right, got = sample.numbers(), np.ascontiguousarray(found).reshape(-1)[:: sample.step]
    if name == "labels":
        return OutputComparison(name, None, None, None, float((right == got).mean()), None)
    error = np.abs(got.astype(np.float64) - right)
    whole = float(error.mean() / max(float(np.abs(right).max()), 1e-30))
    plain = OutputComparison(name, float(error.max()), float(error.mean()), None, None, None, whole)
    if len(sample.shape) != 4 or not sample.whole:
        return plain
    a, b = (each.astype(np.float64).reshape(*sample.shape[:2], -1) for each in (right, got))
    agreement = float((a.argmax(1) == b.argmax(1)).mean()) if sample.shape[1] > 1 else None
    peaks = float((a.argmax(2) == b.argmax(2)).mean())
    scaled = np.abs(_scaled(a) - _scaled(b))
    return OutputComparison(name, plain.max_error, plain.mean_error, float(scaled.max()), agreement, peaks, float(scaled.mean()))


def _scaled(maps: Array) -> Array:
    low, high = maps.min(-1, keepdims=True), maps.max(-1, keepdims=True)
    # the share of a text in a softmax may be as small as float32 can say
    scaled: Array = (maps - low) / np.maximum(high - low, 1e-30)
    return scaled


def failures(rows: list[OutputComparison], dtype: str, score: str = "cosine") -> list[str]:
    """The failures of a comparison, in words; none if the file computes the right outputs.

    score: of the recipe's read-out. A "relevance" has no unit, so its similarity is judged by the mean error of maps scaled to [0, 1].
    """
    if dtype not in TOLERANCES:
        raise FastlocError(unknown("dtype", dtype, TOLERANCES))
    wrong = []
    for row in rows:
        if row.output == "labels" and row.agreement is not None and row.agreement < LEAST_AGREEMENT[dtype]:
            wrong.append(f"labels: at least {LEAST_AGREEMENT[dtype]:.1%} must be right for {dtype}, got {row.agreement:.1%}")
        if row.output == "heatmaps" and row.mean_error is not None and row.mean_error > MAP_TOLERANCES[dtype]:
            wrong.append(f"heatmaps are off by {row.mean_error:.1e} on average, and {MAP_TOLERANCES[dtype]:.0e} is allowed for {dtype}")
        if row.output == "similarity" and score == "relevance":
            if row.minmax_mean is not None and row.minmax_mean > TOLERANCES[dtype]:
                wrong.append(f"similarity is off by {row.minmax_mean:.1e} of its range, and {TOLERANCES[dtype]:.0e} is allowed for {dtype}")
        elif row.output in ("similarity", "scores", "background") and row.max_error is not None and row.max_error > TOLERANCES[dtype]:
            wrong.append(f"{row.output} is off by {row.max_error:.1e}, and {TOLERANCES[dtype]:.0e} is allowed for {dtype}")
    return wrong
