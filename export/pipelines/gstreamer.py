"""The `.modelinfo` file of GStreamer's onnxinference.

Format: gst-plugins-bad, gst-libs/gst/analytics/modelinfo.c, version 1.0, which GStreamer reads from 1.28 on. The element maps every channel
from black to white to the tensor's `ranges`, so per-channel normalisation needs nothing in the graph.
"""

from __future__ import annotations

from fastloc._version import __version__
from fastloc.onnx_file.graph import Content, Value
from fastloc.onnx_file.manifest import Manifest

__all__ = ["text", "why_not"]

# by fit, the elements that resize frames to the input's size, which onnxinference negotiates by itself
_SCALE = {
    "stretch": "videoconvertscale add-borders=false",
    "letterbox": "videoconvertscale add-borders=true",
    "crop": "aspectratiocrop aspect-ratio={width}/{height} ! videoconvertscale add-borders=false",
}
# every output has an id by which decoders find it
_FAMILY = "fastloc-variant-1-out"


def why_not(manifest: Manifest) -> list[str]:
    """The reasons why onnxinference cannot run the file."""
    source = manifest.input
    refusals = {
        "it delivers red first: export without --bgr": source.bgr,
        "it feeds one input, the picture: bake the texts in, --texts": not manifest.texts.baked,
        "it asks for one size: export with --size N, not dynamic": source.kind != "frames" and source.size is None,
        f"it runs one picture a call, and the file takes {source.batch}: export with --batch 1": source.batch not in (1, None),
    }
    return [reason for reason, so in refusals.items() if so]


def text(content: Content, manifest: Manifest) -> str:
    """The file's text; a comment at its head holds a pipeline to start from."""
    name, graph = content.file.path.name, content.graph
    lines = [
        f"# {name}: {manifest.recipe.name} of {manifest.model.name}, written by fastloc {__version__}; keep it beside the model",
        f"# texts: {', '.join(' '.join(each.split()) for each in manifest.texts.names)}",
        f"# gst-launch-1.0 filesrc location=clip.mp4 ! decodebin3 ! {_scaled(manifest)} ! onnxinference model-file={name} ! fakesink",
        "[modelinfo]",
        "version=1.0",
        f"group-id={_FAMILY}",
    ]
    for value in graph.inputs:
        lines += [*_section(value, "input", f"fastloc-{value.name}"), f"ranges={_ranges(manifest)}"]
    for value in graph.outputs:
        lines += [*_section(value, "output", f"{_FAMILY}-{value.name}"), "dims-order=row-major"]
    return "\n".join(lines) + "\n"


def _section(value: Value, way: str, name: str) -> list[str]:
    # a side that the model leaves open matches -1 alone
    dims = ",".join(str(side) if isinstance(side, int) else "-1" for side in value.shape)
    return ["", f"[{value.name}]", f"id={name}", f"type={value.dtype}", f"dims={dims}", f"dir={way}"]


def _ranges(manifest: Manifest) -> str:
    """The values of black and white in each channel."""
    if manifest.input.kind != "pixels":
        return ";".join(["0.0,255.0"] * 3)
    pairs = zip(manifest.model.mean, manifest.model.std, strict=True)
    return ";".join(f"{(0 - mean) / std:.9g},{(1 - mean) / std:.9g}" for mean, std in pairs)


def _scaled(manifest: Manifest) -> str:
    if manifest.input.kind == "frames" or manifest.input.size is None:
        # frames come at the camera's size, and another size must fail
        return "videoconvert"
    height, width = manifest.input.size
    return _SCALE[manifest.input.fit].format(height=height, width=width)
