"""What comes out of an exported file, read as its manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fastloc.imaging.geometry import Geometry
from fastloc.onnx_file.manifest import Manifest
from fastloc.results.prediction import Prediction

__all__ = ["prediction"]


def prediction(
    manifest: Manifest, geometry: Geometry, texts: tuple[str, ...], outputs: Mapping[str, NDArray[Any]], index: int
) -> Prediction:
    """The Prediction of the picture at `index` of the batch, from the outputs by name."""
    readout = manifest.recipe.readout
    # one text alone is compared with the empty text, not with the image
    scores = outputs["scores"][index] if "scores" in outputs and len(texts) > 1 else None
    return Prediction(
        texts=texts, similarity=outputs["similarity"][index], geometry=geometry, order=readout.order, reverse=readout.reverse,
        logit_scale=readout.scale or manifest.model.logit_scale, method=manifest.recipe.name, model=manifest.model.name, scores=scores,
    )  # fmt: skip
