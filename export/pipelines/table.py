"""The files that video pipelines and servers need beside an exported file. Every value comes from that file, without torch and onnx.

Each pipeline is a row of `PIPELINES`. docs/guide/pipelines.md describes the use of the files and the readers of the results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastloc.errors import FastlocError, unknown
from fastloc.export.pipelines import deepstream, gstreamer, triton_server
from fastloc.onnx_file import graph
from fastloc.onnx_file.graph import Content
from fastloc.onnx_file.manifest import Manifest
from fastloc.utils.atomic_write import write_whole

__all__ = ["PIPELINES", "Sidecar", "check", "write"]


@dataclass(frozen=True)
class Sidecar:
    """One pipeline's file.

    name: on the command line. what: for the help. file: its name beside `{name}`, whose name without .onnx is `{stem}`.
    why_not: gives every reason why a file cannot be used there, with the option that helps. text: gives the content.
    """

    name: str
    what: str
    file: str
    why_not: Callable[[Manifest], list[str]]
    text: Callable[[Content, Manifest], str]

    def target(self, model: Path) -> Path:
        return model.with_name(self.file.format(name=model.name, stem=model.stem))


PIPELINES = {
    each.name: each
    for each in (
        Sidecar("gstreamer", "GStreamer's onnxinference, from 1.28: FILE.onnx.modelinfo, with a pipeline to start from",
                "{name}.modelinfo", gstreamer.why_not, gstreamer.text),
        Sidecar("deepstream", "DeepStream's nvinfer: config_infer_FILE.txt",
                "config_infer_{stem}.txt", deepstream.why_not, deepstream.text),
        Sidecar("triton", "Triton Inference Server: FILE.config.pbtxt, with the place where it goes",
                "{stem}.config.pbtxt", triton_server.why_not, triton_server.text),
    )
}  # fmt: skip


def check(manifest: Manifest, names: Sequence[str], file: str) -> None:
    """Raise FastlocError for an unknown pipeline, and for a file that one of them cannot take."""
    for name in names:
        if name not in PIPELINES:
            raise FastlocError(unknown("pipeline", name, PIPELINES))
        reasons = PIPELINES[name].why_not(manifest)
        if reasons:
            raise FastlocError(f"{file} is not for {name}: {'; '.join(reasons)}")


def write(path: str | Path, names: Sequence[str]) -> list[Path]:
    """Write the file of each named pipeline beside the exported file. Returns the paths, in the names' order.

    Raises:
        ModelError: the file was not exported by fastloc.
        FastlocError: as `check` does, before anything is written; a path that cannot be written.
    """
    model = Path(path)
    content = graph.read(model)
    manifest = content.file.manifest()
    check(manifest, names, str(model))
    rows = [PIPELINES[name] for name in names]
    texts = [row.text(content, manifest).encode() for row in rows]
    return [_written(row.target(model), text) for row, text in zip(rows, texts, strict=True)]


def _written(path: Path, text: bytes) -> Path:
    return write_whole(path, lambda file: file.write(text))
