"""The method that measurements recommend for a kind of model, and those measurements: `method="best"`, `fastloc methods best`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

from fastloc.checkpoints.families.kinds import AnySpec
from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.embedded import EVIDENCE

# stands in place of a method's name
BEST = "best"


@dataclass(frozen=True)
class Measured:
    """One method on one set of questions. Shares are within [0, 1]; an error is a standard error of the mean over questions."""

    method: str
    set: str
    questions: int
    pointing: float
    pointing_error: float
    auc: float


@dataclass(frozen=True)
class Evidence:
    """A kind of image tower, its recommended method, the reason in words, and the measurements behind it, best first."""

    kind: str
    best: str
    why: str
    rows: tuple[Measured, ...]


@cache
def evidence() -> dict[str, Evidence]:
    """All kinds by their key: "token", "pool", "resnet" and "hierarchical". `benchmarks/doc_tables/evidence.py` writes the file."""
    content = json.loads(EVIDENCE.read_text(encoding="utf-8"))
    return {
        key: Evidence(each["kind"], each["best"], each["why"], tuple(Measured(**row) for row in each["rows"]))
        for key, each in content.items()
    }


def best_method(spec: AnySpec) -> str:
    """The name of the recommended row for a model of this kind."""
    return evidence()[kind_of_tower(spec)].best


def kind_of_tower(spec: AnySpec) -> str:
    """The key of `evidence` for a tower, which depends on how its image embedding is read out."""
    if isinstance(spec, ResNetSpec):
        return "resnet"
    if isinstance(spec, HierarchicalSpec):
        return "hierarchical"
    return "pool" if spec.pool == "attn" else "token"
