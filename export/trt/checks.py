"""Reasons why no engine can be built from a graph, found before the build: one row each, with the nearest alternative."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fastloc.errors import ModelError
from fastloc.export.trt.flavours import Flavour, Version
from fastloc.onnx_file.graph import Graph, Node
from fastloc.onnx_file.manifest import Manifest

__all__ = ["RULES", "check", "why_not"]

_DYNAMIC_INT8 = ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger")


@dataclass(frozen=True)
class Case:
    """A file and the runtime for which it is checked."""

    graph: Graph
    manifest: Manifest
    row: Flavour
    version: Version

    def of(self, *kinds: str) -> list[Node]:
        return [node for node in self.graph.every_node() if not node.domain and node.op in kinds]


@dataclass(frozen=True)
class Rule:
    """One reason. nodes: gives those that the runtime cannot take. why: the fault and remedy; {ops} and {title} are filled in."""

    name: str
    nodes: Callable[[Case], Iterable[Node]]
    why: str


def _foreign(case: Case) -> list[Node]:
    return [node for node in case.graph.every_node() if node.domain]


def _antialiased(case: Case) -> list[Node]:
    return [node for node in case.of("Resize") if node.attributes.get("antialias")]


def _attention_too_new(case: Case) -> list[Node]:
    return case.of("Attention") if case.version < case.row.attention else []


def _attention_in_float32(case: Case) -> list[Node]:
    """Attention in float32: it has the tower's dtype, which differs from float32 only in a float16 export."""
    return case.of("Attention") if case.manifest.dtype != "float16" and not case.row.float32_attention else []


def _unsigned(case: Case) -> list[Node]:
    """Nodes quantised to unsigned bytes, as asymmetric calibration does."""
    unsigned = {tensor.name for tensor in case.graph.tensors if tensor.dtype == "uint8"}
    return [node for node in case.of("QuantizeLinear", "DequantizeLinear") if len(node.inputs) > 2 and node.inputs[2] in unsigned]


RULES = (
    Rule("int8-dynamic", lambda case: case.of(*_DYNAMIC_INT8),
         "{ops} find ranges while they run (dtype int8-dynamic), which {title} does not do: export with dtype float16, or int8-static"),
    Rule("other domains", _foreign,
         "{title} does not have {ops}: export with spelling 'onnx' in float16, or with spelling 'decomposed'"),
    Rule("antialias", _antialiased,
         "{title} has no antialiasing Resize ({ops}): export with resize 'matmul', which computes the same"),
    Rule("attention too new", _attention_too_new,
         "{title} of this version does not read {ops}: export with spelling 'decomposed', or install {attention} or newer"),
    Rule("attention in float32", _attention_in_float32,
         "{title} has {ops} only in half precision: export with spelling 'decomposed', or in float16"),
    Rule("unsigned int8", _unsigned,
         "{title} takes only symmetric int8, and {ops} have unsigned zero points: calibrate symmetrically, or export in float16"),
)  # fmt: skip


def why_not(case: Case) -> list[str]:
    """Every reason against this file."""
    reasons = []
    for rule in RULES:
        nodes = list(rule.nodes(case))
        if nodes:
            attention = ".".join(map(str, case.row.attention))
            reasons.append(rule.why.format(ops=_ops(nodes), title=case.row.title, attention=attention))
    return reasons


def check(name: str, case: Case) -> None:
    """Raise ModelError with the first reason against the file of this name."""
    reasons = why_not(case)
    if reasons:
        more = f" (and {len(reasons) - 1} more reasons)" if len(reasons) > 2 else " (and one more reason)" if len(reasons) == 2 else ""
        raise ModelError(f"{name}: {reasons[0]}{more}")


def _ops(nodes: list[Node]) -> str:
    return ", ".join(dict.fromkeys(node.kind for node in nodes))
