"""The suites: groups of contenders that are measured together, and their cases. A suite makes groups; `session.measure` measures one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from fastloc.bench import contenders, request
from fastloc.bench.backends.table import BACKENDS, Backend
from fastloc.bench.cases import Case
from fastloc.bench.contenders import GEM, RECOMMENDED
from fastloc.bench.models import EMBEDDED, Model
from fastloc.bench.peer_table import PEERS
from fastloc.bench.run_context import Work
from fastloc.bench.session import Group
from fastloc.bench.towers.kinds import few_blocks
from fastloc.bench.waterfall import STEPS

DEFAULT = "default plan"
# rounds of the scaling suites: their largest cases take minutes
FEW = 3


@dataclass(frozen=True)
class Suite:
    """A suite: its name, a summary of what it measures, and the function that makes its groups."""

    name: str
    summary: str
    groups: Callable[[Work], Iterator[Group]]


def methods(work: Work) -> Iterator[Group]:
    """Every method with every backend, beside the untouched encoder."""
    asked = work.request
    for one in asked.models:
        for size in asked.sizes_of(one):
            for batch in asked.batches:
                place = _place(one, size, batch)
                for method, changes in variants(one, one.methods(asked.methods)):
                    case = work.case(one, method, size, batch, changes=changes)
                    ours = contenders.ours(work, "methods", one, case, asked.backends)
                    name = method + (RECOMMENDED if changes else "")
                    yield contenders.group(work, "methods", f"{place}, {name}", one, case, ours)


def peers(work: Work) -> Iterator[Group]:
    """The packages that you could use instead, beside GEM, each also through torch.compile where that works."""
    asked = work.request
    for one in _largest(asked.models):
        for size in asked.sizes_of(one):
            for batch in asked.batches:
                case = work.case(one, GEM, size, batch)
                others = [each for name in asked.peers for each in contenders.peers(work, "peers", one, case, name, compiled=True)]
                made = [*contenders.ours(work, "peers", one, case, asked.backends), *others]
                yield contenders.group(work, "peers", f"{_place(one, size, batch)}, peers", one, case, made)


def _place(one: Model, size: int, batch: int) -> str:
    return f"{one.name} {size} px" + (f" batch {batch}" if batch > 1 else "")


def variants(one: Model, methods: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each method as published, in all blocks that a tower with fewer has, and as the model recommends it where that differs."""
    recommended = one.recommended.get("recipes", {})
    for method in methods:
        plain = few_blocks(one.spec, method)
        yield method, dict(plain)
        if recommended.get(method, plain) != plain:
            yield method, dict(recommended[method])


