"""Mutants of a module: one small change of its syntax tree each, that tests should notice.

Comparisons, arithmetic, constants, boolean operators, signs, returned values and raised errors are changed. Messages, annotations,
decorators, `__all__` and `strict` of `zip`, which asserts, are left alone: no test should depend on those.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Mutant", "mutants", "mutated"]

# each comparison at its limit and turned round
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitXor: ast.BitAnd, ast.MatMult: ast.Mult,
}  # fmt: skip
# fields of nodes that are not looked into
SKIPPED = {"annotation", "returns", "decorator_list", "bases", "type_params"}
# whole nodes that are not looked into
LEFT_ALONE = (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Mutant:
    """One change: its number in the file, the function that it is in, the line, and the code before and after."""

    number: int
    place: str
    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """A name that outlives changes elsewhere in the file."""
        return f"{self.place}: {self.before} → {self.after}"


@dataclass(frozen=True)
class _Site:
    """A change that can be made and undone: `owner`'s field, or element of a list, becomes `new`. `shown` is the node to print."""

    place: str
    shown: ast.AST
    owner: Any
    key: Any
    new: Any

    def put(self, value: Any) -> Any:
        """Set the value and return the former one."""
        if isinstance(self.owner, list):
            before, self.owner[self.key] = self.owner[self.key], value
        else:
            before = getattr(self.owner, self.key)
            setattr(self.owner, self.key, value)
        return before


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module's source, in the order of the file."""
    found = []
    for number, site in enumerate(_sites(ast.parse(source))):
        before = _short(site.shown)
        former = site.put(site.new)
        after = _short(site.new if site.shown is former else site.shown)
        site.put(former)
        found.append(Mutant(number, site.place, getattr(site.shown, "lineno", 0), before, after))
    return found


def mutated(source: str, number: int) -> ast.Module:
    """The module with the change of this number."""
    tree = ast.parse(source)
    site = list(_sites(tree))[number]
    site.put(site.new)
    return ast.fix_missing_locations(tree)


def _short(node: ast.AST) -> str:
    line = " ".join(ast.unparse(node).split())
    return line if len(line) <= 90 else f"{line[:89]}…"


def _sites(tree: ast.Module) -> list[_Site]:
    return [site for place, node in _nodes(tree, "module") for site in _of(place, node)]


def _nodes(node: ast.AST, place: str) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, LEFT_ALONE) or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"):
        return
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        place = node.name if place == "module" else f"{place}.{node.name}"
    yield place, node
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if field not in SKIPPED and isinstance(child, ast.AST):
                yield from _nodes(child, place)


def _of(place: str, node: ast.AST) -> Iterator[_Site]:
    """The changes of one node."""
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            yield from (_Site(place, node, node.ops, i, new()) for new in COMPARISONS[type(operator)])
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in ARITHMETIC:
        yield _Site(place, node, node, "op", ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield _Site(place, node, node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _Site(place, node, node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield _Site(place, node, node, "op", ast.UAdd())
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield _Site(place, node, node, "value", ast.Constant(None))
    for field in ("body", "orelse", "finalbody"):
        statements = getattr(node, field, None)
        for i, each in enumerate(statements if isinstance(statements, list) else ()):
            if isinstance(each, ast.Raise):
                yield _Site(place, each, statements, i, ast.Pass())
    yield from _constants(place, node)


def _constants(place: str, node: ast.AST) -> Iterator[_Site]:
    """Numbers and truths among a node's children, shown with the node around them."""
    for field, value in ast.iter_fields(node):
        if field in SKIPPED:
            continue
        for i, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.Constant) and isinstance(child.value, (bool, int, float)):
                new = not child.value if isinstance(child.value, bool) else child.value + 1
                shown = node if isinstance(node, (ast.expr, ast.stmt)) and not hasattr(node, "body") else child
                yield _Site(place, shown, *((value, i) if isinstance(value, list) else (node, field)), ast.Constant(new))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
