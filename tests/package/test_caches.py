"""A cache without an end is for functions of nothing: what users pass has no end either."""

import ast
from collections.abc import Iterator

from repo import REPO

# functions of an argument that takes few values, and why
FEW = {"fastloc/evaluation/protocols/names.py _read": "other keys than those of NAMES are refused, and errors are not kept"}


ENDLESS = ("cache", "lru_cache(None)", "lru_cache(maxsize=None)")


def endless(tree: ast.AST) -> Iterator[str]:
    """Names of functions with an argument under `functools.cache`, or under `lru_cache` without a limit."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (node.args.args or node.args.kwonlyargs or node.args.vararg):
            yield from (node.name for each in node.decorator_list if ast.unparse(each).rpartition(".")[2] in ENDLESS)


def test_caches_of_what_users_pass_have_an_end() -> None:
    files = [path for room in ("fastloc", "kernels", "export") for path in sorted((REPO / room).rglob("*.py"))]
    assert len(files) > 300
    found = {f"{path.relative_to(REPO)} {name}" for path in files for name in endless(ast.parse(path.read_text(encoding="utf-8")))}
    assert found == set(FEW)


def test_which_caches_have_none() -> None:
    code = (
        "@cache\ndef a(x): ...\n@functools.lru_cache(maxsize=None)\ndef b(*, x): ...\n"
        "@cache\ndef c(): ...\n@lru_cache(64)\ndef d(x): ...\n"
    )
    assert list(endless(ast.parse(code))) == ["a", "b"]
