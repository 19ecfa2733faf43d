"""`fastloc evaluate compare`: two runs side by side on the pictures that both have, with paired intervals."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from fastloc.cli.evaluate.figures import change
from fastloc.errors import FastlocError
from fastloc.utils import console

if TYPE_CHECKING:
    from fastloc.evaluation.report.content import Compared

# what a comparison is written as
SUFFIXES = (".html", ".md")
# classes that are printed, those that differ most
CLASSES = 20


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc evaluate compare`."""
    for name in ("first", "second"):
        parser.add_argument(name, type=Path, metavar=name[0].upper() + name[1:], help="folder of one method's run")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="file to write, .html or .md")


def run(args: argparse.Namespace) -> int:
    """Print the comparison, and write it. Raises FastlocError for a folder without a run, and for runs of other sets or tasks."""
    if args.output is not None and args.output.suffix not in SUFFIXES:
        raise FastlocError(f"-o must be a file in {' or '.join(SUFFIXES)}, got {args.output}")
    from fastloc.evaluation.report.compare import compare
    from fastloc.evaluation.report.write import write_comparison

    content = compare(args.first, args.second)
    # the reader of what is printed may leave at any line
    if args.output is not None:
        write_comparison(args.output, content)
    out = console.console()
    names = (content.first, content.second)
    out.print(Text(f"{content.data}, {content.pictures:,} pictures that both have", "bold"))
    out.print(_table("figure", names, content.figures))
    if content.classes:
        moved = sorted(content.classes, key=lambda each: -abs(each.difference.value))
        out.print(_table(f"class, {content.per_class}", names, moved[:CLASSES]))
    for name, first, second in content.settings:
        out.print(Text(f"{name}: {first} in {names[0]}, {second} in {names[1]}"), soft_wrap=True)
    if args.output is not None:
        out.print(f"written: {console.shown(args.output)}", soft_wrap=True)
    return 0


def _table(title: str, names: tuple[str, str], rows: "Sequence[Compared]") -> Table:
    made = console.table(title, *names, "second less first", "95 %", right=(*names, "second less first", "95 %"))
    for each in rows:
        made.add_row(Text(each.name), f"{100 * each.first:.2f}", f"{100 * each.second:.2f}", *change(each.difference))
    return made
