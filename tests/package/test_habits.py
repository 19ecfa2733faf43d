"""The files around the code agree with it: `make help`, workflows, templates, hooks, the citation, and CONTRIBUTING with its pages."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastloc import __version__
from repo import REPO

MAKEFILE = (REPO / "Makefile").read_text(encoding="utf-8")
# every documented target with its text
DOCUMENTED = dict(re.findall(r"^([a-z-]+):.*## (.+)$", MAKEFILE, re.MULTILINE))
GROUPS = ["Users", "Tests", "Docs", "Benchmarks", "Maintenance"]
PAGES = sorted((REPO / "docs" / "contributing").glob("*.md"))
FORMS = sorted(path for path in (REPO / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
CALLERS = [*sorted((REPO / ".github" / "workflows").glob("*.yml")), REPO / ".ci" / "run", REPO / ".pre-commit-config.yaml"]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_documented_target_in_groups() -> None:
    done = subprocess.run(["make", "-s"], cwd=REPO, capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    assert [line.removesuffix(":") for line in lines if line.endswith(":")] == GROUPS
    shown = dict(re.findall(r"^  make ([a-z-]+) +(.+)$", done.stdout, re.MULTILINE))
    assert shown == DOCUMENTED and all(len(line) <= 80 for line in lines), done.stdout
    assert len(lines) == len(GROUPS) + len(DOCUMENTED) + len(GROUPS) - 1, "one line a target, one between groups"


def test_every_phony_target_but_help_is_documented() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert set(phony.split()) == {"help", *DOCUMENTED}


@pytest.mark.parametrize("path", CALLERS, ids=lambda path: path.name)
def test_automation_calls_targets_and_scripts_that_exist(path: Path) -> None:
    text = re.sub(r"^\s*#.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    targets = re.findall(r"\bmake (?:\w+=\S+ )*([a-z-]+)", text)
    scripts = re.findall(r"(?<![\w/])(\.ci/\w+|(?:benchmarks|tests)/[\w./]+\.py)", text)
    assert (targets or scripts) and set(targets) <= set(DOCUMENTED), targets
    assert all((REPO / each).is_file() for each in scripts), scripts
    assert all(os.access(REPO / each, os.X_OK) for each in scripts if each.startswith(".ci/"))


@pytest.mark.parametrize("path", [path for path in CALLERS if path.parent.name == "workflows"], ids=lambda path: path.name)
def test_a_workflow_has_few_rights_an_end_and_pinned_actions(path: Path) -> None:
    content = read(path)
    assert content["permissions"]["contents"] == "read"
    for name, job in content["jobs"].items():
        assert job["timeout-minutes"] <= 120, name
        assert all(re.search(r"@v\d", step["uses"]) for step in job["steps"] if "uses" in step), name


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_is_complete(path: Path) -> None:
    content = read(path)
    assert content["name"] and content["description"]
    fields = [each for each in content["body"] if each["type"] != "markdown"]
    assert all(each["attributes"]["label"] for each in fields) and len({each["id"] for each in fields}) == len(fields)
    assert any(each.get("validations", {}).get("required") for each in fields)


def test_the_citation_is_of_this_version() -> None:
    citation = read(REPO / "CITATION.cff")
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"], citation["title"]) == (__version__, project["license"], project["name"])
    assert {"cff-version", "message", "authors"} <= set(citation)


def test_line_lengths_of_editors_and_of_the_linter_are_the_same() -> None:
    ruff = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert f"max_line_length = {ruff['line-length']}\n" in (REPO / ".editorconfig").read_text(encoding="utf-8")


def test_contributing_fits_two_pages_and_its_pages_are_linked_and_in_the_navigation() -> None:
    text = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110
    index = (REPO / "docs" / "contributing" / "index.md").read_text(encoding="utf-8")
    navigation = (REPO / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        assert f"contributing/{page.name}\n" in navigation, page.name
        assert f"](docs/contributing/{page.name})" in text, page.name
        assert page.name == "index.md" or f"]({page.name})" in index, page.name
