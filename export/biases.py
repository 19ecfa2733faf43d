"""Biases of products in 8 bits, written so that onnxruntime adds them within the product."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["dequantized_biases"]

# the largest bias in steps of its product, with room for the sums that it is added to
_MOST = 1 << 30

Floats = NDArray[np.float32]


def dequantized_biases(model: ir.Model) -> None:
    """Store every bias behind a product of two DequantizeLinears as 32-bit integers with a DequantizeLinear of its own, in place.

    Its scale is that of the product, activation times weight, so its rounding is far below theirs; one that several products add is stored
    for each. onnxruntime then computes product and
    bias as one QGemm with a float32 result. A float32 bias it first merges with the product into a Gemm, which it computes in float32.
    """
    for node in list(model.graph):
        bias = _bias(node)
        if bias is None:
            continue
        activation, weight = (value.producer() for value in node.inputs if value is not None)
        assert activation is not None
        assert weight is not None
        numbers, scale = _numbers(bias).astype(np.float64), _numbers(activation.inputs[1]).reshape(()).astype(np.float64)
        steps = _wide_enough(model, weight, np.abs(numbers) / (scale * _MOST)) * scale
        name = bias.name or ""
        stored = _stored(model, f"{name}_quantized", np.round(numbers / steps).astype(np.int32))
        step = _stored(model, f"{name}_scale", steps.astype(np.float32))
        made = ir.Node("", "DequantizeLinear", [stored, step], attributes=[ir.AttrInt64("axis", 0)], name=f"{stored.name}_DequantizeLinear")
        add = next(iter(node.outputs[0].uses())).node
        model.graph.insert_before(node, made)
        add.replace_input_with(next(i for i, value in enumerate(add.inputs) if value is bias), made.outputs[0])
        if not bias.uses():
            del model.graph.initializers[name]


def _bias(node: ir.Node) -> ir.Value | None:
    """The constant vector that alone is added to a product in 8 bits; None for any other node."""
    if node.op_type != "MatMul":
        return None
    makers = [value.producer() if value is not None else None for value in node.inputs]
    if not all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers):
        return None
    users = [use.node for use in node.outputs[0].uses()]
    weight = makers[1].inputs[0] if makers[1] is not None else None
    if len(users) != 1 or users[0].op_type != "Add" or weight is None or not weight.is_initializer() or node.outputs[0].is_graph_output():
        return None
    others = [value for value in users[0].inputs if value is not None and value is not node.outputs[0]]
    found = others[0] if others else None
    return found if found is not None and found.is_initializer() and found.shape is not None and len(found.shape) == 1 else None


def _wide_enough(model: ir.Model, weight: ir.Node, least: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight's scale of each column, [N], raised to `least` where a column is so small that its bias would not fit into 32 bits."""
    numbers, before = weight.inputs[0], weight.inputs[1]
    assert numbers is not None
    assert before is not None
    scale = np.broadcast_to(_numbers(before).astype(np.float64), least.shape)
    if (scale >= least).all():
        return scale
    # axis 1: a column is an output
    raised = np.maximum(scale, least)
    kept = np.round(_numbers(numbers) * (scale / raised)).astype(np.int8)
    weight.replace_input_with(0, _stored(model, f"{numbers.name}_raised", kept))
    weight.replace_input_with(1, _stored(model, f"{before.name}_raised", raised.astype(np.float32)))
    return raised


def _numbers(value: ir.Value | None) -> Floats:
    assert value is not None
    assert value.const_value is not None
    found: Floats = value.const_value.numpy()
    return found


def _stored(model: ir.Model, name: str, numbers: NDArray[np.generic]) -> ir.Value:
    """A new initializer; of a name that is taken, another one."""
    taken = model.graph.initializers
    name = next(each for each in (name, *(f"{name}_{i}" for i in range(len(taken) + 1))) if each not in taken)
    tensor = ir.tensor(numbers, name=name)
    value = ir.Value(name=name, shape=ir.Shape(numbers.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    taken[name] = value
    return value
