"""The tables of search.md, made from records/search.json, never typed.

    python benchmarks/docs.py           # write them; --check compares
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from doc_tables import page  # noqa: E402
from doc_tables.markdown_table import TableError, markdown  # noqa: E402

RECORD, PAGE = HERE / "records" / "search.json", HERE.parent / "docs" / "methods" / "search.md"
SCORES = ("pointing", "iou", "auc")
Record = dict[str, Any]


def steps(record: Record) -> str:
    """The search from each start, step by step: its scores, and the best change with its gain."""
    rows = []
    for step in record["steps"]:
        best = max(_trials(record, step["start"], step["step"]), key=lambda trial: float(trial["gain"]))
        scores = (f"{step[name]:.3f}" for name in SCORES)
        rows.append((step["start"], step["step"], *scores, _change(best), "taken" if step["taken"] else "left", *_gains(best)))
    return markdown(("start", "step", *SCORES, "best change", "", *(f"{name} gain" for name in SCORES)), rows, right=3)


def trials(record: Record) -> str:
    """Every change of the first start, one field each."""
    rows = [(_change(each), *_gains(each)) for each in _trials(record, record["steps"][0]["start"], 0)]
    return markdown(("change", *(f"{name} gain" for name in SCORES)), rows, right=3)


def _trials(record: Record, start: str, step: int) -> list[Record]:
    return [each for each in record["trials"] if (each["start"], each["step"]) == (start, step)]


def judged(record: Record) -> str:
    """Starts and ends on the sets that the search never saw, and the differences from the first start."""
    rows = []
    for row in record["judged"]:
        scores = (f"{row[name]:.3f} ± {row[f'{name}_se']:.3f}" for name in SCORES)
        gains = ("",) * len(SCORES) if row["label"] == record["judged"][0]["label"] else _gains(row)
        rows.append((row["set"], row["questions"], row["label"], *scores, *gains))
    return markdown(("set", "questions", "row", *SCORES, *(f"{name} gain" for name in SCORES)), rows, right=6)


def _change(trial: Record) -> str:
    value = " ".join(trial["value"]) if isinstance(trial["value"], list) else str(trial["value"])
    return f"{trial['field']}: {value}"


def _gains(row: Record) -> tuple[str, ...]:
    return tuple(f"{row[f'{name}_gain']:+.3f} ± {row[f'{name}_gain_se']:.3f}" for name in SCORES)


TABLES: dict[str, Callable[[Record], str]] = {"search-steps": steps, "search-trials": trials, "search-judged": judged}


def filled(text: str, record: Record) -> str:
    """The page with its tables made anew. Raises TableError where it asks for one that there is not."""

    def fill(block: re.Match[str]) -> str:
        if block["name"] not in TABLES:
            raise TableError(f"there is no table {block['name']!r}; there are {', '.join(TABLES)}")
        return block["start"] + TABLES[block["name"]](record) + block["end"]

    return page.BLOCK.sub(fill, text)


def current(text: str) -> str:
    """The page with its tables made of the record as it is."""
    return filled(text, json.loads(RECORD.read_text(encoding="utf-8")))
