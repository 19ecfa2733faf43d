"""The video benchmark: what a stream must hold for long, what it costs around the model, and whether heat follows what moves.

    python benchmarks/video.py                                    # a short run of every part, as a table
    python benchmarks/video.py --parts live --minutes 10 --record # one part, written into benchmarks/records/video.json
    python benchmarks/video.py --quick                            # test the script

    file      every frame of a file once, in order, at its time; the engine slower or quicker than decoding
    live      a camera of 30 frames a second and an engine of 500 ms and the embedded model: age, counts, memory, drift
    fast      the same with the embedded model as it is, and with more frames than it can take (flood)
    tracking  the peak on the thing that moves, lag, flicker, and heat of what is not there; the same on every run
    overhead  decode, convert, draw, encode and handing over, beside the model

A record keeps the parts of earlier runs; each says its own machine, load, versions, commit and day. Times mean something on a machine that
does nothing else. Exit code 1 if something is not as it must be.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from video_parts import file_mode, live_mode, overhead, record, tracking  # noqa: E402

Part = dict[str, Any]
# seconds of a part unless --minutes says otherwise
USUAL, QUICK = 60.0, 3.0


def _live(quick: bool, seconds: float) -> Part:
    return live_mode.run(live_mode.CASES["slow"], seconds)


def _fast(quick: bool, seconds: float) -> Part:
    found = [live_mode.run(live_mode.CASES[name], seconds / 2) for name in ("fast", "flood")]
    return {**found[0], **{key: [one for each in found for one in each[key]] for key in ("rows", "problems")}}


# name -> what runs it, given whether to be quick and for how many seconds, and what draws its table
PARTS: dict[str, tuple[Callable[[bool, float], Part], Callable[[Part], list[str]]]] = {
    "file": (lambda quick, seconds: file_mode.run(quick, seconds), file_mode.lines),
    "live": (_live, live_mode.lines),
    "fast": (_fast, live_mode.lines),
    "tracking": (lambda quick, seconds: tracking.run(quick), tracking.lines),
    "overhead": (lambda quick, seconds: overhead.run(quick, seconds), overhead.lines),
}


def _again(modes: list[str], kept: bool) -> int:
    rows = tracking.again(modes)
    if kept:
        record.replace("tracking", rows)
    print(*tracking.lines({"rows": rows}), sep="\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=float, help="for each of file, live, fast and overhead (default: 1)")
    parser.add_argument("--record", action="store_true", help=f"write the parts into benchmarks/records/{record.RECORD.name}")
    known = [mode.name for mode in tracking.MODES]
    parser.add_argument("--modes", nargs="+", choices=known, metavar="MODE", help="of tracking: measure these rows again, and nothing else")
    parser.add_argument("--quick", action="store_true", help="seconds for each part, to test the script")
    args = parser.parse_args(arguments)
    if args.quick and args.record:
        parser.error("a record must be of a full run; leave --quick out")
    if args.minutes is not None and not args.minutes > 0:
        parser.error(f"--minutes must be above 0, got {args.minutes:g}")
    if args.modes:
        return _again(args.modes, args.record)
    problems = []
    for name in args.parts:
        run, lines = PARTS[name]
        head = record.head()
        part = {**head, **run(args.quick, 60 * args.minutes if args.minutes else QUICK if args.quick else USUAL)}
        if args.record:
            record.write({name: part})
        print(f"\n== {name}", *lines(part), sep="\n", flush=True)
        problems += [f"{name}: {problem}" for problem in part.get("problems", [])]
    print(*(["\nNOT GOOD", *problems] if problems else ["\ngood"]), sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
