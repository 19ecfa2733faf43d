"""The page of the search is made of its record, and the record keeps to the search's rule."""

import json
from typing import Any

import pytest

from doc_tables.markdown_table import TableError
from quality_parts import search
from quality_parts import search_tables as tables


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tables.RECORD.read_text(encoding="utf-8"))
    return found


def test_the_page_is_current(record: dict[str, Any]) -> None:
    text = tables.PAGE.read_text(encoding="utf-8")
    assert {block["name"] for block in tables.page.BLOCK.finditer(text)} == set(tables.TABLES)
    assert tables.filled(text, record) == text, "run `python benchmarks/docs.py`"
    with pytest.raises(TableError, match="there is no table 'none'"):
        tables.filled("<!-- table: none -->\n<!-- end -->", record)


def test_every_step_takes_the_best_change_that_counts(record: dict[str, Any]) -> None:
    for step in record["steps"]:
        trials = [each for each in record["trials"] if (each["start"], each["step"]) == (step["start"], step["step"])]
        best = max(trials, key=lambda trial: float(trial["gain"]))
        assert (best["field"], best["value"]) == (step["field"], step["value"])
        assert step["taken"] == (best["gain"] > record["errors"] * best["gain_se"])
    last = {step["start"]: step for step in record["steps"]}
    assert set(last) == set(search.STARTS)
    for step in last.values():
        assert not step["taken"] or step["step"] == search.STEPS - 1, "the search ends where nothing gains, or after so many steps"


def test_starts_and_ends_are_judged_on_every_set(record: dict[str, Any]) -> None:
    assert {(each["set"], each["label"]) for each in record["judged"]} == {
        (name, label) for name in ("embedded", "real", "others") for label in search.ends(record)
    }
