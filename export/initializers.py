"""Weights of an ONNX model in fewer bytes: float16 in the file, float32 again once it is loaded."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from fastloc.errors import ModelError

__all__ = ["LEAST", "as_float16", "prepend"]

# the least numbers of a tensor that are worth a node
LEAST = 256


def as_float16(model: Any) -> None:
    """Store every large float32 weight as float16, in place. A Cast behind each, which runtimes fold when they load, makes it float32.

    Raises:
        ModelError: a weight is too large for float16.
    """
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LEAST:
            continue
        whole = numpy_helper.to_array(tensor)
        if not np.isfinite(whole).all():
            # a mask contains infinities of its own
            continue
        with np.errstate(over="ignore"):
            half = whole.astype(np.float16)
        if not np.isfinite(half).all():
            raise ModelError(f"weight {tensor.name!r} is too large for float16; export with dtype float32")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_f16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    prepend(model.graph, casts)


def prepend(graph: Any, nodes: list[Any]) -> None:
    """Put nodes in front of a graph's own."""
    every = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(every)
