"""How attention is written in a file: one row a spelling. The table drives the exporter, its checks and its help."""

from dataclasses import dataclass

import torch
import torch.onnx
from torch import Tensor

from fastloc.attention import Attend, Temperature
from fastloc.errors import FastlocError, unknown


@dataclass(frozen=True)
class Spelling:
    """One way to write softmax(temperature q k^T + bias) v.

    opsets: the ai.onnx versions that it can be written in, the default first. reads: who takes it, and who does not.
    """

    name: str
    attend: Attend
    opsets: tuple[int, ...]
    what: str
    reads: str


def onnx_attention(q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, bias: Tensor | None = None) -> Tensor:
    """ai.onnx Attention. Every multiplier goes into q: TensorRT wants it there, and TensorRT-RTX 1.7's builder ends with a
    segmentation fault where q and k are one tensor and the op's own scale is not 1."""
    # [B, N, H*d], the layout of the projections: no transposition is written
    flat = [each.flatten(2) for each in ((q * temperature).to(q.dtype), k, v)]
    heads = q.shape[2]
    attended: Tensor = torch.onnx.ops.attention(*flat, bias, q_num_heads=heads, kv_num_heads=heads, scale=1.0)[0]
    return attended


def ort_attention(q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, bias: Tensor | None = None) -> Tensor:
    """com.microsoft.MultiHeadAttention."""
    # a multiplier of each sample or head goes into q, as there is one scale for all
    q, scale = ((q * temperature).to(q.dtype), 1.0) if isinstance(temperature, Tensor) else (q, float(temperature))
    flat = [each.flatten(2) for each in (q, k, v)]
    # bias of the projections, mask of the keys and bias of the logits
    more = [] if bias is None else [None, None, bias[None, None]]
    attributes = {"num_heads": q.shape[2], "scale": scale}
    attended: Tensor = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention", [*flat, *more], attributes, dtype=q.dtype, shape=flat[0].shape, version=1
    )
    return attended


def decomposed(q: Tensor, k: Tensor, v: Tensor, temperature: Temperature, bias: Tensor | None = None) -> Tensor:
    """MatMul, Softmax, MatMul. The scale goes into q, before the first product, where TensorRT's fused attention wants it."""
    scaled = (q * temperature).to(q.dtype).transpose(1, 2)
    logits = scaled @ k.permute(0, 2, 3, 1)
    if bias is not None:
        logits = logits + bias
    return (torch.softmax(logits, -1) @ v.transpose(1, 2)).transpose(1, 2).flatten(2)


SPELLINGS = {
    each.name: each
    for each in (
        Spelling("ort", ort_attention, (20, 18, 19, 21, 22, 23), "com.microsoft.MultiHeadAttention",
                 "onnxruntime on CPU, CUDA and the web, where it is the quickest; TensorRT refuses it"),
        Spelling("onnx", onnx_attention, (23,), "ai.onnx Attention",
                 "TensorRT from 10.14, TensorRT-RTX, onnxruntime from 1.25; in float16 for TensorRT-RTX"),
        Spelling("decomposed", decomposed, (18, 19, 20), "MatMul, Softmax, MatMul",
                 "everything: older TensorRT, DeepStream, CoreML, OpenVINO; slower in onnxruntime"),
    )
}  # fmt: skip


def spelling(name: str, opset: int | None = None) -> tuple[Spelling, int]:
    """The named spelling and its opset. Raises FastlocError for an unknown one, and an opset that it cannot be written in."""
    if name not in SPELLINGS:
        raise FastlocError(unknown("attention spelling", name, SPELLINGS))
    row = SPELLINGS[name]
    if opset is not None and opset not in row.opsets:
        raise FastlocError(f"spelling {name!r} is written in opset {', '.join(map(str, sorted(row.opsets)))}, not {opset}")
    return row, opset or row.opsets[0]


