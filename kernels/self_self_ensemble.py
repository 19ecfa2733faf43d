"""Self-self attention weights of unit vectors, applied to v and summed over the streams, the heads merged.

    out[b, n − first, h d : (h+1) d] = scale (sum over streams s of softmax(t p_s p_s^T) v [+ v]),  p_s = x_s with rows of length 1

t is the inverse temperature. No logit is above t |p_i|, so that is the maximum, known from the start. Keys past the end are
zeros: they add exp(−t |p_i|) each to the row sum, which starts at minus that much, and nothing to the product. Raw vectors
come with r = 1/|x| (`inverse_norms`), which goes into the exponent: exp(t r_i r_j x_i·x_j − t). Two tiles of keys go through
the loop at a time: the second's scores are asked for before the first's exponentials, which then run beside them.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from fastloc.kernels import three_accumulators, tiles, variants
from fastloc.kernels.gate import Case
from fastloc.kernels.inverse_norms import inverse_norms
from fastloc.kernels.launch import empty, launch
from fastloc.kernels.self_self_step import arguments, self_self_step, unit
from fastloc.kernels.self_self_step import why_not as step_why_not


@triton.jit
def _self_self_ensemble_kernel(
    x,  # [B, K, H, N, D]
    v,  # [B, H, N, D]
    norms,  # [B, S, H, NP] float32 if RAW
    inv_temp,  # [B, S, H] float32
    out,  # [B, N - first, H * D]
    keys0,  # descriptors of x's and v's chunks, or None
    keys1,
    values0,
    values1,
    picks,
    H,
    N,
    NP,
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
    RAW: tl.constexpr,
    ADD_V: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    POLYNOMIAL: tl.constexpr,
    SPECIALISED: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    tiles.wait_for_the_kernel_before(DEPENDENT)
    head = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    rows = first + tl.program_id(0) * BM + tl.arange(0, BM)
    x += b * (x_b * 8) + head * (x_h * 8)
    v += b * (v_b * 8) + head * (v_h * 8)
    inv_temp += b * t_b + head * t_h
    # keys that the loop reads past the end
    beyond = tl.cdiv(N, 2 * BN) * (2 * BN) - N

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
        pick = tiles.picked(picks, stream)
        k = x + pick * (x_k * 8)
        factor = tl.load(inv_temp + stream * t_s) * tiles.LOG2E
        q0 = tiles.load_rows(k, mine, x_n * 8, N, 0, D0, D)
        q1 = q0
        if D1 > 0:
            q1 = tiles.load_rows(k, mine, x_n * 8, N, D0, D1, D)
        shift = factor * tl.sqrt(tiles.squared_lengths(q0, q1, D1))
        r = norms
        if RAW:
            r += ((b * S + stream) * H + head) * NP
            r_i = tl.load(r + mine, mask=mine < NP, other=0.0)
            shift *= r_i
            factor *= r_i
        else:
            factor += tl.zeros_like(shift)

        total = -beyond * tl.exp2(-shift)
        a0 = tl.zeros([BM, D0], tl.float32)
        a1 = tl.zeros([BM, D1 if D1 > 0 else 16], tl.float32)
        for start in tl.range(stream * nothing, N, 2 * BN, warp_specialize=SPECIALISED):
            keys = start + tl.arange(0, BN)
            k0 = tiles.key_tile(k, keys0, b, pick, head, start, keys, x_n * 8, N, 0, D0, D)
            k1 = k0
            if D1 > 0:
                k1 = tiles.key_tile(k, keys1, b, pick, head, start, keys, x_n * 8, N, D0, D1, D)
            # read before the products: no load may come between them and the exponentials
            r_left = tiles.keys_norms(r, keys, NP, RAW)
            r_right = tiles.keys_norms(r, keys + BN, NP, RAW)
            left = tiles.scores(q0, q1, k0, k1, D1)
            k0 = tiles.key_tile(k, keys0, b, pick, head, start + BN, keys + BN, x_n * 8, N, 0, D0, D)
            if D1 > 0:
                k1 = tiles.key_tile(k, keys1, b, pick, head, start + BN, keys + BN, x_n * 8, N, D0, D1, D)
            right = tiles.scores(q0, q1, k0, k1, D1)
            e = tiles.weights(left, factor, shift, r_left, RAW, 0)
            total += tl.sum(e, 1)
            w = e.to(v.dtype.element_ty)
            u0 = tiles.key_tile(values, values0, b, 0, head, start, keys, v_n * 8, N, 0, D0, D)
            a0 = tl.dot(w, u0, a0, input_precision="ieee")
            if D1 > 0:
                u1 = tiles.key_tile(values, values1, b, 0, head, start, keys, v_n * 8, N, D0, D1, D)
                a1 = tl.dot(w, u1, a1, input_precision="ieee")
            e = tiles.weights(right, factor, shift, r_right, RAW, POLYNOMIAL)
            total += tl.sum(e, 1)
            w = e.to(v.dtype.element_ty)
            u0 = tiles.key_tile(values, values0, b, 0, head, start + BN, keys + BN, v_n * 8, N, 0, D0, D)
            a0 = tl.dot(w, u0, a0, input_precision="ieee")
            if D1 > 0:
                u1 = tiles.key_tile(values, values1, b, 0, head, start + BN, keys + BN, v_n * 8, N, D0, D1, D)
                a1 = tl.dot(w, u1, a1, input_precision="ieee")
        o0 += a0 / total[:, None]
        if D1 > 0:
            o1 += a1 / total[:, None]

    out += b * (o_b * 8) + head * D
    tiles.store_rows(out, rows - first, o_n * 8, N - first, o0 * scale, 0, D0, D)
    if D1 > 0:
        tiles.store_rows(out, rows - first, o_n * 8, N - first, o1 * scale, D0, D1, D)


def _configuration(head_width: int) -> dict[str, int]:
    """Tiles and warps, by registers: up to width 64, unit vectors have two blocks on an SM of Hopper; 128 would spill with BN 32."""
    if sum(tiles.chunks(head_width)) > 96:
        return {"BM": 128, "BN": 16, "num_warps": 8, "num_stages": 3}
    return {"BM": 128, "BN": 32, "num_warps": 8, "num_stages": 2}


def self_self_ensemble(
    x: Tensor, v: Tensor, inv_temp: Tensor, pick: tuple[int, ...], norms: Tensor | None = None, *, scale: float, add_v: bool = False,
    first: int = 1, out: Tensor | None = None, configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """The streams' attentions to v, summed and scaled, for the queries from token `first` on; all tokens are keys.

    Args:
        x: [B, K, H, N, d] float16 or bfloat16, strides multiples of 8, the last 1; d a multiple of 8 from 16 to 128.
        v: [B, H, N, d] of x's dtype, strides multiples of 8, the last 1.
        inv_temp: [B, S, H] float32, not negative, any strides; multiplies the cosines of a stream's head.
        pick: for every stream s its index on axis K.
        norms: `inverse_norms(x, pick)`; None if x has rows of length 1 (or 0) already.
        scale: of the sum; 1/S for the mean.
        add_v: add the unchanged values as one more stream.
        first: 0 to N; 1 leaves the class token's query out.
        out: [B, N - first, H * d] to write to, of x's dtype, strides multiples of 8, the last 1.
        configuration: {"BM", "BN", "num_warps", "num_stages"} in place of the shipped one; two tiles of BN keys at a time.

    Returns: `out`, or a new tensor.
    """
    batch, _, heads, tokens, width = x.shape
    raw = norms is not None
    together = variants.on("three_accumulators") and three_accumulators.fits(width, pick)
    kernel = three_accumulators.kernel if together else _self_self_ensemble_kernel
    config = configuration or (three_accumulators.CONFIGURATION if together else _configuration(width))
    if out is None:
        out = empty((batch, tokens - first, heads * width), v.dtype, x.device)
    d0, d1 = tiles.chunks(width)
    launch(kernel, (triton.cdiv(tokens - first, config["BM"]), heads, batch),
           x, v, x if norms is None else norms, inv_temp, out, *tiles.descriptors(x, config["BN"]),
           *tiles.descriptors(v.unsqueeze(1), config["BN"]), tiles.packed_picks(pick), heads, tokens, tiles.padded(tokens), first, 0, scale,
           *tiles.eighths(x), *tiles.eighths(v), *tiles.eighths(out), *inv_temp.stride(),
           num_warps=config["num_warps"], num_stages=config["num_stages"],
           S=len(pick), D=width, D0=d0, D1=d1, RAW=raw, ADD_V=add_v, BM=config["BM"], BN=config["BN"], **tiles.switches())  # fmt: skip
    return out


def why_not(
    x: Tensor, v: Tensor, inv_temp: Tensor, pick: tuple[int, ...], norms: Tensor | None = None, *, scale: float, add_v: bool = False,
    first: int = 1, out: Tensor | None = None, configuration: Mapping[str, int] | None = None,
) -> list[str]:  # fmt: skip
    """Every reason to refuse these arguments."""
    if x.dtype == torch.float8_e4m3fn and variants.on("fp8_scores"):
        # only v's dtype matters elsewhere
        x = torch.empty_strided(x.shape, x.stride(), dtype=v.dtype, device="meta")
    reasons = step_why_not(x, inv_temp, pick, norms)
    if x.ndim != 5:
        return reasons
    return [*reasons, *tiles.value_refusals(v, x), *tiles.output_refusals(out, first, x)]


def reference(
    x: Tensor, v: Tensor, inv_temp: Tensor, pick: tuple[int, ...], norms: Tensor | None = None, *, scale: float, add_v: bool = False,
    first: int = 1, out: Tensor | None = None, configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """The op in plain PyTorch, in v's dtype; `out` is not written."""
    x = x.to(v.dtype)
    p = x[:, list(pick)] if norms is None else unit(x[:, list(pick)])
    q = (p * inv_temp[..., None, None]).to(p.dtype)[..., first:, :]
    # one axis for streams and heads, as scaled_dot_product_attention's fast kernels want it
    attended = F.scaled_dot_product_attention(q.flatten(1, 2), p.flatten(1, 2), v.repeat(1, len(pick), 1, 1), scale=1.0)
    total = attended.reshape(len(x), len(pick), x.shape[2], *attended.shape[2:]).sum(1)
    if add_v:
        total = total + v[:, :, first:]
    return (total * scale).transpose(1, 2).flatten(2)


