"""The kinds of image tower that are exported, as the functions that serve each; the rest of the exporter need not know a tower's kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.vit_weights import Weights
from fastloc.export import hierarchical_graph, resnet_graph
from fastloc.export.hierarchical_graph import HierarchicalGraph
from fastloc.export.int8 import CONVOLUTIONS, EightBits, products_of
from fastloc.export.parts import AnyWeights, GraphTower, Parts
from fastloc.export.resnet_graph import ResNetGraph
from fastloc.export.vit_graph import ViTGraph
from fastloc.functional import similarity

__all__ = ["KINDS", "GraphKind", "graph_kind", "named"]


@dataclass(frozen=True)
class GraphKind:
    """One kind of image tower.

    name: in the manifest, a row of `fastloc.onnx_file.formats.TOWERS`.
    tower: parts of a graph -> the tower in it.
    grids: (weights, pixels, texts, recipe, empty, background=…) -> the expected similarities and cosines, by functions that no export
        touches; see `fastloc.functional.similarity.grids`.
    eight_bits: spec -> the part of a graph that is computed in 8 bits.
    """

    name: str
    tower: Callable[[Parts], GraphTower]
    grids: Callable[..., tuple[Tensor, Tensor | None]]
    eight_bits: Callable[[Any], EightBits]


KINDS: dict[type, GraphKind] = {
    Weights: GraphKind("vit", ViTGraph, similarity.grids, products_of),
    ResNetWeights: GraphKind("resnet", ResNetGraph, resnet_graph.grids, lambda spec: CONVOLUTIONS),
    HierarchicalWeights: GraphKind("hierarchical", HierarchicalGraph, hierarchical_graph.grids, hierarchical_graph.eight_bits),
}


def graph_kind(weights: AnyWeights) -> GraphKind:
    """The kind of tower that these weights belong to."""
    return KINDS[type(weights)]


def named(name: str) -> GraphKind:
    """The kind of tower of this name, a row of `fastloc.onnx_file.formats.TOWERS`."""
    return next(kind for kind in KINDS.values() if kind.name == name)
