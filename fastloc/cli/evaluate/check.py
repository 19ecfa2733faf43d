"""`fastloc evaluate check`: the missing parts of a data set's layout, before anything runs."""

import argparse

from fastloc.cli.evaluate.run import add_set
from fastloc.utils.terminal import say


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc evaluate check`."""
    add_set(parser)


def run(args: argparse.Namespace) -> int:
    """Print the missing parts, one line each. Returns 0 where there are none, else 1. Raises FastlocError for an unknown set or option."""
    from fastloc.evaluation.sets.table import row_of

    row, options = row_of(args.data_set), dict(args.set_options)
    missing = row.missing(args.data_set, args.data, options)
    for line in missing:
        say(line)
    if missing:
        wrong = f"{len(missing)} parts are missing or wrong; see `fastloc evaluate list {args.data_set}` for the whole layout"
        say(f"fastloc: error: {args.data} must be laid out as {args.data_set}, and {wrong}", error=True)
        return 1
    count = len(row.open(args.data_set, args.data, options).items())
    expected = f", of {row.pictures:,} published" if row.pictures not in (0, count) else ""
    say(f"{args.data_set}: {count:,} pictures{expected}, nothing is missing in {args.data}")
    return 0
