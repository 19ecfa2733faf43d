"""Files and programs are read and written as UTF-8, whatever the locale is: every place that would ask the locale is named."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from repo import REPO

ROOMS = ("fastloc", "export", "kernels", "benchmarks")
# modules whose `open` is not of text, and the one whose object has an `open` of its own
OTHERS = {"Image", "av", "codec", "os", "tarfile", "webbrowser"}


def in_the_locales_encoding(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each call that reads or writes text and says no encoding."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
        keywords = {each.arg: each.value for each in node.keywords}
        # **options may hold one
        if "encoding" not in keywords and None not in keywords and _is_text(function, name, node.args, keywords):
            yield node.lineno, name


def _is_text(function: ast.expr, name: str, arguments: list[ast.expr], keywords: dict[str | None, ast.expr]) -> bool:
    if name in ("read_text", "write_text"):
        return len(arguments) < (1 if name == "read_text" else 2)
    if name in ("run", "Popen", "check_output"):
        return any(isinstance(keywords.get(each), ast.Constant) for each in ("text", "universal_newlines"))
    owner = function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
    if name not in ("open", "fdopen") or (name == "open" and owner in OTHERS):
        return False
    place = 0 if owner and name == "open" else 1 if isinstance(function, ast.Name) or name == "fdopen" else 0
    mode = keywords.get("mode") or next(iter(arguments[place:]), ast.Constant("r"))
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and set(mode.value) <= set("rwaxt+")


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_asks_the_locale(room: str) -> None:
    found = [
        f'{path.relative_to(REPO)}:{line}: {name} without encoding="utf-8"'
        for path in sorted((REPO / room).rglob("*.py"))
        for line, name in in_the_locales_encoding(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(content)", True),
        ("path.write_text(content, encoding='utf-8')", False),
        ("open(path)", True),
        ("open(path, 'wb')", False),
        ("path.open('a')", True),
        ("path.open('rb')", False),
        ("os.fdopen(1, 'w')", True),
        ("Image.open(path)", False),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command)", False),
        ("subprocess.Popen(command, **pipes)", False),
    ],
)
def test_the_check_itself(code: str, found: bool) -> None:
    assert bool(list(in_the_locales_encoding(ast.parse(code)))) is found


def test_the_rooms_are_there() -> None:
    assert all(any(Path(REPO / room).rglob("*.py")) for room in ROOMS)
