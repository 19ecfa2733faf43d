"""Attention expressions of the main and the local path, written so that no N x N map has to exist.

Averaging attention maps is averaging their outputs, and a per-image temperature multiplies the query, so every term is a
plain scaled-dot-product attention; self-self streams are stacked on the head axis and run as one call. A row of FORMS chooses
the form of that call (PyTorch's fused attention, or matrix products in slices); the engine adds the Triton kernels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.errors import RecipeError
from fastloc.functional.methods.entropy_matching import matched
from fastloc.functional.methods.procrustes import aligned_queries
from fastloc.functional.slices import SLICE, in_parts
from fastloc.recipes import Recipe


@dataclass(frozen=True)
class Projections:
    """Some of q, k and v of one block, in the layout of the one product that computes them."""

    packed: Tensor  # [B, N, K, H, d]
    letters: str  # the K projections' names in their order: "qkv", "kv", "v" …
    prefix: int = 1  # the number of the N tokens that stand in front of the patches
    foreign_values: Tensor | None = None  # [B, N, H, d], values of another block that replace this block's
    bias: Tensor | None = None  # [B or 1, H, N, N], the tower's own addition to the logits q k^T of this block

    def __getitem__(self, letter: str) -> Tensor:
        """One projection, [B, N, H, d], a view."""
        return self.packed[:, :, self.letters.index(letter)]

    @property
    def values(self) -> Tensor:
        """The values that the attention averages, [B, N, H, d]."""
        return self["v"] if self.foreign_values is None else self.foreign_values

    @property
    def by_head(self) -> Tensor:
        """All projections by head, [B, K, H, N, d], a view."""
        return self.packed.permute(0, 2, 3, 1, 4)


# one multiplier of the logits: a number, or a tensor [B or 1, S or 1, H or 1]
Temperature = float | Tensor
# q [B,M,H,d], k and v [B,N,H,d], a number or a tensor that broadcasts against q, a bias of the logits or None -> [B,M,H*d];
# the bias is [M,N], or has four axes that broadcast to [B,H,M,N]
Attend = Callable[[Tensor, Tensor, Tensor, Temperature, Tensor | None], Tensor]
# the local path's attention: projections, a temperature a pass, recipe, grid, where to write [B,P,C] -> [B,P,C]
Form = Callable[[Projections, list[Temperature], Recipe, tuple[int, int], Tensor | None], Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, bias: Tensor | None = None) -> Tensor:
    """softmax(temperature q k^T + bias) v with PyTorch's fused attention; see `Attend`."""
    scale = 1.0 if isinstance(temperature, Tensor) else temperature
    scaled = (q * temperature).to(q.dtype) if isinstance(temperature, Tensor) else q
    out = F.scaled_dot_product_attention(scaled.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=bias, scale=scale)
    return out.transpose(1, 2).flatten(2)


def attend_in_slices(q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, bias: Tensor | None = None) -> Tensor:
    """The attention of `attend`, with the logits of only some queries in memory at a time."""
    scaled = (q * temperature).to(q.dtype).transpose(1, 2)
    keys, values = k.permute(0, 2, 3, 1), v.transpose(1, 2)

    def of(rows: slice) -> Tensor:
        logits = scaled[:, :, rows] @ keys
        some = rows_of(bias, rows)
        return (torch.softmax(logits if some is None else logits + some, -1) @ values).transpose(1, 2).flatten(2)

    return in_parts(q.shape[1], k.shape[0] * k.shape[1] * k.shape[2], SLICE, of)


def rows_of(bias: Tensor | None, rows: slice) -> Tensor | None:
    """The part of a bias [..., N, N] that belongs to these queries, [..., M, N]; None without a bias."""
    return None if bias is None else bias[..., rows, :]


def local_form(how: Attend, most: int | None = SLICE) -> Form:
    """The recipe's attention by `how`, for the patches only; tokens in front of them take part as keys. See `Form`.

    most: the most elements of a neighbour bias, times batch and heads, in memory at a time; None for all of them, whatever the grid.
    """

    def form(
        qkv: Projections, temperatures: list[Temperature], recipe: Recipe, grid: tuple[int, int], out: Tensor | None = None
    ) -> Tensor:
        attended = _local(qkv, temperatures, recipe, grid, how, most)
        return attended if out is None else out.copy_(attended)

    return form


FORMS: dict[str, Form] = {"sdpa": local_form(attend), "bmm": local_form(attend_in_slices)}


