"""PEARL's text-aware Laplacian propagation, cell by cell in float64, with every matrix written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

Floats = npt.NDArray[np.float64]


def class_affinity(embeddings: npt.NDArray[Any]) -> Floats:
    """S [T, T]: softmax of cosines over 0.5, 10 added on the diagonal, rows divided by their sums and 1e-6."""
    unit = embeddings.astype(np.float64) / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    powers = np.exp(unit @ unit.T / 0.5)
    affinity = powers / powers.sum(1, keepdims=True) + 10 * np.eye(len(unit))
    found: Floats = affinity / (affinity.sum(1, keepdims=True) + 1e-6)
    return found


def propagated(maps: npt.NDArray[Any], picture: npt.NDArray[np.uint8], affinity: Floats, iterations: int = 25, grid: int = 80) -> Floats:
    """Maps [T, H, W] and uint8 [H, W, 3]: the maps that `TLP.forward` (pearl/prop.py) gives."""
    height, width = maps.shape[1:]
    pooled = max(1, round(height / grid)), max(1, round(width / grid))
    pixels = (picture - np.array([122.771, 116.746, 104.094])) / np.array([68.501, 66.632, 70.323])
    values = F.avg_pool2d(torch.from_numpy(np.ascontiguousarray(maps)).double(), pooled).numpy()
    colour = F.avg_pool2d(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), pooled).numpy()
    gray = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    texts, rows, columns = values.shape

    shares = np.exp(values) / np.exp(values).sum(0)
    confidence = np.maximum(shares.max(0), 0.05)

    def agreement(one: Floats, other: Floats) -> float:
        # the official product names the class axis twice, which reads the diagonal
        return min(max(sum(float(affinity[t, t] * one[t] * other[t]) for t in range(texts)), 0.0), 1.0)

    system = np.zeros((rows * columns, rows * columns))
    right = np.zeros((texts, rows * columns))
    for y in range(rows):
        for x in range(columns):
            cell = y * columns + x
            own = confidence[y, x] ** 2 * (1 + agreement(shares[:, y, x], shares[:, y, x]))
            system[cell, cell] += own
            right[:, cell] = own * values[:, y, x]
    for down, across in ((0, 1), (1, 0)):
        edges = np.abs(gray[down:, across:] - gray[: rows - down, : columns - across])
        for (y, x), edge in np.ndenumerate(edges):
            one, other = y * columns + x, (y + down) * columns + x + across
            like = agreement(shares[:, y, x], shares[:, y + down, x + across])
            tie = min(math.exp(-5 * edge / (edges.mean() + 1e-6)) * (1 + like), 1.0)
            system[[one, other], [one, other]] += tie
            system[[one, other], [other, one]] -= tie

    found = values.reshape(texts, -1).copy()
    residual = right - found @ system
    direction = residual.copy()
    for _ in range(iterations):
        image = direction @ system
        step = (residual**2).sum() / ((direction * image).sum() + 1e-12)
        found += step * direction
        following = residual - step * image
        direction = following + (following**2).sum() / ((residual**2).sum() + 1e-12) * direction
        residual = following
    cells = torch.from_numpy(found.reshape(1, texts, rows, columns))
    whole: Floats = F.interpolate(cells, size=(height, width), mode="bilinear", align_corners=False)[0].numpy()
    return whole
