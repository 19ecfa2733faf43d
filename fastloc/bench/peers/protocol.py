"""A contender: a process that answers one line of JSON with one line of JSON, and sleeps in between.

    (at its start)                          -> {"protocol": 1, "versions": {...}}
    {"do": "prepare", "key", "case"}        -> {"load_s", "first_ms", "loaded_mb", ...}   load what a case needs, and run it once
    {"do": "answer", "key", "file"}         -> {}                                         its answer to the first input, as .npy
    {"do": "go", "key", "what", "count"}    -> {"ms": [...]}                              so many timed calls, `what` as in `Passes`
    {"do": "memory", "key", "again"}        -> {"peak_mb", "working_mb"}                  of the first call, and of another one
    {"do": "drop", "key"}                   -> {}                                         forget a case

What goes wrong is {"failed": "in one line"}, and the process goes on. Its end is the end of its standard input. Only the standard
library and numpy, and PyTorch where a case is on a GPU: every environment imports this file.
"""

import ctypes
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROTOCOL = 1
# written before every timed call on a GPU, so that nothing is left in its cache
FLUSH_BYTES = 256 << 20

Case = dict[str, Any]
Call = Callable[[int], Any]


@dataclass
class Passes:
    """The calls of a contender for one case. A call takes the number of an input and need not wait for its result.

    model: normalised pixels on the device -> similarity grids [B, T, h, w] on the device, or what comes nearest to that.
    whole: frames in host memory, uint8 [B, H, W, 3] -> heatmaps in host memory. None where a contender has no such path.
    answer: the grids of input 0 as float32 in host memory; None where there is nothing to compare (cost only).
    device: "cpu" or "cuda". `events`: PyTorch's CUDA events see this contender's work (else only the clock does).
    columns: further columns of its row, such as its plan, its provider, or a note.
    """

    model: Call
    answer: Callable[[], NDArray[np.float32]] | None = None
    whole: Call | None = None
    device: str = "cpu"
    events: bool = True
    columns: dict[str, Any] = field(default_factory=dict)

    def call(self, what: str) -> Call:
        found = self.whole if what == "whole" else self.model
        if found is None:
            raise ValueError(f"it has no pass {what!r}")
        return found


def serve(build: Callable[[Case], Passes], versions: dict[str, str], **more: Any) -> None:
    """Answer until standard input ends. `build(case)` loads what a case needs; `more` goes into the first line."""
    # whatever libraries print, also native ones, goes to stderr from here on, so that stdout carries the protocol alone
    sys.stdout.flush()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    prepared: dict[str, Prepared] = {}
    _say(out, {"protocol": PROTOCOL, "versions": versions, **more})
    for line in sys.stdin:
        try:
            _say(out, _reply(json.loads(line), build, prepared))
        # out of memory, a library's refusal: a row that holds the reason
        except Exception as error:
            message = " ".join(str(error).split())[:300]
            # the traceback's frames hold what did not fit
            error.__traceback__ = None
            _say(out, {"failed": f"{type(error).__name__}: {message}" if message else type(error).__name__})
            _tidy()


def _say(out: Any, reply: dict[str, Any]) -> None:
    print(json.dumps(reply), file=out, flush=True)


def _reply(asked: dict[str, Any], build: Callable[[Case], Passes], prepared: dict[str, "Prepared"]) -> dict[str, Any]:
    key, do = asked["key"], asked["do"]
    if do == "drop":
        prepared.pop(key, None)
        _tidy()
        return {}
    if do == "prepare":
        return _prepare(key, asked["case"], build, prepared)
    passes = prepared[key].passes
    if do == "answer":
        if passes.answer is None:
            raise ValueError("it has no answer to compare")
        np.save(asked["file"], passes.answer())
        return {}
    if do == "memory":
        return _memory(prepared[key], again=asked.get("again", True))
    return {"ms": timed(passes, asked["what"], asked["count"])}


