"""The mutator on planted code, and the table of mutants that change nothing."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
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


# a default, and a constant that a property reads: the first is changed after the import, the second by a new one
PLANTED = {
    "function": ("def over(x, limit=5):\n    return x > limit\n", ["over: 5 → 6", "over: x > limit → x >= limit"]),
    "property": (
        "LIMIT = 5\n\nclass Box:\n    def __init__(self, x):\n        self.x = x\n\n    @property\n    def over(self):\n"
        "        return self.x > LIMIT\n\ndef over(x):\n    return Box(x).over\n",
        ["module: LIMIT = 5 → LIMIT = 6", "Box.over: self.x > LIMIT → self.x >= LIMIT"],
    ),
}


# in a fresh interpreter: a child that is forked from one with other tests' threads may hang, and would count as a mutant that is noticed
SCORED = """
import json, sys
from pathlib import Path
from mutating.campaign import campaign
from mutating.targets import Target

def main(form, folder):
    scores = {}
    for name in ("good", "poor"):
        target = type("Planted", (Target,), {"file": Path(folder, f"planted_{form}.py")})(f"planted_{form}", (f"{folder}/test_{name}.py",))
        score = campaign(name, target, 60)
        scores[name] = score.mutants, score.killed, [each.name for each in score.survivors]
    Path(folder, "scores.json").write_text(json.dumps(scores))

main(*sys.argv[1:])
"""


@needs_fork
@pytest.mark.slow("runs tests in children")
@pytest.mark.parametrize("form", PLANTED)
def test_a_good_test_notices_and_a_poor_one_does_not(form: str, tmp_path: Path) -> None:
    code, left = PLANTED[form]
    (tmp_path / f"planted_{form}.py").write_text(code)
    for name, case in {"good": "assert over(6) is True and over(5) is False", "poor": "assert over(9)"}.items():
        (tmp_path / f"test_{name}.py").write_text(f"from planted_{form} import over\n\ndef test_it():\n    {case}\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parent)])}
    command = [sys.executable, "-c", SCORED, form, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    many = scores["good"][0]
    assert many > 3 and scores == {"good": [many, many, []], "poor": [many, many - 2, left]}


@needs_fork
@pytest.mark.slow("runs tests in children")
def test_a_target_whose_tests_fail_is_refused(tmp_path: Path) -> None:
    test = tmp_path / "test_broken.py"
    test.write_text("def test_it():\n    assert False\n")
    with pytest.raises(RuntimeError, match=r"fastloc\.errors: its tests fail without a mutant"):
        campaign("broken", Target("fastloc.errors", (str(test),)), 60)


@needs_fork
@pytest.mark.slow("a minute of mutants")
def test_some_mutants_of_every_file_are_noticed() -> None:
    command = [sys.executable, str(Path(__file__).parent / "run.py"), "--seconds", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
