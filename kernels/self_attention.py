"""Attention with an online softmax, for methods whose vectors are not of unit length: summed over the streams, the heads merged.

    out[b, n − first, h d : (h+1) d] = scale (sum over streams (q, k) of softmax(t x_q x_k^T + bias) v [+ v])

t is the inverse temperature. NACLIP's bias is exp(−distance² / (2 std²)) between patches and 0 for the keys of tokens in front; it is
computed from the indices, so that no N x N tensor is read: of a query and a key the two differences of coordinates, scaled so
that the bias is exp2(−dy² − dx²), where tokens in front lie out of sight. Two tiles of keys go through the loop at a time: the
second's scores are asked for before the first's exponentials, which then run beside them; with the bias the compiler keeps them apart.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from fastloc.kernels import tiles
from fastloc.kernels.gate import Case
from fastloc.kernels.launch import empty, launch

Pairs = tuple[tuple[int, int], ...]


@triton.jit
def _place(tokens, first, W, root):
    """The patches' coordinates times `root`; a division of floats is exact enough here, and one of integers takes thirty instructions."""
    patches = (tokens - first).to(tl.float32)
    y = tl.floor((patches + 0.5) * (1.0 / W))
    return y * root, (patches - y * W) * root


@triton.jit
def _logits(s, factor, y_i, x_i, keys, N, first, W, root, BIAS: tl.constexpr):
    """In powers of 2; minus infinity for keys past the end."""
    s = s * factor + tl.where(keys < N, 0.0, float("-inf"))[None, :]
    if BIAS:
        y_j, x_j = _place(keys, first, W, root)
        dy = y_i[:, None] - tl.where(keys > first - 1, y_j, 1e15)[None, :]
        dx = x_i[:, None] - x_j[None, :]
        s += tiles.LOG2E * tl.exp2(-(dy * dy + dx * dx))
    return s


@triton.jit
def _attend(s, v0, v1, a0, a1, greatest, total, D1: tl.constexpr):
    """The running sums with one more tile of keys."""
    before = greatest
    greatest = tl.maximum(before, tl.max(s, 1))
    shrunk = tl.exp2(before - greatest)
    e = tl.exp2(s - greatest[:, None])
    w = e.to(v0.dtype)
    a0 = tl.dot(w, v0, a0 * shrunk[:, None], input_precision="ieee")
    if D1 > 0:
        a1 = tl.dot(w, v1, a1 * shrunk[:, None], input_precision="ieee")
    return a0, a1, greatest, total * shrunk + tl.sum(e, 1)


