"""The configuration file of DeepStream's nvinfer: raw outputs as metadata, for a probe that reads them (docs/guide/pipelines.md).

Keys: DeepStream 9.2, Gst-nvinfer. It feeds planar floats, y = net-scale-factor * (x - offset of the channel), x a byte: one scale for all
channels. The model's normalisation therefore stands in the graph, input "bytes", unless its three deviations are equal.
"""

from __future__ import annotations

import math

from fastloc._version import __version__
from fastloc.onnx_file.graph import Content
from fastloc.onnx_file.manifest import Manifest

__all__ = ["preprocessing", "text", "why_not"]

# fastloc's precision -> network-mode, and its word in the name of the engine that nvinfer keeps
_MODES = {"float32": (0, "fp32"), "float16": (2, "fp16")}
# fastloc's fit -> maintain-aspect-ratio; padding is then on both sides
_FITS = {"stretch": 0, "letterbox": 1}


def why_not(manifest: Manifest) -> list[str]:
    """The reasons why nvinfer cannot run the file."""
    source = manifest.input
    refusals = {
        "it resizes by itself and feeds floats: export with --input bytes": source.kind == "frames",
        "it has one scale for all channels, and the model's deviations differ: export with --input bytes":
            source.kind == "pixels" and not _even(manifest),
        "it feeds one input, the picture: bake the texts in, --texts": not manifest.texts.baked,
        "it asks for one size: export with --size N, not dynamic": source.kind != "frames" and source.size is None,
        f"it does not do fit {source.fit!r}: export with --fit stretch or letterbox": source.kind != "frames" and source.fit not in _FITS,
        "TensorRT refuses com.microsoft's attention: export with --spelling decomposed, or onnx from TensorRT 10.14 on":
            manifest.spelling == "ort",
        f"its 8 bits want a calibration file, and the file is {manifest.dtype}: export with --dtype fp16 or fp32":
            manifest.dtype not in _MODES,
        "it hands out no bytes: leave labels out of --outputs": "labels" in manifest.outputs,
    }  # fmt: skip
    return [reason for reason, so in refusals.items() if so]


def preprocessing(manifest: Manifest) -> tuple[float, tuple[float, float, float]]:
    """(net-scale-factor, offsets in the network's order of channels), for a file that `why_not` does not refuse."""
    if manifest.input.kind == "bytes":
        return 1.0, (0.0, 0.0, 0.0)
    first, second, third = (255 * mean for mean in manifest.model.mean)
    offsets = (third, second, first) if manifest.input.bgr else (first, second, third)
    return 1 / (255 * manifest.model.std[0]), offsets


def text(content: Content, manifest: Manifest) -> str:
    """The file's text. nvinfer builds the engine at its first start, and finds it beside the model at the next."""
    name, source = content.file.path.name, manifest.input
    mode, word = _MODES[manifest.dtype]
    scale, offsets = preprocessing(manifest)
    height, width = source.size or (0, 0)
    # a file of any batch is built for one frame; raise the batch to the number of streams
    batch = source.batch or 1
    keys = {
        "gpu-id": 0,
        "gie-unique-id": 1,
        "process-mode": 1,
        "interval": 0,
        "onnx-file": name,
        "model-engine-file": f"{name}_b{batch}_gpu0_{word}.engine",
        "batch-size": batch,
        "network-mode": mode,
        "network-type": 100,
        "output-tensor-meta": 1,
        "output-blob-names": ";".join(value.name for value in content.graph.outputs),
        "infer-dims": f"3;{height};{width}",
        "network-input-order": 0,
        "model-color-format": int(source.bgr),
        "net-scale-factor": f"{scale:.9g}",
        "offsets": ";".join(f"{each:.9g}" for each in offsets),
        "maintain-aspect-ratio": _FITS[source.fit],
        "symmetric-padding": _FITS[source.fit],
    }
    head = [
        f"# {name}: {manifest.recipe.name} of {manifest.model.name}, written by fastloc {__version__}",
        f"# texts: {', '.join(' '.join(each.split()) for each in manifest.texts.names)}",
        "# network-type 100 parses nothing: a probe behind nvinfer reads the outputs, see fastloc.adapters.result_of",
        "[property]",
    ]
    return "\n".join([*head, *(f"{key}={value}" for key, value in keys.items())]) + "\n"


def _even(manifest: Manifest) -> bool:
    first, *others = manifest.model.std
    return all(math.isclose(first, each, rel_tol=1e-6) for each in others)
