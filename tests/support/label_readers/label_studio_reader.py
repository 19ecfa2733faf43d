"""Label Studio tasks as label-studio-sdk reads them, printed as JSON. Runs in an environment of its own, as a script."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from label_studio_sdk.converter.brush import decode_from_annotation
from label_studio_sdk.label_interface import LabelInterface

folder = Path(sys.argv[1])
interface = LabelInterface((folder / "config.xml").read_text(encoding="utf-8"))
found = []
for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8")):
    [prediction] = task["predictions"]
    flat = [{**each, **each["value"]} for each in prediction["result"]]
    layers = decode_from_annotation("mask", flat)
    found.append({
        "data": task["data"], "valid": interface.validate_task({"data": task["data"]}),
        "errors": interface.validate_prediction(prediction, return_errors=True),
        "boxes": [[each["rectanglelabels"][0], each["x"], each["y"], each["width"], each["height"], each["score"]]
                  for each in flat if each["type"] == "rectanglelabels"],
        "masks": [[name, layer.shape, np.packbits(layer == 255).tobytes().hex(), sorted({*np.unique(layer).tolist()})]
                  for name, layer in layers.items()],
    })  # fmt: skip
labels = {control.name: list(control.labels) for control in interface.controls}
print(json.dumps({"version": version("label-studio-sdk"), "labels": labels, "tasks": found}))
