"""SC-CLIP and SFP: the last block behind repaired patches, with a map that all heads share, over the stream and over a sum of streams.

SC-CLIP (arXiv 2411.15869), SuleBai/SC-CLIP, clip/model.py; SFP (ICCV 2025), Kimsure/SFP, SFP_ICCV/clip/model.py. Both read one square
picture at a time; the same steps for each picture take any batch and grid.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.functional.attention import Projections
from fastloc.functional.blocks import enter_block, out_projection, project, turned
from fastloc.functional.folding import FoldedViT
from fastloc.functional.methods.outliers import attended, repaired, sparse
from fastloc.functional.op_set import Ops
from fastloc.functional.output import Grid
from fastloc.functional.position_embedding import Positions
from fastloc.functional.slices import SLICE, at_once, in_parts
from fastloc.functional.vjp import upcast

__all__ = ["aggregated"]

# the least cosine with which a patch has a share in another's average
SIMILAR = 0.4
# the weight of the class token in every patch after the last block
CLASS_TOKEN = 0.3
# multiplier of the cosines before the shared map's softmax
SHARPNESS = 3.0
# units in the last place of 1 by which a cosine of equal vectors, and the mean of such, may be off
TIED = 16
# the self-self attentions of the last block beside the shared map
TERMS = {"sc-clip": "k", "sfp": "qk"}


def aggregated(
    prepared: FoldedViT, streams: Mapping[int, Tensor], seen: Sequence[Projections], places: Positions, grid: Grid, ops: Ops
) -> Tensor:
    """The patches [B, P, C] before the last LayerNorm.

    Args:
        streams: the stream after each of the blocks `prepared.streams_read` and after the last but one, [B, N, C] each.
        seen: the projections of the last block but one, for "sfp".
    """
    spec, path = prepared.weights.spec, prepared.recipe.path
    most = None if ops.most is None else at_once(min(ops.most, SLICE), streams[spec.layers - 2])
    similar, average, *fused = prepared.streams_read
    last, total = streams[spec.layers - 2], sum((streams[i] for i in fused[1:]), streams[fused[0]])
    patches = last[:, spec.prefix :]
    # without a class token there is no row of its attention; density is an option of SFP's own code
    outliers = attended(seen[0], most) if path == "sfp" and spec.class_token else sparse(patches, most)

    units = _unit(repaired(streams[similar][:, spec.prefix :], outliers, grid))
    first = _averaged(units, repaired(patches, outliers, grid), most)
    # the mean of those cosines that have a share, or of all
    mean = _weights(units, most).sum(1) / units.shape[1] ** 2 if path == "sfp" else units.mean(1).square().sum(-1)

    values, own = _last_block(prepared, first, TERMS[path], places, ops)
    more, beside = _last_block(prepared, total[:, spec.prefix :], "" if path == "sfp" else TERMS[path], places, ops)
    shared = _shared(units, mean, torch.cat([values, more], -1), path == "sfp", most).chunk(2, -1)
    block = prepared.weights.blocks[-1]
    one, two = (
        out_projection(block, sum(terms, part) / (len(terms) + 1), spec, ops) for part, terms in zip(shared, (own, beside), strict=True)
    )
    both = one + two
    if spec.class_token:
        both = both + CLASS_TOKEN * (last[:, :1] + total[:, :1])
    # one average of a sum rather than a sum of averages
    return _averaged(_unit(streams[average][:, spec.prefix :]), both, most)


def _averaged(units: Tensor, x: Tensor, most: int | None) -> Tensor:
    """The average of x [B, P, C] for each patch, weighted by the cosines of unit vectors [B, P, D] that are at least 0.4."""

    def some(rows: slice) -> Tensor:
        weights = _cut(units[:, rows] @ units.transpose(1, 2))
        return (weights / (weights.sum(-1, keepdim=True) + 1e-6)).to(x.dtype) @ x

    return _by_patches(units, most, some)


def _weights(units: Tensor, most: int | None) -> Tensor:
    """The sum of each patch's weights in `_averaged`, [B, P]."""
    return _by_patches(units, most, lambda rows: _cut(units[:, rows] @ units.transpose(1, 2)).sum(-1))


def _shared(units: Tensor, mean: Tensor, values: Tensor, cut: bool, most: int | None) -> Tensor:
    """Average values [B, P, D] by softmax(3 cosines), in which cosines below the picture's mean [B] have no share.

    Where patches are one vector, as a repair of many outliers makes them, all cosines are the mean, and rounding would choose among them:
    those within `TIED` units in the last place of 1 have their share. The largest of a row always has: a row without any is NaN in the
    official code.
    """
    lowest = mean[:, None, None] - TIED * torch.finfo(mean.dtype).eps

    def some(rows: slice) -> Tensor:
        cosines = units[:, rows] @ units.transpose(1, 2)
        cosines = _cut(cosines) if cut else cosines
        least = torch.minimum(lowest, cosines.amax(-1, keepdim=True))
        maps = torch.softmax((SHARPNESS * cosines).masked_fill(cosines < least, -torch.inf), -1)
        return maps.to(values.dtype) @ values

    return _by_patches(units, most, some)


def _by_patches(units: Tensor, most: int | None, make: Callable[[slice], Tensor]) -> Tensor:
    return in_parts(units.shape[1], units.shape[0] * units.shape[1], most, make)


def _last_block(prepared: FoldedViT, x: Tensor, terms: str, places: Positions, ops: Ops) -> tuple[Tensor, list[Tensor]]:
    """The last block's values of patches x, and the output of each self-self attention on them: [B, P, C] each."""
    spec, block, read = prepared.weights.spec, prepared.weights.blocks[-1], f"{terms}v"
    turns = places.turns[:, spec.prefix :] if places.turns is not None and prepared.recipe.rotary else None
    y = enter_block(block, x, None, spec, ops)[1]
    plain = project(y, prepared.rows(block, read), spec, read)
    qkv = turned(block, plain, spec, Positions(places.table, turns), ops=ops, free=True)
    return qkv["v"].flatten(2), [ops.attend(qkv[term], qkv[term], qkv["v"], spec.head_width**-0.5, None) for term in terms]


def _cut(cosines: Tensor) -> Tensor:
    return cosines.masked_fill(cosines < SIMILAR, 0)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(upcast(x), dim=-1)
