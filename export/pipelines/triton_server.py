"""The `config.pbtxt` of NVIDIA's Triton Inference Server, for its onnxruntime backend (ModelConfig of its model_config.proto)."""

from __future__ import annotations

import json

from fastloc._version import __version__
from fastloc.onnx_file.graph import Content, Value
from fastloc.onnx_file.manifest import Manifest

__all__ = ["text", "why_not"]

_TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}
# the most requests that the server may join, for a file that takes any number of pictures
MOST = 8


def why_not(manifest: Manifest) -> list[str]:
    """The reasons why the server cannot run the file: none, it runs every file."""
    return []


def text(content: Content, manifest: Manifest) -> str:
    """The file's text. The server joins requests if the file takes any number of pictures and texts are no input of each request."""
    path, graph = content.file.path, content.graph
    joined = manifest.input.batch is None and manifest.texts.baked
    files = " and ".join([path.name, *content.file.external])
    lines = [
        f"# {manifest.recipe.name} of {manifest.model.name}, written by fastloc {__version__}",
        f"# goes to MODELS/{path.stem}/config.pbtxt; {files} to MODELS/{path.stem}/1/",
        f"name: {json.dumps(path.stem)}",
        'backend: "onnxruntime"',
        f"default_model_filename: {json.dumps(path.name)}",
        f"max_batch_size: {MOST if joined else 0}",
        *(f"input {_tensor(value, joined)}" for value in graph.inputs),
        *(f"output {_tensor(value, joined)}" for value in graph.outputs),
        *(["dynamic_batching { }"] if joined else []),
    ]
    return "\n".join(lines) + "\n"


def _tensor(value: Value, joined: bool) -> str:
    # where the server joins requests, it adds the batch axis
    sides = [side if isinstance(side, int) else -1 for side in value.shape][int(joined) :]
    return f"{{ name: {json.dumps(value.name)} data_type: {_TYPES[value.dtype]} dims: {sides} }}"
