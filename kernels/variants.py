"""The table of variants: changes of kernels that compile and are correct, and wait for a measurement on a GPU. All are off by default.

    with variants.using("tensor_descriptors"):
        localizer.heatmaps(picture, texts)     # or a case of the gate, a build, the capture of a graph

A launcher looks at the switches when it starts its kernel, so a captured graph keeps the variants of its capture. Several may be on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fastloc.kernels.table import OPS, Op

if TYPE_CHECKING:
    from fastloc.kernels.gate import Case

ATTENTION = (OPS["self_self_step"], OPS["self_self_ensemble"])


@dataclass(frozen=True)
class Variant:
    """One switch: what it changes of which ops, and what it needs."""

    name: str
    ops: tuple[Op, ...]
    changes: str
    # the least compute capability, and the one from which on it changes nothing or does not compile
    oldest: tuple[int, int] = (8, 0)
    before: tuple[int, int] = (99, 0)
    # False: the interpreter lacks the instructions; the arithmetic is that of the shipped kernel
    interpreted: bool = True
    # constexprs and arguments of kernels that are false or None where the variant is off
    constants: tuple[str, ...] = ()


_ROWS = (
    Variant(
        "three_accumulators", (OPS["self_self_ensemble"],),
        "three streams go through the keys together, an accumulator each: a tile of v is read once, not three times; head widths of one "
        "chunk up to 64, other widths and numbers of streams as shipped",
    ),
    Variant(
        "tensor_descriptors", ATTENTION,
        "tiles of keys and values are read by the tensor memory accelerator, from descriptors that the host makes", oldest=(9, 0),
        constants=("keys0", "keys1", "values0", "values1"),
    ),
    Variant("polynomial_quarter", ATTENTION, "a quarter of the exponentials by a polynomial of degree 3", constants=("POLYNOMIAL",)),
    Variant("polynomial_half", ATTENTION, "half of the exponentials by a polynomial of degree 3", constants=("POLYNOMIAL",)),
    Variant(
        "warp_specialised", ATTENTION,
        "warps of their own for loads, products and exponentials, as the compiler divides them. For Hopper, Triton 3.9 compiles the "
        "shipped code with 8 warps, and fails in a pass with 4",
        oldest=(10, 0), constants=("SPECIALISED",),
    ),
    Variant(
        "fp8_scores", ATTENTION,
        "the first iteration writes unit vectors as float8_e4m3fn and the ensemble multiplies them so; its product with v is unchanged. "
        "For one iteration, as in GEM",
        oldest=(8, 9),
    ),
    Variant(
        "dependent_launch", (OPS["inverse_norms"], *ATTENTION),
        "programmatic dependent launch: a kernel's blocks are set up while the kernel before it ends", oldest=(9, 0), interpreted=False,
        constants=("DEPENDENT",),
    ),
    Variant(
        "project_cosine", (OPS["project_cosine"],),
        "the last LayerNorm, the projection and the cosines are one kernel; towers that end in a projection without a pool, up to 64 texts",
    ),
)  # fmt: skip
VARIANTS: dict[str, Variant] = {row.name: row for row in _ROWS}
# names in kernels that stand for a variant
CONSTANTS = frozenset(name for row in _ROWS for name in row.constants)

_chosen: ContextVar[frozenset[str]] = ContextVar("chosen", default=frozenset())


def on(name: str) -> bool:
    """True inside `using(name)`."""
    return name in _chosen.get()


@contextmanager
def using(*names: str) -> Iterator[None]:
    """Switch variants on. Raises KeyError for a name that the table lacks."""
    token = _chosen.set(_chosen.get() | {VARIANTS[name].name for name in names})
    try:
        yield
    finally:
        _chosen.reset(token)


def cases(name: str) -> list[tuple[Op, "Case"]]:
    """The cases of the correctness gate that a variant must pass: those of its ops, and those that it alone takes."""
    own = ((op, *op.module.CASES, *getattr(op.module, "VARIANT_CASES", {}).get(name, ())) for op in VARIANTS[name].ops)
    return [(op, case) for op, *found in own for case in found]


def why_not(name: str, device: torch.device) -> list[str]:
    """Every reason why a variant cannot run on a device on which the shipped kernels run; empty if it can."""
    if device.type == "cpu":
        return [] if VARIANTS[name].interpreted else [f"Triton's interpreter lacks the instructions of {name}"]
    return refusals(name, torch.cuda.get_device_capability(device))


def refusals(name: str, capability: tuple[int, int]) -> list[str]:
    """The reasons why a variant does not run on GPUs of a compute capability, (9, 0) for 9.0; empty if it does."""
    variant = VARIANTS[name]
    if variant.oldest <= capability < variant.before:
        return []
    return [f"the compute capability for {name} must be {_range(variant)}, got {'.'.join(map(str, capability))}"]


def _range(variant: Variant) -> str:
    oldest, before = (".".join(map(str, each)) for each in (variant.oldest, variant.before))
    return f"{oldest} or newer" if variant.before[0] == 99 else f"from {oldest} up to, not including, {before}"
