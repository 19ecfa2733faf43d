"""Mutation testing of the core rooms: `python tests/mutation/run.py --seconds 600`, or `--only geometry --line 120` for one line.

What survives is printed, and the exit status is 1. A survivor becomes a test; one that changes nothing that can be seen becomes a row of
`mutating/equivalent.py`, with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(HERE))

from mutating.campaign import Score, campaign  # noqa: E402
from mutating.targets import REPO, TARGETS  # noqa: E402


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="for all files together (default: 600)")
    parser.add_argument("--only", action="append", choices=list(TARGETS), metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--seed", type=int, default=0, help="of the order of the mutants (default: 0)")
    parser.add_argument("--line", type=int, action="append", default=[], help="mutants of this line alone")
    given = parser.parse_args()
    chosen = given.only or list(TARGETS)
    # children are forked, and find what they import here
    for package in dict.fromkeys(["pytest", *(each for name in chosen for each in TARGETS[name].imports)]):
        importlib.import_module(package)
    scores: list[Score] = []
    begun = time.monotonic()
    for name in chosen:
        # what one file does not need, the next ones have
        left = (given.seconds - (time.monotonic() - begun)) / (len(chosen) - len(scores))
        scores.append(campaign(name, TARGETS[name], left, given.seed, given.line))
        print(f"{name:14} {scores[-1]}", flush=True)
        for each in scores[-1].survivors:
            print(f"  {TARGETS[name].file.relative_to(REPO)}:{each.line} {each.name}", flush=True)
    print(f"{'all':14} {Score.total(scores)} in {time.monotonic() - begun:.0f} s")
    return 1 if any(each.survivors for each in scores) else 0


if __name__ == "__main__":
    sys.exit(main())
