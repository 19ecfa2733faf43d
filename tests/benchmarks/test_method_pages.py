"""The tables of the pages on methods are those of their records."""

import json

import pytest

from doc_tables import examples, newer_rows
from fastloc.recipes import RECIPES


@pytest.mark.parametrize("made", [newer_rows, examples], ids=["newer", "examples"])
def test_the_page_is_current(made: object) -> None:
    text = made.PAGE.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    record = made.RECORD.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert made.filled(text, record) == text, "run `python benchmarks/docs.py`"  # type: ignore[attr-defined]


def test_costs_are_of_one_interleaved_run() -> None:
    rows = [json.loads(line) for line in newer_rows.RECORD.read_text(encoding="utf-8").splitlines()]
    assert {row["run"] for row in rows} == {rows[0]["run"]} and all(row["method"] in RECIPES for row in rows)
    groups = {row["group"] for row in rows if row["contender"] == "torch"}
    assert groups == {row["group"] for row in rows if row["contender"] == "encoder"}


def test_examples_are_held_against_texts_on_both_sets() -> None:
    rows = json.loads(examples.RECORD.read_text(encoding="utf-8"))["rows"]
    for name in examples.SETS:
        mine = [row for row in rows if row["set"] == name]
        assert mine and len({row["questions"] for row in mine}) == 1
        for method in {row["method"] for row in mine}:
            assert {"text", "example, contrast"} <= {row["asked"] for row in mine if row["method"] == method}