@dataclass(frozen=True)
class Prepared:
    """A case that is ready. loaded: bytes resident before its first call; first_peak: the most during that call, in which a runtime
    takes memory that it keeps."""

    passes: Passes
    loaded: int
    first_peak: int


def _prepare(key: str, case: Case, build: Callable[[Case], Passes], prepared: dict[str, Prepared]) -> dict[str, Any]:
    prepared.pop(key, None)
    _tidy()
    began = time.perf_counter()
    passes = build(case)
    _wait(passes)
    loaded = time.perf_counter()
    before = reset_peak()
    called = time.perf_counter()
    passes.model(0)
    _wait(passes)
    first = time.perf_counter() - called
    prepared[key] = Prepared(passes, before, peak())
    return {"load_s": loaded - began, "first_ms": first * 1000, "loaded_mb": before / 1e6, "device": passes.device,
            "whole": passes.whole is not None, "answers": passes.answer is not None, "told": passes.columns}  # fmt: skip


def timed(passes: Passes, what: str, count: int) -> list[float]:
    """Milliseconds of so many calls, each waited for; they take the inputs in turns."""
    call = passes.call(what)
    if passes.device == "cuda" and passes.events and what == "model":
        return _by_events(call, count)
    spent = []
    for i in range(count):
        _flush(passes)
        began = time.perf_counter()
        call(i)
        _wait(passes)
        spent.append((time.perf_counter() - began) * 1000)
    return spent


def _by_events(call: Call, count: int) -> list[float]:
    import torch

    spent = []
    for i in range(count):
        _flush_cuda()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        call(i)
        end.record()
        end.synchronize()
        spent.append(float(start.elapsed_time(end)))
    return spent


_SCRATCH: list[Any] = []


def _flush(passes: Passes) -> None:
    # a process without PyTorch gets another input at every call instead
    if passes.device == "cuda" and passes.events:
        _flush_cuda()


def _flush_cuda() -> None:
    import torch

    if not _SCRATCH:
        _SCRATCH.append(torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda"))
    _SCRATCH[0].zero_()
    torch.cuda.synchronize()


def _wait(passes: Passes) -> None:
    if passes.device == "cuda" and passes.events:
        import torch

        torch.cuda.synchronize()


def _memory(one: Prepared, again: bool) -> dict[str, Any]:
    """Peaks of the first call or, `again`, of another one, the larger: a runtime may keep what the first took. On a GPU of the other
    alone, in PyTorch's allocator."""
    if not again:
        return {"peak_mb": one.first_peak / 1e6, "working_mb": (one.first_peak - one.loaded) / 1e6}
    passes = one.passes
    on_gpu = passes.device == "cuda" and passes.events
    if on_gpu:
        import torch

        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    # other cases may have been prepared in this process since the first call
    before = reset_peak()
    passes.model(0)
    _wait(passes)
    working = max(one.first_peak - one.loaded, peak() - before, 0)
    found = {"peak_mb": max(peak(), one.first_peak) / 1e6, "working_mb": working / 1e6}
    if on_gpu:
        most, mine = torch.cuda.max_memory_allocated(), FLUSH_BYTES * len(_SCRATCH)
        found |= {"device_mb": (most - mine) / 1e6, "device_working_mb": (most - held) / 1e6}
    return found


def peak() -> int:
    """Most bytes resident since `reset_peak`, or ever where that cannot be reset; 0 where the system does not report it."""
    if platform.system() == "Linux":
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), resident())
    try:
        import resource
    except ImportError:
        # Windows: memory is not measured there
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def reset_peak() -> int:
    """Forget the peak so far, where the system can (Linux); the bytes resident now."""
    _tidy()
    if platform.system() == "Linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return resident()


def resident() -> int:
    if platform.system() != "Linux":
        return peak()
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGESIZE")


def _tidy() -> None:
    """Give freed memory back, so that it does not count as the next case's."""
    gc.collect()
    if platform.system() == "Linux":
        # freed weights stay in the allocator's heap otherwise, by chance more in one process than in another
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
