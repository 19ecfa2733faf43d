"""Differences in preprocessing between an exported file's defaults and those of a localizer of the same model."""

from __future__ import annotations

from fastloc.imaging.geometry import VARYING, size_text
from fastloc.onnx_file.manifest import Manifest

__all__ = ["PIPELINES", "differences"]

# what the resizers of other programs do, whose results are near fastloc's and not the same
PIPELINES = {
    "gstreamer": "videoconvertscale resizes without Pillow's antialiasing, and a letterbox's border is black, not the mean colour",
    "deepstream": "nvinfer resizes without Pillow's antialiasing, and a letterbox's border is black, not the mean colour",
    "triton": "the client resizes and normalises, or sends what the file's input says; nothing is resized on the server",
    "web": "the page stretches a picture to the model's input, in the browser's own way until the graph resizes it",
}


def differences(manifest: Manifest) -> list[str]:
    """The differences, one line each, for reports of export and inspection; none where the file answers as `fastloc.Localizer`."""
    given = manifest.input
    if not given.model_fit or given.model_fit == given.fit:
        return []
    size = size_text(given.size) if given.size else "any size"
    advice = "--size dynamic keeps it" if given.model_fit in VARYING else f"--fit {given.model_fit} keeps it"
    return [f"fit is {given.fit!r} at {size}, and Localizer's is {given.model_fit!r}: maps and points of the same picture differ; {advice}"]
