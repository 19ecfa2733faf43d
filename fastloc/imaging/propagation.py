"""Text-aware Laplacian propagation (TLP): maps are smoothed between similar neighbours, and held where a text is confident.

PEARL's second step (PGSmall/PEARL, pearl/prop.py). Maps and picture are averaged over cells, about `grid` a side. p is the softmax over the
T texts of a cell's maps, at temperature 1, and s_t the share of text t's affinity that is with itself, see `self_affinity`. A cell keeps
to its own map with a weight C, and two neighbours a and b are tied by w, where d is the difference of their grays and its mean is over all
neighbours of one direction:

    C = max(max over t of p_t, 0.05)^2 (1 + clip(sum over t of s_t p_t^2, 0, 1))
    w = clip(exp(-5 d / (mean d + 1e-6)) (1 + clip(sum over t of s_t p_t(a) p_t(b), 0, 1)), 0, 1)

Conjugate gradients, one step length for all texts, go a fixed number of steps from the maps towards F of (C + L) F = C map, L being the
Laplacian of w. F is brought back to the picture's size bilinearly. Gray is that of pixels in units of CLIP's deviations. A number added to
all texts' maps comes out again; a factor does not, because p depends on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError
from fastloc.imaging.axis_sampling import bilinear
from fastloc.imaging.heatmaps import softmax
from fastloc.utils.distinct import distinct_rows
from fastloc.utils.schema import count, number, shown

__all__ = ["BUDGET", "Propagation", "propagate", "propagate_cells", "self_affinity"]

Floats = NDArray[Any]
Pair = tuple[int, int]

# bytes of working memory: a thousand texts on the usual grid take a quarter of it
BUDGET = 1 << 30
# arrays [T, cells] that are held at a time
ARRAYS = 6
# the official constants: the least confidence, how steeply a tie falls with an edge, temperature and own weight of the texts' affinity
CONFIDENCE, EDGE, TEMPERATURE, OWN = 0.05, 5.0, 0.5, 10.0
EPSILON, STEP_EPSILON = 1e-6, 1e-12
# shares of red, green and blue in gray, over CLIP's deviations of pixels
_GRAY = np.array([0.299 / 68.501, 0.587 / 66.632, 0.114 / 70.323])
# the cosine of two texts that `_usual_affinity` assumes: CLIP's texts have 0.6 to 0.9
_COSINE = 0.75


@dataclass(frozen=True)
class Propagation:
    """The settings of a propagation: see `propagate`.

    Attributes:
        iterations: steps of conjugate gradients
        grid: cells along a side that picture and maps are averaged to, up to half as many more; PEARL takes 80, and 224 for Cityscapes
        affinity: `self_affinity` of the texts' embeddings, T numbers within [0, 1]; None for that of T texts whose cosines are 0.75
        budget: bytes of working memory that it may take, beside two arrays of the maps' size

    Raises FastlocError for a number out of range.
    """

    method: ClassVar[str] = "propagate"

    iterations: int = 25
    grid: int = 80
    affinity: tuple[float, ...] | None = None
    budget: int = BUDGET

    def __post_init__(self) -> None:
        count("iterations", self.iterations, 10_000)
        count("grid", self.grid, 1 << 16)
        count("budget", self.budget, 1 << 60)
        if self.affinity is not None:
            object.__setattr__(self, "affinity", _numbers(self.affinity))

    def steps(self, size: Pair) -> Pair:
        """Pixels of a cell, (down, across), for a picture of (height, width)."""
        down, across = (max(round(side / self.grid), 1) for side in size)
        return down, across

    def check(self, texts: int, size: Pair, itemsize: int = 4) -> None:
        """Raise FastlocError where maps of this many texts and of (height, width) would take more than the budget, or have no affinity."""
        if self.affinity is not None and len(self.affinity) != texts:
            raise FastlocError(f"affinity must be a number for each of {texts} texts, got {len(self.affinity)}")
        height, width = (side // step for side, step in zip(size, self.steps(size), strict=True))
        least = ARRAYS * texts * height * width * itemsize
        if least > self.budget:
            raise FastlocError(
                f"budget must be at least {least:,} bytes for {texts} texts on {height} x {width} cells, got {self.budget:,}; "
                "ask for fewer texts at a time, or for a smaller grid"
            )


def propagate(maps: Floats, picture: NDArray[np.uint8], how: Propagation = Propagation()) -> Floats:
    """Maps [T, H, W], float32 or float64, propagated over the picture, uint8 [H, W, 3]: the same shape and dtype.

    T texts compete in p: with one text p is 1 and the maps are held firmly, with more than 20 whose scores are cosines C is the same
    everywhere but for a hair. Memory: one array of the maps' size, and `ARRAYS` on the grid.

    Raises:
        FastlocError: maps and picture of different sizes, a map that is not of floats, more working memory than `how.budget`.
    """
    if maps.ndim != 3 or 0 in maps.shape or picture.shape != (*maps.shape[1:], 3) or picture.dtype != np.uint8:
        raise FastlocError(f"maps must be [T, H, W] with an uint8 picture [H, W, 3], got {list(maps.shape)} and {list(picture.shape)}")
    if maps.dtype not in (np.float32, np.float64):
        raise FastlocError(f"maps must be float32 or float64, got {maps.dtype}")
    size = maps.shape[1], maps.shape[2]
    how.check(len(maps), size, maps.itemsize)
    down, across = how.steps(size)
    cells = np.stack([_averaged(each, down, across) for each in maps]).astype(maps.dtype, copy=False)
    found = propagate_cells(cells, _averaged(picture, down, across) @ _GRAY, how)
    rows, columns = (bilinear(found.shape[axis + 1], size[axis]).astype(maps.dtype) for axis in (0, 1))
    spread = np.empty_like(maps)
    for each, whole in zip(found, spread, strict=True):
        np.matmul(rows, each @ columns.T, out=whole)
    return spread


def propagate_cells(cells: Floats, gray: Floats, how: Propagation = Propagation()) -> Floats:
    """Means of maps over cells, [T, h, w], float32 or float64, propagated along gray [h, w] in units of CLIP's deviations: the cells of
    `propagate`, before they are brought back to the picture. Writes over `cells`, and gives them back."""
    affinity = np.array(how.affinity or _usual_affinity(len(cells)), cells.dtype)
    return _solved(cells, *_weights(cells, gray, affinity), how.iterations)


def self_affinity(embeddings: Floats, *, once: bool = True) -> tuple[float, ...]:
    """Each text's share of affinity with itself, T numbers within [0, 1], from embeddings [T, E] of any length but 0.

    The diagonal of PEARL's class affinity: softmax of cosines over 0.5, 10 added to each text's own, rows divided by their sums. The
    official product reads nothing else of it. Raises FastlocError for another shape or no length.

    once: texts with one embedding count once; the official product counts each.
    """
    vectors = np.asarray(embeddings, np.float64)
    if vectors.ndim != 2 or 0 in vectors.shape or not np.isfinite(vectors).all() or not np.square(vectors).sum(1).all():
        raise FastlocError(f"embeddings must be [T, E], finite and of a length above 0, got {list(vectors.shape)}")
    if once and (copies := distinct_rows(vectors)):
        distinct = self_affinity(vectors[copies.first])
        return tuple(distinct[i] for i in copies.index)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    powers = np.exp((unit @ unit.T - 1) / TEMPERATURE)
    return tuple(_own(float(share)) for share in np.diagonal(powers) / powers.sum(1))


def _numbers(values: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(each) for each in values)
    except (TypeError, ValueError):
        raise FastlocError(f"affinity must be a number for each text, got {shown(values)}; self_affinity(embeddings) gives them") from None
    for each in numbers:
        number("affinity", each, 0, 1)
    return numbers


def _usual_affinity(texts: int) -> tuple[float, ...]:
    return (_own(1 / (1 + (texts - 1) * math.exp((_COSINE - 1) / TEMPERATURE))),) * texts


def _own(share: float) -> float:
    """The diagonal of a row whose softmax gives the text itself this share."""
    return (share + OWN) / (1 + OWN + EPSILON)


def _averaged(values: Floats, down: int, across: int) -> Floats:
    """Means over cells of values [H, W, ...]; rows and columns that fill no cell are left out."""
    height, width = values.shape[0] // down, values.shape[1] // across
    whole = values[: height * down, : width * across]
    means: Floats = whole.reshape(height, down, width, across, *values.shape[2:]).mean(axis=(1, 3))
    return means


def _weights(cells: Floats, gray: Floats, affinity: Floats) -> tuple[Floats, Floats, Floats]:
    """C [h, w], and w of neighbours above each other [h - 1, w] and beside each other [h, w - 1]."""
    p = softmax(cells, 1)
    agreement = np.einsum("t,tij,tij->ij", affinity, p, p)
    own: Floats = np.maximum(p.max(axis=0), CONFIDENCE) ** 2 * (1 + np.clip(agreement, 0, 1))
    above = _ties(np.diff(gray, axis=0), p[:, :-1], p[:, 1:], affinity)
    beside = _ties(np.diff(gray, axis=1), p[:, :, :-1], p[:, :, 1:], affinity)
    return own, above, beside


def _ties(difference: Floats, one: Floats, other: Floats, affinity: Floats) -> Floats:
    agreement: Floats = np.einsum("t,tij,tij->ij", affinity, one, other)
    if not difference.size:
        return agreement
    difference = np.abs(difference)
    ties = np.exp(-EDGE * difference / (difference.mean() + EPSILON)) * (1 + np.clip(agreement, 0, 1))
    clipped: Floats = np.minimum(ties, 1).astype(one.dtype)
    return clipped


def _solved(cells: Floats, own: Floats, above: Floats, beside: Floats, iterations: int) -> Floats:
    """Conjugate gradients from the cells [T, h, w], which are written over."""
    product = np.empty_like(cells)

    def spread(values: Floats, weight: Floats | float) -> Floats:
        """Weight times values, and the Laplacian of values, in `product`."""
        np.multiply(values, weight, out=product)
        flow = np.diff(values, axis=1)
        flow *= above
        product[:, 1:] += flow
        product[:, :-1] -= flow
        flow = np.diff(values, axis=2)
        flow *= beside
        product[:, :, 1:] += flow
        product[:, :, :-1] -= flow
        return product

    # of (C + L) F = C map, from F = map, nothing but the Laplacian is left
    residual = -spread(cells, 0.0)
    direction = residual.copy()
    before = np.vdot(residual, residual)
    for _ in range(iterations):
        spread(direction, own)
        step = before / (np.vdot(direction, product) + STEP_EPSILON)
        cells += step * direction
        product *= step
        residual -= product
        now = np.vdot(residual, residual)
        direction *= now / (before + STEP_EPSILON)
        direction += residual
        before = now
    return cells
