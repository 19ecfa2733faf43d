"""The precision in which each node of an ONNX file computes: element types followed from the inputs through the graph.

Types are followed here, because ONNX's own shape inference stops at the com.microsoft ops, whose precision is the question here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from fastloc.onnx_file.graph import DTYPES, Graph, Node, Tensor

__all__ = ["FLOATS", "HEAVY", "by_precision", "node_precisions"]

FLOATS = ("float64", "float32", "float16", "bfloat16")
# ops with products in them: what a model's time goes into
HEAVY = (
    "Attention", "MultiHeadAttention", "GroupQueryAttention", "MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "FusedConv", "Einsum",
    "MatMulNBits", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "DynamicQuantizeMatMul", "MatMulIntegerToFloat",
    "QAttention", "QGemm",
)  # fmt: skip
# ops that multiply in int8 whatever type they give back
_INT8 = frozenset(HEAVY[HEAVY.index("MatMulInteger") :])
# ops that look at no number
_SHAPES = ("Shape", "Size")
_LOGICAL = ("And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor")

Types = dict[str, str]
Rule = Callable[[Node, Mapping[str, str]], str]


def _always(name: str) -> Rule:
    return lambda node, types: name


def _input(index: int) -> Rule:
    return lambda node, types: types.get(node.inputs[index], "unknown") if index < len(node.inputs) else "unknown"


def _tensor(attribute: str, default: str) -> Rule:
    def rule(node: Node, types: Mapping[str, str]) -> str:
        value = node.attributes.get(attribute)
        return value.dtype if isinstance(value, Tensor) else default

    return rule


def _cast(node: Node, types: Mapping[str, str]) -> str:
    code = node.attributes.get("to")
    return DTYPES[code][0] if isinstance(code, int) and code in DTYPES else "unknown"


# ops whose first output is not of their first input's type
_RULES: dict[str, Rule] = {
    "Cast": _cast,
    "CastLike": _input(1),
    "Constant": _tensor("value", "float32"),
    "ConstantOfShape": _tensor("value", "float32"),
    "ConvInteger": _always("int32"),
    "DequantizeLinear": _input(1),
    "DynamicQuantizeLinear": _always("uint8"),
    "DynamicQuantizeMatMul": _input(0),
    "MatMulInteger": _always("int32"),
    "MatMulIntegerToFloat": _input(2),
    "QAttention": _input(3),
    "QGemm": _input(8),
    "QLinearConv": _input(7),
    "QLinearMatMul": _input(7),
    "QuantizeLinear": _input(2),
    "Where": _input(1),
    **dict.fromkeys(("ArgMax", "ArgMin", "NonZero", *_SHAPES), _always("int64")),
    **dict.fromkeys(_LOGICAL, _always("bool")),
}
# outputs after the first: (op, index)
_MORE: dict[tuple[str, int], str] = {("DynamicQuantizeLinear", 1): "float32", ("TopK", 1): "int64"}


def by_precision(graph: Graph) -> dict[str, Counter[str]]:
    """Kinds of nodes by the precision they compute in: {"float16": {"MatMul": 96, …}, …}; "other" holds integers and booleans."""
    found: dict[str, Counter[str]] = {}
    for node, precision in node_precisions(graph):
        found.setdefault(precision, Counter())[node.kind] += 1
    return found


def node_precisions(graph: Graph, outer: Mapping[str, str] | None = None) -> list[tuple[Node, str]]:
    """Each node with its precision: "float32", …, "int8", "int8 (Q/DQ)" (float in the file, between (de)quantisers that a runtime
    takes in), or "other"."""
    types: Types = dict(outer or {})
    types |= {tensor.name: tensor.dtype for tensor in graph.tensors}
    declared = (*graph.inputs, *graph.outputs, *graph.values)
    types |= {value.name: value.dtype for value in declared if value.dtype != "unknown"}
    dequantized = {output for node in graph.nodes if node.op == "DequantizeLinear" for output in node.outputs}
    found: list[tuple[Node, str]] = []
    for node in graph.nodes:
        for name, dtype in zip(node.outputs, _outputs(node, types), strict=False):
            types.setdefault(name, dtype)
        found.append((node, _precision(node, types, dequantized)))
        for inner in node.graphs:
            found += node_precisions(inner, types)
    return found


def _outputs(node: Node, types: Mapping[str, str]) -> list[str]:
    first = _RULES.get(node.op, _input(0))(node, types)
    return [_MORE.get((node.op, index), first) for index in range(len(node.outputs))]


def _precision(node: Node, types: Mapping[str, str], dequantized: set[str]) -> str:
    if node.op in _INT8:
        return "int8"
    if node.op in _SHAPES:
        return "other"
    if node.op in HEAVY and {*node.inputs[:2]} <= dequantized:
        return "int8 (Q/DQ)"
    used = [types.get(name, "unknown") for name in (*node.inputs, *node.outputs) if name]
    # a cast belongs to what it makes, and an op that mixes types to its first float
    ordered = reversed(used) if node.op in ("Cast", "CastLike") else used
    return next((each for each in ordered if each in FLOATS), "other")
