"""The marker `slow` and what it leaves in the quick suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from repo import TESTS

pytest_plugins = ["pytester"]

CASES = """
import pytest

@pytest.mark.slow("a reason", quick=1)
@pytest.mark.parametrize("case", [1, 2, 3])
def test_first(case): pass

@pytest.mark.slow("a reason", quick="row")
@pytest.mark.parametrize("case", [1, 2])
@pytest.mark.parametrize("row", ["a", "b"])
def test_rows(row, case): pass

@pytest.mark.slow("a reason")
def test_never(): pass

def test_always(): pass
"""


@pytest.fixture
def folder(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = slow: x")
    return pytester


def names(run: pytest.RunResult) -> set[str]:
    return {line.rpartition("::")[2] for line in run.outlines if "::" in line}


@pytest.mark.slow("collects a suite of its own, three times")
def test_quick_cases_and_slow_ones_are_the_whole(folder: pytest.Pytester) -> None:
    folder.makepyfile(CASES)
    quick, slow = (names(folder.runpytest("--co", "-q", "-m", marks)) for marks in ("not slow", "slow"))
    assert quick == {"test_first[1]", "test_rows[a-1]", "test_rows[b-1]", "test_always"}
    assert slow == {"test_first[2]", "test_first[3]", "test_rows[a-2]", "test_rows[b-2]", "test_never"}


def test_a_marker_without_a_reason(folder: pytest.Pytester) -> None:
    folder.makepyfile("import pytest\n@pytest.mark.slow\ndef test_it(): pass")
    run = folder.runpytest("--co")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    run.stderr.fnmatch_lines(["*::test_it: slow must have a reason, such as*"])


@pytest.mark.slow("collects a suite of its own")
def test_a_room_that_is_slow_altogether(folder: pytest.Pytester) -> None:
    for room, text in (("a", "def test_one(): pass"), ("b", 'import pytest\n@pytest.mark.slow("long")\ndef test_two(): pass')):
        (folder.mkdir(room) / f"test_{room}.py").write_text(text)
    run = folder.runpytest("--co", "-m", "not slow")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    run.stderr.fnmatch_lines(["*every room must have quick tests, and all of b is slow*"])
    assert folder.runpytest("--co", "-m", "not slow", str(Path("a"))).ret == 0
