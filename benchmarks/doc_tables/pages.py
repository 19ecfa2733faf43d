"""Every page with generated tables, and the plots of runs: written, or held against the records, by one command.

    python benchmarks/docs.py           # write them
    python benchmarks/docs.py --check   # exit 1 and say which page or table is out of date, which plot is missing
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from doc_tables import badges, bench, examples, families, newer_rows, protocols, scale, tables
from doc_tables.markdown_table import TableError
from doc_tables.page import BLOCK
from fastloc.errors import FastlocError
from fastloc.utils.atomic_write import write_text
from gallery_parts import blocks
from quality_parts import readouts_tables, refinements, search_tables, temperature_tables

ROOT = Path(__file__).resolve().parents[2]
# pages with tables of their own, and what makes these of their records
OWN: tuple[tuple[Path, Callable[[str], str]], ...] = (
    *((module.PAGE, module.current) for module in
      (scale, families, examples, newer_rows, search_tables, readouts_tables, temperature_tables, refinements)),
    *((page, protocols.current) for page in protocols.PAGES),
    (blocks.GALLERY, blocks.gallery),
    (blocks.EACH, blocks.each),
)  # fmt: skip


def pages() -> list[Path]:
    """The README, and every page of docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def current(page: Path, text: str) -> tuple[str, list[str]]:
    """A page's text with all its tables made anew, and what is wrong with it, a line each."""
    made, wrong = tables.filled(text, str(page.parent.relative_to(ROOT)))
    lines = [f"table {name!r}: {reason}" for name, reason in wrong.items()]
    for its, make in OWN:
        if its == page:
            try:
                new = make(made)
            except TableError as error:
                lines.append(str(error))
                continue
            if new != made:
                lines.append("differs from its record: run `python benchmarks/docs.py`")
            made = new
    return made, lines


def missing(found: dict[Path, str]) -> list[str]:
    """The tables that stand on no page, or on several."""
    there = [block["name"] for text in found.values() for block in BLOCK.finditer(text)]
    return [f"table {name!r} must stand on one page, got {there.count(name)}" for name in tables.asked() if there.count(name) != 1]


def plots_missing(draw: bool) -> list[str]:
    """Faults of the plots of the runs, one line each; draw: they are drawn again first."""
    try:
        found = bench.machines(tables.RESULTS)
        if draw:
            bench.draw_plots(found)
        return [f"{tables.shown(path)} does not exist: run `python benchmarks/docs.py`" for path in bench.missing_plots(found)]
    except (TableError, FastlocError) as error:
        return [f"the plots of {tables.shown(tables.RESULTS)}: {error}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table is out of date or a plot is missing")
    check = parser.parse_args().check
    texts = {page: page.read_text(encoding="utf-8") for page in pages()}
    lines = missing(texts)
    for page, text in texts.items():
        made, wrong = current(page, text)
        if not check and made != text:
            write_text(page, made)
            # what is still wrong after writing could not be made
            _, wrong = current(page, made)
        lines += [f"{tables.shown(page)}, {line}" for line in wrong]
    lines += plots_missing(draw=not check)
    lines += badges.missing_badges(draw=not check)
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    return 1 if lines else 0
