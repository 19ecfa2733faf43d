"""The README's badges state facts of the project, and a stale one is found."""

from pathlib import Path

import pytest

from doc_tables import badges
from fastloc.recipes import RECIPES


def test_the_badges_that_are_there_state_the_facts() -> None:
    assert badges.missing_badges(draw=False) == []
    assert badges.facts()["methods"] == ("methods", str(len(RECIPES)))


def test_a_stale_a_missing_and_a_foreign_badge_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(badges, "FOLDER", tmp_path)
    assert len(badges.missing_badges(draw=False)) == len(badges.facts())
    assert badges.missing_badges(draw=True) == []
    stale = tmp_path / "methods.svg"
    stale.write_text(badges.svg("methods", "7"), encoding="utf-8")
    (tmp_path / "python.svg").unlink()
    (tmp_path / "stars.svg").write_text(badges.svg("stars", "many"), encoding="utf-8")
    assert [line.split()[0].rsplit("/")[-1] for line in badges.missing_badges(draw=False)] == ["methods.svg", "python.svg", "stars.svg"]


def test_signs_of_a_markup_are_escaped() -> None:
    assert "a &lt; b" in badges.svg("a < b", "&") and "&amp;" in badges.svg("a", "&")
