"""Rows of a batch: the columns of its Parquet files, one row a picture and text, and the settings that they were made with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow

__all__ = ["COLUMNS", "FORMAT", "KEY", "Settings", "arrays", "errors_table", "rows_table"]

# of the rows and of the folder that holds them
FORMAT = 1
# in the metadata of a Parquet schema
KEY = "fastloc"
# the columns of a row, and whether numpy holds them as objects
COLUMNS: dict[str, Any] = {
    "key": object, "width": np.int32, "height": np.int32, "text_index": np.int32, "text": object, "peak_x": np.int32, "peak_y": np.int32,
    "value": np.float32, "similarity": np.float32, "score": object, "boxes": object, "mask": object, "grid": object,
    "grid_height": object, "grid_width": object,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Settings that change rows; one folder holds rows of one.

    Attributes:
        digest: of the weights, "sha256:…"
        batch: pictures that go through the model at once: on a GPU the last bits of a similarity depend on it
        device: "cpu" or "cuda", for the same reason
        options: other arguments of the localizer, as text
        decode: "full" or "reduced"; a folder of an earlier version, which names none, is "full"
    """

    model: str
    pretrained: str
    method: str
    digest: str
    texts: tuple[str, ...]
    threshold: float
    score: float | None
    masks: bool
    grids: bool
    batch: int
    device: str
    max_pixels: int
    options: dict[str, str]
    decode: str = "full"

    def hash(self) -> str:
        """The SHA-256 of the settings, in hexadecimal digits."""
        return hashlib.sha256(json.dumps(self._named(), sort_keys=True).encode()).hexdigest()

    def metadata(self, **more: Any) -> dict[str, str]:
        """The metadata of a schema: format and settings, and what else is given, as JSON under `KEY`."""
        return {KEY: json.dumps({"format": FORMAT, **self._named(), **more}, sort_keys=True)}

    def _named(self) -> dict[str, Any]:
        """The settings by name; "full" is left out, so that folders of an earlier version go on."""
        named = asdict(self)
        if self.decode == "full":
            del named["decode"]
        return named


def rows_table(rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, str]) -> pyarrow.Table:
    """The rows that `Locate` made, as a table of the columns above."""
    import pyarrow as pa

    box = pa.struct([*((name, pa.int32()) for name in ("x0", "y0", "x1", "y1")), ("value", pa.float32())])
    kinds = {
        "key": pa.string(), "text": pa.string(), "value": pa.float32(), "similarity": pa.float32(), "score": pa.float32(),
        "boxes": pa.list_(box), "mask": pa.string(), "grid": pa.list_(pa.float16()),
    }  # fmt: skip
    optional = ("score", "mask", "grid", "grid_height", "grid_width")
    fields = [pa.field(name, kinds.get(name, pa.int32()), nullable=name in optional) for name in COLUMNS]
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in fields]
    return pa.table(columns, schema=pa.schema(fields, metadata))


def errors_table(errors: Sequence[Mapping[str, str]], metadata: Mapping[str, str]) -> pyarrow.Table:
    """Pictures that could not be used: `key` and `reason`."""
    import pyarrow as pa

    schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("key", "reason")], metadata)
    return pa.table([pa.array([error[name] for error in errors], pa.string()) for name in schema.names], schema=schema)


def arrays(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same rows as numpy arrays by column, of length N; strings, lists and what may be missing as objects."""
    made = {}
    for name, dtype in COLUMNS.items():
        made[name] = np.empty(len(rows), dtype)
        # one by one, or numpy would make lists of one length an array of two axes
        for index, row in enumerate(rows):
            made[name][index] = row[name]
    return made
