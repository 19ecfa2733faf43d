"""The matrix of Pythons: its choice of versions and packages, its counts, and its table."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

import absent_packages
from doc_tables.pythons import pythons_table
from repo import REPO


@pytest.fixture(scope="module")
def matrix() -> Any:
    spec = importlib.util.spec_from_file_location("fastloc_matrix", REPO / "tests" / "matrix.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    # its dataclasses look for it there
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def listed(version: str, kind: str = "cpython") -> dict[str, Any]:
    parts = version.split(".")
    return {"version": version, "implementation": kind, "version_parts": {"major": int(parts[0]), "minor": int(parts[1])}}


def test_every_minor_version_with_a_release_from_the_oldest_on(matrix: Any) -> None:
    rows = [listed(each) for each in ("3.16.0a2", "3.15.2", "3.15.1", "3.11.9", "3.10.4", "3.12.0")]
    assert matrix.minors([*rows, listed("3.17.1", "pypy")]) == ["3.11", "3.12", "3.15"]


def test_packages_are_those_of_the_project_without_torch(matrix: Any) -> None:
    project = {
        "dependencies": ["numpy>=1.26,<3"],
        "optional-dependencies": {
            "engine": ["torch"], "onnx-cpu": ["onnxruntime>=1.24"], "video": ["av"], "live": ["fastloc[video]", "uvicorn"],
            "serve": ["starlette"], "client": ["httpx2"], "heif": ["pillow-heif"],
        },
    }  # fmt: skip
    found = matrix.requirements(project)
    assert found["fastloc"] == ["numpy>=1.26,<3"] and found["live"] == ["av", "uvicorn"] and found["onnx-cpu"] == ["onnxruntime>=1.24"]
    assert "torch" not in str(found)


REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="one" time="0"/>
<testcase classname="tests.a" name="two"><skipped message="Skipped: needs torch"/></testcase>
<testcase classname="" name="tests.b"><skipped message="could not import 'torch.nn': No module named 'torch'"/></testcase>
<testcase name="tests.c"><skipped message="collection skipped">('/a/tests/c.py', 0, 'Skipped: needs torch')</skipped></testcase>
<testcase classname="tests.a" name="three"><skipped message="this system has no fork"/></testcase>
<testcase classname="tests.a" name="four"><failure message="assert 1 == 2&#10;more">text</failure></testcase>
<testcase classname="tests.a" name="five"><error message="fixture"/></testcase>
</testsuite></testsuites>"""


def test_a_report_is_counted(matrix: Any, tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(REPORT)
    row = matrix.counted(tmp_path / "r.xml")
    assert (row["passed"], row["failed"], row["skipped"]) == (1, 2, 4)
    assert row["why"] == {"needs torch": 3, "this system has no fork": 1}
    assert row["failures"] == ["tests.a::four: assert 1 == 2", "tests.a::five: fixture"]


def test_a_python_that_is_not_there_is_named(matrix: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = matrix.run("uv", [matrix.Python("3.99", why="no download of it")], ("utils",), tmp_path)
    assert row["passed"] == row["failed"] == 0 and capsys.readouterr().out == "3.99: not run: no download of it\n"


def test_the_table_says_what_ran_and_what_did_not() -> None:
    rows = [
        {"python": "3.12", "passed": 10, "failed": 0, "skipped": 7, "why": {"needs torch": 4, "a": 1, "b": 1, "c": 1}, "failures": [],
         "lacks": ["av"], "versions": {"python": "3.12.1", "numpy": "2.4.6", "onnxruntime": None}},
        {"python": "3.99", "passed": 0, "failed": 0, "skipped": 0, "why": {"no download of it": 1}, "failures": []},
    ]  # fmt: skip
    table = pythons_table({"rows": rows, "rooms": ["utils"], "day": "2026-11-29", "commit": "abc", "system": "Linux x86_64"})
    assert "| 3.12.1 | 10 | 0 | 7 | 4 needs torch, 1 a, 1 b, 1 others; no wheels of av | numpy 2.4.6 |" in table
    assert "| 3.99 | 0 | 0 | 0 | not run: no download of it |  |" in table and "2026-11-29, commit abc" in table


def test_a_package_that_is_not_there_is_no_fault() -> None:
    missing = ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    wrapped = ValueError("a localizer cannot be made")
    wrapped.__cause__ = missing
    assert absent_packages.missing(missing) == absent_packages.missing(wrapped) == "torch"
    assert absent_packages.missing(ValueError("wrong")) == ""
    assert absent_packages.missing(ModuleNotFoundError("No module named 'fastloc.nothing'", name="fastloc.nothing")) == ""
    assert absent_packages._of_text("x\nE   ModuleNotFoundError: No module named 'torch.nn'") == "torch"
    assert absent_packages._of_text("E   ModuleNotFoundError: No module named 'fastloc.nothing'") == ""
    assert absent_packages._of_text("E   AssertionError: No module named 'torch'") == ""
