"""Memory that runs out: the nth allocation of the interpreter fails, or the nth call that makes an array, a picture or a tensor.

Allocations of the interpreter are counted by CPython's own test module (`_testcapi.set_nomemory`), where it is installed. Arrays, pixels
and tensors lie in memory of their libraries, which it does not see: their makers fail in the words of their library.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from typing import Any

__all__ = ["MAKERS", "allocation_fails", "counts_allocations", "imported", "maker_fails"]

# allocations that no work here reaches
BEYOND = 1 << 24
# by module, or class of a module: what makes new memory
MAKERS: dict[str, tuple[str, ...]] = {
    "numpy": (
        "arange", "array", "asarray", "ascontiguousarray", "concatenate", "empty", "empty_like", "frombuffer", "full", "ones", "pad",
        "repeat", "stack", "zeros", "zeros_like",
    ),
    "PIL.Image": ("frombuffer", "frombytes", "fromarray", "new"),
    "PIL.Image.Image": ("convert", "copy", "crop", "load", "resize", "save", "tobytes", "transpose"),
    "torch": ("arange", "as_tensor", "cat", "empty", "from_numpy", "full", "matmul", "ones", "stack", "tensor", "zeros", "zeros_like"),
    "torch.nn.functional": ("conv2d", "interpolate", "layer_norm", "linear", "normalize", "pad", "scaled_dot_product_attention", "softmax"),
}  # fmt: skip


def counts_allocations() -> bool:
    """True where the interpreter has the module that makes its allocations fail."""
    return importlib.util.find_spec("_testcapi") is not None


def allocation_fails(nth: int) -> Callable[[], int]:
    """Make the nth allocation from now on fail, and none after it; 0 for none, and the answer counts them until its call."""
    from _testcapi import set_nomemory

    start = nth - 1 if nth else BEYOND
    count = partial(_count, start)
    set_nomemory(start, start + 1)
    return count


def _count(start: int) -> int:
    from _testcapi import remove_mem_hooks

    # in each turn two: of a number, and of an object
    turns = 0
    with suppress(MemoryError):
        while True:
            turns += 1
            object()
    remove_mem_hooks()
    return start - 2 * turns


def maker_fails(nth: int, fired: Callable[[str], None]) -> Callable[[], int]:
    """Make the nth call of a maker from now on fail, and none after it; 0 for none. The answer counts the calls. fired: gets its name."""
    state = [0]
    for place, names in MAKERS.items():
        owner = _owner(place)
        for name in names:
            setattr(owner, name, _failing(getattr(owner, name), f"{place}.{name}", nth, state, fired))
    return lambda: state[0]


def imported(names: list[str]) -> None:
    """Import modules that a child needed, so that later children find them: their imports are most of its allocations."""
    for name in names:
        if name not in sys.modules:
            with suppress(Exception):
                importlib.import_module(name)


def _owner(place: str) -> Any:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError:
        module, _, name = place.rpartition(".")
        return getattr(importlib.import_module(module), name)


def _failing(usual: Callable[..., Any], name: str, nth: int, state: list[int], fired: Callable[[str], None]) -> Callable[..., Any]:
    @wraps(usual)
    def call(*given: Any, **more: Any) -> Any:
        state[0] += 1
        if state[0] != nth:
            return usual(*given, **more)
        fired(name)
        if name.startswith("torch"):
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: planted")
        raise MemoryError

    return call
