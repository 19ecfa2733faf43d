"""The page on temperatures is made of its record, and the package ships the temperatures of the study."""

from typing import Any

import pytest

from doc_tables.markdown_table import TableError
from fastloc.recipes import RECIPES
from fastloc.recipes.temperatures import Temperatures, shipped_with
from quality_parts import temperature_tables as tables
from quality_parts.temperature_rows import DEFAULT, rows


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return tables.records()


def test_the_page_is_current(record: dict[str, Any]) -> None:
    text = tables.PAGE.read_text(encoding="utf-8")
    assert {block["name"] for block in tables.page.BLOCK.finditer(text)} == {*tables.TABLES, *tables.OF_GRIDS, "grids-attention"}
    assert tables.filled(text, record) == text, "run `python benchmarks/docs.py`"


def test_the_record_holds_every_row(record: dict[str, Any]) -> None:
    there = {(each["set"], each["sweep"], each["label"], each["residual"]) for each in record["rows"]}
    assert len(there) == len(record["rows"])
    for name, sizes, layers in (("embedded", (96, 192), 6), ("real", (224, 336, 672), 12)):
        expected = {tuple(row.to_dict(name).values()) for row in rows(name, sizes, layers)}
        assert {each for each in there if each[0] == name} == expected


def test_the_default_is_the_rows(record: dict[str, Any]) -> None:
    for name in ("gem_calibrated", "gem_matched"):
        row = RECIPES[name]
        assert (row.rho, row.blocks, row.iterations, row.residual, row.terms) == (
            DEFAULT.rho, DEFAULT.blocks, DEFAULT.iterations, DEFAULT.residual, DEFAULT.terms,
        )  # fmt: skip
    assert Temperatures.load(shipped_with("embedded") or "").rho == DEFAULT.rho


def test_it_beats_every_published_row_on_both_sets(record: dict[str, Any]) -> None:
    for name in ("embedded", "real"):
        mine = [each for each in record["rows"] if each["set"] == name]
        ours = next(each for each in mine if (each["sweep"], each["label"], each["residual"]) == ("rho, no iteration", "0.7", False))
        for other in (each for each in mine if each["sweep"] == "published"):
            assert all(ours[score] > other[score] for score in tables.SCORES), (name, other["label"])


def test_what_cannot_be_made_is_reported(record: dict[str, Any]) -> None:
    with pytest.raises(TableError, match="there is no table 'none'"):
        tables.table(record, "none")
    with pytest.raises(TableError, match="the record has no rows for temperature-blocks"):
        tables.table({"rows": []}, "temperature-blocks")
