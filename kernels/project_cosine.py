"""The last LayerNorm, the projection into the texts' space and the cosines with the texts, in one pass over the patches.

    y = (x - mean) / sqrt(variance + eps) * weight + bias, rounded
    f = y projection, rounded
    out[b, t, p] = f[b, p] . texts[t] / max(|f[b, p]|, 1e-12)

Neither y nor f is written. A program holds the columns of f for a few patches in turns: each turn's are multiplied with the texts and
squared for the length, and then forgotten. y is made again for every turn, from rows of x that lie in the L1 cache. All sums are float32.

A variant, whose parts are `add_norm`, a product of PyTorch's and `cosine`. Prediction, not measured: for B pictures of P patches it
saves 4 B P (C + E) bytes of half precision, the write and the read of y and f. Those of ViT-B/16 at 448 and batch 32 are 128 MB, at
4 TB/s 32 µs of a pass of about 15 ms, and less where they stay in the L2 cache. With one picture there are 13 programs of 64 patches for
132 multiprocessors, each of which reads the whole projection: the fused pass is then expected to be the slower one.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from fastloc.kernels.cosine import reference as cosine_reference
from fastloc.kernels.gate import Case
from fastloc.kernels.launch import empty, launch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# rows of texts that a program has accumulators for
MOST_TEXTS = 128


@triton.jit
def _project_cosine_kernel(
    x,  # [B, P, C], strides x_b, x_p, 1
    weight,  # [C]
    bias,  # [C]
    projection,  # [C, E], strides projection_c, 1
    texts,  # [T, E] or [B, T, E], strides text_b, text_t, 1
    output,  # [B, T, P] float32
    patch_count, text_count, channels, width, eps, x_b, x_p, projection_c, text_b, text_t,
    PATCHES: tl.constexpr, TEXTS: tl.constexpr, CHUNK: tl.constexpr, WIDTH: tl.constexpr,
    RAGGED_IN: tl.constexpr, RAGGED_OUT: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0) * PATCHES + tl.arange(0, PATCHES)
    t = tl.arange(0, TEXTS)
    lanes = tl.arange(0, CHUNK)
    columns = tl.arange(0, WIDTH)
    # past the end the last one is read again, so that only ragged widths need masks
    x += image * x_b + tl.minimum(p, patch_count - 1)[:, None] * x_p + lanes[None, :]
    texts += image * text_b + tl.minimum(t, text_count - 1)[:, None] * text_t + columns[None, :]
    projection += lanes[:, None] * projection_c + columns[None, :]

    # across a tile once, at the end
    sums = tl.zeros([PATCHES, CHUNK], tl.float32)
    for c in range(0, channels, CHUNK):
        sums += _tile(x + c, lanes[None, :] < channels - c, RAGGED_IN).to(tl.float32)
    mean = tl.sum(sums, 1) / channels
    sums = tl.zeros([PATCHES, CHUNK], tl.float32)
    for c in range(0, channels, CHUNK):
        centred = _tile(x + c, lanes[None, :] < channels - c, RAGGED_IN).to(tl.float32) - mean[:, None]
        if RAGGED_IN:
            centred = tl.where(lanes[None, :] < channels - c, centred, 0.0)
        sums += centred * centred
    scale = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(sums, 1) / channels + eps))

    products = tl.zeros([PATCHES, TEXTS], tl.float32)
    squares = tl.zeros([PATCHES], tl.float32)
    for e in range(0, width, WIDTH):
        f = tl.zeros([PATCHES, WIDTH], tl.float32)
        for c in range(0, channels, CHUNK):
            inside = lanes < channels - c
            value = _tile(x + c, inside[None, :], RAGGED_IN)
            # zero past the end, and so y is
            w = _tile(weight + c + lanes, inside, RAGGED_IN).to(tl.float32)
            shift = _tile(bias + c + lanes, inside, RAGGED_IN).to(tl.float32)
            y = (value.to(tl.float32) - mean[:, None]) * scale[:, None] * w[None, :] + shift[None, :]
            there = inside[:, None]
            if RAGGED_OUT:
                there = there & (columns[None, :] < width - e)
            rows = _tile(projection + c * projection_c + e, there, RAGGED_IN or RAGGED_OUT)
            f = tl.dot(y.to(value.dtype), rows, f, input_precision="ieee")
        # as rounded in both sums: an error of f's length cancels
        f = f.to(x.dtype.element_ty)
        text = _tile(texts + e, columns[None, :] < width - e, RAGGED_OUT)
        products = tl.dot(f, tl.trans(text), products, input_precision="ieee")
        squares += tl.sum(f.to(tl.float32) * f.to(tl.float32), 1)
    length = tl.maximum(tl.sqrt(squares), 1e-12)
    output += image * text_count * patch_count + t[None, :] * patch_count + p[:, None]
    tl.store(output, products / length[:, None], mask=(p < patch_count)[:, None] & (t < text_count)[None, :])


@triton.jit
def _tile(pointers, inside, RAGGED: tl.constexpr):
    """A tile, with zeros where it is not `inside` if the axis is ragged; `inside` is not looked at otherwise."""
    if RAGGED:
        return tl.load(pointers, mask=inside, other=0.0)
    else:  # noqa: RET505 - the compiler compiles both returns otherwise
        return tl.load(pointers)


def project_cosine(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, projection: Tensor, texts: Tensor, *,
    configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """Cosines [B, T, P] float32 of the projected LayerNorm of x with the texts, in [-1, 1] up to rounding for texts of unit length.

    Args:
        x: [B, P, C], patch tokens before the last LayerNorm, float16, bfloat16 or float32; the last axis contiguous.
        weight, bias: [C], of the LayerNorm, contiguous, of x's dtype.
        eps: added to the variance.
        projection: [C, E], the last axis contiguous, of x's dtype.
        texts: [T, E], or [B, T, E] if each image has its own texts, T up to 128, the last axis contiguous, of x's dtype.
        configuration: {"PATCHES", "TEXTS", "CHUNK", "WIDTH", "num_warps", "num_stages"} in place of the shipped one.
    """
    batch, patch_count, channels = x.shape
    width, text_count = projection.shape[1], texts.shape[-2]
    output = empty((batch, text_count, patch_count), torch.float32, x.device)
    chosen = dict(configuration or _configuration(text_count, x.dtype))
    text_b = texts.stride(0) if texts.ndim == 3 else 0
    launch(_project_cosine_kernel, (triton.cdiv(patch_count, chosen["PATCHES"]), batch), x, weight, bias, projection, texts, output,
           patch_count, text_count, channels, width, eps, x.stride(0), x.stride(1), projection.stride(0), text_b, texts.stride(-2),
           RAGGED_IN=channels % chosen["CHUNK"] != 0, RAGGED_OUT=width % chosen["WIDTH"] != 0, **chosen)  # fmt: skip
    return output


def _configuration(texts: int, dtype: torch.dtype) -> dict[str, int]:
    columns = max(16, triton.next_power_of_2(texts))
    if dtype == torch.float32:
        # without tensor cores the products are slow whatever the tiles, and large ones would spill
        return {"PATCHES": 32, "TEXTS": columns, "CHUNK": 32, "WIDTH": 32, "num_warps": 4, "num_stages": 2}
    # two warpgroups share the columns of f: with one, the accumulators of 128 texts would spill
    return {"PATCHES": 64, "TEXTS": columns, "CHUNK": 64, "WIDTH": 128, "num_warps": 8, "num_stages": 3}


def why_not(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, projection: Tensor, texts: Tensor, *,
    configuration: Mapping[str, int] | None = None,
) -> list[str]:  # fmt: skip
    """Every reason to refuse these arguments."""
    shapes = f"{list(x.shape)}, {list(projection.shape)} and {list(texts.shape)}"
    if x.ndim != 3 or projection.ndim != 2 or texts.ndim not in (2, 3) or 0 in (*x.shape[1:], *projection.shape, *texts.shape[-2:]):
        return [f"x must be [B, P, C], projection [C, E], texts [T, E] or [B, T, E], none empty, got {shapes}"]
    reasons = []
    channels, width = projection.shape
    if x.dtype not in DTYPES:
        reasons.append(f"x must be float32, float16 or bfloat16, got {_short(x.dtype)}")
    if x.shape[-1] != channels:
        reasons.append(f"x must have as many channels as the projection has rows, {channels}, got {x.shape[-1]}")
    for name, each in {"weight": weight, "bias": bias}.items():
        if tuple(each.shape) != (channels,) or each.stride(0) != 1:
            reasons.append(f"{name} must be [{channels}] and contiguous, got {list(each.shape)} with strides {list(each.stride())}")
    if texts.shape[-1] != width:
        reasons.append(f"texts must have the width of the projection, {width}, got {texts.shape[-1]}")
    if texts.shape[-2] > MOST_TEXTS:
        reasons.append(f"texts must be at most {MOST_TEXTS}, a program's accumulators, got {texts.shape[-2]}; or use `cosine`")
    if texts.ndim == 3 and texts.shape[0] != x.shape[0]:
        reasons.append(f"texts must be for as many images as x, {x.shape[0]}, got {texts.shape[0]}")
    for name, each in {"weight": weight, "bias": bias, "projection": projection, "texts": texts}.items():
        if each.dtype != x.dtype:
            reasons.append(f"{name} must have the dtype of x, {_short(x.dtype)}, got {_short(each.dtype)}")
    for name, each in {"x": x, "projection": projection, "texts": texts}.items():
        if each.stride(-1) != 1:
            reasons.append(f"{name} must have stride 1 on the last axis, got {each.stride(-1)}")
    return reasons


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def reference(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, projection: Tensor, texts: Tensor, *,
    configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """The op in plain PyTorch."""
    return cosine_reference(F.layer_norm(x, (x.shape[-1],), weight, bias, eps) @ projection, texts)


def _case(
    label: str, batch: int, patches: int, channels: int, width: int, texts: int, *, by_image: bool = False, strided: bool = False,
    magnitude: float = 1.0, offset: float = 0.0, zero: bool = False, large: bool = False,
) -> Case:  # fmt: skip
    def inputs(generator: torch.Generator) -> dict[str, Any]:
        def drawn(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        # a class token before the patches, as in the model's stream
        tokens = drawn(batch, patches + 1, channels) * magnitude + offset
        if zero:
            tokens[:, patches // 2 + 1] = 0
        return {
            "x": tokens[:, 1:] if strided else tokens[:, 1:].contiguous(), "weight": 1 + drawn(channels) / 4, "bias": drawn(channels) / 4,
            "eps": 1e-5, "projection": drawn(channels, width) * channels**-0.5,
            "texts": F.normalize(drawn(*((batch,) if by_image else ()), texts, width), dim=-1),
        }  # fmt: skip

    return Case(label, inputs, batched=("x", "texts") if by_image else ("x",), large=large)


CASES = (
    _case("P=35 C=64 E=128 T=3, a view past the class token", 3, 35, 64, 128, 3, strided=True),
    _case("one patch, one text, C=48 E=24", 1, 1, 48, 24, 1),
    _case("P=65 C=100 E=130 T=17, ragged", 1, 65, 100, 130, 17),
    _case("P=49 C=192 E=51 T=40, odd", 1, 49, 192, 51, 40),
    _case("P=33 C=33 E=64 T=5, odd rows", 3, 33, 33, 64, 5),
    _case("texts by image, T=7", 3, 17, 64, 48, 7, by_image=True, strided=True),
    _case("a row of zeros", 1, 20, 64, 32, 2, zero=True),
    _case("large and off centre", 1, 20, 96, 64, 20, magnitude=8.0, offset=20.0),
    _case("small", 1, 20, 96, 64, 2, magnitude=2.0**-6),
    _case("P=784 C=768 E=512 T=8", 2, 784, 768, 512, 8, large=True),
    _case("P=576 C=1024 E=768 T=128", 2, 576, 1024, 768, 128, strided=True, large=True),
)


def builds(head_width: int, dtype: torch.dtype) -> None:
    """Start every shipped configuration that differs in its code; the head width does not matter here."""
    for channels, width, texts in (768, 512, 8), (768, 512, 100), (1152, 720, 8):
        shapes = (2, 784, channels), (channels,), (channels, width), (texts, width)
        x, row, projection, words = (torch.empty(shape, dtype=dtype, device="meta") for shape in shapes)
        project_cosine(x, row, row, 1e-5, projection, words)
