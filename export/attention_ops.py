"""Forms of attention in a graph: softmax(temperature q k^T + bias) v in the forms of `fastloc.onnx_file.formats`, each an `Attend`."""

from typing import Any

import torch
import torch.onnx
from torch import Tensor

from fastloc.functional.attention import Attend, Temperature

# the least number of heads with which TensorRT-RTX 1.7 takes ai.onnx Attention of one query
LEAST_HEADS = 4


def onnx_attention(q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, bias: Tensor | None = None) -> Tensor:
    """Attention as ai.onnx Attention.

    Every multiplier goes into q: TensorRT needs it there, and TensorRT-RTX 1.7's builder ends with a segmentation fault where q and k are
    one tensor and the op's own scale is not 1. It also has no kernel for one query of fewer than four heads, which is therefore written as
    two small products.
    """
    if q.shape[1] == 1 and q.shape[2] < LEAST_HEADS:
        return decomposed(q, k, v, temperature, bias)
    # [B, N, H*d], the layout of the projections: no transposition is written
    q_flat, k_flat, v_flat = (each.flatten(2) for each in ((q * temperature).to(q.dtype), k, v))
    heads = q.shape[2]
    attended: Tensor = torch.onnx.ops.attention(q_flat, k_flat, v_flat, bias, q_num_heads=heads, kv_num_heads=heads, scale=1.0)[0]
    return attended


def ort_attention(q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, bias: Tensor | None = None) -> Tensor:
    """Attention as com.microsoft.MultiHeadAttention."""
    # a multiplier of each sample or head goes into q, as there is one scale for all
    q, scale = ((q * temperature).to(q.dtype), 1.0) if isinstance(temperature, Tensor) else (q, float(temperature))
    flat = [each.flatten(2) for each in (q, k, v)]
    # bias of the projections, mask of the keys and bias of the logits
    more = [] if bias is None else [None, None, bias if bias.ndim == 4 else bias[None, None]]
    attributes: dict[str, Any] = {"num_heads": q.shape[2], "scale": scale}
    attended: Tensor = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention", [*flat, *more], attributes, dtype=q.dtype, shape=flat[0].shape, version=1
    )
    return attended


def decomposed(q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, bias: Tensor | None = None) -> Tensor:
    """Attention as MatMul, Softmax, MatMul. The scale goes into q, before the first product, as TensorRT's fused attention needs it."""
    scaled = (q * temperature).to(q.dtype).transpose(1, 2)
    logits = scaled @ k.permute(0, 2, 3, 1)
    if bias is not None:
        logits = logits + bias
    return (torch.softmax(logits, -1) @ v.transpose(1, 2)).transpose(1, 2).flatten(2)


ATTEND: dict[str, Attend] = {"ort": ort_attention, "onnx": onnx_attention, "decomposed": decomposed}
