"""Make every picture of docs/gallery.md from the embedded model and its sample scenes, and write the pages' blocks.

    python benchmarks/gallery.py                     # all pictures, their record and the pages; the loop needs chromium
    python benchmarks/gallery.py --only gem live     # some of them
    python benchmarks/gallery.py --check             # make nothing; exit 1 and say what is missing, too much or out of date
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

# python -P leaves a script's folder out
if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from doc_tables.markdown_table import TableError
from fastloc import Localizer
from fastloc.errors import FastlocError
from fastloc.utils.atomic_write import write_text
from gallery_parts import blocks, record
from gallery_parts.cards import cards
from gallery_parts.live_loop import live_loop
from gallery_parts.strips import strips
from gallery_parts.tiles import Picture

PAGES = ((blocks.GALLERY, blocks.gallery), (blocks.EACH, blocks.each))


def pictures(moving: bool = True) -> Iterator[Picture]:
    """Every picture, one after the other, each made when it is asked for. moving: with the loop of the live page, which needs a browser."""
    localizer = Localizer(device="cpu")
    return chain(cards(localizer), strips(localizer), live_loop() if moving else ())


def make(only: list[str]) -> None:
    """Write pictures and record. Raises FastlocError for a name of which there is no picture."""
    if not only:
        record.remove_orphans(record.write(pictures()))
        return
    kept = record.read()
    if unknown := set(only) - {row.name for row in kept}:
        raise FastlocError(f"--only must name pictures of the gallery, got {', '.join(sorted(unknown))}")
    record.write((picture for picture in pictures("live" in only) if picture.name in only), kept)


def stale(check: bool) -> list[str]:
    """Write the pages' blocks, unless `check`; the faults that are left, one line each."""
    lines = []
    for page, current in PAGES:
        text = page.read_text(encoding="utf-8")
        try:
            made = current(text)
        except TableError as error:
            lines.append(f"{page.name}: {error}")
            continue
        if made != text and check:
            lines.append(f"{page.name} differs from the record: run `{record.COMMAND}`")
        elif made != text:
            write_text(page, made)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="make nothing; exit 1 if a picture or a page is out of date")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="make these pictures alone, by their files' stems")
    args = parser.parse_args()
    try:
        if not args.check:
            make(args.only)
        lines = stale(args.check)
    except (FastlocError, TableError) as error:
        lines = [str(error)]
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
