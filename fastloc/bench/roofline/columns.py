"""The limit's columns of a row: FLOPs and bytes of its plan, and the least time they take on this machine."""

from typing import TYPE_CHECKING

from fastloc.bench.backends.table import EMBEDDINGS, Backend
from fastloc.bench.cases import Case
from fastloc.bench.models import Model
from fastloc.bench.schema import Row

if TYPE_CHECKING:
    from fastloc.bench.run_context import Work


def limit_columns(work: "Work", one: Model, case: Case, row: Backend) -> Row:
    """gflop, moved_mb, traffic_mb, and floor_ms and bound where this machine's ceilings were measured. Nothing for 8-bit products,
    whose ceiling is another, and for methods and towers that are not counted, such as ResNets and those whose grid shrinks.
    An exported file counts like the plan it was traced from."""
    import torch

    from fastloc.bench.roofline import floor
    from fastloc.bench.roofline.op_counts import plain
    from fastloc.checkpoints.vit_spec import ModelSpec
    from fastloc.engine.plan import PlanRequest
    from fastloc.engine.plan_options import choose
    from fastloc.recipes import recipe

    spec, method = one.spec, recipe(case.method, **case.changes)
    if row.stored or row.name in EMBEDDINGS or method.name in floor.UNCOUNTED or not isinstance(spec, ModelSpec) or not plain(spec):
        return {}
    if row.build == "official":
        works = floor.official(spec, case.batch, case.size, case.texts, method.blocks + 1, method.iterations, dtype=case.dtype)
    else:
        device = torch.device(case.device)
        settings = {**(row.settings if device.type == "cuda" else {}), **case.settings, "dtype": case.dtype}
        plan = choose(PlanRequest(device, spec, method, case.batch, case.size), settings)
        works = floor.count(spec, method, plan, case.batch, case.size, case.texts)
    found = floor.totals(works, spec, case.batch, case.size, case.texts)
    least = floor.floor(found, case.dtype, work.rates)
    columns: Row = {"gflop": found.gflop, "moved_mb": found.moved_mb, "traffic_mb": found.traffic_mb}
    return columns | ({} if least is None else {"floor_ms": least[0], "bound": least[1]})