def sides(term: str) -> str:
    """The letters of a term's queries and keys among the projections; "a" stands for aligned queries, see `with_aligned`."""
    return "ak" if term == "procrustes" else term


def with_aligned(qkv: Projections, recipe: Recipe) -> Projections:
    """The projections, with aligned queries in front as one more if the recipe attends by these."""
    if "procrustes" not in recipe.terms:
        return qkv
    queries = aligned_queries(qkv["q"], qkv["k"], qkv.prefix, recipe.procrustes_weight)
    return replace(qkv, packed=torch.cat([queries[:, :, None], qkv.packed], 2), letters="a" + qkv.letters)


def _local(
    qkv: Projections, temperatures: list[Temperature], recipe: Recipe, grid: tuple[int, int], how: Attend, most: int | None
) -> Tensor:
    qkv = with_aligned(qkv, recipe)
    streams = [sides(term) for term in recipe.streams]
    # in the order in which the projections lie in memory, so that all of them together are no copy
    order = sorted(range(len(streams)), key=lambda i: qkv.letters.index(streams[i][0]))
    streams = [streams[i] for i in order]
    v, count = qkv.values, len(streams)
    heads = v.shape[2]
    queries = _beside(qkv, "".join(each[0] for each in streams))
    keys = queries if all(each[0] == each[1] for each in streams) else _beside(qkv, "".join(each[1] for each in streams))
    stacked = [_stacked(each, order, heads) for each in temperatures]
    if recipe.unit:
        queries, keys = iterate(queries, keys, stacked, recipe.iterations, how, recipe.rho)
    last = stacked[-1] if stacked else _matched(queries, recipe.rho)
    # not `repeat`: TensorRT-RTX's builder crashes on the nodes that it exports to
    values = v if count == 1 else torch.cat([v] * count, 2)
    own = _own_bias(qkv, streams)
    if recipe.bias_std is None:
        attended = how(queries[:, qkv.prefix :], keys, values, last, own)
    else:
        attended = _biased(queries[:, qkv.prefix :], keys, values, last, grid, recipe.bias_std, how, most, own)
    if count > 1:
        attended = attended.reshape(*attended.shape[:2], count, heads * v.shape[3]).sum(2)
    if "identity" in recipe.terms:
        attended = attended + v[:, qkv.prefix :].flatten(2)
    if recipe.combine == "mean" and len(recipe.terms) > 1:
        attended = attended / len(recipe.terms)
    return attended


def _beside(qkv: Projections, letters: str) -> Tensor:
    """These projections side by side on the head axis, [B, N, S*H, d]."""
    if letters == qkv.letters:
        return qkv.packed.flatten(2, 3)
    return qkv[letters] if len(letters) == 1 else torch.cat([qkv[letter] for letter in letters], 2)


def _own_bias(qkv: Projections, streams: list[str]) -> Tensor | None:
    """The tower's bias of the patches' logits with the streams on the head axis, [B or 1, S*H, P, N].

    It was trained as a part of q k^T: no other product of projections gets it, and None stands for that.
    """
    if qkv.bias is None or "qk" not in streams:
        return None
    rows = qkv.bias[..., qkv.prefix :, :]
    return rows if len(streams) == 1 else torch.cat([rows if each == "qk" else torch.zeros_like(rows) for each in streams], 1)


def _stacked(temperature: Temperature, order: list[int], heads: int) -> Temperature:
    """The temperature in a shape that broadcasts against queries with the streams outermost on the head axis."""
    if not isinstance(temperature, Tensor):
        return temperature
    streams = temperature[:, order] if temperature.shape[1] > 1 else temperature
    return streams.expand(-1, len(order), heads).reshape(-1, 1, len(order) * heads, 1)


def iterate(
    queries: Tensor, keys: Tensor, temperatures: list[Temperature], iterations: int, how: Attend, rho: float | None = None
) -> tuple[Tensor, Tensor]:
    """GEM's p <- softmax(inv_temp p p^T) p with unit p, `iterations` times; returns unit queries and keys [B,N,S*H,d].

    Without temperatures, each pass's temperature is solved for `rho`.
    """
    same = queries is keys
    queries = unit(queries)
    keys = queries if same else unit(keys)
    for i in range(iterations):
        temperature = temperatures[i] if temperatures else _matched(queries, rho)
        queries = keys = unit(how(queries, queries, queries, temperature, None).reshape(queries.shape))
    return queries, keys


def _matched(queries: Tensor, rho: float | None) -> Tensor:
    assert rho is not None
    return matched(queries, rho)