@triton.jit
def _self_attention_kernel(
    x,  # [B, K, H, N, D]
    v,  # [B, H, N, D]
    inv_temp,  # [B, S, H] float32 if TABLE, else a number
    out,  # [B, N - first, H * D]
    queries,
    keys_of,
    H,
    N,
    W,
    root,
    first,
    nothing,  # 0
    scale,
    x_b,
    x_k,
    x_h,
    x_n,
    v_b,
    v_h,
    v_n,
    o_b,
    o_n,
    t_b,
    t_s,
    t_h,
    S: tl.constexpr,
    D: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    TABLE: tl.constexpr,
    BIAS: tl.constexpr,
    ADD_V: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    head = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    rows = first + tl.program_id(0) * BM + tl.arange(0, BM)
    x += b * (x_b * 8) + head * (x_h * 8)
    v += b * (v_b * 8) + head * (v_h * 8)
    y_i, x_i = _place(rows, first, W, root)

    o0 = tl.zeros([BM, D0], tl.float32)
    o1 = tl.zeros([BM, D1 if D1 > 0 else 16], tl.float32)
    if ADD_V:
        o0 += tiles.load_rows(v, rows, v_n * 8, N, 0, D0, D).to(tl.float32)
        if D1 > 0:
            o1 += tiles.load_rows(v, rows, v_n * 8, N, D0, D1, D).to(tl.float32)
    for stream in range(S):
        # what is the same for all streams would be computed before them and held in registers, if the compiler saw that it is
        values = v + stream * nothing
        mine = rows + stream * nothing
        q = x + tiles.picked(queries, stream) * (x_k * 8)
        k = x + tiles.picked(keys_of, stream) * (x_k * 8)
        factor = (tl.load(inv_temp + b * t_b + stream * t_s + head * t_h) if TABLE else inv_temp) * tiles.LOG2E
        q0 = tiles.load_rows(q, mine, x_n * 8, N, 0, D0, D)
        q1 = q0
        if D1 > 0:
            q1 = tiles.load_rows(q, mine, x_n * 8, N, D0, D1, D)

        greatest = tl.full([BM], float("-inf"), tl.float32)
        total = tl.zeros([BM], tl.float32)
        a0 = tl.zeros([BM, D0], tl.float32)
        a1 = tl.zeros([BM, D1 if D1 > 0 else 16], tl.float32)
        for start in range(stream * nothing, N, 2 * BN):
            keys = start + tl.arange(0, BN)
            k0 = tiles.load_rows(k, keys, x_n * 8, N, 0, D0, D)
            k1 = k0
            if D1 > 0:
                k1 = tiles.load_rows(k, keys, x_n * 8, N, D0, D1, D)
            left = tiles.scores(q0, q1, k0, k1, D1)
            k0 = tiles.load_rows(k, keys + BN, x_n * 8, N, 0, D0, D)
            if D1 > 0:
                k1 = tiles.load_rows(k, keys + BN, x_n * 8, N, D0, D1, D)
            right = tiles.scores(q0, q1, k0, k1, D1)

            values0 = tiles.load_rows(values, keys, v_n * 8, N, 0, D0, D)
            values1 = values0
            if D1 > 0:
                values1 = tiles.load_rows(values, keys, v_n * 8, N, D0, D1, D)
            left = _logits(left, factor, y_i, x_i, keys, N, first, W, root, BIAS)
            a0, a1, greatest, total = _attend(left, values0, values1, a0, a1, greatest, total, D1)
            values0 = tiles.load_rows(values, keys + BN, v_n * 8, N, 0, D0, D)
            if D1 > 0:
                values1 = tiles.load_rows(values, keys + BN, v_n * 8, N, D0, D1, D)
            right = _logits(right, factor, y_i, x_i, keys + BN, N, first, W, root, BIAS)
            a0, a1, greatest, total = _attend(right, values0, values1, a0, a1, greatest, total, D1)
        o0 += a0 / total[:, None]
        if D1 > 0:
            o1 += a1 / total[:, None]

    out += b * (o_b * 8) + head * D
    tiles.store_rows(out, rows - first, o_n * 8, N - first, o0 * scale, 0, D0, D)
    if D1 > 0:
        tiles.store_rows(out, rows - first, o_n * 8, N - first, o1 * scale, D0, D1, D)


def _configuration(head_width: int) -> dict[str, int]:
    if sum(tiles.chunks(head_width)) > 96:
        return {"BM": 128, "BN": 16, "num_warps": 8, "num_stages": 3}
    return {"BM": 128, "BN": 32, "num_warps": 8, "num_stages": 2}


def self_attention(
    x: Tensor, v: Tensor, inv_temp: Tensor | float, pairs: Pairs, *, scale: float, add_v: bool = False, first: int = 1,
    bias_std: float | None = None, grid: tuple[int, int] | None = None, out: Tensor | None = None,
    configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """The streams' attentions to v, summed and scaled, for the queries from token `first` on; all tokens are keys.

    Args:
        x: [B, K, H, N, d] float16 or bfloat16, strides multiples of 8, the last 1; d a multiple of 8 from 16 to 128.
        v: [B, H, N, d] of x's dtype, strides multiples of 8, the last 1.
        inv_temp: multiplies the products of queries and keys: a number for all, or [B, S, H] float32, any strides.
        pairs: for every stream the indices on axis K of its queries and of its keys.
        scale: of the sum; 1/S for the mean.
        add_v: add the unchanged values as one more stream.
        first: 0 to N; 1 leaves the class token's query out. With a bias, the number of tokens in front of the patches.
        bias_std: NACLIP's deviation in patches, above 0; needs `grid`.
        grid: (h, w) of the patches, N = 1 + h w; read only with `bias_std`.
        out: [B, N - first, H * d] to write to, of x's dtype, strides multiples of 8, the last 1.
        configuration: {"BM", "BN", "num_warps", "num_stages"} in place of the shipped one; two tiles of BN keys at a time.

    Returns: `out`, or a new tensor.
    """
    batch, _, heads, tokens, width = x.shape
    table = isinstance(inv_temp, Tensor)
    strides = inv_temp.stride() if isinstance(inv_temp, Tensor) else (0, 0, 0)
    config = configuration or _configuration(width)
    if out is None:
        out = empty((batch, tokens - first, heads * width), x.dtype, x.device)
    columns = grid[1] if grid is not None and bias_std is not None else 1
    root = math.sqrt(tiles.LOG2E.value / 2) / bias_std if bias_std is not None else 0.0
    d0, d1 = tiles.chunks(width)
    queries, keys = (tiles.packed_picks(side) for side in zip(*pairs, strict=True))
    launch(_self_attention_kernel, (triton.cdiv(tokens - first, config["BM"]), heads, batch),
           x, v, inv_temp, out, queries, keys, heads, tokens, columns, root, first, 0, scale,
           *tiles.eighths(x), *tiles.eighths(v), *tiles.eighths(out), *strides,
           num_warps=config["num_warps"], num_stages=config["num_stages"],
           S=len(pairs), D=width, D0=d0, D1=d1, TABLE=table, BIAS=bias_std is not None, ADD_V=add_v,
           BM=config["BM"], BN=config["BN"])  # fmt: skip
    return out


def why_not(
    x: Tensor, v: Tensor, inv_temp: Tensor | float, pairs: Pairs, *, scale: float, add_v: bool = False, first: int = 1,
    bias_std: float | None = None, grid: tuple[int, int] | None = None, out: Tensor | None = None,
    configuration: Mapping[str, int] | None = None,
) -> list[str]:  # fmt: skip
    """Every reason to refuse these arguments."""
    if x.ndim != 5:
        return [f"x must be [B, K, H, N, d], got {x.ndim} axes"]
    batch, projections, heads, tokens, _ = x.shape
    reasons = [*tiles.dtype_refusals("x", x), *tiles.operand_refusals("x", x)]
    reasons += [*tiles.value_refusals(v, x), *tiles.output_refusals(out, first, x)]
    for name, indices in (("the queries' side of pairs", [q for q, _ in pairs]), ("the keys' side of pairs", [k for _, k in pairs])):
        reasons += tiles.pick_refusals(name, indices, projections)
    if isinstance(inv_temp, Tensor):
        reasons += tiles.shape_refusals("inv_temp", inv_temp, (batch, len(pairs), heads), torch.float32)
    if bias_std is not None:
        if not bias_std > 0:
            reasons.append(f"bias_std must be above 0, got {bias_std}")
        if grid is None or tokens != first + grid[0] * grid[1]:
            reasons.append(f"grid must have {tokens - first} patches for the bias of {tokens} tokens from {first} on, got {grid}")
    return reasons


def reference(
    x: Tensor, v: Tensor, inv_temp: Tensor | float, pairs: Pairs, *, scale: float, add_v: bool = False, first: int = 1,
    bias_std: float | None = None, grid: tuple[int, int] | None = None, out: Tensor | None = None,
    configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """The op in plain PyTorch, in x's dtype; `out` is not written."""
    q, k = x[:, [q for q, _ in pairs], :, first:], x[:, [k for _, k in pairs]]
    number = 1.0
    if isinstance(inv_temp, Tensor):
        q = (q * inv_temp[..., None, None]).to(q.dtype)
    else:
        number = inv_temp
    bias = None if bias_std is None or grid is None else _bias(grid, bias_std, first).to(v)
    # one axis for streams and heads, as scaled_dot_product_attention's fast kernels want it
    values = v.repeat(1, len(pairs), 1, 1)
    attended = F.scaled_dot_product_attention(q.flatten(1, 2), k.flatten(1, 2), values, attn_mask=bias, scale=number)
    total = attended.reshape(len(x), len(pairs), x.shape[2], *attended.shape[2:]).sum(1)
    if add_v:
        total = total + v[:, :, first:]
    return (total * scale).transpose(1, 2).flatten(2)


def _bias(grid: tuple[int, int], std: float, first: int) -> Tensor:
    """NACLIP's bias of the logits, [P, first + P], float64."""
    places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).double()
    squared = (places[:, None] - places[None]).square().sum(-1)
    return F.pad(torch.exp(-squared / (2 * std**2)), (first, 0))


def _case(label: str, batch: int, tokens: int, heads: int, width: int, pairs: Pairs, *, temperature: float | None = None,
          magnitude: float = 1.0, slot: bool = False, large: bool = False, **options: Any) -> Case:  # fmt: skip
    """A case; `temperature` None stands for a table of 0.5 to 1.5 times the usual d ** -0.5."""

    def inputs(generator: torch.Generator) -> dict[str, Any]:
        packed = magnitude * torch.randn(batch, tokens, 3, heads, width, generator=generator, dtype=torch.float64)
        x = packed.permute(0, 2, 3, 1, 4)
        table = (0.5 + torch.rand(batch, len(pairs), heads, generator=generator)) * width**-0.5
        made = {"x": x, "v": x[:, 2], "inv_temp": temperature or table, "pairs": pairs, "scale": 1 / len(pairs), **options}
        if slot:
            made["out"] = torch.zeros(batch, tokens - 1, 3, heads * width, dtype=torch.float64)[:, :, 1]
        return made

    batched = ("x", "v", *(() if temperature else ("inv_temp",)), *(("out",) if slot else ()))
    return Case(label, inputs, batched=batched, large=large)


CASES = (
    _case("N=1 d=16 q-k, class token too", 1, 1, 1, 16, ((0, 1),), temperature=0.25, first=0),
    _case("N=17 d=64 q-q and k-k in a slot", 3, 17, 2, 64, ((0, 0), (1, 1)), temperature=0.125, slot=True),
    _case("N=65 d=72 v-v and v, a table", 3, 65, 2, 72, ((2, 2),), add_v=True),
    _case("N=130 d=80 q-k", 1, 130, 1, 80, ((0, 1),), first=0),
    _case("N=197 d=32 long vectors", 1, 197, 1, 32, ((1, 0),), magnitude=6.0, temperature=0.3),
    _case("N=99 d=96 grid 7x14 with a bias", 1, 99, 1, 96, ((1, 1),), temperature=0.1, bias_std=5.0, grid=(7, 14)),
    _case("N=34 d=48 grid 11x3 with a narrow bias, two streams", 2, 34, 2, 48, ((1, 1), (0, 0)), bias_std=0.7, grid=(11, 3)),
    _case("N=35 d=64 grid 5x7 with a bias, nothing in front", 2, 35, 2, 64, ((1, 1),), temperature=0.1, bias_std=2.0, grid=(5, 7), first=0),
    _case("N=37 d=72 grid 11x3 with a bias, four tokens in front", 2, 37, 2, 72, ((1, 1),), bias_std=1.0, grid=(11, 3), first=4),
    _case("N=66 d=104 three streams", 1, 66, 1, 104, ((0, 0), (1, 1), (2, 2)), temperature=0.09),
    _case("N=50 d=128 cancelling", 1, 50, 1, 128, ((0, 2),), magnitude=0.01, temperature=1.0),
    _case("N=785 d=64 ViT-B/16 at 448 v-v", 2, 785, 12, 64, ((2, 2),), temperature=0.125, large=True),
    _case("N=785 d=64 ViT-B/16 at 448 with a bias", 2, 785, 12, 64, ((1, 1),), bias_std=5.0, grid=(28, 28), large=True),
)  # fmt: skip


def builds(head_width: int, dtype: torch.dtype) -> None:
    """Start every shipped configuration."""
    x = torch.empty(2, 785, 3, 12, head_width, dtype=dtype, device="meta").permute(0, 2, 3, 1, 4)
    v = x[:, 2]
    self_attention(x, v, 0.125, ((0, 0), (1, 1)), scale=1.0)
    self_attention(x, v, torch.empty(2, 1, 12, device="meta"), ((2, 2),), scale=0.5, add_v=True)
    self_attention(x, v, 0.125, ((1, 1),), scale=1.0, bias_std=5.0, grid=(28, 28))
