"""The table of docs/methods/examples.md, made from records/examples.json, never typed.

    python benchmarks/docs.py           # write it; --check compares
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from doc_tables import page  # noqa: E402
from doc_tables.markdown_table import TableError, markdown  # noqa: E402

RECORD, PAGE = HERE / "records" / "examples.json", HERE.parent / "docs" / "methods" / "examples.md"
SETS = {"embedded": "the embedded model, drawn scenes", "real": "a supervised ViT-Tiny, photographs"}
SCORES = ("pointing", "iou", "auc")


def table(record: dict[str, Any]) -> str:
    """All rows as Markdown, with their standard errors, and under them what they were measured with."""
    rows = [(SETS[row["set"]], f"`{row['method']}`", row["asked"], row["questions"], *map(_cell, (row[key] for key in SCORES)))
            for row in record["rows"]]  # fmt: skip
    if not rows:
        raise TableError("the record has no rows: run `python benchmarks/quality_parts/examples.py --real FOLDER --record`")
    drawn = markdown(("set", "method", "looked for by", "questions", *SCORES), rows, right=4)
    return f"{drawn}\nfastloc {record['fastloc']}, torch {record['torch']}, float32 on {record['machine']}.\n"


def _cell(value: list[float]) -> str:
    return f"{value[0]:.3f} ± {value[1]:.3f}"


def filled(text: str, record: str) -> str:
    """The page with its table made anew."""
    return page.BLOCK.sub(lambda block: block["start"] + table(json.loads(record)) + block["end"], text)


def current(text: str) -> str:
    """The page with its table made of the record as it is."""
    return filled(text, RECORD.read_text(encoding="utf-8"))
