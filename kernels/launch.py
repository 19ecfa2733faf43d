"""The single launch function of all kernels, so that runs, ahead-of-time compilation and tests share one path.

Every launcher calls `launch` and allocates with `empty`. Inside `recording()` nothing runs: the kernel, its arguments and its
configuration are recorded as a `Build`, which `compile_gate` compiles for any GPU, present or not. Inside `poisoned()` new
outputs hold NaN, so that an unwritten element cannot pass for a result.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# neither a black or white pixel nor a label of the tests
UNLIKELY = 0x5A

_recorder: ContextVar["list[Build] | None"] = ContextVar("recorder", default=None)
_poison: ContextVar[bool] = ContextVar("poison", default=False)


@dataclass(frozen=True)
class Build:
    """One recorded launch: a kernel with its arguments and its configuration."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    num_warps: int
    num_stages: int


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 4, num_stages: int = 3, **constants: Any) -> None:
    """Start a Triton kernel: positional run-time `arguments`, then its constexprs by name.

    Fused multiply-adds are requested by name, because Triton's own default differs between versions.
    """
    recorded = _recorder.get()
    if recorded is not None:
        recorded.append(Build(kernel, grid, arguments, constants, num_warps, num_stages))
        return
    # an empty batch has nothing to compute, and CUDA refuses an empty grid
    if 0 not in grid:
        # programmatic dependent launch is for kernels that wait by themselves
        options = {"launch_pdl": True} if constants.get("DEPENDENT") else {}
        kernel[grid](*arguments, **constants, num_warps=num_warps, num_stages=num_stages, enable_fp_fusion=True, **options)


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised output; inside `poisoned()` it holds NaN, or an unlikely integer."""
    fresh = torch.empty(tuple(shape), dtype=dtype, device=device)
    if _poison.get():
        fresh.fill_(float("nan") if dtype.is_floating_point else UNLIKELY)
    return fresh


@contextmanager
def recording() -> Iterator[list[Build]]:
    """Record every launch instead of running it; tensors may be on the meta device."""
    noted: list[Build] = []
    token = _recorder.set(noted)
    try:
        yield noted
    finally:
        _recorder.reset(token)


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill the outputs of launchers with NaN before they run."""
    token = _poison.set(True)
    try:
        yield
    finally:
        _poison.reset(token)
