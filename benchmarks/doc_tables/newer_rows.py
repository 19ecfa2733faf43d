r"""The table of costs in newer.md, made from records/newer_rows.jsonl, never typed.

    python -m fastloc.bench --suites methods --models ViT-B-16 --sizes 448 \
        --methods itsm,naclip,pearl,itaclip,cliper,sc_clip,sfp,gem --backends torch -o DIR
    python benchmarks/docs.py                            # write it; --check compares
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
from doc_tables.bench import where  # noqa: E402
from doc_tables.markdown_table import markdown  # noqa: E402

RECORD, PAGE = HERE / "records" / "newer_rows.jsonl", HERE.parent / "docs" / "methods" / "newer.md"


def table(rows: list[dict[str, Any]]) -> str:
    """Medians of each method in milliseconds and in multiples of the encoder with all patches read, timed in turns with it."""
    encoders = {row["group"]: row for row in rows if row["contender"] == "encoder"}
    cells = [
        (f"`{row['method']}`", f"{row['ms']:.0f}", f"{row['ms_p20']:.0f} … {row['ms_p80']:.0f}",
         f"{row['ms'] / encoders[row['group']]['ms']:.2f}", f"{row['working_mb']:.0f}")
        for row in rows if row["contender"] == "torch"
    ]  # fmt: skip
    return f"{markdown(('method', 'ms', 'p20 … p80', 'x encoder', 'working MB'), cells, right=4)}\n{where(rows)}"


def filled(text: str, record: str) -> str:
    """The page with its table made anew."""
    rows = [json.loads(line) for line in record.splitlines()]
    return page.BLOCK.sub(lambda block: block["start"] + table(rows) + block["end"] if block["name"] == "newer-rows" else block[0], text)


def current(text: str) -> str:
    """The page with its table made of the record as it is."""
    return filled(text, RECORD.read_text(encoding="utf-8"))
