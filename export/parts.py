"""The parts of a graph, and the form in which a kind of tower takes part in it."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.vit_weights import Weights
from fastloc.export.options import Options
from fastloc.functional.similarity import Read
from fastloc.imaging.geometry import Geometry
from fastloc.recipes import Recipe

__all__ = ["AnyWeights", "GraphTower", "Parts"]

AnyWeights = Weights | ResNetWeights | HierarchicalWeights
Grid = tuple[int, int]

_DTYPES = {"float16": torch.float16}


@dataclass(frozen=True)
class Parts:
    """The parts of a graph. `weights` are in float32."""

    weights: AnyWeights
    recipe: Recipe
    options: Options
    geometry: Geometry | None  # of the frames, for kind "frames"
    texts: Tensor | None  # [T, E], baked
    empty: Tensor | None  # [E], the text without a thing: for maps that read it and the background

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the tower in the graph."""
        return _DTYPES.get(self.options.dtype, torch.float32)

    @property
    def grid(self) -> Grid | None:
        """The grid of a file of one size, as numbers; with a static size the tracer must see these, not their computation."""
        size, patch = self.options.size, self.weights.spec.patch
        return None if size is None else (size[0] // patch[0], size[1] // patch[1])


class GraphTower(Protocol):
    """One image tower with its method in a graph, in operations that PyTorch's exporter traces.

    Called with the input picture [B, …] as the options say, texts [T, E], the read-out of patch features, `cls` to return the image
    embedding's cosines, and `beside` [E], a text that only the image embedding is compared with.

    Returns: similarities [B, T, h, w]; cosines [B, T], or [B, T + 1] with `beside`, or None; the grid (h, w).
    """

    def __call__(
        self, picture: Tensor, texts: Tensor, read: Read, cls: bool, beside: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Grid]: ...
