"""CLIP's ResNet in a graph, and its expected outputs."""

from torch import Tensor

from fastloc.checkpoints.resnet_weights import ResNetWeights, folded
from fastloc.errors import RecipeError
from fastloc.export.attention_ops import ATTEND
from fastloc.export.inputs import normalised_pixels
from fastloc.export.parts import Parts
from fastloc.functional import readout, resnet
from fastloc.functional.output import Output
from fastloc.functional.position_embedding import position_of_any_grid
from fastloc.functional.similarity import Read
from fastloc.recipes import Recipe

__all__ = ["ResNetGraph", "grids"]

Grid = tuple[int, int]


class ResNetGraph:
    """A CLIP ResNet and its method, see `fastloc.export.parts.GraphTower`. BatchNorm is folded before weights are rounded to float16."""

    def __init__(self, parts: Parts) -> None:
        assert isinstance(parts.weights, ResNetWeights)
        options, cam = parts.options, parts.recipe.cam
        if cam != "grad-cam" and not options.texts and options.count is None:
            # the gradient at every position is made a text at a time
            raise RecipeError(f"number of texts must be fixed in a ResNet's file with cam {cam!r}, got none; give texts or their count")
        self.prepared = resnet.prepare(folded(parts.weights).to(dtype=parts.dtype), parts.recipe)
        self.pixels = normalised_pixels(options.kind, parts.weights.spec, parts.geometry, options.layout, options.bgr, options.resize)
        self.attend = ATTEND[options.spelling]
        self.fixed = None if parts.grid is None else resnet.position_table(self.prepared.weights, parts.grid, parts.recipe)

    def __call__(
        self, picture: Tensor, texts: Tensor, read: Read, cls: bool, beside: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Grid]:  # fmt: skip
        x = resnet.features(self.prepared.weights, self.pixels(picture))
        grid = x.shape[2], x.shape[3]
        table = self._table(grid) if self.fixed is None else self.fixed
        similarity, cosines = resnet.answer(self.prepared, x, table, texts, read, cls=cls, beside=beside, attend=self.attend)
        return similarity, cosines, grid

    def _table(self, grid: Grid) -> Tensor:
        weights, row = self.prepared.weights, self.prepared.recipe
        return position_of_any_grid(weights.pool.position, weights.spec.grid, grid, row.position, row.keep_position)


def grids(
    weights: ResNetWeights, pixels: Tensor, texts: Tensor, recipe: Recipe, empty: Tensor | None = None, *, background: bool = False
) -> tuple[Tensor, Tensor | None]:
    """A method's answer in plain PyTorch: arguments, results and errors as of `fastloc.functional.similarity.grids`."""
    resnet.check_pixels(pixels)
    prepared = resnet.prepare(weights, recipe)
    x = resnet.features(prepared.weights, pixels)
    table = resnet.position_table(prepared.weights, (x.shape[2], x.shape[3]), recipe)

    def read(out: Output, words: Tensor) -> Tensor:
        return readout.similarity(out, words, recipe.readout, empty)

    cls = readout.needs_cls(recipe.readout, texts.shape[0])
    return resnet.answer(prepared, x, table, texts, read, cls=cls, beside=empty if background else None)
