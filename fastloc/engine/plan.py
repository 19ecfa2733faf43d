"""The plan: the execution of a pass, decided from device, model, method and shape. It changes speed, never results.

Every field is a choice between rows of a table. A row can be impossible (asking for it is an error with the reason) or merely
not the best guess (then the plan passes it over, and you can ask for it). The plan records both, and `explain()` prints them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from html import escape

import torch

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.errors import PlanError, unknown
from fastloc.imaging.html_page import table
from fastloc.recipes import Recipe

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class PlanRequest:
    """The device, model, recipe and shape that a plan is made for."""

    device: torch.device
    spec: ModelSpec
    recipe: Recipe
    batch: int
    size: tuple[int, int]

    @property
    def tokens(self) -> int:
        return self.spec.prefix + self.recipe.registers + self.size[0] // self.spec.patch[0] * (self.size[1] // self.spec.patch[1])

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"


@dataclass(frozen=True)
class PlanChoice:
    """One field of a plan: the chosen option and its reason, and every other option with the reason against it."""

    field: str
    chosen: str
    why: str
    refused: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Plan:
    """The execution of a pass. Two plans are equal if they execute alike, whatever the reasons.

    dtype: of the image tower: "float32", "float16", "bfloat16" or "float64".
    attention: of the local path: "triton", "sdpa" (PyTorch's fused attention) or "bmm" (matrix products, logits in slices).
    projection: of the local path's terms: "joint" (one product over all changed blocks) or "per-block".
    schedule: when the local path runs: "per-block" (at once), "side-stream" (beside the main path) or "deferred" (at the end).
    norm, activation: residual + LayerNorm and QuickGELU: "triton" or "torch".
    readout: cosines and maps: "triton" or "torch".
    frames: camera frames to patches: "triton", "torch" or "pillow", all three bit for bit the same.
    launch: "graph" (captured once for a shape, then replayed) or "eager".
    """

    dtype: str
    attention: str
    projection: str
    schedule: str
    norm: str
    activation: str
    readout: str
    frames: str
    launch: str
    title: str = field(default="", compare=False)
    decisions: tuple[PlanChoice, ...] = field(default=(), compare=False, repr=False)

    def explain(self) -> str:
        """The plan line by line: every choice with its reason, and below it each refused option with the reason against it."""
        lines = [self.title] if self.title else []
        for each in self.decisions:
            lines.append(f"  {each.field:<11}{each.chosen:<12}{each.why}")
            lines += [f"  {'':<11}not {name}: {reason}" for name, reason in each.refused]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """A table of the choices and their reasons, for notebooks."""
        refused = ["; ".join(f"{name}: {reason}" for name, reason in each.refused) for each in self.decisions]
        rows = [(each.field, each.chosen, each.why, against) for each, against in zip(self.decisions, refused, strict=True)]
        return f"<p>{escape(self.title)}</p>" + table(("field", "choice", "reason", "refused"), rows)


FIELDS = tuple(each.name for each in fields(Plan) if each.name not in ("title", "decisions"))
Chosen = Mapping[str, str]
Reasons = Callable[[PlanRequest, Chosen], list[str]]


def _never(request: PlanRequest, chosen: Chosen) -> list[str]:
    return []


@dataclass(frozen=True)
class PlanOption:
    """One option of a field: its name, the reasons why it is impossible here, and the reason why it is not the default."""

    name: str
    why: str
    impossible: Reasons = _never
    unwise: Reasons = _never


def make_plan(request: PlanRequest, settings: Mapping[str, str], table: Mapping[str, tuple[PlanOption, ...]]) -> Plan:
    """The plan for a request; `settings` overrides fields by name.

    Raises:
        PlanError: an unknown field or option, or one that is impossible here, with every reason.
    """
    for name in settings:
        if name not in FIELDS:
            raise PlanError(unknown("plan field", name, FIELDS))
    chosen: dict[str, str] = {}
    decisions = []
    for name in FIELDS:
        decision = _decide(name, table[name], request, chosen, settings.get(name))
        chosen[name] = decision.chosen
        decisions.append(decision)
    height, width = request.size
    title = f"plan for {request.recipe.name}, batch {request.batch}, {height} x {width} on {_device_name(request.device)}"
    return Plan(**chosen, title=title, decisions=tuple(decisions))


def _decide(name: str, options: tuple[PlanOption, ...], request: PlanRequest, chosen: Chosen, requested: str | None) -> PlanChoice:
    impossible = {option.name: option.impossible(request, chosen) for option in options}
    by_name = {option.name: option for option in options}
    if requested is not None:
        if requested not in by_name:
            raise PlanError(unknown(f"{name} choice", requested, by_name))
        if impossible[requested]:
            raise PlanError(f"{name} {requested!r} is not possible here: {'; '.join(impossible[requested])}")
    against = {each.name: impossible[each.name] or each.unwise(request, chosen) for each in options}
    pick = requested or next((each for each in by_name if not against[each]), None)
    if pick is None:
        reasons = "; ".join(f"{each}: {', '.join(why)}" for each, why in against.items())
        raise PlanError(f"no choice for {name} is possible here ({reasons})")
    why = "as requested" if requested else by_name[pick].why
    preferred = f"{pick} comes first here"
    refused = tuple((each, "; ".join(reasons) if reasons else preferred) for each, reasons in against.items() if each != pick)
    return PlanChoice(name, pick, why, refused)


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
