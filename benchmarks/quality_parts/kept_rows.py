"""Rows of a record that stay when only some methods are measured again: those of the same model, versions and machine."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Incomplete(Exception):
    """A record would lack methods; the message names them."""


def together(path: Path, head: Row, part: str, rows: Iterable[Row], methods: Iterable[str]) -> list[Row]:
    """The new rows of one part of the record, and the old ones of all other methods, in the order of `methods`.

    Old rows count if everything in the record's head is as it is now. Raises Incomplete where a method has no row then.
    """
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    same = all(before.get(key) == value for key, value in head.items())
    fresh = list(rows)
    old = [row for row in before.get(part, []) if row["method"] not in {each["method"] for each in fresh}] if same else []
    found = {name: [row for row in (*fresh, *old) if row["method"] == name] for name in methods}
    lacking = [name for name, of_method in found.items() if not of_method]
    if lacking:
        raise Incomplete(f"a record is of all methods, and there are no rows of {', '.join(lacking)}")
    return [row for of_method in found.values() for row in of_method]
