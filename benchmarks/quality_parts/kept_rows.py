"""Rows of a record that stay when only some methods are measured again: those of the same model and kind of machine. A row that other
versions measured says which."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
# keys of a record's head that may differ
VERSIONS = ("fastloc", "onnxruntime", "torch")


class Incomplete(Exception):
    """A record would lack methods; the message names them."""


def marked(old: list[Row], before: Row, head: Row) -> list[Row]:
    """Rows of an earlier record, with the versions that measured them where they are not the new head's."""
    other = {key: before[key] for key in VERSIONS if key in before and before[key] != head.get(key)}
    return [{**other, **row} for row in old]


def together(path: Path, head: Row, part: str, rows: Iterable[Row], methods: Iterable[str]) -> list[Row]:
    """The new rows of one part of the record, and the old ones of all other methods, in the order of `methods`.

    Old rows count if everything in the record's head but versions is as it is now; see `marked`. Raises Incomplete where a method has no
    row then.
    """
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    same = all(before.get(key) == value for key, value in head.items() if key not in VERSIONS)
    fresh = list(rows)
    old = [row for row in before.get(part, []) if row["method"] not in {each["method"] for each in fresh}] if same else []
    old = marked(old, before, head)
    found = {name: [row for row in (*fresh, *old) if row["method"] == name] for name in methods}
    lacking = [name for name, of_method in found.items() if not of_method]
    if lacking:
        raise Incomplete(f"a record must be of all methods, got no rows of {', '.join(lacking)}; measure them too")
    return [row for of_method in found.values() for row in of_method]
