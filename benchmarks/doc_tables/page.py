"""A page of docs whose tables are made from a record, or from the package's own tables."""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["BLOCK", "main"]

BLOCK = re.compile(r"(?P<start><!-- table: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(?P<end><!-- end -->)", re.DOTALL)


def main(about: str | None, page: Path, record: Path | None, filled: Callable[[str, str], str], script: str) -> int:
    """Write a page's tables or, with --check, compare them with the record's; the exit status.

    Args:
        about: the script's docstring, its help.
        record: None where there is none.
        filled: (the page's text, the record's or "") -> the text with its tables made anew.
        script: its path in the repository, which a message names.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    check = parser.parse_args().check
    text = page.read_text(encoding="utf-8")
    made = filled(text, "" if record is None else record.read_text(encoding="utf-8"))
    if check and made != text:
        print(f"{page.name} is out of date: run `python {script}`", file=sys.stderr)
        return 1
    if not check:
        page.write_text(made, encoding="utf-8")
    return 0
