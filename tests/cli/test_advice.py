"""Messages that name an option or an extra: it exists."""

from __future__ import annotations

import argparse
import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastloc.bench.cli import parser as bench_parser
from fastloc.cli.app import build_parser
from fastloc.eclip.cli import parser as eclip_parser
from repo import REPO

# options of pip and docker that messages name
FOREIGN = {"--head", "--force-reinstall", "--index-url", "--gpus"}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from options(inner)


def literals() -> Iterator[tuple[Path, str]]:
    """Every string of the package's code but docstrings."""
    for path in [*sorted((REPO / "fastloc").rglob("*.py")), *sorted((REPO / "export").rglob("*.py"))]:
        # scripts of other environments, and pages whose style sheets have variables
        if path.is_relative_to(REPO / "fastloc" / "bench" / "peers") or path.name in ("html_page.py", "page.py"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
                yield path.relative_to(REPO), node.value


def test_every_option_that_a_message_names_exists() -> None:
    known = {*options(build_parser()), *options(bench_parser()), *options(eclip_parser())}
    named = [(path, option) for path, text in literals() if " " in text for option in OPTION.findall(text)]
    assert len(named) > 100
    assert [f"{path}: {option}" for path, option in named if option not in known | FOREIGN] == []


def test_every_extra_that_a_message_names_exists() -> None:
    known = set(tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
    lists = [(path, each) for path, text in literals() for each in re.findall(r"fastloc\[([\w,-]+)\]", text)]
    named = [(path, extra) for path, found in lists for extra in found.split(",")]
    assert named and not [f"{path}: {extra}" for path, extra in named if extra not in known]


@pytest.mark.parametrize("command", ["locate", "video"])
def test_the_models_of_the_embedded_note_exist(command: str) -> None:
    from fastloc.cli.localizers import PHOTOGRAPHS

    assert build_parser([command]).parse_args([command, "x", "-t", "cat", *PHOTOGRAPHS.split()]).model == "ViT-B-16"
