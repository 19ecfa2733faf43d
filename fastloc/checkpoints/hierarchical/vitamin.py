"""ViTamin's stem out of a state dict (arXiv 2404.02132; timm/models/vitamin.py, `MbConvStages`).

Its last stage is a plain transformer, so a ViTamin is a `Weights` with this stem, and every method of a ViT runs on it.
"""

from typing import Any

from torch import Tensor

from fastloc.checkpoints.hierarchical.take import Take
from fastloc.checkpoints.vit_weights import MapBlock, MapStem

__all__ = ["DEPTHS", "EXPANSION", "map_stem"]

# blocks of the two stages, in every size, and a block's hidden width by its outer one
DEPTHS, EXPANSION = (2, 4), 4


def map_stem(take: Take, width: int, tokens: int) -> dict[str, Any]:
    """The fields `patch_w`, `patch_b` and `maps` of a `Weights`.

    take: of the names behind "patch_embed.backbone.".
    width: the stem's channels D. The first stage has as many, the second twice as many.
    tokens: the transformer's channels C.

    Raises:
        ModelError: a tensor is missing, or has another shape; the message names both.
    """
    first_w, first_b = _conv(take, "stem.conv1", (width, 3, 3, 3))
    blocks: list[MapBlock] = []
    inner = width
    for stage, depth in enumerate(DEPTHS):
        outer = width << stage
        for i in range(depth):
            blocks.append(_block(take, f"stages.{stage}.{i}", inner, outer, halves=i == 0))
            inner = outer
    maps = MapStem(
        *_norm(take, "stem.norm1", width), *_conv(take, "stem.conv2", (width, width, 3, 3)), tuple(blocks),
        *_norm(take, "pool.norm", inner), *_conv(take, "pool.proj", (tokens, inner, 3, 3)),
    )  # fmt: skip
    return {"patch_w": first_w, "patch_b": first_b, "maps": maps}


def _block(take: Take, name: str, inner: int, outer: int, *, halves: bool) -> MapBlock:
    hidden = EXPANSION * outer
    short: tuple[Tensor | None, Tensor | None] = (None, None)
    if inner != outer:
        short = _product(take, f"{name}.shortcut.expand", inner, outer)
    return MapBlock(
        *_norm(take, f"{name}.pre_norm", inner), *_product(take, f"{name}.conv1_1x1", inner, hidden),
        *_conv(take, f"{name}.conv2_kxk", (hidden, 1, 3, 3)), *_product(take, f"{name}.conv3_1x1", hidden, outer), *short, halves,
    )  # fmt: skip


def _conv(take: Take, name: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return take(f"{name}.weight", shape).detach(), take(f"{name}.bias", shape[:1]).detach()


def _product(take: Take, name: str, inner: int, outer: int) -> tuple[Tensor, Tensor]:
    """A convolution of one cell, as a matrix [outer, inner]."""
    kernel, bias = _conv(take, name, (outer, inner, 1, 1))
    return kernel.flatten(1), bias


def _norm(take: Take, name: str, width: int) -> tuple[Tensor, Tensor]:
    return take(f"{name}.weight", (width,)).detach(), take(f"{name}.bias", (width,)).detach()
