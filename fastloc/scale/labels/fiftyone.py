"""FiftyOne: a folder that `fiftyone.Dataset.from_dir` reads as `fiftyone.types.FiftyOneDataset`, written without FiftyOne."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastloc.scale.labels.masks import Mask
from fastloc.scale.labels.names import digest
from fastloc.scale.labels.source import Object, Picture, Rows
from fastloc.utils.atomic_write import replacing_folder
from fastloc.utils.system import files

__all__ = ["write"]

# of FiftyOne, whose format this is; newer ones bring it up to theirs when they read it
VERSION = "1.0.0"
# a day that readers replace by their own
_DATE = {"$date": "2024-01-01T00:00:00Z"}


def write(rows: Rows, path: Path, images: str) -> Iterator[Picture]:
    """Write the folder, and yield each picture once its sample is written.

    A sample has `key`, and `predictions`: Detections with label, box, confidence (the text's score, or the heat where there are none),
    `heat` and, where there are masks, a mask. `images`, the folder that the keys are relative to, makes file paths absolute; without it you
    name that folder as `rel_dir` when you read. Raises OSError.
    """
    with replacing_folder(path) as folder:
        files.write_text(folder / "metadata.json", json.dumps(_dataset(path.name, rows), ensure_ascii=False))
        with files.opened_text(folder / "samples.json") as file:
            file.write('{"samples": [')
            for number, picture in enumerate(rows.pictures()):
                file.write((",\n" if number else "\n") + json.dumps(_sample(picture, rows.texts, images), ensure_ascii=False))
                yield picture
            file.write("\n]}\n")


def _sample(picture: Picture, texts: tuple[str, ...], images: str) -> dict[str, Any]:
    where = picture.key
    if images:
        where = f"{images.rstrip('/')}/{where}" if "://" in images else str(Path(images).resolve() / where)
    name = digest(picture.key)
    return {
        "_id": _identity(name, 0),
        "filepath": where,
        "tags": [],
        "metadata": {"_cls": "ImageMetadata", "width": picture.width, "height": picture.height},
        "_media_type": "image",
        # what FiftyOne shuffles by
        "_rand": int(name, 16) / 16 ** len(name),
        "key": picture.key,
        "predictions": {
            "_cls": "Detections",
            "detections": [_detection(picture, each, texts, _identity(name, index)) for index, each in enumerate(picture.objects, 1)],
        },
    }


def _detection(picture: Picture, each: Object, texts: tuple[str, ...], identity: dict[str, str]) -> dict[str, Any]:
    across, down = picture.width, picture.height
    made = {
        "_id": identity, "_cls": "Detection", "attributes": {}, "tags": [], "label": texts[each.category],
        "bounding_box": [each.x0 / across, each.y0 / down, (each.x1 - each.x0) / across, (each.y1 - each.y0) / down],
        "confidence": each.confidence, "heat": each.heat,
    }  # fmt: skip
    return made if each.mask is None else {**made, "mask": _array(each.mask)}


def _array(mask: Mask) -> dict[str, Any]:
    """An array as FiftyOne keeps it: a compressed .npy."""
    whole = io.BytesIO()
    np.save(whole, mask, allow_pickle=False)
    return {"$binary": {"base64": base64.b64encode(zlib.compress(whole.getvalue())).decode(), "subType": "00"}}


def _identity(name: str, index: int) -> dict[str, str]:
    return {"$oid": f"{name}{index:012x}"}


def _dataset(name: str, rows: Rows) -> dict[str, Any]:
    fields = [
        _field("id", "ObjectIdField", "_id"), _field("filepath", "StringField"), _field("tags", "ListField", subfield="StringField"),
        _field("metadata", "EmbeddedDocumentField", document="metadata.ImageMetadata", fields=_METADATA),
        _field("_media_type", "StringField"), _field("_rand", "FloatField"), _field("_dataset_id", "ObjectIdField"),
        _field("created_at", "DateTimeField"), _field("last_modified_at", "DateTimeField"), _field("key", "StringField"),
        _field("predictions", "EmbeddedDocumentField", document="labels.Detections", fields=[
            _field("detections", "ListField", subfield="EmbeddedDocumentField", document="labels.Detection", fields=_DETECTION),
        ]),
    ]  # fmt: skip
    return {
        "name": name, "version": VERSION, "created_at": _DATE, "last_modified_at": _DATE, "last_loaded_at": _DATE, "persistent": False,
        "media_type": "image", "group_media_types": {}, "tags": [], "info": {"method": rows.settings.method, "model": rows.settings.model},
        "classes": {"predictions": list(rows.texts)}, "default_classes": [], "mask_targets": {}, "default_mask_targets": {},
        "skeletons": {},
        "sample_fields": fields, "frame_fields": [], "saved_views": [], "workspaces": [], "annotation_runs": {}, "brain_methods": {},
        "evaluations": {}, "runs": {},
    }  # fmt: skip


def _field(
    name: str, kind: str, stored: str = "", *, subfield: str = "", document: str = "", fields: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """One field of a schema, by the names that FiftyOne's classes have."""
    classes = "fiftyone.core.fields."
    return {
        "name": name, "ftype": classes + kind, "embedded_doc_type": f"fiftyone.core.{document}" if document else None,
        "subfield": classes + subfield if subfield else None, "fields": fields or [], "db_field": stored or name,
        "description": None, "info": None, "read_only": False, "created_at": _DATE,
    }  # fmt: skip


_METADATA = [
    _field("size_bytes", "IntField"), _field("mime_type", "StringField"), _field("width", "IntField"), _field("height", "IntField"),
    _field("num_channels", "IntField"),
]  # fmt: skip
_DETECTION = [
    _field("id", "ObjectIdField", "_id"), _field("tags", "ListField", subfield="StringField"),
    _field("attributes", "DictField", subfield="EmbeddedDocumentField", document="labels.Attribute"), _field("label", "StringField"),
    _field("bounding_box", "ListField", subfield="FloatField"), _field("mask", "ArrayField"), _field("mask_path", "StringField"),
    _field("confidence", "FloatField"), _field("index", "IntField"), _field("heat", "FloatField"),
]  # fmt: skip
