"""Passes over a traced graph before it is written: meaningful names, weights in the layout of their products, no unread outputs."""

import onnx_ir as ir
from onnx_ir.passes import common

from fastloc._version import __version__
from fastloc.export.options import Options

# the names of the outputs' dimensions; a static size is a number already
_DIMENSIONS = {
    "similarity": ("batch", "texts", "rows", "columns"),
    "scores": ("batch", "texts"),
    "background": ("batch",),
    "heatmaps": ("batch", "texts", "height", "width"),
    "labels": ("batch", "height", "width"),
}


def tidy(model: ir.Model, options: Options, outputs: tuple[str, ...]) -> None:
    """Apply all passes in place to a traced model."""
    _transposed_weights(model)
    _only_first_output(model)
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    _name_dimensions(model, options, outputs)
    model.producer_name, model.producer_version = "fastloc", __version__


def to_opset_17(model: ir.Model) -> None:
    """Convert a model in place to opset 17 from opset 18, the oldest that PyTorch writes.

    Of the operators in these graphs only reductions differ: their axes are an attribute in opset 17.
    """
    for node in model.graph:
        if not node.op_type.startswith("Reduce") or node.op_type == "ReduceSum" or len(node.inputs) < 2 or node.inputs[1] is None:
            continue
        axes = ir.convenience.get_const_tensor(node.inputs[1])
        assert axes is not None, f"{node.op_type} along axes that are computed"
        node.attributes.pop("noop_with_empty_axes", None)
        node.attributes["axes"] = ir.AttrInt64s("axes", axes.numpy().tolist())
        node.resize_inputs(1)
    model.graph.opset_imports[""] = 17


def _transposed_weights(model: ir.Model) -> None:
    """Store a weight that is only read transposed in transposed form, so that no runtime transposes it at loading."""
    for node in list(model.graph):
        if node.op_type != "Transpose" or node.inputs[0] is None or not node.inputs[0].is_initializer():
            continue
        weight, turned = node.inputs[0], node.outputs[0]
        if any(each.node.op_type != "Transpose" for each in weight.uses()):
            # a backward reads it untransposed, and a file must not hold it twice
            continue
        assert weight.const_value is not None
        order = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
        numbers = weight.const_value.numpy().transpose(order).copy()
        value = ir.Value(name=f"{weight.name}_t", shape=ir.Shape(numbers.shape), type=weight.type, const_value=ir.tensor(numbers))
        model.graph.initializers[value.name] = value  # type: ignore[index]
        turned.replace_all_uses_with(value)
        model.graph.remove(node, safe=True)
        if not weight.uses():
            del model.graph.initializers[weight.name]  # type: ignore[arg-type]


def _only_first_output(model: ir.Model) -> None:
    """Remove ai.onnx Attention's other outputs, which nothing reads and TensorRT refuses."""
    for node in list(model.graph):
        if node.op_type == "Attention" and len(node.outputs) > 1:
            node.resize_outputs(1)


def _name_dimensions(model: ir.Model, options: Options, outputs: tuple[str, ...]) -> None:
    picture = model.graph.inputs[0]
    high = 1 if options.layout == "NHWC" else 2
    _name(picture, {0: "batch", high: "height", high + 1: "width"})
    for value, name in zip(model.graph.outputs, outputs, strict=True):
        _name(value, dict(enumerate(_DIMENSIONS[name])))


def _name(value: ir.Value, names: dict[int, str]) -> None:
    assert value.shape is not None
    sides = [ir.SymbolicDim(names[i]) if i in names and not isinstance(each, int) else each for i, each in enumerate(value.shape)]
    value.shape = ir.Shape(sides)
