"""The image towers that a loaded model can have, as types: specs and weights."""

from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Weights

__all__ = ["AnySpec", "AnyWeights"]

AnySpec = ModelSpec | ResNetSpec | HierarchicalSpec
AnyWeights = Weights | ResNetWeights | HierarchicalWeights
