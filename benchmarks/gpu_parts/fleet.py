"""Work in forked processes: a kernel that reads where it must not takes its process with it, and compiling uses every core.

Forked, not spawned, so that nothing is imported twice; the process that forks must not have touched the device.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from fastloc.utils.termination import end_with_parent
from gpu_parts.job import ROOT
from gpu_parts.timing import first_line

Work = Callable[[Any], Any]
# with which a worker says that the device is lost to it, and that it has done nothing of the rest
LOST = 75
# the code of a command that ran out of time
LATE = 124
FORK: Any = multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else None


@dataclass(frozen=True)
class Failure:
    """The failure of an item, in place of a result."""

    message: str


@dataclass
class _Group:
    items: list[Any]
    process: Any
    connection: Connection
    done: int = 0


def workers() -> int:
    """Number of processes that share the machine's cores."""
    return max(1, min(14, (os.cpu_count() or 2) - 2))


def spread(
    groups: Sequence[Sequence[Any]], work: Work, device: torch.device, deadline: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[Any, Any]]:
    """(item, result or Failure) in the order in which they are done; what is not begun by the deadline does not come at all.

    The items of a group go one after another through one process, which may keep things for the next. On a CPU all go through this one.
    """
    if device.type != "cuda":
        for item in (item for group in groups for item in group):
            if clock() > deadline:
                return
            yield item, _result(work, item)
        return
    waiting, running = [list(group) for group in groups if group], list[_Group]()
    try:
        while waiting or running:
            while waiting and len(running) < workers() and clock() < deadline:
                running.append(_start(waiting.pop(0), work, device))
            if clock() > deadline:
                return
            ready = wait([each.connection for each in running], timeout=max(min(deadline - clock(), 5.0), 0.01))
            for each in [group for group in running if group.connection in ready]:
                try:
                    result = each.connection.recv()
                except (EOFError, OSError):
                    running.remove(each)
                    each.process.join(5)
                    if each.done < len(each.items) and each.process.exitcode != LOST:
                        yield each.items[each.done], Failure(f"its process ended with code {each.process.exitcode}")
                        each.done += 1
                    # a fresh process for what comes after
                    if rest := each.items[each.done :]:
                        waiting.insert(0, rest)
                else:
                    each.done += 1
                    yield each.items[each.done - 1], result
    finally:
        for each in running:
            end(each.process)


def _start(items: list[Any], work: Work, device: torch.device) -> _Group:
    mine, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_serve, args=(items, work, device, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Group(items, process, mine)


def _serve(items: list[Any], work: Work, device: torch.device, out: Connection) -> None:
    end_with_parent()
    torch.set_num_threads(1)
    torch.cuda.set_device(device)
    for item in items:
        result = _result(work, item)
        out.send(result)
        if isinstance(result, Failure):
            try:
                torch.cuda.synchronize(device)
                torch.cuda.empty_cache()
            except Exception:
                out.close()
                os._exit(LOST)
    out.close()


def _result(work: Work, item: Any) -> Any:
    try:
        return work(item)
    # whatever it is, the items after it are still worth a result
    except Exception as error:
        return Failure(first_line(error))


def end(process: Any) -> None:
    """End a process that was started here, and wait for it."""
    if process.is_alive():
        process.kill()
    process.join(5)


def isolated(work: Callable[[], None], seconds: float) -> str:
    """Run `work` in a forked process of its own for at most so long; what went wrong, or nothing. It is to keep its results itself."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = FORK.Process(target=_lead, args=(work,))
    process.start()
    try:
        process.join(max(seconds, 0.1))
        late = process.is_alive()
    finally:
        if process.is_alive():
            # its own group, so that compilers and workers that it started end too
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join(10)
    if late:
        return f"stopped after {seconds:.0f} s, over its limit"
    return "" if process.exitcode == 0 else f"its process ended with code {process.exitcode}"


def module(name: str, arguments: Sequence[str], seconds: float) -> tuple[int, str]:
    """`python -P -m NAME ARGUMENTS` of this checkout, in an interpreter of its own: its exit code, and what it printed.

    One that is late is interrupted, as by Ctrl-C, and then ended; its code is LATE.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen([sys.executable, "-P", "-m", name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, "PYTHONPATH": path}, encoding="utf-8")  # fmt: skip
    try:
        output, _ = process.communicate(timeout=max(seconds, 0.1))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    else:
        return process.returncode, output
    try:
        output, _ = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    return LATE, output


def _lead(work: Callable[[], None]) -> None:
    os.setpgrp()
    end_with_parent()
    work()
