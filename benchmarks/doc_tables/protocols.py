"""The tables of docs/methods/protocols.md and docs/guide/evaluate.md, made from the rows of protocols and measures, never typed.

    python benchmarks/docs.py           # write them; --check compares
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from doc_tables import page  # noqa: E402
from doc_tables.markdown_table import TableError, markdown  # noqa: E402
from fastloc.errors import FastlocError  # noqa: E402
from fastloc.evaluation.metrics.measures import MEASURES  # noqa: E402
from fastloc.evaluation.protocols.changes import changed  # noqa: E402
from fastloc.evaluation.protocols.describe import COLUMNS, described  # noqa: E402
from fastloc.evaluation.protocols.differences import overview  # noqa: E402
from fastloc.evaluation.protocols.names import NAMES, class_names, source  # noqa: E402
from fastloc.evaluation.protocols.papers import SEGMENTATION_SETS, Paper  # noqa: E402
from fastloc.evaluation.protocols.published import FIGURES  # noqa: E402
from fastloc.evaluation.protocols.schema import Protocol  # noqa: E402
from fastloc.evaluation.protocols.table import PAPERS  # noqa: E402

WITH_BACKGROUND = ("voc21", "context60", "coco-object")
PAGES = (HERE.parent / "docs" / "methods" / "protocols.md", HERE.parent / "docs" / "guide" / "evaluate.md")


def protocols() -> str:
    """Each paper's usual row in a few words."""
    rows = [(f"`{name}`", *described(_usual(paper))) for name, paper in PAPERS.items()]
    return markdown(("protocol", *COLUMNS), rows)


def single_sets() -> str:
    """Fields in which a paper's row of a single set differs from its usual one."""
    rows = []
    for name, paper in PAPERS.items():
        for data, row in paper.rows.items():
            found = changed(_usual(paper), row)
            if found:
                rows.append((f"`{name}`", data, ", ".join(f"{field} {_shown(value)}" for field, (_, value) in found.items())))
    return markdown(("protocol", "set", "instead"), rows)


def notes() -> str:
    """Sources of the rows, and the notes on parts that they leave out or follow instead."""
    rows = []
    for name, paper in PAPERS.items():
        parts = dict.fromkeys(part for row in (_usual(paper), *paper.rows.values()) for part in row.note.split("; ") if part)
        rows.append((f"`{name}`", paper.about, paper.source, "; ".join(parts)))
    return markdown(("protocol", "of", "read at", "note"), rows)


def names() -> str:
    """The number of names of each list, and in brackets that of the background's among them."""
    rows = []
    for key in NAMES:
        if key == "plain":
            continue
        cells = []
        for data in SEGMENTATION_SETS:
            try:
                found = class_names(key, data)
            except FastlocError:
                cells.append("")
                continue
            background = data in WITH_BACKGROUND or key == "cliper"
            cells.append(f"{sum(map(len, found))}{f' ({len(found[0])})' if background else ''}")
        rows.append((f"`{key}`", *cells, source(key)))
    return markdown(("list", *SEGMENTATION_SETS, "read at"), rows)


def published() -> str:
    """The figures of papers under their own protocol, of OpenAI's ViT-B-16."""
    rows = []
    for name, known in overview().items():
        cells = (f"{known[data].percent}{'+' if known[data].extra else ''}" if data in known else "" for data in SEGMENTATION_SETS)
        rows.append((f"`{name}`", *cells, next(iter(known.values())).source))
    return markdown(("protocol", *SEGMENTATION_SETS, "source"), rows)


def elsewhere() -> str:
    """All other figures: of other models, under other protocols, and where the source does not say."""
    own = {id(figure) for known in overview().values() for figure in known.values()}
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for figure in FIGURES:
        if id(figure) not in own:
            protocol = f"`{figure.protocol}`" if figure.protocol else "not said"
            key = (f"`{figure.method}`", f"{figure.model} {figure.pretrained}", protocol, figure.remarks, figure.source)
            lines.setdefault(key, {})[figure.data] = figure.percent
    rows = [(*key[:3], *(known.get(data, "") for data in SEGMENTATION_SETS), *key[3:]) for key, known in lines.items()]
    return markdown(("method", "model", "protocol", *SEGMENTATION_SETS, "with", "source"), rows)


def measures() -> str:
    """The figures of a run, as its table and its JSON name them."""
    return markdown(("figure", "in JSON", ""), [(row.title, f"`{name}`", row.about) for name, row in MEASURES.items()])


TABLES: dict[str, Callable[[], str]] = {
    "protocols": protocols, "protocols-sets": single_sets, "protocols-notes": notes, "protocols-names": names,
    "protocols-published": published, "protocols-elsewhere": elsewhere, "evaluate-figures": measures,
}  # fmt: skip


def _usual(paper: Paper) -> Protocol:
    return Protocol(paper=paper.name, data="", source=paper.source, **paper.usual)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join("=".join(map(str, each)) if isinstance(each, tuple) else f"{each:g}" for each in value)
    return f"{value:g}" if isinstance(value, float) else f"`{value}`" if isinstance(value, str) else str(value)


def filled(text: str) -> str:
    """The page with its tables made anew. Raises TableError where it asks for one that there is not."""

    def fill(block: re.Match[str]) -> str:
        if block["name"] not in TABLES:
            raise TableError(f"there is no table {block['name']!r}; there are {', '.join(TABLES)}")
        return block["start"] + TABLES[block["name"]]() + block["end"]

    return page.BLOCK.sub(fill, text)


def current(text: str) -> str:
    """The page with its tables made of the rows as they are."""
    return filled(text)
