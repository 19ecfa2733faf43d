"""Rows of a record that stay when only some methods are measured again: those of the same model, versions and machine. A row that another
version of fastloc measured stays too, and says which."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Incomplete(Exception):
    """A record would lack methods; the message names them."""


def marked(old: list[Row], before: Row, head: Row) -> list[Row]:
    """Rows of an earlier record, with the version of fastloc that measured them where it is not the new head's."""
    return old if before.get("fastloc") == head.get("fastloc") else [{"fastloc": before["fastloc"], **row} for row in old]


def together(path: Path, head: Row, part: str, rows: Iterable[Row], methods: Iterable[str]) -> list[Row]:
    """The new rows of one part of the record, and the old ones of all other methods, in the order of `methods`.

    Old rows count if everything in the record's head but fastloc's version is as it is now; where that is another, they hold it as
    "fastloc". Raises Incomplete where a method has no row then.
    """
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    same = all(before.get(key) == value for key, value in head.items() if key != "fastloc")
    fresh = list(rows)
    old = [row for row in before.get(part, []) if row["method"] not in {each["method"] for each in fresh}] if same else []
    old = marked(old, before, head)
    found = {name: [row for row in (*fresh, *old) if row["method"] == name] for name in methods}
    lacking = [name for name, of_method in found.items() if not of_method]
    if lacking:
        raise Incomplete(f"a record is of all methods, and there are no rows of {', '.join(lacking)}")
    return [row for of_method in found.values() for row in of_method]