def _case(label: str, batch: int, tokens: int, heads: int, width: int, pick: tuple[int, ...], *, add_v: bool = False, first: int = 1,
          slot: bool = False, large: bool = False, kind: torch.dtype = torch.float64, **options: Any) -> Case:  # fmt: skip
    def inputs(generator: torch.Generator) -> dict[str, Any]:
        made = arguments(generator, batch, tokens, heads, width, pick, **options)
        made["x"] = made["x"].to(kind)
        v = torch.randn(batch, tokens, heads, width, generator=generator, dtype=torch.float64).transpose(1, 2)
        made |= {"v": v, "scale": 1 / (len(pick) + add_v), "add_v": add_v, "first": first}
        if slot:
            made["out"] = torch.zeros(batch, tokens - first, 3, heads * width, dtype=torch.float64)[:, :, 1]
        return made

    batched = ("x", "v", "inv_temp", *(("norms",) if options["raw"] else ()), *(("out",) if slot else ()))
    return Case(label, inputs, batched=batched, large=large)


CASES = (
    _case("unit N=17 d=16", 1, 17, 1, 16, (0,), raw=False),
    _case("unit N=65 d=64 three streams", 3, 65, 2, 64, (0, 1, 2), raw=False),
    _case("unit N=130 d=72 a zero row", 1, 130, 1, 72, (0,), raw=False, zero=True, add_v=True),
    _case("unit N=197 d=96 inv_temp 100", 1, 197, 1, 96, (1,), raw=False, inv_temp=100.0, first=0),
    _case("raw N=2 d=32 in a slot", 3, 2, 2, 32, (2,), raw=True, slot=True),
    _case("raw N=66 d=80 two streams in a slot", 3, 66, 2, 80, (2, 0), raw=True, slot=True),
    _case("raw N=130 d=64 a zero row, inv_temp 100", 1, 130, 1, 64, (2, 1), raw=True, zero=True, inv_temp=100.0),
    _case("raw N=197 d=48 large vectors", 1, 197, 1, 48, (1,), raw=True, magnitude=2.0**7),
    _case("raw N=50 d=104 small vectors", 1, 50, 1, 104, (1,), raw=True, magnitude=2.0**-9, first=0),
    _case("raw N=129 d=128 inv_temp 0.1", 1, 129, 1, 128, (0,), raw=True, inv_temp=0.1),
    _case("raw N=785 d=64 ViT-B/16 at 448", 2, 785, 12, 64, (2, 1, 0), raw=True, large=True),
    _case("unit N=785 d=64 ViT-B/16 at 448 in a slot", 2, 785, 12, 64, (0, 1, 2), raw=False, slot=True, large=True),
)

