"""Checks of single values, at their ends: the last that is taken and the first that is not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fastloc.errors import RecipeError
from fastloc.recipes import validation

SHARES = [(0, 1), (0.0, 0.5), (0.25, 1.0), (0, 1e-9)]
NO_SHARES = [
    (0.5, 0.5), (0, 0), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.1), (0.5, 2), (0.5,), (0, 0.5, 1), [0, 1], ("0", 1), None, 0.5, (0, math.nan),
]  # fmt: skip
BLOCKS: list[Any] = [(), (0,), (3, 0), (0.0, 0.999), (11, 0.5)]
NO_BLOCKS: list[Any] = [(-1,), (1.0,), (-0.1,), (True,), ("0",), [0], None, 3]
NEURONS: list[Any] = [(), ((0, (0,)),), ((0, (0, 3)), (2, [1])), ((1, (5, 2)),)]
NO_NEURONS: list[Any] = [
    None, [(0, (0,))], ((0, (0,), 1),), ((0,),), ([0, (0,)],), (0,), "ab", ("ab",), ((0, ()),), ((0, (0,)), (1, ())), ((0, (0, 0)),),
    ((0, (0,)), (0, (1,))), ((1, (0,)), (0, (0,))), ((-1, (0,)),), ((0, (-1,)),), ((True, (0,)),), ((0, (False,)),), ((0, (1.0,)),),
    ((0, 1),), ((0, "1"),),
]  # fmt: skip
# (value, lengths)
TABLES: list[Any] = [
    (2.0, ()), (1, ()), ((1.0,), (3,)), ((1.0, 2.0, 3.0), (3,)), ((1.0, 2.0), (None,)), (((1.0,), (2.0,)), (2, 4)),
    (((1.0, 2.0, 3.0, 4.0),), (2, 4)), ((((1.0, 2.0),),), (2, None, 2)),
]  # fmt: skip
NO_TABLES: list[Any] = [
    (0, ()), (-1.0, ()), (math.inf, ()), (math.nan, ()), (True, ()), ("1", ()), ((1.0,), ()), (1.0, (1,)), ((), (3,)), ((), (None,)),
    ((1.0, 2.0), (3,)), ([1.0], (1,)), ("a", (1,)), ((0.0,), (1,)), (((1.0,), (1.0, 2.0)), (2, 2)), ((((1.0,),), ((1.0, 2.0),)), (2, 1, 2)),
    ((1.0, (2.0,)), (2,)), (((1.0, 2.0), (1.0, 0.0)), (2, 2)),
]  # fmt: skip
CHECKS: list[tuple[Any, list[Any], list[Any]]] = [
    (validation.is_share, SHARES, NO_SHARES), (validation.are_blocks, BLOCKS, NO_BLOCKS), (validation.is_neuron_table, NEURONS, NO_NEURONS),
    (lambda pair: validation.is_table(*pair), TABLES, NO_TABLES),
    (validation.positive, [1, 0.5, 5e-324, 1e308], [0, -1, math.inf, math.nan, True, "1", None]),
]  # fmt: skip


@pytest.mark.parametrize(("check", "good", "bad"), CHECKS, ids=["share", "blocks", "neurons", "table", "positive"])
def test_values_that_are_and_are_none(check: Any, good: list[Any], bad: list[Any]) -> None:
    assert [(each, check(each)) for each in (*good, *bad)] == [*((each, True) for each in good), *((each, False) for each in bad)]


def test_counts() -> None:
    for value in (0, 1, 1 << 70):
        validation.check_count("mine", "blocks", value)
    for value in (-1, 1.0, True, "1", None):
        with pytest.raises(RecipeError, match=f"recipe 'mine': blocks must be a whole number, 0 or more, got {value!r}"):
            validation.check_count("mine", "blocks", value)


def test_names_and_nested_lists() -> None:
    validation.known("pool", "tok", ("tok", "avg"))
    with pytest.raises(RecipeError, match="unknown pool 'tik'"):
        validation.known("pool", "tik", ("tok", "avg"))
    assert validation.frozen([1, [2, (3, [4])], "ab"]) == (1, (2, (3, (4,))), "ab")
