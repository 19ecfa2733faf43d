"""`fastloc evaluate list`: data sets, protocols, and the published figures on each set."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from fastloc.cli.arguments import add_list
from fastloc.utils import console

if TYPE_CHECKING:
    from fastloc.evaluation.protocols.published import Figure

# what JSON has of a set and of a paper
_SET, _PAPER = ("about", "task", "pictures", "classes"), ("about", "source", "method", "sets")


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc evaluate list`."""
    parser.add_argument(
        "data_set", nargs="?", metavar="SET", help="data set whose layout, protocols and published figures to show (default: list all sets)"
    )
    add_list(parser)


def run(args: argparse.Namespace) -> int:
    """Print the list. Raises FastlocError for an unknown set."""
    if args.data_set is None:
        _all(args.json)
    else:
        _one(args.data_set, args.json)
    return 0


def _all(as_json: bool) -> None:
    from fastloc.evaluation.protocols.differences import overview
    from fastloc.evaluation.protocols.papers import SEGMENTATION_SETS
    from fastloc.evaluation.protocols.published import figures
    from fastloc.evaluation.protocols.table import PAPERS
    from fastloc.evaluation.sets.table import SETS

    if as_json:
        sets = {name: {field: getattr(row, field) for field in _SET} for name, row in SETS.items()}
        papers = {name: {field: getattr(row, field) for field in _PAPER} for name, row in PAPERS.items()}
        print(json.dumps({"sets": sets, "protocols": papers}, indent=2, ensure_ascii=False))
        return
    out = console.console()
    rows = console.table("set", "pictures", "classes", "published", "what it is", right=("pictures", "classes", "published"))
    for name, row in SETS.items():
        numbers = (f"{row.pictures:,}" if row.pictures else "", str(row.classes or ""), str(len(figures(name)) or ""))
        rows.add_row(Text(name, "bold"), *numbers, row.about)
    out.print(rows)
    rows = console.table("protocol", "sets", "what it is, and where it is from", right=("sets",))
    for name, paper in PAPERS.items():
        rows.add_row(Text(name, "bold"), str(len(paper.sets) or "any"), Text.assemble(paper.about, ("\n" + paper.source, "dim")))
    out.print(rows)
    rows = console.table("published", *SEGMENTATION_SETS, right=SEGMENTATION_SETS)
    for name, known in overview().items():
        cells = (f"{known[data].percent}{'+' if known[data].extra else ''}" if data in known else "" for data in SEGMENTATION_SETS)
        rows.add_row(Text(name, "bold"), *cells)
    out.print(rows)
    out.print("mIoU of each protocol's own method with OpenAI's ViT-B-16, in percent as printed; + with what fastloc does not have")
    out.print("`fastloc evaluate list SET` shows the layout of one, its protocols field by field, and what papers published on it.")


def _one(name: str, as_json: bool) -> None:
    from fastloc.evaluation.protocols.published import figures
    from fastloc.evaluation.protocols.table import PROTOCOLS
    from fastloc.evaluation.sets.table import row_of

    row = row_of(name)
    protocols = [each for (_, data), each in PROTOCOLS.items() if data == name]
    published = figures(name)
    if as_json:
        found = {field: getattr(row, field) for field in (*_SET, "layout")} | {"options": dict(row.options)}
        more = {"protocols": [asdict(each) for each in protocols], "published": [asdict(each) for each in published]}
        print(json.dumps(found | more, indent=2, ensure_ascii=False))
        return
    out = console.console()
    out.print(Text.assemble((name, "bold"), f": {row.about}"))
    for title, lines in (("layout", row.layout), ("options", [f"{option}: {about}" for option, about in row.options.items()])):
        if lines:
            out.print(Text.assemble("\n", (title, "dim"), "".join(f"\n  {line}" for line in lines)), soft_wrap=True)
    out.print()
    if protocols:
        from fastloc.evaluation.protocols.describe import COLUMNS, described

        rows = console.table("protocol", *COLUMNS)
        for each in protocols:
            rows.add_row(Text(each.paper, "bold"), *described(each))
        out.print(rows)
        for each in protocols:
            if each.note:
                out.print(Text.assemble((each.paper, "bold"), f": {each.note}"))
        out.print()
    if published:
        out.print(_table(published))


def _table(published: "Sequence[Figure]") -> Table:
    rows = console.table("published", "model", "protocol", "figure", "with", "source", right=("figure",))
    for each in published:
        model, figure = f"{each.model} {each.pretrained}", f"{each.metric} {each.percent}"
        rows.add_row(Text(each.method, "bold"), model, each.protocol or "not said", figure, each.remarks, each.source)
    return rows