_EIGHT_BITS: dict[str, Any] = {"raw": False, "kind": torch.float8_e4m3fn}
# what a variant takes and the shipped op does not
VARIANT_CASES = {
    "fp8_scores": (
        _case("8 bits N=65 d=64 three streams", 3, 65, 2, 64, (0, 1, 2), **_EIGHT_BITS),
        _case("8 bits N=130 d=72 a zero row", 1, 130, 1, 72, (0,), zero=True, add_v=True, **_EIGHT_BITS),
        _case("8 bits N=785 d=64 ViT-B/16 at 448", 2, 785, 12, 64, (0, 1, 2), large=True, **_EIGHT_BITS),
    ),
}


def builds(head_width: int, dtype: torch.dtype) -> None:
    """Start every shipped configuration."""
    x = torch.empty(2, 785, 3, 12, head_width, dtype=dtype, device="meta").permute(0, 2, 3, 1, 4)
    inv_temp = torch.empty(2, 1, 1, device="meta").expand(2, 3, 12)
    norms, v = inverse_norms(x, (2, 1, 0)), x[:, 2]
    self_self_ensemble(x, v, inv_temp, (2, 1, 0), norms, scale=1 / 3)
    p = self_self_step(x, inv_temp, (2, 1, 0), norms)
    self_self_ensemble(p, v, inv_temp, (0, 1, 2), scale=1 / 3)
    self_self_ensemble(p, v, inv_temp, (0, 1, 2), scale=1 / 4, add_v=True)
