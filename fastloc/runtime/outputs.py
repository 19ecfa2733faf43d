"""Outputs of an exported file, read by its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fastloc.imaging.geometry import Geometry
from fastloc.onnx_file.manifest import Manifest
from fastloc.recipes.presence import presence
from fastloc.results.prediction import Prediction

__all__ = ["prediction"]


def prediction(
    manifest: Manifest, geometry: Geometry, texts: tuple[str, ...], outputs: Mapping[str, NDArray[Any]], index: int
) -> Prediction:
    """The Prediction of the picture at `index` of the batch, from the outputs by name."""
    readout = manifest.recipe.readout
    cosines = outputs["scores"][index] if "scores" in outputs else None
    lacking = [name for name in ("scores", "background") if name not in outputs]
    scores = None
    if cosines is not None and not lacking:
        model = manifest.model
        scores = presence(cosines, float(outputs["background"][index, 0]), model.logit_scale, manifest.calibration, model.logit_bias)
    no_scores = f"the file has no output {lacking[0]!r}: export it again, with --outputs similarity scores background" if lacking else ""
    return Prediction(
        texts=texts, similarity=outputs["similarity"][index], geometry=geometry, order=readout.order, reverse=readout.reverse,
        logit_scale=readout.scale or manifest.model.logit_scale, method=manifest.recipe.name, model=manifest.model.name, scores=scores,
        image_scores=cosines, no_scores=no_scores,
    )  # fmt: skip
