"""Make every call of the commands that writes fail once: `python tests/faults/run.py --only export --kind "a full disk"`.

A piece of work has its own name: `--only "a page" --kind "no memory"` makes 120 allocations of the interpreter fail in turn.

Every fault is printed with the call that brought it to light. The exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parents[1])]

from faulty.campaign import faults_of  # noqa: E402
from faulty.commands import commands  # noqa: E402
from faulty.pieces import PIECES  # noqa: E402
from faulty.plan import KINDS  # noqa: E402

# kinds that every command meets; the others its pieces do (tests/faults/test_faults.py)
USUAL = ("a full disk", "a failing disk", "killed behind a call")


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="COMMAND", help="run this command alone, or piece of work; may be repeated")
    usual = ", ".join(USUAL)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help=f"kind of fault; may be repeated (default: {usual})")
    parser.add_argument("--step", type=int, default=1, metavar="N", help="make every Nth call fail (default: 1)")
    parser.add_argument("--most", type=int, metavar="N", help="make so many calls fail, evenly spread (default: all)")
    parser.add_argument("--nth", type=int, metavar="N", help="make the Nth call fail, and no other")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastloc-faults-") as name:
        folder, count = Path(name), 0
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        (folder / "shared").mkdir()
        every = commands(folder / "shared")
        subjects = {**PIECES, **every}
        for command in given.only or every:
            for kind in given.kind or USUAL:
                print(f"{command}, {kind} …", file=sys.stderr, flush=True)
                subject = replace(subjects[command], step=given.step, most=given.most)
                for fault in faults_of(subject, kind, folder / command / kind, given.nth):
                    count += 1
                    print(f"{command}: {fault}", flush=True)
        print(f"{count} faults in {len(given.only or every)} commands")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
