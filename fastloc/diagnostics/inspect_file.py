"""The contents of an exported file: its manifest, sizes, attention, parameters and the precision of every node.

It needs neither the onnx package nor onnxruntime; only the placement of nodes asks a runtime.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastloc.errors import ModelError
from fastloc.onnx_file.differences import differences
from fastloc.onnx_file.graph import Content, Graph, Value, read
from fastloc.onnx_file.header import Header
from fastloc.onnx_file.manifest import KEY, Manifest
from fastloc.onnx_file.precision import by_precision
from fastloc.onnx_file.text_manifest import KEY as TEXT_KEY
from fastloc.onnx_file.text_manifest import TOKENIZER, TextManifest
from fastloc.runtime.fastest import Session
from fastloc.utils.schema import plain

__all__ = ["NOTES", "Report", "Weights", "inspect", "loaded"]

# the kinds of nodes that show the form of attention
_ATTENTION = ("Attention", "com.microsoft.MultiHeadAttention", "com.microsoft.Attention", "com.microsoft.QAttention", "Softmax")


@dataclass(frozen=True)
class Weights:
    """Initialisers and constants of one dtype."""

    dtype: str
    tensors: int
    parameters: int
    bytes: int


@dataclass(frozen=True)
class Report:
    """The contents of one file. `manifest` is None for a text tower, whose own metadata is in `text`.

    Attributes:
        attention: number of nodes of each kind that shows the form of attention
        nodes: number of nodes by kind
        precision: number of nodes by the precision they compute in
        external: files of weights beside this one, and the bytes each must have
        notes: the runtimes that will refuse the file or run it slowly, with the reason
    """

    content: Content
    manifest: Manifest | None
    text: Mapping[str, Any] | None
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    attention: Mapping[str, int]
    nodes: Mapping[str, int]
    weights: tuple[Weights, ...]
    precision: Mapping[str, Mapping[str, int]]
    external: Mapping[str, int]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON; the golden's numbers are left out."""
        manifest = asdict(self.manifest) if self.manifest else None
        if manifest and manifest["golden"]:
            manifest["golden"]["outputs"] = {name: each["shape"] for name, each in manifest["golden"]["outputs"].items()}
        return {
            "file": str(self.content.file.path),
            "bytes": self.content.bytes,
            "ir": self.content.ir,
            "producer": self.content.producer,
            "opsets": {name or "ai.onnx": version for name, version in self.content.opsets.items()},
            "manifest": manifest,
            "text": self.text,
            **{name: [asdict(each) for each in getattr(self, name)] for name in ("inputs", "outputs", "weights")},
            **{name: dict(getattr(self, name)) for name in ("attention", "nodes", "external")},
            "precision": {name: dict(kinds) for name, kinds in self.precision.items()},
            "notes": list(self.notes),
        }


def inspect(path: Path | str) -> Report:
    """Read a file that fastloc exported.

    Raises:
        ModelError: no such file, not an ONNX file, not one of fastloc's, of a newer version, or weights beside it are missing.
    """
    content = read(path)
    file, graph = content.file, content.graph
    text = _text(file)
    # old files list their weights among the inputs
    weights = {each.name for each in graph.tensors}
    nodes = Counter(node.kind for node in graph.every_node())
    return Report(
        content=content,
        manifest=None if text is not None else file.manifest(),
        text=text,
        inputs=tuple(each for each in graph.inputs if each.name not in weights),
        outputs=graph.outputs,
        attention={kind: nodes[kind] for kind in _ATTENTION if nodes[kind]},
        nodes=dict(nodes.most_common()),
        weights=_weights(graph),
        precision={name: dict(kinds.most_common()) for name, kinds in sorted(by_precision(graph).items())},
        external=file.external,
        notes=tuple(note for rule in NOTES if (note := rule(content))),
    )


def loaded(report: Report, providers: str | Sequence[str] = "auto") -> Session:
    """The file loaded on this machine: `placement()` has the provider of each node; `providers` as for `fastloc.OnnxLocalizer`.

    A provider that does not take every node is reported here, not refused. Raises ModelError and PlanError as `fastloc.OnnxLocalizer` does.
    """
    from fastloc.runtime.open_session import open_session

    if report.manifest is None:
        raise ModelError(f"--providers must be left out for the text tower {report.content.file.path}, which runs on the CPU")
    return open_session(report.content.file.path, providers, allow_fallback=True)


def _text(file: Header) -> dict[str, Any] | None:
    """A text tower's metadata, or None for any other file."""
    if TEXT_KEY not in file.metadata or KEY in file.metadata:
        return None
    # metadata that could not be used is not shown as usable
    TextManifest.of({TOKENIZER: "", **file.metadata}, str(file.path), file.shipped)
    return plain(file.metadata[TEXT_KEY], f"{file.path}: its {TEXT_KEY!r} metadata is damaged")


def _weights(graph: Graph) -> tuple[Weights, ...]:
    found: dict[str, list[tuple[int, int]]] = {}
    for tensor in graph.every_tensor():
        found.setdefault(tensor.dtype, []).append((math.prod(tensor.shape), tensor.bytes))
    rows = [Weights(dtype, len(each), sum(n for n, _ in each), sum(size for _, size in each)) for dtype, each in found.items()]
    return tuple(sorted(rows, key=lambda row: -row.bytes))


def _foreign(content: Content) -> str | None:
    kinds = sorted({node.kind for node in content.graph.every_node() if node.domain == "com.microsoft"})
    if not kinds:
        return None
    who = "onnxruntime and OpenVINO run" if kinds == ["com.microsoft.MultiHeadAttention"] else "onnxruntime runs"
    return f"only {who} {', '.join(kinds)}: for plain TensorRT or CoreML export with another --spelling"


def _attention_op(content: Content) -> str | None:
    if not any(node.kind == "Attention" for node in content.graph.every_node()):
        return None
    return "Attention needs onnxruntime 1.23 (CPU) or 1.25 (CUDA), or TensorRT 10.14: older ones refuse it or run it on the CPU"


def _antialias(content: Content) -> str | None:
    if not any(node.op == "Resize" and node.attributes.get("antialias") for node in content.graph.every_node()):
        return None
    return "TensorRT has no antialiased Resize: for it export with --resize matmul"


def _functions(content: Content) -> str | None:
    names = ", ".join(content.functions)
    return f"{len(content.functions)} functions, whose nodes are not counted here: {names}" if names else None


def _differs(content: Content) -> str | None:
    return "; ".join(differences(content.file.manifest())) if KEY in content.file.metadata else None


# notes for a deployment; each function reads the file and returns a note or nothing
NOTES: tuple[Callable[[Content], str | None], ...] = (_foreign, _attention_op, _antialias, _functions, _differs)
