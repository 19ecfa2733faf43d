"""The soak: a service, a live page, streams and mixed calls side by side for an hour, and what each process holds meanwhile.

    python benchmarks/soak.py                         # an hour; print what each process held
    python benchmarks/soak.py --record                # the same, and write benchmarks/records/soak.json
    python benchmarks/soak.py --pause 0.05            # leave the machine to others in between
    python benchmarks/soak.py --quick                 # test the script: 20 seconds

    serve     `fastloc serve`; clients ask it for pictures that they know, send what is no picture, and hang up in the middle
    live      `fastloc live`; a client sends frames over its WebSocket, changes texts and methods, leaves and comes back
    streams   one process: a file read again and again, some of them left early; a camera read by one stream; a pipeline
    calls     one process: calls of every method, size and number of texts, of an exported file, submitted ones, and errors
    clients   one process: those of serve and live

Every few seconds the memory (resident, and proportional: PSS), descriptors and threads of each process are taken down, the heap in use of
the last three, and the temporary and cached files of all. The slope of each is that of a line through the means of twenty stretches of
the second half; its error allows for means that are like their neighbours. It grows where the slope's 95 % interval lies above 0 and the
slope is over 1 an hour (MB or pieces).

glibc's allocator keeps the memory that each of its arenas has once had. As a service that runs for months does, run it with few of them:

    MALLOC_ARENA_MAX=2 python benchmarks/soak.py

Exit code 1 if something grows, an answer is wrong, a process failed or a log has a traceback. Linux alone: it reads /proc.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from soak_parts import record, run, workers  # noqa: E402

MINUTES, EVERY, CALLS, QUICK = 60.0, 5.0, 100_000, 20.0


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Run, or be one of the run's own processes. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=positive, default=MINUTES, help=f"for all of it (default: {MINUTES:g})")
    parser.add_argument("--every", type=positive, default=EVERY, metavar="SECONDS", help=f"between two samples (default: {EVERY:g})")
    parser.add_argument("--calls", type=int, default=CALLS, metavar="N", help=f"mixed calls, spread over the time (default: {CALLS})")
    parser.add_argument("--pause", type=float, default=0.0, metavar="SECONDS", help="after each call, request and frame (default: 0)")
    parser.add_argument("--record", action="store_true", help=f"write benchmarks/records/{record.RECORD.name}")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to test the script; nothing is said to grow")
    parser.add_argument("--worker", choices=workers.WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.worker:
        return workers.main(args.worker, args.job)
    if args.quick and args.record:
        parser.error("a record must be of a full run; leave --quick out")
    plan = run.Plan(
        seconds=QUICK if args.quick else 60 * args.minutes, every=0.5 if args.quick else args.every,
        calls=400 if args.quick else args.calls, pause=args.pause, judged=not args.quick,
    )  # fmt: skip
    # an end from outside ends the other processes too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    facts = record.facts()
    with tempfile.TemporaryDirectory(prefix="fastloc-soak-") as folder:
        found = {**facts, **run.soak(plan, Path(folder), Path(__file__).resolve())}
    print(*record.lines(found), sep="\n")
    if args.record:
        record.write(found)
    print(*(["\nNOT GOOD", *found["problems"]] if found["problems"] else ["\ngood"]), sep="\n")
    return int(bool(found["problems"]))


if __name__ == "__main__":
    sys.exit(main())