def tokens(work: Work) -> Iterator[Group]:
    """GEM and the official form over the input's size, until the official form's maps no longer fit."""
    asked = work.request
    for one in _largest(asked.models):
        step = one.spec.patch[0]
        sizes = [size // step * step for size in (asked.sizes or request.SIZES)]
        for size in sizes:
            yield from _beside_official(work, "tokens", one, size)
        yield from _where_it_ends(work, one, max(sizes))


def batch(work: Work) -> Iterator[Group]:
    """GEM and the official form over the number of pictures a call."""
    asked = work.request
    for one in _largest(asked.models):
        for count in asked.batches if len(asked.batches) > 1 else request.BATCHES:
            yield from _beside_official(work, "batch", one, asked.sizes_of(one)[0], batch=count)


def texts(work: Work) -> Iterator[Group]:
    """GEM and the official form over the number of texts."""
    for one in _largest(work.request.models):
        for count in request.TEXTS:
            yield from _beside_official(work, "texts", one, work.request.sizes_of(one)[0], texts=count)


def blocks(work: Work) -> Iterator[Group]:
    """GEM and the official form over the number of changed blocks."""
    for one in _largest(work.request.models):
        for count in request.BLOCKS:
            if count <= one.vit.layers:
                yield from _beside_official(work, "blocks", one, work.request.sizes_of(one)[0], changes={"blocks": count})


def waterfall(work: Work) -> Iterator[Group]:
    """GEM from the official form to the quickest, one step at a time."""
    asked = work.request
    for one in _largest(asked.models):
        for size in asked.sizes_of(one):
            steps = []
            for step in STEPS[asked.kind]:
                case = work.case(one, GEM, size, dtype=step.dtype or asked.dtype, settings=dict(step.settings))
                made = contenders.contender(work, "waterfall", one, case, BACKENDS[step.backend], label=step.name)
                made.row["step"] = step.name
                steps.append(made)
            yield Group(f"{one.name} {size} px, waterfall", steps, against=[STEPS[asked.kind][0].name])


def plan(work: Work) -> Iterator[Group]:
    """GEM by the default plan, and by it with one field changed at a time."""
    asked = work.request
    usual = BACKENDS["triton" if asked.kind == "cuda" and "triton" in asked.backends else "torch"]
    for one in _largest(asked.models):
        for size in asked.sizes_of(one):
            case = work.case(one, GEM, size)
            made = [contenders.contender(work, "plan", one, case, usual, label=DEFAULT)]
            for setting in changes_of_the_plan(case, one, usual):
                name = " ".join(f"{field}={choice}" for field, choice in setting.items())
                made.append(contenders.contender(work, "plan", one, replace(case, settings=setting), usual, label=name))
            for each in made:
                each.row["step"] = each.label
            yield Group(f"{one.name} {size} px, plan", made, against=[DEFAULT])


def changes_of_the_plan(case: Case, one: Model, row: Backend) -> Iterator[dict[str, str]]:
    """Every possible change of one field of the plan that changes it."""
    import torch

    from fastloc.engine.plan import PlanRequest
    from fastloc.engine.plan_options import OPTIONS, choose
    from fastloc.errors import PlanError
    from fastloc.recipes import recipe

    request = PlanRequest(torch.device(case.device), one.vit, recipe(case.method), case.batch, case.size)
    usual = {**(row.settings if case.device.startswith("cuda") else {}), "dtype": case.dtype}
    default = choose(request, usual)
    for field in ("attention", "projection", "schedule", "norm", "activation", "readout", "launch"):
        for option in OPTIONS[field]:
            with suppress(PlanError):
                if choose(request, {**usual, field: option.name}) != default:
                    yield {field: option.name}


SUITES: Mapping[str, Suite] = {
    row.name: row
    for row in (
        Suite("methods", "what each method costs, in multiples of the untouched encoder", methods),
        Suite("peers", "what a user would pick instead, beside GEM", peers),
        Suite("waterfall", "GEM from the official form to the quickest, step by step", waterfall),
        Suite("plan", "GEM by the default plan, and with one of its fields changed at a time", plan),
        Suite("tokens", "cost against the input's size, beside the official form", tokens),
        Suite("batch", "cost against the number of pictures a call", batch),
        Suite("texts", "cost against the number of texts", texts),
        Suite("blocks", "cost against the number of changed blocks", blocks),
    )
}


def _beside_official(
    work: Work, suite: str, one: Model, size: int, batch: int = 1, texts: int | None = None, changes: dict[str, Any] | None = None
) -> Iterator[Group]:
    """GEM by our backends, and the official package; in our own words, where it was not chosen."""
    case = work.case(one, GEM, size, batch, texts, changes=changes or {})
    names = tuple(name for name in work.request.peers if PEERS[name].method == GEM)
    backends = work.request.backends if names else tuple(dict.fromkeys((*work.request.backends, "official")))
    ours = contenders.ours(work, suite, one, case, backends)
    others = [each for name in names for each in contenders.peers(work, suite, one, case, name, compiled=False)]
    counts = f"batch {batch}, {case.texts} texts, {(changes or {}).get('blocks', 6)} blocks"
    made = contenders.group(work, suite, f"{suite}: {one.name} {size} px, {counts}", one, case, [*ours, *others])
    yield replace(made, least=FEW, whole=False)


def _where_it_ends(work: Work, one: Model, largest: int) -> Iterator[Group]:
    """The first size beyond those measured, in steps of a half, at which the official form's maps do not fit: a row without times."""
    peer = next((name for name in work.request.peers if PEERS[name].method == GEM), "")
    # nothing is run there, so no inputs are written
    case = replace(work.case(one, GEM, one.size), size=(largest, largest))

    def needed() -> float:
        return PEERS[peer].maps(case) if peer else contenders.official_bytes(case)

    if contenders.too_large(case, needed()):
        return
    while not contenders.too_large(case, needed()):
        size = case.size[0] * 3 // 2 // case.patch * case.patch
        case = replace(case, size=(size, size))
    ours = [contenders.contender(work, "tokens", one, case, BACKENDS["official"])]
    ended = list(contenders.peers(work, "tokens", one, case, peer, compiled=False)) if peer else ours
    yield Group(f"tokens: {one.name} {case.size[0]} px", ended)


def _largest(models: tuple[Model, ...]) -> tuple[Model, ...]:
    """The scaling suites are of GEM on one model: the last that is not the embedded one; of none where no model has GEM."""
    able = [one for one in models if one.methods((GEM,))]
    others = [one for one in able if one.name != EMBEDDED]
    return tuple(others[-1:] or able[-1:])