def unit(x: Tensor) -> Tensor:
    """x with vectors of length 1; zero vectors stay zero. `F.normalize` makes them NaN in half precision, where its eps is 0."""
    lengths: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=_wide(x)).clamp_min(1e-12)
    return (x / lengths).to(x.dtype)


def _biased(
    q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, grid: tuple[int, int], std: float, how: Attend, most: int | None,
    own: Tensor | None,
) -> Tensor:  # fmt: skip
    """Attention with the neighbour bias, which is in memory for only some rows of the grid at a time, and the tower's own."""
    prefix = k.shape[1] - q.shape[1]
    if most is None:
        bias = neighbour_bias(grid, std, 0, grid[0], q, prefix)
        return how(q, k, v, temperature, bias if own is None else bias + own)
    # PyTorch may write a biased attention's logits to memory, so these rows are counted like those of `attend_in_slices`

    def of(rows: slice) -> Tensor:
        start, stop = rows.start or 0, grid[0] if rows.stop is None else rows.stop
        bias, some = neighbour_bias(grid, std, start, stop, q, prefix), slice(start * grid[1], stop * grid[1])
        attended = how(q[:, some], k, v, temperature, bias if own is None else bias + own[..., some, :])
        return attended.reshape(attended.shape[0], stop - start, grid[1], attended.shape[2])

    return in_parts(grid[0], grid[1] * k.shape[0] * k.shape[1] * k.shape[2], most, of).flatten(1, 2)


def neighbour_bias(grid: tuple[int, int], std: float, start: int, stop: int, like: Tensor, prefix: int = 1) -> Tensor:
    """NACLIP's logit bias for the patches in the grid's rows from `start` to `stop`, [rows*w, S+P].

    It is exp(-distance^2 / (2 std^2)) for the key of every patch and 0 for those of the S = `prefix` tokens in front. It has the dtype
    and device of `like`.
    """
    down, across = (torch.arange(side, device=like.device, dtype=_wide(like)) for side in grid)

    def bell(at: Tensor, to: Tensor) -> Tensor:
        return torch.exp(-((at[:, None] - to) ** 2) / (2 * std**2))

    # a Gaussian of the distance is the product of one for each axis
    dense = bell(down[start:stop], down)[:, None, :, None] * bell(across, across)[None, :, None, :]
    patches = dense.reshape((stop - start) * grid[1], grid[0] * grid[1])
    return torch.cat([torch.zeros_like(patches[:, :1]).expand(-1, prefix), patches], 1).to(like.dtype)


def inverse_temperatures(
    recipe: Recipe, table: Tensor | None, lengths: Tensor | None, head_width: int, index: int
) -> list[Temperature]:
    """The multipliers of the logits in the recipe's `index`-th changed block, one per pass, the last for the output.

    The list is empty where each is solved from the vectors that it multiplies (`fastloc.functional.methods.entropy_matching`).

    Args:
        table: `temperature_table` of a recipe that has one.
        lengths: [B, N], the length of every token after LN1, which GEM's adaptive temperature reads; never in half precision,
            which would shift every logit.
    """
    passes = recipe.iterations + 1
    if table is not None:
        return list(table[index])
    if recipe.inv_temp == "matched":
        return []
    if recipe.inv_temp == "adaptive":
        assert lengths is not None
        return [(lengths.mean(1) * head_width**-0.5)[:, None, None]] * passes
    return [head_width**-0.5 if recipe.inv_temp is None else float(recipe.inv_temp)] * passes  # type: ignore[arg-type]  # no table here


def temperature_table(recipe: Recipe, heads: int, like: Tensor) -> Tensor | None:
    """The recipe's own table of inverse temperatures as [blocks, passes, 1, S, H], or None for a recipe without one.

    It is on the device of `like` and never in half precision.

    Raises:
        RecipeError: a table for another number of heads.
    """
    if not isinstance(recipe.inv_temp, tuple):
        return None
    table = torch.tensor(recipe.inv_temp, dtype=torch.float64)
    if table.shape[1] not in (1, heads):
        raise RecipeError(f"inv_temp table must be for the model's {heads} heads, got {table.shape[1]}")
    full = table.expand(recipe.blocks, heads, len(recipe.streams), recipe.iterations + 1)
    return full.permute(0, 3, 2, 1)[:, :, None].to(like.device, _wide(like))


def _wide(tensor: Tensor) -> torch.dtype:
    """The dtype for sums: float32, or float64 for float64."""
    return torch.promote_types(tensor.dtype, torch.float32)
