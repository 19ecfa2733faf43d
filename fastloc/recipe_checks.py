"""What makes a recipe impossible, told when it is written and not when it runs."""

import math
from typing import TYPE_CHECKING, Any

from fastloc.errors import RecipeError, unknown

if TYPE_CHECKING:
    from fastloc.recipes import Recipe


def known(kind: str, name: str, names: tuple[str, ...]) -> None:
    """Raise RecipeError for a name that is not one of `names`."""
    if name not in names:
        raise RecipeError(unknown(kind, name, names))


def frozen(value: Any) -> Any:
    """Nested lists as nested tuples, anything else as it is."""
    return tuple(frozen(each) for each in value) if isinstance(value, (list, tuple)) else value


def contradictions(r: "Recipe") -> list[tuple[bool, str]]:
    """(it is so, what is wrong with it) for every pair of fields that cannot go together."""
    self_self = all(term in ("qq", "kk", "vv") for term in r.terms)
    return [
        (r.blocks > 0 and not r.terms, "changed blocks need at least one attention term"),
        (r.terms.count("identity") > 1, "the identity term stands at most once"),
        (r.iterations > 0 and not (r.unit and self_self), "iterations need unit projections and self-self terms"),
        (r.mlp and r.blocks > 1, f"mlp is kept in one-block recipes only, and blocks is {r.blocks}"),
        (r.bias_std is not None and not positive(r.bias_std), f"bias_std is {r.bias_std!r}; it is a deviation in patches, above 0"),
        (r.bias_std is not None and (r.iterations > 0 or "identity" in r.terms), "a neighbour bias needs plain attention terms"),
    ]


def check_count(recipe: str, field: str, value: object) -> None:
    """Raise RecipeError for what is no count."""
    if type(value) is not int or value < 0:
        raise RecipeError(f"recipe {recipe!r}: {field} is {value!r}; it is a count, 0 or more")


def positive(value: object) -> bool:
    """A finite number above 0; True is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def check_temperature(r: "Recipe") -> None:
    """Raise RecipeError for an inverse temperature that is none, or a table that does not fit the recipe."""
    if r.inv_temp is None or r.inv_temp == "adaptive" or positive(r.inv_temp):
        return
    if not isinstance(r.inv_temp, tuple):
        raise RecipeError(f"recipe {r.name!r}: inv_temp is {r.inv_temp!r}; None, 'adaptive', a number above 0 or a table is wanted")
    wanted = (r.blocks, None, len(r.streams), r.iterations + 1)
    if not _is_table(r.inv_temp, wanted):
        raise RecipeError(
            f"recipe {r.name!r}: the inv_temp table does not fit; it is nested tuples of numbers above 0, "
            f"[blocks {wanted[0]}, heads, streams {wanted[2]}, passes {wanted[3]}], an axis of length 1 standing for all"
        )


def _is_table(part: object, lengths: tuple[int | None, ...]) -> bool:
    """Nested tuples of these lengths (None: any, 1 always allowed), equal within an axis, positive numbers inside."""
    if not lengths:
        return positive(part)
    if not isinstance(part, tuple) or not part or (lengths[0] is not None and len(part) not in (1, lengths[0])):
        return False
    return all(_is_table(each, lengths[1:]) for each in part) and len({_lengths(each) for each in part}) == 1


def _lengths(part: object) -> tuple[int, ...]:
    return (len(part), *_lengths(part[0])) if isinstance(part, tuple) and part else ()
