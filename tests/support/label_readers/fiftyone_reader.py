"""A FiftyOne folder as fiftyone reads it, printed as JSON. Runs in an environment of its own, as a script.

fiftyone keeps data sets in MongoDB. Where none is named by FIFTYONE_DATABASE_URI, mongomock stands in for the server within the process.
"""

import json
import os
import sys
from typing import Any

os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
if "FIFTYONE_DATABASE_URI" not in os.environ:
    os.environ |= {"FIFTYONE_DATABASE_URI": "mongodb://in-memory", "FIFTYONE_DATABASE_VALIDATION": "false"}
    import mongomock
    import mongomock.codec_options
    import mongomock.gridfs
    import pymongo
    from mongomock.store import ServerStore

    STORE = ServerStore()

    class Client(mongomock.MongoClient):  # type: ignore[misc]
        """All clients of the process share one store, and a client's unknown attributes are no databases."""

        _closed = False

        def __init__(self, *args: Any, appname: str | None = None, **options: Any) -> None:
            super().__init__(*args, **{**options, "_store": STORE})

    pymongo.MongoClient = Client
    mongomock.codec_options.is_supported = lambda options: None
    mongomock.gridfs.enable_gridfs_integration()

import fiftyone
import numpy as np

more = {"rel_dir": sys.argv[2]} if len(sys.argv) > 2 else {}
dataset = fiftyone.Dataset.from_dir(dataset_dir=sys.argv[1], dataset_type=fiftyone.types.FiftyOneDataset, progress=False, **more)
found = []
for sample in dataset:
    found.append({
        "key": sample["key"], "path": sample.filepath, "size": [sample.metadata.height, sample.metadata.width],
        "detections": [
            [each.label, each.bounding_box, each.confidence, each["heat"],
             None if each.mask is None else [each.mask.shape, np.packbits(each.mask).tobytes().hex()]]
            for each in sample["predictions"].detections
        ],
    })  # fmt: skip
print(json.dumps({
    "version": fiftyone.__version__, "classes": dataset.classes, "stored": dataset.version, "info": dataset.info, "samples": found,
    "fields": sorted(dataset.get_field_schema(flat=True)),
}))  # fmt: skip
