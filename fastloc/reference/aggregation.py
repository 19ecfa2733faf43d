"""SC-CLIP and SFP written out: explicit distances, outlier factors by their definition, one picture, one outlier, one patch at a time.

After SuleBai/SC-CLIP, clip/model.py, and Kimsure/SFP, SFP_ICCV/clip/model.py, which read square pictures one by one. Other grids take the
same steps, with a patch's row and column from the grid's width.
"""

import math

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import Recipe
from fastloc.reference import arithmetic, first_tokens, parts
from fastloc.reference.first_tokens import Grid

NEIGHBOURS = 30
# the official code's blocks, counted from 0 in a tower of 12: similarity, average, first and last of the sum
BLOCKS = (8, 3, 3, 9)


def features(weights: Weights, pixels: Tensor, row: Recipe) -> Tensor:
    """Patch features [B, P, E] of a recipe whose path is "sc-clip" or "sfp"."""
    return torch.cat([_picture(weights, picture[None], row) for picture in pixels])


def _picture(weights: Weights, picture: Tensor, row: Recipe) -> Tensor:
    spec, grid, published = weights.spec, first_tokens.grid_of(weights, picture), row.path == "sc-clip"
    streams, x = [], first_tokens.embed(weights, picture, row.position)
    for block in weights.blocks[:-1]:
        seen = x
        x = parts.walk(weights, x, (block,), grid)
        streams.append(x[0])
    similar, average, first, last = row.path_blocks or BLOCKS
    if not row.path_blocks:
        similar, average = (at_depth(number, spec.layers) for number in (similar, average))
    summed = [number if row.path_blocks else at_depth(number, spec.layers) for number in range(first, last + 1)]

    patches = streams[-1][spec.prefix :]
    outliers = by_density(patches) if published or not spec.class_token else by_attention(weights, seen, grid)
    units = arithmetic.unit(repaired(streams[similar][spec.prefix :], outliers, grid))
    similarity = units @ units.T
    cut = torch.where(similarity < 0.4, 0, similarity)
    patches = averaged(cut, repaired(patches, outliers, grid))
    # the official SFP cuts the similarity in place, so every later step reads the cut one
    shared = shared_map(similarity if published else cut)
    late = arithmetic.unit(streams[average][spec.prefix :])
    kept = late @ late.T
    kept = torch.where(kept < 0.4, 0, kept)

    one = _last_block(weights, patches, shared, "k" if published else "qk", grid, row.rotary)
    total = torch.stack([streams[number] for number in summed]).sum(0)
    two = _last_block(weights, total[spec.prefix :], shared, "k" if published else "", grid, row.rotary)
    if spec.class_token:
        one, two = one + 0.3 * streams[-1][:1], two + 0.3 * total[:1]
    return parts.project(weights, (averaged(kept, one) + averaged(kept, two))[None], row.patch_read)


def at_depth(number: int, layers: int) -> int:
    """The block at the same share of the depth as block `number` of 12, never the last block."""
    return min(math.ceil((number + 1) * layers / 12) - 1, layers - 2)


def by_density(patches: Tensor) -> list[int]:
    """The patches [P, C] whose local outlier factor is above the 0.95 quantile; none where a patch lacks 30 neighbours."""
    if len(patches) <= NEIGHBOURS:
        return []
    # as in the official code, never in half precision
    factors = outlier_factors(patches).to(torch.promote_types(patches.dtype, torch.float32))
    return torch.nonzero(factors > torch.quantile(factors, 0.95))[:, 0].tolist()


def outlier_factors(patches: Tensor) -> Tensor:
    """The mean density of a patch's 30 neighbours over its own [P]; the reachability is at least the patch's own distance to the 30th."""
    distances = ((patches[:, None] - patches[None]) ** 2).sum(-1)
    nearest = distances.sort(1)
    values, indices = (each[:, 1 : NEIGHBOURS + 1] for each in nearest)
    radius = values[:, -1:]
    reachability = torch.maximum(values, radius)
    density = NEIGHBOURS / reachability.mean(1)
    return (density[indices] / density[:, None]).mean(1)


def by_attention(weights: Weights, x: Tensor, grid: Grid) -> list[int]:
    """The patches that the class token attends to, times 1.5, more than they attend to themselves, at most ten, in the last block but one.

    x: [1, N, C], that block's input.
    """
    spec, block = weights.spec, weights.blocks[-2]
    q, k, _ = parts.qkv(block, parts.entered(block, x, spec), spec, first_tokens.angles(weights, grid))
    mean = arithmetic.softmax(arithmetic.logits(q, k) + first_tokens.relative_bias(block, spec, grid))[0].mean(0)
    of_class, of_self = 1.5 * mean[0, spec.prefix :], mean.diagonal()[spec.prefix :]
    salient = torch.nonzero(of_class > of_self)[:, 0].tolist()
    return sorted(salient, key=lambda place: -of_class[place].item())[:10]


def repaired(patches: Tensor, outliers: list[int], grid: Grid) -> Tensor:
    """Patches [P, C] with each outlier replaced by the mean of its neighbours that are no outliers; without such a neighbour it is kept."""
    rows, columns = grid
    result = patches.clone()
    for place in outliers:
        row, column = divmod(place, columns)
        window = [(i, j) for i in range(row - 1, row + 2) for j in range(column - 1, column + 2) if 0 <= i < rows and 0 <= j < columns]
        good = [i * columns + j for i, j in window if i * columns + j not in outliers]
        if good:
            result[place] = patches[good].mean(0)
    return result


def averaged(similarity: Tensor, x: Tensor) -> Tensor:
    """Rows of x [P, C] averaged by rows of similarity [P, P]."""
    return similarity / (similarity.sum(-1, keepdim=True) + 1e-6) @ x


def shared_map(similarity: Tensor) -> Tensor:
    """The softmax of three times the similarities above the mean of all, row by row; the largest of a row always has its share.

    Equal vectors have similarities that are the mean but for rounding, of 16 units in the last place at most: these have their share.
    """
    logits = 3 * (similarity - similarity.mean())
    tied = 3 * 16 * torch.finfo(similarity.dtype).eps
    hidden = (logits < -tied) & (logits < logits.amax(-1, keepdim=True))
    return arithmetic.softmax(torch.where(hidden, -torch.inf, logits))


def _last_block(weights: Weights, patches: Tensor, shared: Tensor, terms: str, grid: Grid, rotary: bool) -> Tensor:
    """The last block's attention alone, the mean of the shared map and the terms' own: [P, C] -> [P, C]."""
    spec, block = weights.spec, weights.blocks[-1]
    turns = first_tokens.angles(weights, grid) if rotary else None
    turns = None if turns is None else turns[spec.prefix :]
    q, k, v = parts.qkv(block, parts.entered(block, patches[None], spec), spec, turns)
    maps = [arithmetic.softmax(arithmetic.logits(each, each)) for each in (q if term == "q" else k for term in terms)]
    total = sum(maps, shared.expand(1, spec.heads, -1, -1)) / (1 + len(maps))
    return parts.out(block, total @ v, spec)[0]
