"""A YOLO folder as ultralytics reads it, printed as JSON. Runs in an environment of its own, as a script."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ultralytics.data.utils import IMG_FORMATS, check_det_dataset, img2label_paths, polygon2mask, verify_image_label

folder = Path(sys.argv[1])
data = check_det_dataset(str(folder / "data.yaml"))
found = []
for image in sorted(each for each in (folder / "images").rglob("*.*") if each.suffix[1:].lower() in IMG_FORMATS):
    [label] = img2label_paths([str(image)])
    read = verify_image_label((str(image), label, "", False, len(data["names"]), 0, 0, False))
    _, labels, shape, segments, _, missing, there, empty, corrupt, message = read
    masks = [polygon2mask(shape, [(each * (shape[1], shape[0])).reshape(-1)]) for each in segments or []]
    found.append({
        "image": str(image.resolve()), "missing": missing, "found": there, "empty": empty, "corrupt": corrupt, "message": message,
        "classes": [] if labels is None else labels[:, 0].astype(int).tolist(), "shape": shape,
        "masks": [np.packbits(mask.astype(bool)).tobytes().hex() for mask in masks],
    })  # fmt: skip
print(json.dumps({"version": version("ultralytics"), "names": data["names"], "pictures": found}))
