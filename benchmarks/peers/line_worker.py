"""One side of a comparison: a process that answers commands on stdin with lines on stdout, and sleeps in between.

    prepare SIZE     load what that input size needs   -> ready MEMORY      bytes resident once it is loaded
    answer FILE      store one answer as .npy          -> done
    go               one timed pass                    -> done SECONDS PEAK  peak bytes resident since `prepare` ended
    versions         -> one line of JSON

Only the standard library and numpy: both environments import this file.
"""

import ctypes
import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Pass = Callable[[], np.ndarray]


def serve(build: Callable[[int], Pass], versions: Callable[[], dict[str, str]]) -> None:
    """Answer commands until stdin closes. `build(size)` gives the function that is timed."""
    run: Pass | None = None
    # whatever libraries print goes to stderr, so that stdout carries the protocol alone
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "prepare":
            run = None
            run = build(int(argument))
            reset_peak()
            reply = f"ready {resident()}"
        elif command == "versions":
            reply = json.dumps(versions())
        elif run is None:
            raise SystemExit(f"{command!r} came before 'prepare'")
        elif command == "answer":
            np.save(argument, run())
            reply = "done"
        else:
            start = time.perf_counter()
            run()
            seconds = time.perf_counter() - start
            reply = f"done {seconds:.6f} {peak()}"
        print(reply, file=out, flush=True)


def peak() -> int:
    """Most bytes resident so far (ru_maxrss counts kilobytes on Linux and bytes on macOS)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reset_peak() -> None:
    """Forget what loading needed for a moment, where the system can (Linux with glibc); elsewhere the peak includes it."""
    gc.collect()
    if sys.platform == "linux":
        # freed weights stay in the allocator's heap otherwise, by chance more on one side than on the other
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
        Path("/proc/self/clear_refs").write_text("5")


def resident() -> int:
    if sys.platform != "linux":
        return peak()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
