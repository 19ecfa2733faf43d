"""The generated blocks of docs/gallery.md and docs/methods/each.md, made from the gallery's record and the recipes."""

import json
import math
import re
from pathlib import Path

from doc_tables import tables
from doc_tables.markdown_table import TableError
from doc_tables.page import BLOCK
from fastloc.embedded import QUALITY
from fastloc.recipes import RECIPES
from gallery_parts import record
from gallery_parts.record import Row

__all__ = ["EACH", "GALLERY", "each", "gallery"]

DOCS = record.ROOT / "docs"
GALLERY, EACH = DOCS / "gallery.md", DOCS / "methods" / "each.md"
PREFIX = "gallery-"


def gallery(text: str) -> str:
    """docs/gallery.md with a list of pictures in each block. Raises TableError, also for a folder that differs from the record."""
    rows = record.read()
    if wrong := record.faults(rows):
        raise TableError("; ".join(wrong))
    groups = dict.fromkeys(row.group for row in rows)
    _stand(text, {PREFIX + group for group in groups}, GALLERY)
    return BLOCK.sub(lambda block: block["start"] + _list(rows, block["name"].removeprefix(PREFIX)) + block["end"], text)


def each(text: str) -> str:
    """docs/methods/each.md with every method's picture, source and figure in its block. Raises TableError."""
    rows = {row.name: row for row in record.read()}
    _stand(text, {PREFIX + name for name in RECIPES}, EACH)
    return BLOCK.sub(lambda block: block["start"] + _method(rows[block["name"].removeprefix(PREFIX)]) + block["end"], text)


def _stand(text: str, wanted: set[str], page: Path) -> None:
    """Raise TableError unless exactly these blocks stand on the page, each once."""
    found = [block["name"] for block in BLOCK.finditer(text)]
    if set(found) != wanted or len(found) != len(wanted):
        odd = ", ".join(sorted(wanted.symmetric_difference(found))) or "one stands twice"
        raise TableError(f"{page.name} must hold a block for each of its pictures once; differs: {odd}")


def _list(rows: list[Row], group: str) -> str:
    return "".join(f"- ![{row.alt}](assets/gallery/{row.file})\n\n    {row.caption}\n\n" for row in rows if row.group == group)


def _method(row: Row) -> str:
    source = tables.linked(RECIPES[row.name].source)
    # pages of the repository are named from its root there
    source = re.sub(r"\[docs/methods/([\w-]+\.md)\]\(docs/methods/[\w-]+\.md\)", r"[the study](\1)", source)
    figure = f"points at the thing in {_pointing(row.name)}"
    return (
        f"![{row.alt}](../assets/gallery/{row.file}){{ .card }}\n\n"
        f"{source} · [its row](index.md#every-row) · [{figure}](../performance/quality.md)\n"
    )


def _pointing(method: str) -> str:
    """The share of the quality set's questions, at the parameters that the picture has, with one standard error."""
    found = json.loads(QUALITY.read_text(encoding="utf-8"))
    scores = found["methods"].get(f"{method}{tables.RECOMMENDED}") or found["methods"][method]
    share = scores["pointing"]
    error = math.sqrt(share * (1 - share) / found["questions"])
    return f"{100 * share:.1f} ± {100 * error:.1f} % of {found['questions']} questions"
