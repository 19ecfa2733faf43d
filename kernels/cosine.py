"""Patch features and text embeddings to cosines, normalisation included.

    out[b, t, p] = patches[b, p] . texts[t] / max(|patches[b, p]|, 1e-12)

One pass over the patches: each tile is multiplied with the texts and squared for the length at the same time, so no normalised copy
is written. Both sums are float32. A zero patch gives 0, as with F.normalize.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from fastloc.kernels.gate import Case
from fastloc.kernels.launch import empty, launch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@triton.jit
def write_cosines(
    patches,  # [B, P, E]
    texts,  # [T, E] or [B, T, E]
    output,  # [B, T, P] float32
    patch_count, text_count, width, patch_b, patch_p, text_b, text_t,
    PATCHES: tl.constexpr, TEXTS: tl.constexpr, CHUNK: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(2).to(tl.int64)
    p = tl.program_id(0) * PATCHES + tl.arange(0, PATCHES)
    t = tl.program_id(1) * TEXTS + tl.arange(0, TEXTS)
    lanes = tl.arange(0, CHUNK)
    # past the end the last one is read again, so that only a ragged width needs masks
    patches += image * patch_b + tl.minimum(p, patch_count - 1)[:, None] * patch_p + lanes[None, :]
    texts += image * text_b + tl.minimum(t, text_count - 1)[:, None] * text_t + lanes[None, :]
    products = tl.zeros([PATCHES, TEXTS], tl.float32)
    squares = tl.zeros([PATCHES, CHUNK], tl.float32)
    for start in range(0, width, CHUNK):
        if RAGGED:
            there = lanes[None, :] < width - start
            patch, text = tl.load(patches + start, mask=there, other=0.0), tl.load(texts + start, mask=there, other=0.0)
        else:
            patch, text = tl.load(patches + start), tl.load(texts + start)
        products = tl.dot(patch, tl.trans(text), products, input_precision="ieee")
        # summed across the tile once, at the end
        squares += patch.to(tl.float32) * patch.to(tl.float32)
    length = tl.maximum(tl.sqrt(tl.sum(squares, 1)), 1e-12)
    output += image * text_count * patch_count + t[None, :] * patch_count + p[:, None]
    tl.store(output, products / length[:, None], mask=(p < patch_count)[:, None] & (t < text_count)[None, :])


def cosine(patches: Tensor, texts: Tensor, *, configuration: Mapping[str, int] | None = None) -> Tensor:
    """Cosines [B, T, P] float32, in [-1, 1] up to rounding where the texts are of unit length.

    Args:
        patches: [B, P, E] of any length, float16, bfloat16 or float32; the last axis contiguous.
        texts: [T, E], or [B, T, E] if each image has its own texts, as in feature surgery; of the same dtype.
        configuration: {"PATCHES", "TEXTS", "CHUNK", "num_warps", "num_stages"} in place of the shipped one.
    """
    batch, patch_count, width = patches.shape
    text_count = texts.shape[-2]
    output = empty((batch, text_count, patch_count), torch.float32, patches.device)
    chosen = dict(configuration or _configuration(text_count, patches.dtype))
    grid = triton.cdiv(patch_count, chosen["PATCHES"]), triton.cdiv(text_count, chosen["TEXTS"]), batch
    text_b = texts.stride(0) if texts.ndim == 3 else 0
    launch(write_cosines, grid, patches, texts, output, patch_count, text_count, width, patches.stride(0), patches.stride(1), text_b,
           texts.stride(-2), RAGGED=width % chosen["CHUNK"] != 0, **chosen)  # fmt: skip
    return output


def _configuration(texts: int, dtype: torch.dtype) -> dict[str, int]:
    full = dtype == torch.float32
    chunk = 32 if full else 64
    if texts <= 16:
        # with few texts the time is that of reading the patches: small tiles, so that one picture fills the GPU
        return {"PATCHES": 32, "TEXTS": 16, "CHUNK": chunk, "num_warps": 4 if full else 2, "num_stages": 3}
    return {"PATCHES": 64, "TEXTS": 32 if texts <= 32 else 64, "CHUNK": chunk, "num_warps": 4, "num_stages": 3}


def why_not(patches: Tensor, texts: Tensor, *, configuration: Mapping[str, int] | None = None) -> list[str]:
    """Every reason to refuse these arguments."""
    if patches.ndim != 3 or texts.ndim not in (2, 3) or 0 in patches.shape[1:] or 0 in texts.shape[-2:]:
        return [f"patches must be [B, P, E], texts [T, E] or [B, T, E], none empty, got {list(patches.shape)} and {list(texts.shape)}"]
    reasons = []
    if patches.dtype not in DTYPES:
        reasons.append(f"patches must be float32, float16 or bfloat16, got {_short(patches.dtype)}")
    if texts.dtype != patches.dtype:
        reasons.append(f"texts must have the dtype of patches, {_short(patches.dtype)}, got {_short(texts.dtype)}")
    if texts.shape[-1] != patches.shape[-1]:
        reasons.append(f"texts must have the embedding width of patches, {patches.shape[-1]}, got {texts.shape[-1]}")
    if texts.ndim == 3 and texts.shape[0] != patches.shape[0]:
        reasons.append(f"texts must be for as many images as patches, {patches.shape[0]}, got {texts.shape[0]}")
    for name, each in (("patches", patches), ("texts", texts)):
        if each.stride(-1) != 1:
            reasons.append(f"{name} must have stride 1 on their last axis, got {each.stride(-1)}")
    return reasons


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def reference(patches: Tensor, texts: Tensor, *, configuration: Mapping[str, int] | None = None) -> Tensor:
    """The op in plain PyTorch."""
    # not F.normalize: its 1e-12 is 0 in float16, where a zero patch would become NaN
    wide = torch.promote_types(patches.dtype, torch.float32)
    lengths: Tensor = torch.linalg.vector_norm(patches, dim=-1, keepdim=True, dtype=wide).clamp_min(1e-12)
    scores = (patches / lengths).to(patches.dtype) @ texts.transpose(-1, -2)
    return scores.transpose(1, 2).to(wide).contiguous()


def _case(
    label: str, batch: int, patches: int, texts: int, width: int, *, by_image: bool = False, magnitude: float = 1.0, zero: bool = False,
    strided: bool = False, large: bool = False,
) -> Case:  # fmt: skip
    def inputs(generator: torch.Generator) -> dict[str, Any]:
        # a class token before the patches, as in the model's output
        tokens = magnitude * torch.randn(batch, patches + 1, width, generator=generator, dtype=torch.float64)
        if zero:
            tokens[:, patches // 2 + 1] = 0
        shape = (batch, texts, width) if by_image else (texts, width)
        text = F.normalize(torch.randn(shape, generator=generator, dtype=torch.float64), dim=-1)
        return {"patches": tokens[:, 1:] if strided else tokens[:, 1:].contiguous(), "texts": text}

    return Case(label, inputs, batched=("patches", "texts") if by_image else ("patches",), large=large)


CASES = (
    _case("one patch, 7 texts, E=16", 1, 1, 7, 16),
    _case("P=49 T=1 E=512", 3, 49, 1, 512),
    _case("P=35 T=16 E=64, a view past the class token", 3, 35, 16, 64, strided=True),
    _case("P=197 T=17 E=96", 1, 197, 17, 96),
    _case("P=65 T=130 E=72", 1, 65, 130, 72),
    _case("P=33 T=5 E=51, odd", 3, 33, 5, 51),
    _case("texts by image, T=3", 3, 50, 3, 128, by_image=True),
    _case("texts by image, T=40", 3, 17, 40, 80, by_image=True, strided=True),
    _case("a zero patch", 1, 20, 2, 64, zero=True),
    _case("large", 1, 20, 20, 64, magnitude=2.0**10),
    _case("small", 1, 20, 2, 64, magnitude=2.0**-9),
    _case("P=784 T=1000 E=512", 2, 784, 1000, 512, large=True),
    _case("P=784 T=20 E=768", 8, 784, 20, 768, strided=True, large=True),
)


def builds(head_width: int, dtype: torch.dtype) -> None:
    """Start every shipped configuration; the head width does not matter here."""
    for texts in 1, 20, 100:
        for width in 512, 720:
            cosine(torch.empty(2, 784, width, dtype=dtype, device="meta"), torch.empty(texts, width, dtype=dtype, device="meta"))
