"""One iteration of self-self attention: p' = normalize(softmax(t p p^T) p), p = x with rows of length 1, t the inverse temperature.

No logit is above t |p_i|, so the softmax needs no running maximum, and its row sums cancel in the normalisation that follows:

    e_ij = exp(t p_i·p_j − t |p_i|)        p'_i = a_i / |a_i|,  a_i = sum_j e_ij p_j

Of unit vectors nothing else is computed. Raw ones are not normalised either, with r = 1/|x| given (`inverse_norms`):

    e_ij = exp(t r_i r_j x_i·x_j − t) g_i    a_i = sum_j (e_ij r_j) x_j

where g_i cancels too: it keeps the weights of very long vectors in half precision's range. The tile of keys is used as it
lies, twice. Two such tiles go through the loop at a time: the second's scores are asked for before the first's exponentials,
which then run beside them.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from fastloc.kernels import tiles, variants
from fastloc.kernels.gate import Case
from fastloc.kernels.inverse_norms import inverse_norms, packed
from fastloc.kernels.launch import empty, launch

# with longer vectors the weights e/|x| would become subnormal in float16
_LONG = tl.constexpr(128.0)
# the least squared length of a divisor
_LEAST = tl.constexpr(1e-36)


@triton.jit
def _weights(s, factor, shift, r_j, RAW: tl.constexpr, POLYNOMIAL: tl.constexpr):
    """e_ij r_j; every row has its own factor and shift."""
    if RAW:
        return tiles.exp2(s * r_j[None, :] * factor[:, None] - shift[:, None], POLYNOMIAL) * r_j[None, :]
    return tiles.exp2(s * factor[:, None] - shift[:, None], POLYNOMIAL)


@triton.jit
def _self_self_step_kernel(
    x,  # [B, K, H, N, D]
    norms,  # [B, S, H, NP] float32 if RAW
    inv_temp,  # [B, S, H] float32
    out,  # [B, S, H, N, D] contiguous
    keys0,  # descriptors of x's chunks, or None
    keys1,
    picks,
    H,
    N,
    NP,
    x_b,
    x_k,
    x_h,
    x_n,
    t_b,
    t_s,
    t_h,
    D: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    RAW: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    POLYNOMIAL: tl.constexpr,
    SPECIALISED: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    tiles.wait_for_the_kernel_before(DEPENDENT)
    lane = tl.program_id(1)
    stream = lane // H
    head = lane % H
    b = tl.program_id(2).to(tl.int64)
    each = b * tl.num_programs(1) + lane
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    x += b * (x_b * 8) + tiles.picked(picks, stream) * (x_k * 8) + head * (x_h * 8)
    factor = tl.load(inv_temp + b * t_b + stream * t_s + head * t_h) * tiles.LOG2E

    q0 = tiles.load_rows(x, rows, x_n * 8, N, 0, D0, D)
    q1 = q0
    if D1 > 0:
        q1 = tiles.load_rows(x, rows, x_n * 8, N, D0, D1, D)
    lengths = tl.sqrt(tiles.squared_lengths(q0, q1, D1))
    if RAW:
        norms += each * NP
        r_i = tl.load(norms + rows, mask=rows < NP, other=0.0)
        shift = factor * lengths * r_i - tl.log2(tl.maximum(lengths / _LONG, 1.0))
        factor *= r_i
    else:
        shift = factor * lengths
        factor += tl.zeros_like(shift)

    a0 = tl.zeros([BM, D0], tl.float32)
    a1 = tl.zeros([BM, D1 if D1 > 0 else 16], tl.float32)
    for start in tl.range(0, N, 2 * BN, warp_specialize=SPECIALISED):
        keys = start + tl.arange(0, BN)
        left0 = tiles.key_tile(x, keys0, b, tiles.picked(picks, stream), head, start, keys, x_n * 8, N, 0, D0, D)
        right0 = tiles.key_tile(x, keys0, b, tiles.picked(picks, stream), head, start + BN, keys + BN, x_n * 8, N, 0, D0, D)
        left1 = left0
        right1 = right0
        if D1 > 0:
            left1 = tiles.key_tile(x, keys1, b, tiles.picked(picks, stream), head, start, keys, x_n * 8, N, D0, D1, D)
            right1 = tiles.key_tile(x, keys1, b, tiles.picked(picks, stream), head, start + BN, keys + BN, x_n * 8, N, D0, D1, D)
        # read before the products: no load may come between them and the exponentials
        r_left = tiles.keys_norms(norms, keys, NP, RAW)
        r_right = tiles.keys_norms(norms, keys + BN, NP, RAW)
        left = tiles.scores(q0, q1, left0, left1, D1)
        right = tiles.scores(q0, q1, right0, right1, D1)
        w = _weights(left, factor, shift, r_left, RAW, 0).to(x.dtype.element_ty)
        a0 = tl.dot(w, left0, a0, input_precision="ieee")
        if D1 > 0:
            a1 = tl.dot(w, left1, a1, input_precision="ieee")
        w = _weights(right, factor, shift, r_right, RAW, POLYNOMIAL).to(x.dtype.element_ty)
        a0 = tl.dot(w, right0, a0, input_precision="ieee")
        if D1 > 0:
            a1 = tl.dot(w, right1, a1, input_precision="ieee")

    inverse = tl.rsqrt(tl.maximum(tiles.squared_lengths(a0, a1, D1), _LEAST))[:, None]
    out += each * N * D
    tiles.store_rows(out, rows, D, N, a0 * inverse, 0, D0, D)
    if D1 > 0:
        tiles.store_rows(out, rows, D, N, a1 * inverse, D0, D1, D)


def _configuration(head_width: int, raw: bool) -> dict[str, int]:
    """Tiles and warps, limited by registers: up to a width of 96, two blocks fit on an SM of Hopper; nothing spills."""
    if head_width <= 64 and not raw:
        return {"BM": 128, "BN": 64, "num_warps": 8, "num_stages": 2}
    return {"BM": 128, "BN": 32, "num_warps": 8, "num_stages": 3 if sum(tiles.chunks(head_width)) <= 96 else 2}


def self_self_step(
    x: Tensor, inv_temp: Tensor, pick: tuple[int, ...], norms: Tensor | None = None, *, configuration: Mapping[str, int] | None = None
) -> Tensor:
    """One iteration for every picked projection.

    Args:
        x: [B, K, H, N, d] float16 or bfloat16, strides multiples of 8, the last 1; d a multiple of 8 from 16 to 128.
        inv_temp: [B, S, H] float32, not negative, any strides; multiplies the cosines of a stream's head.
        pick: for every stream s its index on axis K.
        norms: `inverse_norms(x, pick)`; None if x has rows of length 1 (or 0) already.
        configuration: {"BM", "BN", "num_warps", "num_stages"} in place of the shipped one; two tiles of BN keys at a time.

    Returns: [B, S, H, N, d], contiguous, x's dtype, rows of length 1. A zero row of x attends to all keys alike.
    """
    batch, _, heads, tokens, width = x.shape
    raw = norms is not None
    config = configuration or _configuration(width, raw)
    kind = torch.float8_e4m3fn if raw and variants.on("fp8_scores") else x.dtype
    out = empty((batch, len(pick), heads, tokens, width), kind, x.device)
    first, second = tiles.chunks(width)
    launch(_self_self_step_kernel, (triton.cdiv(tokens, config["BM"]), len(pick) * heads, batch),
           x, x if norms is None else norms, inv_temp, out, *tiles.descriptors(x, config["BN"]), tiles.packed_picks(pick),
           heads, tokens, tiles.padded(tokens), *tiles.eighths(x), *inv_temp.stride(),
           num_warps=config["num_warps"], num_stages=config["num_stages"], D=width, D0=first, D1=second, RAW=raw,
           BM=config["BM"], BN=config["BN"], **tiles.switches())  # fmt: skip
    return out


def why_not(
    x: Tensor, inv_temp: Tensor, pick: tuple[int, ...], norms: Tensor | None = None, *, configuration: Mapping[str, int] | None = None
) -> list[str]:
    """Every reason to refuse these arguments."""
    if x.ndim != 5:
        return [f"x must be [B, K, H, N, d], got {x.ndim} axes"]
    batch, projections, heads, tokens, _ = x.shape
    reasons = [*tiles.dtype_refusals("x", x), *tiles.operand_refusals("x", x), *tiles.pick_refusals("pick", pick, projections)]
    reasons += tiles.shape_refusals("inv_temp", inv_temp, (batch, len(pick), heads), torch.float32)
    if norms is not None:
        reasons += tiles.shape_refusals("norms", norms, (batch, len(pick), heads, tiles.padded(tokens)), torch.float32)
        if not norms.is_contiguous():
            reasons.append(f"norms must be contiguous, as inverse_norms returns them, got strides {norms.stride()}")
    return reasons


def reference(
    x: Tensor, inv_temp: Tensor, pick: tuple[int, ...], norms: Tensor | None = None, *, configuration: Mapping[str, int] | None = None
) -> Tensor:
    """The op in plain PyTorch, in x's dtype."""
    p = x[:, list(pick)] if norms is None else unit(x[:, list(pick)])
    q = (p * inv_temp[..., None, None]).to(p.dtype)
    # one axis for streams and heads, as scaled_dot_product_attention's fast kernels want it
    q, p = q.flatten(1, 2), p.flatten(1, 2)
    return unit(F.scaled_dot_product_attention(q, p, p, scale=1.0)).reshape(x.shape[0], len(pick), *x.shape[2:])


