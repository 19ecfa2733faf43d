"""Attention expressions of the main and the local path, written so that no N x N map has to exist.

Averaging attention maps is averaging their outputs, and a per-image temperature multiplies the query, so every term is a
plain scaled-dot-product attention; self-self streams are stacked on the head axis and run as one call.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.errors import RecipeError
from fastloc.recipes import Recipe


def main_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The encoder's own attention; q [B,H,M,d], k and v [B,H,N,d] -> [B,H,M,d]."""
    return F.scaled_dot_product_attention(q, k, v)


def local_attention(qkv: dict[str, Tensor], y: Tensor, recipe: Recipe, index: int, grid: tuple[int, int]) -> Tensor:
    """The recipe's attention in its `index`-th changed block, for the patches only; the class token takes part as a key.

    Args:
        qkv: the projections that the recipe reads, each [B,H,N,d] with N = 1 + P.
        y: [B,N,C], what they were projected from (GEM's adaptive temperature reads its norms).
        grid: (h, w) of the patches.

    Returns: [B,H,P,d].
    """
    v = qkv["v"]
    if recipe.terms == ("identity",):
        return v[:, :, 1:]
    heads, terms = v.shape[1], recipe.streams
    queries = torch.cat([qkv[term[0]] for term in terms], 1)
    keys = queries if all(term[0] == term[1] for term in terms) else torch.cat([qkv[term[1]] for term in terms], 1)
    temperatures = inverse_temperatures(recipe, y, heads, v.shape[-1], index)
    if recipe.unit:
        queries, keys = iterate(queries, keys, temperatures, recipe.iterations)
    values = v.repeat(1, len(terms), 1, 1) if len(terms) > 1 else v
    bias = None if recipe.bias_std is None else neighbour_bias(grid, recipe.bias_std).to(v)
    out = attend(queries[:, :, 1:], keys, values, temperatures[-1], bias)
    out = out.reshape(len(v), len(terms), heads, *out.shape[2:]).sum(1)
    if "identity" in recipe.terms:
        out = out + v[:, :, 1:]
    return out / len(recipe.terms) if recipe.combine == "mean" else out


def iterate(queries: Tensor, keys: Tensor, temperatures: list[float | Tensor], iterations: int) -> tuple[Tensor, Tensor]:
    """GEM's p <- softmax(inv_temp p p^T) p with unit p, `iterations` times; returns unit queries and keys [B,S*H,N,d]."""
    same = queries is keys
    queries = F.normalize(queries, dim=-1)
    keys = queries if same else F.normalize(keys, dim=-1)
    for i in range(iterations):
        queries = keys = F.normalize(attend(queries, queries, queries, temperatures[i], None), dim=-1)
    return queries, keys


def attend(q: Tensor, k: Tensor, v: Tensor, temperature: float | Tensor, bias: Tensor | None) -> Tensor:
    """softmax(temperature q k^T + bias) v; a number, or a tensor that broadcasts against q."""
    if isinstance(temperature, Tensor):
        return F.scaled_dot_product_attention((q * temperature).to(q.dtype), k, v, attn_mask=bias, scale=1.0)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=temperature)


def inverse_temperatures(recipe: Recipe, y: Tensor, heads: int, head_width: int, index: int) -> list[float | Tensor]:
    """One multiplier of the logits per pass, the last for the output: numbers, or tensors [B or 1, S*H or 1, 1, 1].

    Raises:
        RecipeError: a table for another number of heads.
    """
    passes = recipe.iterations + 1
    if recipe.inv_temp is None:
        return [head_width**-0.5] * passes
    if recipe.inv_temp == "adaptive":
        # a temperature rounded to half precision would shift every logit
        norms = torch.linalg.vector_norm(y, dim=-1, dtype=_wide(y))
        return [(norms.mean(1) * head_width**-0.5)[:, None, None, None]] * passes
    if isinstance(recipe.inv_temp, (int, float)):
        return [float(recipe.inv_temp)] * passes
    table = _table(recipe, heads, passes)[index]
    # streams are stacked outermost on the head axis
    return [table[:, :, i].T.reshape(1, -1, 1, 1).to(y.device, _wide(y)) for i in range(passes)]


def _wide(tensor: Tensor) -> torch.dtype:
    """float32, or float64 for float64."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _table(recipe: Recipe, heads: int, passes: int) -> Tensor:
    table = torch.tensor(recipe.inv_temp, dtype=torch.float64)
    if table.shape[1] not in (1, heads):
        raise RecipeError(f"inv_temp table is for {table.shape[1]} heads, and the model has {heads}")
    return table.expand(recipe.blocks, heads, len(recipe.streams), passes)


# a few grids at a time: a bias is P x P
@lru_cache(maxsize=4)
def neighbour_bias(grid: tuple[int, int], std: float) -> Tensor:
    """NACLIP's logit bias [P, 1+P], float64: exp(-distance^2 / (2 std^2)) between patches, 0 for the class token's key."""
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], 1).double()
    squared = ((places[:, None] - places[None]) ** 2).sum(-1)
    return F.pad(torch.exp(-squared / (2 * std**2)), (1, 0))
