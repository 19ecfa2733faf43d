"""The mutator on planted code, and the table of mutants that change nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from forked import needs_fork
from mutating.campaign import campaign
from mutating.equivalent import EQUIVALENT
from mutating.mutants import mutants, mutated
from mutating.targets import TARGETS, Target

CODE = '''
"""A docstring of 1 line."""
__all__ = ["area", "first"]

LIMIT: int = 3

@dataclass(frozen=True)
class Box:
    side: int = 1

def area(x: Literal[4]) -> int:
    """Two times 2."""
    if not x or x < LIMIT and x is not None:
        raise ValueError(f"{x} is below {LIMIT + 1}")
    return -x * 2
'''


def names(code: str) -> list[str]:
    return [each.name for each in mutants(code)]


def test_all_changes_of_a_module() -> None:
    assert sorted(names(CODE)) == sorted([
        "module: LIMIT: int = 3 → LIMIT: int = 4",
        "Box: side: int = 1 → side: int = 2",
        "area: not x or (x < LIMIT and x is not None) → not x and (x < LIMIT and x is not None)",
        "area: not x → not not x",
        "area: x < LIMIT and x is not None → x < LIMIT or x is not None",
        "area: x < LIMIT → x <= LIMIT",
        "area: x < LIMIT → x >= LIMIT",
        "area: x is not None → x is None",
        "area: raise ValueError(f'{x} is below {LIMIT + 1}') → pass",
        "area: return -x * 2 → return None",
        "area: -x * 2 → -x / 2",
        "area: -x * 2 → -x * 3",
        "area: -x → +x",
    ])  # fmt: skip


def test_each_is_made_alone() -> None:
    whole = ast.unparse(ast.parse(CODE))
    made = [ast.unparse(mutated(CODE, each.number)) for each in mutants(CODE)]
    assert len(set(made)) == len(made) and whole not in made
    for text in made:
        compile(text, "x", "exec")
        changed = [(one, other) for one, other in zip(whole.splitlines(), text.splitlines(), strict=True) if one != other]
        assert len(changed) == 1, changed


def test_names_outlive_changes_elsewhere() -> None:
    assert [each.line + 1 for each in mutants(CODE)] == [each.line for each in mutants("\n" + CODE)]
    assert names("\n" + CODE) == names(CODE)


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_there_and_have_mutants(name: str) -> None:
    target = TARGETS[name]
    assert len(mutants(target.file.read_text(encoding="utf-8"))) >= 10
    assert all((Path(__file__).parents[2] / each).exists() for each in target.tests)


@pytest.mark.parametrize(("name", "mutant"), EQUIVALENT, ids=str)
def test_the_table_names_mutants_that_there_are(name: str, mutant: str) -> None:
    assert mutant in names(TARGETS[name].file.read_text(encoding="utf-8")) and EQUIVALENT[name, mutant]


@needs_fork
@pytest.mark.slow("runs tests in children")
def test_a_good_test_notices_and_a_poor_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = tmp_path / "planted_module.py"
    planted.write_text("def over(x, limit=5):\n    return x > limit\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cases = {"good": "assert over(6) is True and over(5) is False", "poor": "assert over(9)"}
    scores = {}
    for name, case in cases.items():
        test = tmp_path / f"test_{name}.py"
        test.write_text(f"from planted_module import over\n\ndef test_it():\n    {case}\n")
        target = type("Planted", (Target,), {"file": planted})("planted_module", (str(test),))
        scores[name] = campaign(name, target, 60)
    # a larger limit, at the limit, turned round, no answer
    assert (scores["good"].mutants, scores["good"].killed, scores["good"].survivors) == (4, 4, ())
    assert [each.name for each in scores["poor"].survivors] == ["over: 5 → 6", "over: x > limit → x >= limit"]
    assert scores["poor"].share == 0.5
