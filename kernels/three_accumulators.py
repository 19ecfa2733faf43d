"""The ensemble with an accumulator for each of its three streams, so that a tile of v is read once for all: see `self_self_ensemble`.

A variant. Its arguments are those of the shipped kernel, which reads v again for every stream.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import triton
import triton.language as tl

from fastloc.kernels import tiles

CONFIGURATION = {"BM": 128, "BN": 32, "num_warps": 8, "num_stages": 2}


def fits(head_width: int, pick: tuple[int, ...]) -> bool:
    """True for three streams of vectors of one chunk, at most 64 wide: more accumulators than theirs would spill."""
    first, second = tiles.chunks(head_width)
    return len(pick) == 3 and first <= 64 and not second


@triton.jit
def _queries(x, norms, inv_temp, rows, place, stride, N, NP, beyond, RAW: tl.constexpr, D: tl.constexpr, D0: tl.constexpr):
    """A stream's queries, the factor and the shift of every row, where its keys' norms begin, and the row sum at the start."""
    factor = tl.load(inv_temp) * tiles.LOG2E
    q = tiles.load_rows(x, rows, stride, N, 0, D0, D)
    shift = factor * tl.sqrt(tiles.squared_lengths(q, q, 0))
    r = norms
    if RAW:
        r += place * NP
        r_i = tl.load(r + rows, mask=rows < NP, other=0.0)
        shift *= r_i
        factor *= r_i
    else:
        factor += tl.zeros_like(shift)
    return q, factor, shift, r, -beyond * tl.exp2(-shift)


@triton.jit
def kernel(
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
    nothing,
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
    tl.static_assert(S == 3 and D1 == 0)
    head = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    rows = first + tl.program_id(0) * BM + tl.arange(0, BM)
    x += b * (x_b * 8) + head * (x_h * 8)
    v += b * (v_b * 8) + head * (v_h * 8)
    inv_temp += b * t_b + head * t_h
    place = b * S * H + head
    beyond = tl.cdiv(N, BN) * BN - N
    pick0, pick1, pick2 = tiles.picked(picks, 0), tiles.picked(picks, 1), tiles.picked(picks, 2)
    x0, x1, x2 = x + pick0 * (x_k * 8), x + pick1 * (x_k * 8), x + pick2 * (x_k * 8)
    q0, f0, m0, r0, sum0 = _queries(x0, norms, inv_temp, rows, place, x_n * 8, N, NP, beyond, RAW, D, D0)
    q1, f1, m1, r1, sum1 = _queries(x1, norms, inv_temp + t_s, rows, place + H, x_n * 8, N, NP, beyond, RAW, D, D0)
    q2, f2, m2, r2, sum2 = _queries(x2, norms, inv_temp + 2 * t_s, rows, place + 2 * H, x_n * 8, N, NP, beyond, RAW, D, D0)

    a0 = tl.zeros([BM, D0], tl.float32)
    a1 = tl.zeros([BM, D0], tl.float32)
    a2 = tl.zeros([BM, D0], tl.float32)
    for start in tl.range(0, N, BN, warp_specialize=SPECIALISED):
        keys = start + tl.arange(0, BN)
        k0 = tiles.key_tile(x0, keys0, b, pick0, head, start, keys, x_n * 8, N, 0, D0, D)
        k1 = tiles.key_tile(x1, keys0, b, pick1, head, start, keys, x_n * 8, N, 0, D0, D)
        k2 = tiles.key_tile(x2, keys0, b, pick2, head, start, keys, x_n * 8, N, 0, D0, D)
        values = tiles.key_tile(v, values0, b, 0, head, start, keys, v_n * 8, N, 0, D0, D)
        norms0 = tiles.keys_norms(r0, keys, NP, RAW)
        norms1 = tiles.keys_norms(r1, keys, NP, RAW)
        norms2 = tiles.keys_norms(r2, keys, NP, RAW)
        # each stream's scores are asked for before the exponentials of the one before it
        s0 = tiles.scores(q0, q0, k0, k0, 0)
        s1 = tiles.scores(q1, q1, k1, k1, 0)
        e = tiles.weights(s0, f0, m0, norms0, RAW, 0)
        sum0 += tl.sum(e, 1)
        a0 = tl.dot(e.to(v.dtype.element_ty), values, a0, input_precision="ieee")
        s2 = tiles.scores(q2, q2, k2, k2, 0)
        e = tiles.weights(s1, f1, m1, norms1, RAW, POLYNOMIAL)
        sum1 += tl.sum(e, 1)
        a1 = tl.dot(e.to(v.dtype.element_ty), values, a1, input_precision="ieee")
        e = tiles.weights(s2, f2, m2, norms2, RAW, 0)
        sum2 += tl.sum(e, 1)
        a2 = tl.dot(e.to(v.dtype.element_ty), values, a2, input_precision="ieee")

    total = a0 / sum0[:, None] + a1 / sum1[:, None] + a2 / sum2[:, None]
    if ADD_V:
        total += tiles.load_rows(v, rows, v_n * 8, N, 0, D0, D).to(tl.float32)
    tiles.store_rows(out + b * (o_b * 8) + head * D, rows - first, o_n * 8, N - first, total * scale, 0, D0, D)
