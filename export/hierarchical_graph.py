"""A tower whose grid shrinks in a graph, and its expected outputs."""

from dataclasses import replace

from torch import Tensor

from fastloc.checkpoints.hierarchical import fastvit_folding
from fastloc.checkpoints.hierarchical.fastvit import Trunk
from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights, folded
from fastloc.errors import RecipeError
from fastloc.export.inputs import normalised_pixels
from fastloc.export.int8 import EightBits
from fastloc.export.parts import Parts
from fastloc.functional import readout
from fastloc.functional.hierarchical import forms
from fastloc.functional.output import Output
from fastloc.functional.similarity import Read
from fastloc.recipes import Recipe

__all__ = ["HierarchicalGraph", "eight_bits", "grids"]

Grid = tuple[int, int]
# linear layers of a tower without a LayerNorm before its head. A FastViT's convolutions of more than one pixel are depthwise: few numbers,
# and slower in 8 bits than in float32. Of MobileCLIP2-S0 at 256 pixels on one core open_clip takes 4.2 times as long as the file in which
# linear layers are products of 8 bits, and 3.1 times as long as one in which they are convolutions of 8 bits
_LINEAR = EightBits(norms=0)


class HierarchicalGraph:
    """A hierarchical tower and its method, see `fastloc.export.parts.GraphTower`. It is folded before weights are rounded to float16."""

    def __init__(self, parts: Parts) -> None:
        assert isinstance(parts.weights, HierarchicalWeights)
        options, recipe = parts.options, parts.recipe
        if recipe.start < -1:
            raise RecipeError(
                f"start of {recipe.name!r} must be 0 in a file, got {recipe.start}: the gradient of an earlier stage is PyTorch's own; "
                "leave start out, or run this method with fastloc.Localizer"
            )
        self.prepared = forms.prepare(folded(parts.weights).to(dtype=parts.dtype), recipe)
        if isinstance(self.prepared.weights.trunk, Trunk) and not options.dtype.startswith("int8"):
            self.prepared = _pointwise(self.prepared)
        self.pixels = normalised_pixels(options.kind, parts.weights.spec, parts.geometry, options.layout, options.bgr, options.resize)

    def __call__(
        self, picture: Tensor, texts: Tensor, read: Read, cls: bool, beside: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Grid]:  # fmt: skip
        return forms.answer(self.prepared, self.pixels(picture), texts, read, cls=cls, beside=beside)


def _pointwise(prepared: forms.Prepared) -> forms.Prepared:
    """A FastViT without linear layers between its convolutions: onnxruntime then keeps its own layout through whole stages, and takes 0.83
    of the time (MobileCLIP2-S0 at 256 pixels). In 8 bits products are the quicker form: its convolutions reorder their input every time.
    """
    weights, local = prepared.weights, prepared.local
    weights = replace(weights, trunk=fastvit_folding.pointwise(weights.trunk))
    local = None if local is None else replace(local, trunk=fastvit_folding.pointwise(local.trunk))
    return replace(prepared, weights=weights, local=local)


def grids(
    weights: HierarchicalWeights, pixels: Tensor, texts: Tensor, recipe: Recipe, empty: Tensor | None = None, *, background: bool = False
) -> tuple[Tensor, Tensor | None]:
    """A method's answer in plain PyTorch: arguments, results and errors as of `fastloc.functional.similarity.grids`."""
    forms.check_pixels(pixels, weights.spec)

    def read(out: Output, words: Tensor) -> Tensor:
        return readout.similarity(out, words, recipe.readout, empty)

    cls = readout.needs_cls(recipe.readout, texts.shape[0])
    prepared = forms.prepare(weights, recipe)
    similarity, cosines, _ = forms.answer(prepared, pixels, texts, read, cls=cls, beside=empty if background else None)
    return similarity, cosines


def eight_bits(spec: HierarchicalSpec) -> EightBits:
    """The part of a graph in 8 bits: the linear layers, up to the head's norm where there is one."""
    return _LINEAR if spec.family == "FastViT" else EightBits()
