r"""The table of encoders.md, made from records/families.jsonl, never typed.

    python -m fastloc.bench --suites methods --models PE-Core-B-16,… --methods itsm,naclip,gem \
        --backends torch,open_clip,embedding,ort -o DIR
    python benchmarks/docs.py                          # write it; --check compares
"""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from doc_tables import page  # noqa: E402
from doc_tables.bench import where  # noqa: E402
from doc_tables.markdown_table import TableError, markdown  # noqa: E402

RECORD, PAGE = HERE / "records" / "families.jsonl", HERE.parent / "docs" / "guide" / "encoders.md"
METHODS, BACKENDS = ("itsm", "naclip", "gem"), ("torch", "ort")
Rows = list[dict[str, Any]]


def families(rows: Rows) -> str:
    """Medians in multiples of open_clip's own encode_image, which was timed in turns with them: the engine's image embedding alone
    (its median over the groups), then what reads every patch, itsm of the untouched encoder."""
    timed = [row for row in rows if row.get("suite") == "methods" and row.get("ms")]
    cells = []
    for model in dict.fromkeys(row["model"] for row in timed):
        mine = [row for row in timed if row["model"] == model]
        theirs = {row["group"]: row["ms"] for row in mine if row["contender"] == "open_clip"}
        found = {(row["method"], row["contender"]): row["ms"] / theirs[row["group"]] for row in mine if row["contender"] in BACKENDS}
        spread = [row["ms_p80"] / row["ms_p20"] for row in mine if row["contender"] == "open_clip"]
        alone = median(row["ms"] / theirs[row["group"]] for row in mine if row["contender"] == "embedding")
        ratios = (f"{found[method, backend]:.2f}" for backend in BACKENDS for method in METHODS)
        size, times = mine[0]["height"], f"{min(theirs.values()):.0f} … {max(theirs.values()):.0f}"
        cells.append((model, size, times, f"{max(spread):.2f}", f"{alone:.2f}", *ratios))
    columns = (f"`{method}` {backend}" for backend in BACKENDS for method in METHODS)
    head = ("model", "px", "open_clip, ms", "its p80 / p20", "embedding alone", *columns)
    return f"{markdown(head, cells, right=len(head) - 1)}\n{where(timed)}"


def filled(text: str, record: str) -> str:
    """The page with its table made anew."""
    rows = [json.loads(line) for line in record.splitlines()]

    def fill(block: Any) -> str:
        if block["name"] != "families":
            raise TableError(f"there is no table {block['name']!r}; there is families")
        return block["start"] + families(rows) + block["end"]

    return page.BLOCK.sub(fill, text)


def current(text: str) -> str:
    """The page with its table made of the record as it is."""
    return filled(text, RECORD.read_text(encoding="utf-8"))
