"""Fuzz the parsers of untrusted bytes: `python tests/fuzz/run.py --seconds 60`, or repeat one input with --only TARGET --repeat FILE.

Every fault is printed with the command that shows it again; its input lies in build/fuzz/. The exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
# who sets it asks for the stack of every panic that is caught, which is no flood of ours
os.environ.pop("RUST_BACKTRACE", None)
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from fuzzing.campaign import Process, Report, campaign  # noqa: E402
from fuzzing.targets import TARGETS, Target  # noqa: E402


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (default: 60)")
    parser.add_argument("--only", action="append", choices=list(TARGETS), metavar="TARGET", help="; ".join(TARGETS))
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: 0)")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="run this one input of --only TARGET")
    parser.add_argument("--missing", action="store_true", help="name the lines of the parsers that no input reached")
    given = parser.parse_args()
    chosen = [TARGETS[name] for name in given.only or TARGETS]
    if given.repeat:
        if len(chosen) != 1:
            parser.error("--repeat needs --only TARGET")
        return _repeat(chosen[0], given.repeat)
    # children are forked, and find what they import here
    for name in dict.fromkeys(each for target in chosen for each in target.imports):
        importlib.import_module(name)
    reports = []
    for target in chosen:
        reports.append(campaign(target, given.seconds / len(chosen), given.seed))
        print(_line(reports[-1]), flush=True)
        for found in reports[-1].faults:
            path = REPO / "build" / "fuzz" / target.name / found.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found.content)
            where = path.relative_to(REPO)
            print(f"  {found.outcome.kind} {found.outcome.place}: {found.outcome.what[:200]!r} ({len(found.content)} bytes)")
            print(f"  python tests/fuzz/run.py --only {target.name} --repeat {where}", flush=True)
        if given.missing:
            for file, lines in reports[-1].unreached.items():
                print(f"  {Path(file).relative_to(REPO)}: {', '.join(map(str, lines))}")
    faults = sum(len(report.faults) for report in reports)
    print(f"{sum(report.inputs for report in reports):,} inputs in {sum(report.seconds for report in reports):.0f} s, {faults} faults")
    return 1 if faults else 0


def _line(report: Report) -> str:
    share = f"{report.reached}/{report.lines} lines" if report.lines else ""
    return (
        f"{report.target:22} {report.inputs:8,} inputs {report.seconds:6.1f} s {report.accepted:7,} accepted {len(report.faults):3} faults "
        f"{share:>14}  slowest {report.slowest:.2f} s, most {report.peak >> 20} MiB"
    )


def _repeat(target: Target, path: Path) -> int:
    with Process(target) as process:
        outcome = process.run(path.read_bytes())
    print(f"{target.name}: {outcome.kind} {outcome.place}: {outcome.what} ({outcome.seconds:.2f} s, {outcome.peak >> 20} MiB)")
    return 1 if outcome.fault else 0


if __name__ == "__main__":
    sys.exit(main())
