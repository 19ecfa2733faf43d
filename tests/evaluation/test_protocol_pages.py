"""The pages on evaluations: tables made from the rows, commands that parse, and names of sets, fields and protocols that exist."""

from __future__ import annotations

import re
import shlex

import pytest

from doc_tables import page, protocols
from doc_tables.markdown_table import TableError
from fastloc.cli.app import build_parser, words
from fastloc.evaluation.protocols.changes import CHANGEABLE, with_changes
from fastloc.evaluation.protocols.table import PROTOCOLS
from fastloc.evaluation.sets.table import SETS
from repo import REPO

GUIDE = (REPO / "docs" / "guide" / "evaluate.md").read_text(encoding="utf-8")
# lines that a backslash joins are one command
COMMANDS = re.findall(r"^python -m fastloc ([^\n]+)$", GUIDE.replace("\\\n", " "), re.MULTILINE)


def test_the_tables_are_those_of_the_rows() -> None:
    texts = [each.read_text(encoding="utf-8") for each in protocols.PAGES]
    assert [block["name"] for text in texts for block in page.BLOCK.finditer(text)] == list(protocols.TABLES)
    assert [protocols.filled(text) for text in texts] == texts, "run `python benchmarks/docs.py`"
    with pytest.raises(TableError, match="there is no table 'none'"):
        protocols.filled("<!-- table: none -->\n<!-- end -->")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_parses(command: str) -> None:
    arguments = words(shlex.split(command))
    assert build_parser(arguments).parse_args(arguments)


def test_the_guide_knows_every_set_and_every_field() -> None:
    assert len(COMMANDS) > 3
    before, after = GUIDE.split("| field | |\n")

    def named(part: str) -> set[str]:
        """The names in the first column of tables."""
        return {name for cell in re.findall(r"^\| (`[^|]+) \|", part, re.MULTILINE) for name in re.findall(r"`([\w-]+)`", cell)}

    assert named(before) == set(SETS)
    assert named(after) == set(CHANGEABLE)


def test_changes_that_the_guide_names_can_be_made() -> None:
    found = [change for line in re.findall(r"`--set ([^`]+)`", GUIDE) for change in line.split()]
    assert len(found) > 3
    for change in found:
        name, _, value = change.partition("=")
        assert with_changes(PROTOCOLS["naclip", "voc20"], {name: value}) is not None


def test_a_set_has_as_many_classes_as_names() -> None:
    for (_, data), row in PROTOCOLS.items():
        assert data in SETS
        assert SETS[data].task == row.task or row.paper == "explanation"
