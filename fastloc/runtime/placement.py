"""Placement of a loaded file: the provider of each node, compared with the providers that you chose.

onnxruntime gives every node that a provider does not take to the CPU, copies tensors to and fro, and gives no notice. The rules here:

* A node on a chosen provider is where it should be.
* A node on the CPU whose type is in `HOST` is where it should be too: providers leave to the CPU on purpose nodes that compute
  shapes, a few numbers. onnxruntime does not report what a node works on, so its type decides: these are the types that exporters compute
  shapes with, and the providers for GPUs have them all for floating-point tensors, so that one on the CPU can only be about shapes.
  Providers that lack some of them are judged by a shorter list, see `fastloc.runtime.providers`.
* Any other node elsewhere is misplaced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["HOST", "Node", "Placement", "Row", "placement"]

CPU = "CPUExecutionProvider"
# node types that compute shapes, and the small tables that follow from them: grids, interpolation weights
HOST = frozenset((
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor", "Gather",
    "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range", "Reciprocal",
    "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "Shape", "Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub",
    "Tile", "Transpose", "Unsqueeze", "Where",
))  # fmt: skip
# misplaced nodes that an error names
SHOWN = 10


@dataclass(frozen=True)
class Node:
    """One node of the graph as it runs, after fusions: its provider (onnxruntime's name), type and name, which may be ""."""

    provider: str
    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type} {self.name!r}" if self.name else self.type


@dataclass(frozen=True)
class Row:
    """The number of nodes of one type that a provider runs."""

    provider: str
    type: str
    count: int


@dataclass(frozen=True)
class Placement:
    """Every node with its provider; empty where onnxruntime is too old to report it."""

    nodes: tuple[Node, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """By provider and type, the most frequent first."""
        counts = Counter((node.provider, node.type) for node in self.nodes)
        return tuple(Row(provider, kind, count) for (provider, kind), count in counts.most_common())

    def misplaced(self, asked: Collection[str], host: Collection[str] = HOST) -> tuple[Node, ...]:
        """The nodes that a provider other than the chosen ones (onnxruntime's names) computes, but for types of `host` on the CPU."""
        elsewhere = (node for node in self.nodes if node.provider not in asked)
        return tuple(node for node in elsewhere if node.provider != CPU or node.type not in host)

    def __str__(self) -> str:
        return "\n".join(f"{row.provider:<28} {row.type:<36} {row.count}" for row in self.rows)


def placement(session: Any) -> Placement:
    """The placement of a session that was made with `session.record_ep_graph_assignment_info` (onnxruntime 1.24 and newer)."""
    recorded = session.get_provider_graph_assignment_info() if hasattr(session, "get_provider_graph_assignment_info") else ()
    return Placement(tuple(
        Node(part.ep_name, f"{node.domain}.{node.op_type}" if node.domain else node.op_type, node.name)
        for part in recorded for node in part.get_nodes()
    ))  # fmt: skip


def listed(nodes: Iterable[Node]) -> str:
    """The first nodes by provider and name, and the number of the others, in one line."""
    every = list(nodes)
    shown = ", ".join(f"{node} on {node.provider.removesuffix('ExecutionProvider')}" for node in every[:SHOWN])
    return shown + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "")
