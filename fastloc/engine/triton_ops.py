"""The parts of a pass by Triton kernels, in the shape that `fastloc.functional.op_set` asks for. Kernels are imported when a plan names
them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional.attention import Projections, Temperature, sides, with_aligned
from fastloc.kernels.table import OPS
from fastloc.recipes import Recipe


def op(name: str) -> Any:
    """The launcher of a row of the op table."""
    return getattr(OPS[name].module, name)


def attention(
    qkv: Projections, temperatures: list[Temperature], recipe: Recipe, grid: tuple[int, int], out: Tensor | None = None
) -> Tensor:
    """The local path's attention; see `fastloc.functional.attention.Form`."""
    qkv = with_aligned(qkv, recipe)
    x, v = qkv.by_head, qkv.values.transpose(1, 2)
    batch, _, heads = x.shape[:3]
    last = _full(temperatures[-1], batch, len(recipe.streams), heads, x.device)
    ending: dict[str, Any] = {
        "scale": 1 / len(recipe.terms) if recipe.combine == "mean" else 1.0, "add_v": "identity" in recipe.terms, "out": out,
        "first": qkv.prefix,
    }  # fmt: skip
    attended: Tensor
    if recipe.unit:
        pick = tuple(qkv.letters.index(term[0]) for term in recipe.streams)
        norms = op("inverse_norms")(x, pick)
        for temperature in temperatures[:-1]:
            x = op("self_self_step")(x, _full(temperature, batch, len(recipe.streams), heads, x.device), pick, norms)
            # unit vectors from here on, one projection a stream
            norms, pick = None, tuple(range(len(pick)))
        attended = op("self_self_ensemble")(x, v, last, pick, norms, **ending)
    else:
        pairs = _pairs(recipe, qkv.letters)
        bias = {} if recipe.bias_std is None else {"bias_std": recipe.bias_std, "grid": grid}
        attended = op("self_attention")(x, v, last, pairs, **bias, **ending)
    return attended


def _pairs(recipe: Recipe, letters: str) -> tuple[tuple[int, int], ...]:
    """The indices of every stream's queries and keys among the projections."""
    indices = ([letters.index(letter) for letter in sides(term)] for term in recipe.streams)
    return tuple((queries, keys) for queries, keys in indices)


def _full(temperature: Temperature, batch: int, streams: int, heads: int, device: torch.device) -> Tensor:
    """Expand a temperature to [B, S, H], float32."""
    if isinstance(temperature, Tensor):
        return temperature.float().expand(batch, streams, heads).contiguous()
    return torch.full((batch, streams, heads), temperature, dtype=torch.float32, device=device)