def unit(x: Tensor) -> Tensor:
    """Rows of length 1; zero rows stay zero, also in float16, where F.normalize divides by its eps rounded to 0."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1).to(x.dtype)


def arguments(generator: torch.Generator, batch: int, tokens: int, heads: int, width: int, pick: tuple[int, ...], *, raw: bool,
              inv_temp: float | None = None, zero: bool = False, magnitude: float = 1.0) -> dict[str, Any]:  # fmt: skip
    """x, inv_temp, pick and norms of a case; inv_temp None draws one from 3 to 12 for every image, stream and head."""
    x = packed(generator, batch, tokens, heads, width) * magnitude
    if zero:
        x[:, :, :, tokens // 2] = 0
    if not raw:
        # contiguous, as an iteration leaves it
        x = F.normalize(x, dim=-1).contiguous()
    temperatures = 3 + 9 * torch.rand(batch, len(pick), heads, generator=generator)
    if inv_temp is not None:
        temperatures = torch.full((batch, 1, 1), inv_temp).expand(-1, len(pick), heads)
    return {"x": x, "inv_temp": temperatures, "pick": pick, "norms": inverse_norms_of(x, pick) if raw else None}


def inverse_norms_of(x: Tensor, pick: tuple[int, ...]) -> Tensor:
    """The result of `inverse_norms`, from its reference, because cases are made on the CPU."""
    from fastloc.kernels.inverse_norms import reference as plain

    return plain(x, pick).float()


def _case(label: str, *shape: Any, large: bool = False, **options: Any) -> Case:
    raw = bool(options["raw"])
    batched = ("x", "inv_temp", "norms") if raw else ("x", "inv_temp")
    return Case(label, lambda generator: arguments(generator, *shape, **options), batched=batched, large=large)


CASES = (
    _case("unit N=17 d=16", 1, 17, 1, 16, (0,), raw=False),
    _case("unit N=65 d=64 three streams", 3, 65, 2, 64, (0, 1, 2), raw=False),
    _case("unit N=130 d=72 a zero row", 1, 130, 1, 72, (0,), raw=False, zero=True),
    _case("unit N=197 d=96 inv_temp 100", 1, 197, 1, 96, (1,), raw=False, inv_temp=100.0),
    _case("raw N=1 d=32", 3, 1, 2, 32, (2,), raw=True),
    _case("raw N=65 d=80 two streams", 3, 65, 2, 80, (2, 0), raw=True),
    _case("raw N=130 d=64 a zero row, inv_temp 100", 1, 130, 1, 64, (2, 1), raw=True, zero=True, inv_temp=100.0),
    _case("raw N=197 d=48 large vectors", 1, 197, 1, 48, (1,), raw=True, magnitude=2.0**7),
    _case("raw N=50 d=104 small vectors", 1, 50, 1, 104, (1,), raw=True, magnitude=2.0**-9),
    _case("raw N=129 d=128 inv_temp 0.1", 1, 129, 1, 128, (0,), raw=True, inv_temp=0.1),
    _case("raw N=785 d=64 ViT-B/16 at 448", 2, 785, 12, 64, (2, 1, 0), raw=True, large=True),
    _case("unit N=785 d=64 ViT-B/16 at 448", 2, 785, 12, 64, (0, 1, 2), raw=False, large=True),
)


def builds(head_width: int, dtype: torch.dtype) -> None:
    """Start every shipped configuration."""
    x = torch.empty(2, 785, 3, 12, head_width, dtype=dtype, device="meta").permute(0, 2, 3, 1, 4)
    inv_temp = torch.empty(2, 1, 1, device="meta").expand(2, 3, 12)
    p = self_self_step(x, inv_temp, (2, 1, 0), inverse_norms(x, (2, 1, 0)))
    # 8 bits are for the ensemble, after one iteration
    if p.dtype == dtype:
        self_self_step(p, inv_temp, (0, 1, 2))
