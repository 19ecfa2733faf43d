"""`fastloc evaluate list`: data sets, protocols, and what papers published on each set."""

import argparse
import json
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from fastloc.cli.arguments import add_list
from fastloc.utils import console


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
    from fastloc.evaluation.protocols.published import FIGURES
    from fastloc.evaluation.protocols.table import PAPERS
    from fastloc.evaluation.sets.table import SETS

    known = {name: sum(each.data == name for each in FIGURES) for name in SETS}
    if as_json:
        sets = {name: {"about": row.about, "task": row.task, "pictures": row.pictures, "classes": row.classes} for name, row in SETS.items()}
        papers = {name: {"about": row.about, "source": row.source, "method": row.method, "sets": row.sets} for name, row in PAPERS.items()}
        print(json.dumps({"sets": sets, "protocols": papers}, indent=2, ensure_ascii=False))
        return
    out = console.console()
    rows = console.table("set", "pictures", "classes", "published figures", "what it is", right=("pictures", "classes", "published figures"))
    for name, row in SETS.items():
        numbers = (f"{row.pictures:,}" if row.pictures else "", str(row.classes or ""), str(known[name] or ""))
        rows.add_row(Text(name, "bold"), *numbers, row.about)
    out.print(rows)
    rows = console.table("protocol", "sets", "what it is, and where it is from", right=("sets",))
    for name, paper in PAPERS.items():
        rows.add_row(Text(name, "bold"), str(len(paper.sets) or "any"), Text.assemble(paper.about, ("\n" + paper.source, "dim")))
    out.print(rows)
    out.print("`fastloc evaluate list SET` shows the layout of one, its protocols field by field, and what papers published on it.")


def _one(name: str, as_json: bool) -> None:
    from fastloc.evaluation.protocols.published import FIGURES
    from fastloc.evaluation.protocols.table import PROTOCOLS
    from fastloc.evaluation.sets.table import row_of

    row = row_of(name)
    protocols = [each for (_, data), each in PROTOCOLS.items() if data == name]
    figures = [each for each in FIGURES if each.data == name]
    if as_json:
        found = {
            "about": row.about, "task": row.task, "pictures": row.pictures, "classes": row.classes, "layout": row.layout,
            "options": dict(row.options), "protocols": [asdict(each) for each in protocols], "published": [asdict(each) for each in figures],
        }  # fmt: skip
        print(json.dumps(found, indent=2, ensure_ascii=False))
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
    _published(out, figures)


def _published(out: Console, figures: list) -> None:  # type: ignore[type-arg]
    rows = console.table("published", "model", "protocol", "figure", "with", "source", right=("figure",))
    for each in figures:
        figure = f"{each.metric} {each.percent}"
        rows.add_row(Text(each.method, "bold"), each.model, each.protocol or "not said", figure, each.remarks, each.source)
    if figures:
        out.print(rows)