def add_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, bias: Tensor, eps: float, lengths: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Residual sum and LayerNorm; see `fastloc.functional.op_set.AddNorm`. A strided x, such as one token of many, is copied first."""
    result: tuple[Tensor, Tensor, Tensor | None] = op("add_norm")(x.contiguous(), delta, weight, bias, eps, lengths=lengths)
    return result


def quick_gelu(x: Tensor, activation: str) -> Tensor:
    """Apply QuickGELU in place; the plan chooses this op for no other activation."""
    assert activation == "quick_gelu"
    result: Tensor = op("quick_gelu")(x, out=x)
    return result


def cosine(patches: Tensor, texts: Tensor) -> Tensor:
    """Cosines of patches [B, P, E] with texts [T, E] or [B, T, E] -> [B, T, P], float32.

    Half-precision patches meet the texts as two halves, a rounded text and what the rounding lost: maps are made of small
    differences, and twice as many columns cost next to nothing.
    """
    return _by_halves(partial(op("cosine"), patches), texts, patches.dtype)


def project_cosine(weights: Weights, patches: Tensor, texts: Tensor) -> Tensor:
    """`cosine` of patches [B, P, C] before the last LayerNorm, which the kernel normalises and projects."""

    def of(words: Tensor) -> Tensor:
        cosines: Tensor = op("project_cosine")(patches, weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps, weights.proj, words)
        return cosines

    return _by_halves(of, texts, patches.dtype)


def _by_halves(of: Callable[[Tensor], Tensor], texts: Tensor, dtype: torch.dtype) -> Tensor:
    """The products `of` texts [.., T, E], which meet half precision as two halves: a rounded text and what the rounding lost."""
    if texts.dtype == dtype:
        return of(texts)
    rounded = texts.to(dtype)
    high, low = of(torch.cat([rounded, (texts - rounded).to(dtype)], -2)).chunk(2, 1)
    return high + low


def why_not_attention(spec: ModelSpec, recipe: Recipe, tokens: int, dtype: torch.dtype) -> list[str]:
    """The reasons of shape and dtype, not of the device, why kernels cannot compute this recipe's attention.

    Any number of tokens may stand in front of the patches, and queries and keys arrive normalised and rotated, so the head width and a
    bias of relative positions are the only properties of a tower that can rule kernels out.
    """
    if recipe.path != "local":
        return [f"{recipe.name} attends by a map that its heads share and by PyTorch's fused attention; kernels are for the local path"]
    if not recipe.streams:
        return [f"the local path of {recipe.name} does not attend"]
    if recipe.unit and any(term[0] != term[1] for term in recipe.streams):
        return ["the kernels on unit vectors are for self-self terms, and one of " + ", ".join(recipe.streams) + " is not"]
    if spec.relative and "qk" in recipe.streams:
        return ["the model adds a bias of relative positions to q k^T, and kernels add none of each head's own to logits"]
    if recipe.inv_temp == "matched":
        return ["temperatures solved within the pass read every logit first; kernels take a table: method 'gem_calibrated'"]
    letters = "aqkv" if "procrustes" in recipe.terms else "qkv"
    x = torch.empty(1, len(letters), spec.heads, tokens, spec.head_width, dtype=dtype, device="meta")
    inverse = torch.empty(1, len(recipe.streams), spec.heads, dtype=torch.float32, device="meta")
    module = OPS["self_self_ensemble" if recipe.unit else "self_attention"].module
    which = tuple("qkv".index(term[0]) for term in recipe.streams) if recipe.unit else _pairs(recipe, letters)
    reasons: list[str] = module.why_not(x, x[:, -1], inverse, which, scale=1.0, first=spec.prefix + recipe.registers)
    return reasons


def why_not_norm(spec: ModelSpec, dtype: torch.dtype) -> list[str]:
    """The reasons why kernels cannot compute residual + LayerNorm, at every width at which the tower has one."""
    # CoCa's pool ends in a LayerNorm of the texts' space
    others = ((spec.mlp_width, spec.mlp_norm), (spec.head_width, spec.qk_norm), (spec.embed, spec.pool == "attn" and not spec.pool_mlp))
    reasons: list[str] = []
    for width in (spec.width, *(each for each, there in others if there)):
        x, row = (torch.empty(shape, dtype=dtype, device="meta") for shape in ((1, 2, width), (width,)))
        reasons += OPS["add_norm"].module.why_not(x, x, row, row, spec.norm_eps)
    return list(dict.fromkeys(reasons))


def why_not_activation(spec: ModelSpec, dtype: torch.dtype) -> list[str]:
    """The reasons why kernels cannot compute the activation."""
    if spec.activation != "quick_gelu":
        return [f"the model's activation is {spec.activation}, which is one kernel of PyTorch's already"]
    if spec.gated:
        return ["the model's MLP is gated: half of its rows are activated, and the kernel takes whole rows"]
    reasons: list[str] = OPS["quick_gelu"].module.why_not(torch.empty(1, 2, spec.mlp_width, dtype=dtype, device="meta"))
    return reasons


def why_not_readout(spec: ModelSpec, order: str, dtype: torch.dtype) -> list[str]:
    """The reasons why kernels cannot compute the cosines, or the maps in this order."""
    patches, texts = (torch.empty(shape, dtype=dtype, device="meta") for shape in ((1, 2, spec.embed), (1, spec.embed)))
    reasons: list[str] = OPS["cosine"].module.why_not(patches, texts)
    if order not in OPS["heatmap"].module.ORDERS:
        return [*reasons, f"maps of order {order!r} have no kernel"]
    return reasons


def why_not_projection(weights: Weights, recipe: Recipe, texts: int) -> list[str]:
    """The reasons why one kernel cannot go from patches before the last LayerNorm to their cosines with so many texts."""
    if recipe.reads != "patches":
        return [f"{recipe.name} reads no patch features"]
    if weights.pool is not None or weights.proj is None or weights.proj_b is not None:
        return ["the tower must end in a LayerNorm and a projection without a bias"]
    dtype = weights.proj.dtype
    columns = texts if dtype == torch.float32 else 2 * texts
    x, words = (torch.empty(shape, dtype=dtype, device="meta") for shape in ((1, 2, weights.spec.width), (columns, weights.spec.embed)))
    reasons: list[str] = OPS["project_cosine"].module.why_not(x, weights.ln_post_w, weights.ln_post_b, 0.0, weights.proj, words)
    return reasons
