"""Shards of a batch behind a fault: each whole, of pictures in whole, with the rows that it has without a fault."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from faulty.campaign import Contents

__all__ = ["nearly_the_same", "whole_shards"]

# of values in -1 … 1: pictures for which memory ran out in a batch go through the model one by one, in sums of another order
LAST_BITS = 1e-5


def whole_shards(old: Contents, new: Contents, now: Contents) -> str:
    """Every shard is whole, without those of its pictures, at most, for which memory ran out; so is the manifest."""
    wrong = [name for name, content in now.items() if name.endswith(".parquet") and not _whole(name, content, new)]
    manifest = now.get("rows/manifest.json", b"{}")
    return f"half written: {wrong}" if wrong or not manifest.strip().endswith(b"}") else ""


def nearly_the_same(new: Contents, now: Contents) -> bool:
    """Equal up to the last bits of the rows' values."""
    return now.keys() == new.keys() and all(
        content == new[name] or (name.endswith(".parquet") and _near(_table(new[name]), _table(content))) for name, content in now.items()
    )


def _whole(name: str, content: bytes, new: Contents) -> bool:
    if content == new.get(name):
        return True
    table = _table(content)
    if table is None:
        return False
    if "errors" in Path(name).parent.name + Path(name).stem:
        # those of other pictures, and of the ones for which memory ran out
        others = pq.read_table(io.BytesIO(new[name])).to_pylist() if name in new else []
        return all(row in table.to_pylist() for row in others)
    expected = pq.read_table(io.BytesIO(new[name]))
    short = json.loads(table.schema.metadata[b"fastloc"])["shard"].get("short", 0)
    if not short:
        return _near(expected, table)
    # a picture's rows are there or not, all of them
    left = set(table["key"].to_pylist())
    kept = expected.filter(pa.array([key in left for key in expected["key"].to_pylist()]))
    return len(left) + short == len(set(expected["key"].to_pylist())) and _near(kept, table)


def _table(content: bytes) -> pa.Table | None:
    try:
        return pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError):
        return None


def _near(expected: pa.Table | None, table: pa.Table | None) -> bool:
    if expected is None or table is None or expected.schema != table.schema:
        return False
    return _equal(expected.to_pylist(), table.to_pylist())


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, float):
        return isinstance(other, float) and bool(np.abs(one - other) <= LAST_BITS)
    return bool(one == other)
