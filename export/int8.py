"""A float32 graph with its products with weights in 8 bits, by onnxruntime's own quantiser.

Of a transformer these are projections, MLP and patch embedding; of a ResNet its convolutions, up to its pool. Attention, norms, pools,
temperatures and the read-out stay in float32, because maps are made of small differences.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.errors import FastlocError
from fastloc.export.biases import dequantized_biases

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class EightBits:
    """The part of a graph in 8 bits.

    operators: of ONNX; their nodes with a constant weight become 8 bits, each column or output channel with a scale of its own.
    norms: the number of LayerNorms in a row between the blocks and the texts' space; products behind them stay as they are. 0 for none.
    dtypes: the possible dtypes.
    """

    operators: tuple[str, ...] = ("MatMul",)
    norms: int = 1
    dtypes: tuple[str, ...] = ("int8-dynamic", "int8-static")

    def check(self, dtype: str) -> None:
        """Raise FastlocError for a dtype of 8 bits that this part does not have."""
        if dtype.startswith("int8") and dtype not in self.dtypes:
            raise FastlocError(f"dtype must be {' or '.join(map(repr, self.dtypes))} for a tower of convolutions, got {dtype!r}, which is "
                               "for products of matrices; calibrate on pictures of yours")  # fmt: skip


# onnxruntime's convolution with ranges found at every call takes four times as long as its float32 one (RN50 on one core, measured)
CONVOLUTIONS = EightBits(("Conv",), 0, ("int8-static",))


def quantized(
    model: ir.Model, dtype: str, calibration: Sequence[Feed], part: EightBits = EightBits(), spelling: str = "ort"
) -> ir.Model:  # fmt: skip
    """The model with weights of 8 bits.

    Args:
        dtype: "int8-dynamic" (ranges of activations are found at every call) or "int8-static" (found on `calibration`, once).
        calibration: inputs by name, for "int8-static".
        part: the part in 8 bits, see `products_of`.
        spelling: of the model. In "ort", "int8-static" leaves results of products in float32 and has biases of 32-bit integers: what
            onnxruntime computes as one product. TensorRT takes no such biases, so files of other spellings have theirs in float32.

    Raises:
        FastlocError: onnxruntime is not installed.
    """
    try:
        from onnxruntime import quantization
    except ModuleNotFoundError as error:
        message = f'dtype {dtype!r} is made by onnxruntime, which is not installed: pip install "fastloc[onnx-cpu]"'
        raise FastlocError(message) from error
    with tempfile.TemporaryDirectory() as folder, _quiet():
        before, after = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        ir.save(model, before)
        # weights of 7 bits: sums of two products saturate at 16 bits on x86 processors without VNNI
        common = {"op_types_to_quantize": list(part.operators), "per_channel": True, "reduce_range": True,
                  "nodes_to_quantize": _products(model, part)}  # fmt: skip
        if dtype == "int8-dynamic":
            quantization.quantize_dynamic(before, after, **common)
        else:
            # symmetric, the only form that TensorRT takes
            how: dict[str, Any] = {"ActivationSymmetric": True, "WeightSymmetric": True, "MatMulConstBOnly": True}
            how |= {"OpTypesToExcludeOutputQuantization": ["MatMul"]} if spelling == "ort" else {"QuantizeBias": False}
            quantization.quantize_static(before, after, _Reader(calibration), extra_options=how, **common)
        made = ir.load(after)
        # its weights lie in a temporary file, so they are loaded now
        made = ir.from_proto(ir.to_proto(made))
    if dtype == "int8-static" and spelling == "ort":
        dequantized_biases(made)
    return made


def products_of(spec: ModelSpec) -> EightBits:
    """The part of a transformer in 8 bits: all products up to the last LayerNorm, or to that of a pool that ends in one."""
    return EightBits(norms=2 if spec.pool == "attn" and not spec.pool_mlp else 1)


def _products(model: ir.Model, part: EightBits) -> list[str]:
    """The names of the nodes that become 8 bits.

    Those after the tower's last LayerNorm do not: the products of its pool, into the texts' space and with baked texts are small, and
    every score depends on them.
    """
    names, kept = [], _head(model, part.norms)
    for i, node in enumerate(model.graph):
        if node.op_type in part.operators and node not in kept and node.inputs[1] is not None and node.inputs[1].is_initializer():
            node.name = node.name or f"product_{i}"
            names.append(node.name)
    return names


def _head(model: ir.Model, norms: int) -> set[ir.Node]:
    """The nodes between the outputs and the `norms`-th LayerNorms before them."""
    found: set[ir.Node] = set()
    starts = [value.producer() for value in model.graph.outputs]
    for left in range(norms, 0, -1):
        waiting, starts = starts, []
        while waiting:
            node = waiting.pop()
            if node is None or node in found:
                continue
            before = [value.producer() for value in node.inputs if value is not None]
            if node.op_type == "LayerNormalization":
                starts += before if left > 1 else []
                continue
            found.add(node)
            waiting += before
    return found


class _Reader:
    """Calibration inputs one by one, in the form of onnxruntime's quantiser."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self.feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        following = next(self.feeds, None)
        return None if following is None else dict(following)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser's advice on the root logger to simplify the graph first, which is done already."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
