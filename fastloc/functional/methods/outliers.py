"""Patches that stand out from all others: found by their density (SC-CLIP) or by the class token's attention (SFP), and repaired.

The choice of outliers is constant for a gradient; their repair is differentiable.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.functional.attention import Projections, rows_of
from fastloc.functional.output import Grid
from fastloc.functional.slices import in_parts
from fastloc.functional.vjp import upcast

__all__ = ["attended", "repaired", "sparse"]

# SC-CLIP: a patch's density is that of its nearest patches, itself left out
NEIGHBOURS = 30
# SFP: the most outliers of a picture, and the factor of the class token's attention before the comparison
MOST, STRENGTH = 10, 1.5


def sparse(patches: Tensor, most: int | None) -> Tensor:
    """The outliers of patches [B, P, C], bool [B, P]: those whose local outlier factor is above its 0.95 quantile among the picture's.

    The factor is D_i mean(1 / D_j) over the 30 nearest patches j, D the squared distance to the 30th: in the official code the
    reachability distance is never below the patch's own D. The quantile is linear between scores, so a factor is above it if it is above
    that of rank floor(0.95 (P - 1)). With fewer than 31 patches no patch has 30 neighbours, and none is an outlier.

    most: the most distances in memory at a time; None for all.
    """
    wide, (batch, count) = upcast(patches), patches.shape[:2]
    # distances do not change, and differences of large numbers lose fewer digits
    x = wide - wide.mean(1, keepdim=True)
    squares = x.square().sum(-1)
    near = torch.sym_min(NEIGHBOURS + 1, count)

    def nearest(rows: slice) -> Tensor:
        distances = squares[:, rows, None] + squares[:, None] - 2 * (x[:, rows] @ x.transpose(1, 2))
        indices: Tensor = distances.topk(near, largest=False).indices
        return indices

    neighbours = in_parts(count, batch * count, most, nearest)
    farthest = x.gather(1, neighbours[..., -1:].expand(-1, -1, x.shape[2]))
    radius = (x - farthest).square().sum(-1)
    densities = (1 / radius).gather(1, neighbours[..., 1:].flatten(1)).reshape(batch, count, near - 1)
    factors = radius * densities.mean(-1)
    usual = factors.sort(-1).values[:, 19 * (count - 1) // 20]
    # a tensor, because in an exported graph the number of patches may be one
    return (factors > usual[:, None]) & (torch.ones_like(factors).sum(-1, keepdim=True) > NEIGHBOURS)


def attended(qkv: Projections, most: int | None) -> Tensor:
    """The patches that the class token attends to more than they attend to themselves, at most ten a picture, bool [B, P].

    Both are means over heads of one block's attention; the class token's row is multiplied by 1.5. Patches tied for rank ten all count.

    qkv: [B, N, K, H, d], with queries and keys, and the block's bias where the tower has one; the class token is the first.
    most: the most logits in memory at a time; None for all.
    """
    q, k = upcast(qkv["q"]) * qkv.packed.shape[-1] ** -0.5, upcast(qkv["k"])
    own, keys, queries = (q * k).sum(-1).transpose(1, 2), k.permute(0, 2, 3, 1), q.transpose(1, 2)
    each = q.shape[0] * q.shape[1] * q.shape[2]
    wide = None if qkv.bias is None else upcast(qkv.bias)
    if wide is not None:
        own = own + wide.diagonal(dim1=-2, dim2=-1)

    def logits(rows: slice) -> Tensor:
        products: Tensor = queries[:, :, rows] @ keys
        bias = rows_of(wide, rows)
        return products if bias is None else products + bias

    sums = in_parts(q.shape[1], each, most, lambda rows: logits(rows).logsumexp(-1).transpose(1, 2)).transpose(1, 2)
    first = torch.softmax(logits(slice(1)), -1)
    of_class = STRENGTH * first[:, :, 0, qkv.prefix :].mean(1)
    of_self = (own - sums).exp()[:, :, qkv.prefix :].mean(1)
    salient = of_class > of_self
    tenth = of_class.masked_fill(~salient, 0).topk(torch.sym_min(MOST, of_class.shape[1])).values[:, -1:]
    found: Tensor = salient & (of_class >= tenth)
    return found


def repaired(patches: Tensor, outliers: Tensor, grid: Grid) -> Tensor:
    """The patches [B, P, C] of a grid, each outlier [B, P] replaced by the mean of its eight neighbours that are no outliers.

    An outlier whose neighbours are all outliers is kept. SFP's code makes it zero, and the similarity of zero, 0/0, is NaN in the whole
    picture.
    """
    kept = (~outliers).to(patches.dtype)
    # an outlier adds nothing to a window's mean, so the mean over all nine cells gives that of the neighbours
    planes = torch.cat([patches * kept[..., None], kept[..., None]], -1).transpose(1, 2)
    windows = F.avg_pool2d(planes.reshape(*planes.shape[:2], *grid), 3, stride=1, padding=1).flatten(2).transpose(1, 2)
    means, share = windows[..., :-1], windows[..., -1:]
    # one cell of nine, and rounding
    return torch.where(outliers[..., None] & (share > 0.1), means / share.clamp(min=0.1), patches)
