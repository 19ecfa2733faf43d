"""Makes the contenders of a suite: case, process and columns of the row, and the reasons not to start one."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from fastloc.bench import correctness_gate
from fastloc.bench.backends.table import BACKENDS, EMBEDDINGS, Backend
from fastloc.bench.cases import Case
from fastloc.bench.models import EMBEDDED, Model
from fastloc.bench.peer_table import PEERS, why_not
from fastloc.bench.quality import embedded_quality
from fastloc.bench.roofline.columns import limit_columns
from fastloc.bench.roofline.op_counts import plain
from fastloc.bench.run_context import Work
from fastloc.bench.schema import ENCODER, Row
from fastloc.bench.session import Contender, Group
from fastloc.bench.towers import kinds
from fastloc.bench.towers.kinds import Spec, no_backend
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.recipes import RECIPES

# the method that peers are measured beside, and that the scaling suites are of
GEM = "gem"
RECOMMENDED = " (recommended)"
# N x N maps of the official form that are alive at once
OFFICIAL_MAPS = 4
# a contender may take this share of the memory that is free
SHARE = 0.8


def group(work: Work, suite: str, name: str, one: Model, case: Case, contenders: list[Contender]) -> Group:
    """The contenders together with the untouched encoder, of which times are multiples."""
    encoder = replace(case, method="itsm", changes={})
    anchor = contender(work, suite, one, encoder, BACKENDS["torch"], label=ENCODER)
    asked = [name for name in EMBEDDINGS if name in work.request.backends]
    contenders = [*(contender(work, suite, one, encoder, BACKENDS[name]) for name in asked), *contenders]
    beside = [name for name in asked if name == "open_clip"]
    against = [ENCODER, *beside, *(each.label for each in contenders if each.row["by"] == "peer" or each.row["contender"] == "official")]
    return Group(name, [anchor, *contenders], against=against)


def ours(work: Work, suite: str, one: Model, case: Case, names: tuple[str, ...]) -> list[Contender]:
    """The contenders of those backends that have the case's method."""
    rows = [BACKENDS[name] for name in names]
    # embeddings are in every group, see `group`
    return [
        contender(work, suite, one, case, row) for row in rows
        if row.name not in EMBEDDINGS and (not row.methods or case.method in row.methods)
    ]  # fmt: skip


def contender(work: Work, suite: str, one: Model, case: Case, row: Backend, label: str = "") -> Contender:
    """A contender of one of fastloc's backends; `label` distinguishes it in its group where its name does not."""
    columns: Row = {
        **work.columns(suite, case, one), "contender": label if label == ENCODER else row.name, "by": "fastloc",
        "method": case.method, "dtype": row.stored or case.dtype, **limit_columns(work, one, case, row),
    }  # fmt: skip
    columns["quality"] = _quality(one, case)
    made = Contender(label or row.name, lambda: work.backend(row.name), case, columns, row.stored or case.dtype)
    if row.name in EMBEDDINGS:
        made.check = "encoder"
        made.row["method"] = ENCODER
    made.failed = no_backend(one.spec, row)
    if row.name == "official" and not made.failed:
        made.failed = beyond_official(one.spec)
        _refuse(made, official_bytes(case))
    return made


def _quality(one: Model, case: Case) -> dict[str, float] | None:
    """The quality record of this very method, for the embedded model at its own size; None for other models, sizes or changes."""
    recommended = one.recommended.get("recipes", {}).get(case.method)
    if one.name != EMBEDDED or case.size != (one.own_size, one.own_size) or (case.changes and case.changes != recommended):
        return None
    return embedded_quality().get(case.method + (RECOMMENDED if case.changes else ""))


def peers(work: Work, suite: str, one: Model, case: Case, name: str, *, compiled: bool) -> Iterator[Contender]:
    """A peer, and the same through torch.compile where that is worth trying."""
    peer = PEERS[name]
    reasons = why_not(peer, case)
    for fast in (False, True) if compiled and peer.compiles and not reasons else (False,):
        label = name + (" compiled" if fast else "")
        theirs = replace(case, compiled=fast)
        if peer.method in RECIPES and peer.method != GEM:
            # judged by the reference of its own method
            theirs = replace(theirs, method=peer.method, changes={})
        row = {**work.columns(suite, theirs, one), "contender": label, "by": "peer", "method": peer.method_label}
        check = "grids" if peer.method in RECIPES else peer.method
        # a process of its own, so that its memory is its own
        start = partial(work.peer, name, " compiled" if fast else "")
        made = Contender(label, start, theirs, row, case.dtype, check, failed="; ".join(reasons))
        _refuse(made, peer.maps(case))
        yield made


def _refuse(one: Contender, needed: float) -> None:
    """Do not start what would take more memory than there is: the machine would go down with it."""
    if not one.failed and too_large(one.case, needed):
        one.row["needs_mb"] = needed / 1e6
        one.failed = f"does not fit: its N x N maps would take about {needed / 1e9:.1f} GB, and {_free(one.case) / 1e9:.1f} GB are free"


def too_large(case: Case, needed: float) -> bool:
    return needed > SHARE * _free(case)


def _free(case: Case) -> float:
    if not case.device.startswith("cuda"):
        return correctness_gate.available()
    import torch

    free: int = torch.cuda.mem_get_info(case.device)[0]
    return float(free)


def beyond_official(spec: Spec) -> str:
    """The reason not to run GEM's official form on a tower, "" if there is none: it knows CLIP's own ViT, and no other family's parts."""
    theirs = isinstance(spec, ModelSpec) and plain(spec) and spec.pool == "tok"
    return "" if theirs else "the official form is of CLIP's own ViTs, and this tower has other parts"


def official_bytes(case: Case) -> float:
    """About what the official form's N x N maps take."""
    return OFFICIAL_MAPS * case.batch * kinds.heads(case.spec) * float(case.tokens) ** 2 * (4 if case.dtype == "float32" else 2)
