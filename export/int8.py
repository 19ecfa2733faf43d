"""A float32 graph with its matrix products in 8 bits, by onnxruntime's own quantiser.

Products with a weight are quantised: projections, MLP and patch embedding. Attention, norms, temperatures and the read-out stay in
float32, because maps are made of small differences.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.errors import FastlocError

Feed = Mapping[str, NDArray[Any]]


def quantized(model: ir.Model, dtype: str, calibration: Sequence[Feed], norms: int = 1) -> ir.Model:
    """The model with weights of 8 bits, one scale a column.

    Args:
        dtype: "int8-dynamic" (ranges of activations are found at every call) or "int8-static" (found on `calibration`, once).
        calibration: inputs by name, for "int8-static".
        norms: the number of LayerNorms in a row between the blocks and the texts' space, see `norms_of`.

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
        common = {"op_types_to_quantize": ["MatMul"], "per_channel": True, "nodes_to_quantize": _products(model, norms)}
        if dtype == "int8-dynamic":
            # weights of 7 bits: sums saturate at 16 bits on processors without VNNI
            quantization.quantize_dynamic(before, after, reduce_range=True, **common)
        else:
            # symmetric, the only form that TensorRT takes
            how = {"ActivationSymmetric": True, "WeightSymmetric": True, "MatMulConstBOnly": True}
            quantization.quantize_static(before, after, _Reader(calibration), extra_options=how, **common)
        made = ir.load(after)
        # its weights lie in a temporary file, so they are loaded now
        return ir.from_proto(ir.to_proto(made))


def norms_of(spec: ModelSpec) -> int:
    """The number of LayerNorms on every path from the blocks to the texts' space: the tower's last, and that of a pool that ends in one."""
    return 2 if spec.pool == "attn" and not spec.pool_mlp else 1


def _products(model: ir.Model, norms: int) -> list[str]:
    """The names of the products with a weight, except those after the tower's last LayerNorm.

    Those are the products of its pool, into the texts' space and with baked texts: they are small, and every score depends on them.
    """
    names, kept = [], _head(model, norms)
    for i, node in enumerate(model.graph):
        if node.op_type == "MatMul" and node not in kept and node.inputs[1] is not None and node.inputs[1].is_initializer():
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
