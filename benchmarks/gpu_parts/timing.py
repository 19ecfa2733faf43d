"""Times of contenders that take turns. On a GPU by device events, on a CPU by the clock; every helper takes the device.

A sample is `inner` calls one after another, divided by their number: what a call costs when calls follow each other, the host's
part of it included where the device waits for the host. Contenders of one configuration are sampled in turns (A B C A B C …), so
that drifts fall on all of them, and each gets another of its inputs at every call.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

# a call's index in, anything out
Call = Callable[[int], Any]
# a sample lasts at least so long, in milliseconds, unless one call does
SAMPLE = 4.0


class Broken(RuntimeError):
    """The device answers no more in this process: a kernel read or wrote where it must not."""


@dataclass
class Contender:
    """One way to do the work. `error` is the reason that it dropped out."""

    call: Call
    ms: list[float]
    first_ms: float = 0.0
    working_mb: float | None = None
    inner: int = 1
    error: str = ""


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"


def attempt(work: Callable[[], Any], device: torch.device) -> str:
    """Run it and wait for it; what went wrong in one line, or nothing. Raises Broken if the device is lost."""
    try:
        work()
        wait(device)
    # out of memory, a refusal by a library, a compiler's error: the others go on
    except Exception as error:
        error_line = first_line(error)
        # the frames of the traceback hold the tensors that did not fit
        error.__traceback__ = None
        recover(device, error_line)
        return error_line
    return ""


def recover(device: torch.device, error_line: str) -> None:
    """Free what an exception left, and see whether the device still answers."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except Exception as error:
        raise Broken(f"after {error_line}: {first_line(error)}") from error


def elapsed(call: Call, device: torch.device, inner: int, start: int = 0) -> float:
    """Milliseconds of one of `inner` calls."""
    if device.type == "cuda":
        events: Any = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
        events[0].record()
        for i in range(inner):
            call(start + i)
        events[1].record()
        events[1].synchronize()
        return float(events[0].elapsed_time(events[1])) / inner
    began = time.perf_counter()
    for i in range(inner):
        call(start + i)
    return (time.perf_counter() - began) * 1000 / inner


def warmed(call: Call, device: torch.device, calls: int = 3) -> Contender:
    """A contender after its first calls, in which kernels are compiled and graphs captured; with its memory beyond what was there."""
    contender = Contender(call, [])
    if device.type == "cuda":
        wait(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()

    def first_calls() -> None:
        for i in range(calls):
            started = time.perf_counter()
            call(i)
            wait(device)
            # so slow a call has nothing to gain from a graph
            if i > 0 and time.perf_counter() - started > 0.7:
                break

    contender.error = attempt(first_calls, device)
    contender.first_ms = (time.perf_counter() - began) * 1000
    if device.type == "cuda" and not contender.error:
        contender.working_mb = (torch.cuda.max_memory_allocated(device) - before) / 1e6
    return contender


def rounds(
    contenders: Mapping[str, Contender], device: torch.device, seconds: float, most: int = 40, least: int = 5, sample: float = SAMPLE
) -> int:
    """Sample the contenders in turns for about so many seconds, `least` times unless that takes twice as long; how often it was."""
    running = {name: each for name, each in contenders.items() if not each.error}
    for each in running.values():
        once = max(elapsed(each.call, device, 1), 1e-4)
        each.inner = max(1, min(round(sample / once), 500))
    began = time.perf_counter()
    done = 0
    while running and done < most:
        spent = time.perf_counter() - began
        if spent > seconds and (done >= least or (done >= 2 and spent > 2 * seconds)):
            break
        for each in running.values():
            each.ms.append(elapsed(each.call, device, each.inner, start=done * each.inner))
        done += 1
    return done


def spread(ms: list[float], inner: int = 1) -> dict[str, float]:
    """The row fields of samples of `inner` calls each."""
    p20, p50, p80, p99 = np.quantile(ms, (0.2, 0.5, 0.8, 0.99))
    return {"ms": float(p50), "ms_p20": float(p20), "ms_p80": float(p80), "ms_p99": float(p99), "rounds": len(ms), "calls": len(ms) * inner}


def fields(contender: Contender) -> dict[str, Any]:
    """A row's fields of a contender: times and the device's memory beyond what was there, or the reason that there are none."""
    if contender.error or not contender.ms:
        return {"ms": None, "failed": contender.error or "not measured"}
    return {**spread(contender.ms, contender.inner), "working_mb": contender.working_mb, "first_ms": contender.first_ms}


def graphed(call: Call, device: torch.device, calls: int) -> Call:
    """`calls` calls captured in one CUDA graph, whose replay is one call: a kernel's own time, without the host's. On a CPU a loop."""
    if device.type != "cuda":
        return lambda index: [call(i) for i in range(calls)]
    stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for i in range(3):
            call(i)
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # held, or the memory that one call frees would be the next one's
    kept = []
    with torch.cuda.graph(graph):
        for i in range(calls):
            kept.append(call(i))

    def replay(index: int) -> Any:
        graph.replay()
        return kept

    return replay
