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
        (r.inv_temp == "matched" and not (r.unit and self_self and r.rho),
         "matched temperatures need unit projections, self-self terms and rho"),
        (r.rho is not None and not (positive(r.rho) and r.rho < 1), f"rho is {r.rho!r}; a share of the tokens between 0 and 1 is wanted"),
        (r.rho is not None and not r.unit, "rho is for unit projections"),
        (r.mlp and r.blocks > 1, f"mlp is kept in one-block recipes only, and blocks is {r.blocks}"),
        (r.bias_std is not None and not positive(r.bias_std), f"bias_std is {r.bias_std!r}; it is a deviation in patches, above 0"),
        (r.cross is not None and not _is_share(r.cross),
         f"cross is {r.cross!r}; two shares of the depth, 0 … 1, are wanted, the smaller first"),
        (r.cross is not None and (r.blocks != 1 or not r.streams), "cross attention joins that of the last block: blocks=1, and a term"),
        (r.cross is None and (r.cross_weight, r.gain) != (0.0, 1.0), "cross_weight and gain are for cross attention; give cross too"),
        (not 0 <= r.cross_weight <= 1, f"cross_weight is {r.cross_weight!r}; a share in 0 … 1 is wanted"),
        (not positive(r.gain), f"gain is {r.gain!r}; it is a number above 0"),
        *(_of_patches(r) if r.reads == "patches" else _of_relevance(r)),
        (r.bias_std is not None and (r.iterations > 0 or "identity" in r.terms), "a neighbour bias needs plain attention terms"),
    ]


def _is_share(value: object) -> bool:
    numbers = isinstance(value, tuple) and len(value) == 2 and all(isinstance(each, (int, float)) for each in value)
    return numbers and 0 <= value[0] < value[1] <= 1  # type: ignore[index]  # it is a tuple


def _of_patches(r: "Recipe") -> list[tuple[bool, str]]:
    return [
        (r.readout.score == "relevance", "the score 'relevance' is for recipes that read something else than patches"),
        ((r.start, r.head, r.one_head, r.target) != (0, None, False, "cosine"),
         "start, head, one_head and target are for recipes that read something else than patches"),
    ]  # fmt: skip


def _of_relevance(r: "Recipe") -> list[tuple[bool, str]]:
    anchor = r.reads == "anchor"
    local = (r.blocks, r.unit, r.iterations, r.inv_temp, r.bias_std, r.residual, r.mlp, r.combine)
    return [
        (r.readout.score != "relevance", f"what {r.reads!r} gives is a score already: its score is 'relevance', not {r.readout.score!r}"),
        (local != (0, False, 0, None, None, False, False, "mean"), f"{r.reads!r} has no local path, so no field of one can be changed"),
        (not anchor and bool(r.terms), f"terms are for what is read as 'patches' or 'anchor', not {r.reads!r}"),
        (anchor and (len(r.terms) != 1 or r.terms[0] == "identity"), "an anchor's attention is one term: qk, qq, kk or vv"),
        (type(r.start) is not int, f"start is {r.start!r}; it is a block, counted from 0, or from the end where negative"),
        (r.head is not None and (not anchor or type(r.head) is not int or r.head < 0),
         f"head is {r.head!r}; it is one head of an anchor's block"),
        (not positive(r.target_scale), f"target_scale is {r.target_scale!r}; it is a number above 0"),
        (r.one_head and r.reads in ("legrad", "rollout", "anchor"), f"{r.reads!r} reads the encoder's own heads"),
        (r.target == "softmax-of-mean" and not r.reads.startswith("grad-cam"),
         f"{r.reads!r} reads the class token, and no mean of patches"),
        (r.reads in ("legrad", "rollout", "anchor") and r.target != "cosine", f"{r.reads!r} has no target to choose"),
    ]  # fmt: skip


def check_count(recipe: str, field: str, value: object) -> None:
    """Raise RecipeError for what is no count."""
    if type(value) is not int or value < 0:
        raise RecipeError(f"recipe {recipe!r}: {field} is {value!r}; it is a count, 0 or more")


def positive(value: object) -> bool:
    """A finite number above 0; True is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def check_temperature(r: "Recipe") -> None:
    """Raise RecipeError for an inverse temperature that is none, or a table that does not fit the recipe."""
    if r.inv_temp is None or r.inv_temp in ("adaptive", "matched") or positive(r.inv_temp):
        return
    if not isinstance(r.inv_temp, tuple):
        allowed = "None, 'adaptive', 'matched', a number above 0 or a table is wanted"
        raise RecipeError(f"recipe {r.name!r}: inv_temp is {r.inv_temp!r}; {allowed}")
    wanted = (r.blocks, None, len(r.streams), r.iterations + 1)
    if not is_table(r.inv_temp, wanted):
        raise RecipeError(
            f"recipe {r.name!r}: the inv_temp table does not fit; it is nested tuples of numbers above 0, "
            f"[blocks {wanted[0]}, heads, streams {wanted[2]}, passes {wanted[3]}], an axis of length 1 standing for all"
        )


def is_table(part: object, lengths: tuple[int | None, ...]) -> bool:
    """Nested tuples of these lengths (None: any, 1 always allowed), equal within an axis, positive numbers inside."""
    if not lengths:
        return positive(part)
    if not isinstance(part, tuple) or not part or (lengths[0] is not None and len(part) not in (1, lengths[0])):
        return False
    return all(is_table(each, lengths[1:]) for each in part) and len({_lengths(each) for each in part}) == 1


def _lengths(part: object) -> tuple[int, ...]:
    return (len(part), *_lengths(part[0])) if isinstance(part, tuple) and part else ()
