"""Pointing of the embedded models' files on the quality set, which is drawn: float32, float16 and 8 bits."""

from pathlib import Path
from typing import Any

import numpy as np

from fastloc import Localizer, OnnxLocalizer
from fastloc.embedded import SAMPLES
from fastloc.export.to_onnx import Options, export
from gpu_parts import scenes
from quality import heat_of

Row = dict[str, Any]
# every model that comes with fastloc, by the name that a localizer takes, and the method that its files have
EMBEDDED = {"embedded": "gem", "embedded-device": "gem"}
DTYPES = ("float32", "float16", "int8-dynamic", "int8-static")
QUICK = 16


def measured(name: str, folder: Path, limit: int | None) -> Row:
    """{"method", "scenes", "questions", "files": {dtype: the share of questions whose peak lies on the thing}}."""
    localizer = Localizer(name, method=EMBEDDED[name])
    names, shown = scenes.names(), scenes.quality_set()[:limit]
    texts = localizer.source.text(names, localizer.template).numpy()
    hits: dict[str, list[bool]] = {}
    for dtype in DTYPES:
        file = folder / f"pointing-{dtype}.onnx"
        calibration = sorted(SAMPLES.glob("*.webp")) if dtype == "int8-static" else []
        export(localizer, file, Options(dtype=dtype, size=None), calibration=calibration)
        run = OnnxLocalizer(file, providers="cpu", embeddings=(names, texts))
        hits[dtype] = [
            bool(mask.flat[heat.argmax()])
            for scene in shown
            for heat, mask in zip(heat_of(scene, run(scene.picture, names)), scene.masks, strict=True)
        ]
    found = {dtype: round(float(np.mean(each)), 4) for dtype, each in hits.items()}
    return {"method": EMBEDDED[name], "scenes": len(shown), "questions": len(hits["float32"]), "files": found}
