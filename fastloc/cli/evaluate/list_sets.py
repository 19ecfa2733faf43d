"""`fastloc evaluate list`: data sets, protocols, and what papers published on each set."""

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
    parser.add_argument("data_set", nargs="?", metavar="SET", help="one data set: its layout, protocols and published figures")
    add_list(parser)


def run(args: argparse.Namespace) -> int:
    """Print the list. Raises FastlocError for an unknown set."""
    if args.data_set is None:
        _all(args.json)
    else:
        _one(args.data_set, args.json)
    return 0


def _all(as_json: bool) -> None:
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
    out.print("`fastloc evaluate list SET` shows the layout of one, its protocols field by field, and what papers published on it.")


def _one(name: str, as_json: bool) -> None:
    from fastloc.evaluation.protocols.changes import CHANGEABLE
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
        rows = console.table("protocol", "fields in which they differ")
        fields = [name for name in CHANGEABLE if len({getattr(each, name) for each in protocols}) > 1]
        for each in protocols:
            given = {name: value for name in fields if (value := getattr(each, name)) not in (None, "", ())}
            rows.add_row(Text(each.paper, "bold"), ", ".join(f"{name}={_value(value)}" for name, value in given.items()))
        out.print(rows)
    if published:
        out.print(_table(published))


def _table(published: "Sequence[Figure]") -> Table:
    rows = console.table("published", "model", "protocol", "figure", "source", right=("figure",))
    for each in published:
        source = f"{each.source}: {each.extra}" if each.extra else each.source
        model = f"{each.model} {each.pretrained}"
        rows.add_row(Text(each.method, "bold"), model, each.protocol or "not said", f"{each.metric} {each.value:g}", source)
    return rows


def _value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
