"""Every hyper-parameter as a row: default, meaning, and a mark if the paper leaves it open. Command line and checks use these rows."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from fastloc.errors import FastlocError, unknown

ATTENTIONS = ("none", "qk", "qq", "kk", "vv")
QUERIES = ("cls", "mean")
MASKS = ("top", "mean", "minmax", "soft")
POOLS = ("max", "mean")
INITS = ("orthogonal", "shared", "identity")
SCALES = ("learned", "fixed")
SCHEDULES = ("cosine", "constant")
FITS = ("stretch", "crop")
# the least allowed value, or an exclusive lower bound
AT_LEAST, ABOVE = "at least", "above"


def _row(default: Any, text: str, *, choices: tuple[str, ...] = (), bound: tuple[str, float] | None = None, most: float = math.inf,
         settled: bool = False) -> Any:  # fmt: skip
    return field(default=default, metadata={"help": text, "choices": choices, "bound": bound, "most": most, "open": not settled})


@dataclass(frozen=True)
class Settings:
    """The settings of one training.

    The paper leaves every field open but `pool`, which is max. The defaults are those of the projections that ship with fastloc
    (`benchmarks/embedded_model/train_eclip.py`); they are no recommendation for other models.

    Raises:
        FastlocError: a value that is unknown or out of its range.
    """

    attention: str = _row("qq", "attention that guides the mask: none, q-k, or q, k or v with itself", choices=ATTENTIONS)
    query: str = _row("cls", "query of that attention: the class token, or the mean over patches", choices=QUERIES)
    block: int = _row(1, "block of that attention, counted from the end", bound=(AT_LEAST, 1))
    reverse: bool = _row(True, "keep the patches with the least attention, max + min - attention, as RCLIP reverses maps")
    mask: str = _row("top", "patches that are kept: the top share `keep`, at least `keep` times the mean attention, min-maxed at least "
                     "`keep`, or (soft) all times their min-maxed attention", choices=MASKS)  # fmt: skip
    keep: float = _row(0.25, "share or bound of the mask, see --mask", bound=(AT_LEAST, 0.0))
    pool: str = _row("max", "pooling over the kept patches, per channel; mean is for comparison", choices=POOLS, settled=True)
    init: str = _row("orthogonal", "first projections: a random orthogonal matrix each, a shared one (the same maps as without), or "
                     "the identity", choices=INITS)  # fmt: skip
    scale: str = _row("learned", "logit scale, 1 / temperature: trained along, or fixed", choices=SCALES)
    logit_scale: float = _row(20.0, "first value of the logit scale", bound=(ABOVE, 0.0))
    most_scale: float = _row(100.0, "largest value of the logit scale, as in CLIP", bound=(ABOVE, 0.0))
    steps: int = _row(400, "number of training steps", bound=(AT_LEAST, 1))
    batch: int = _row(256, "pairs a step, over all processes", bound=(AT_LEAST, 2))
    rate: float = _row(5e-3, "peak learning rate of AdamW", bound=(ABOVE, 0.0))
    schedule: str = _row("cosine", "learning rate after the warm-up: down to 0, or constant", choices=SCHEDULES)
    warm_up: float = _row(0.05, "share of the steps in which the learning rate rises", bound=(AT_LEAST, 0.0), most=1.0)
    decay: float = _row(0.01, "weight decay, towards 0", bound=(AT_LEAST, 0.0))
    beta1: float = _row(0.9, "AdamW's beta1", bound=(AT_LEAST, 0.0), most=1 - 1e-9)
    beta2: float = _row(0.98, "AdamW's beta2", bound=(AT_LEAST, 0.0), most=1 - 1e-9)
    clip: float = _row(1.0, "largest norm of a gradient", bound=(ABOVE, 0.0))
    fit: str = _row("stretch", "way to resize a picture to the model's input", choices=FITS)
    seed: int = _row(0, "seed of first projections, orders and captions", bound=(AT_LEAST, 0))

    def __post_init__(self) -> None:
        for row in fields(self):
            check(row, getattr(self, row.name))

    def differing(self, other: Mapping[str, Any]) -> list[str]:
        """The names of the fields in which a record of settings differs from this one."""
        return [row.name for row in fields(self) if other.get(row.name, MISSING) != getattr(self, row.name)]


def check(row: Field[Any], value: Any) -> None:
    """Raise FastlocError unless the field takes this value."""
    choices, bound, most = (row.metadata[name] for name in ("choices", "bound", "most"))
    if choices:
        if value not in choices:
            raise FastlocError(unknown(row.name, value, choices))
        return
    if bound is None:
        return
    how, least = bound
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (isinstance(row.default, int) and value != int(value)):
        raise FastlocError(f"{row.name} must be a {'whole' if isinstance(row.default, int) else 'finite'} number, got {value!r}")
    if not (value >= least if how == AT_LEAST else value > least) or value > most:
        upper = f" and at most {most:g}" if most < math.inf else ""
        raise FastlocError(f"{row.name} must be a number {how} {least:g}{upper}, got {value!r}")
