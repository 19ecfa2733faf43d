"""Checks of single values, independent of the Recipe class: each raises RecipeError or returns a bool."""

import math
from typing import Any

from fastloc.errors import RecipeError, unknown


def known(kind: str, name: str, names: tuple[str, ...]) -> None:
    """Raise RecipeError for a name that is not one of `names`."""
    if name not in names:
        raise RecipeError(unknown(kind, name, names))


def frozen(value: Any) -> Any:
    """Nested lists as nested tuples, anything else as it is."""
    return tuple(frozen(each) for each in value) if isinstance(value, (list, tuple)) else value


def is_share(value: object) -> bool:
    """True for two numbers (low, high) with 0 <= low < high <= 1."""
    numbers = isinstance(value, tuple) and len(value) == 2 and all(isinstance(each, (int, float)) for each in value)
    return numbers and 0 <= value[0] < value[1] <= 1  # type: ignore[index]  # it is a tuple


def are_blocks(value: object) -> bool:
    """True for a tuple of blocks, each a number counted from 0 or a fraction of the depth below 1; or an empty one."""
    return isinstance(value, tuple) and all(
        (type(each) is int and each >= 0) or (isinstance(each, float) and 0 <= each < 1) for each in value
    )


def check_count(recipe: str, field: str, value: object) -> None:
    """Raise RecipeError for a value that is no count."""
    if type(value) is not int or value < 0:
        raise RecipeError(f"recipe {recipe!r}: {field} must be a whole number, 0 or more, got {value!r}")


def positive(value: object) -> bool:
    """True for a finite number above 0; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


# what a table of neurons is, in words
NEURONS = "(block, neurons) pairs of whole numbers from 0, each block and each of its neurons once, blocks in ascending order"


def is_neuron_table(value: object) -> bool:
    """True for a table of neurons, as NEURONS describes it; an empty table is one too."""
    if not isinstance(value, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return False
    lists = ([block for block, _ in value], *(neurons for _, neurons in value))
    counts = all(isinstance(each, (list, tuple)) and all(type(number) is int and number >= 0 for number in each) for each in lists)
    if not counts or not all(neurons for _, neurons in value):
        return False
    return all(len(set(each)) == len(each) for each in lists) and sorted(lists[0]) == lists[0]


def is_table(part: object, lengths: tuple[int | None, ...]) -> bool:
    """True for nested tuples of these lengths (None: any, 1 always allowed), equal within an axis, positive numbers inside."""
    if not lengths:
        return positive(part)
    if not isinstance(part, tuple) or not part or (lengths[0] is not None and len(part) not in (1, lengths[0])):
        return False
    return all(is_table(each, lengths[1:]) for each in part) and len({_lengths(each) for each in part}) == 1


def _lengths(part: object) -> tuple[int, ...]:
    return (len(part), *_lengths(part[0])) if isinstance(part, tuple) and part else ()
