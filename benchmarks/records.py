"""Regenerate every measured record, and every table and plot that is made of them, on an idle machine.

    python benchmarks/records.py                          # all that is stale, hours; stop it at any time and call it again
    python benchmarks/records.py --list                   # what is stale and why, what it takes, what is missing
    python benchmarks/records.py --only tokens batch      # these steps, where they are stale
    python benchmarks/records.py --budget 3600            # start nothing that takes longer than what is left of an hour
    python benchmarks/records.py --with real=FOLDER       # with the photographs of the studies

A step is a command that writes records (`record_parts/table.py`). It is stale where its record is missing, where its command changed, or
where a commit since the record's has changed the code that it depends on. One step runs at a time; a timed one waits until the load average
is low, and nothing runs on code that no commit holds. A step that has finished is kept in benchmarks/records/steps.json with its commit,
day, seconds and load; of one that is interrupted, nothing is taken over. At the end the tables are written by `benchmarks/docs.py`.
Exit code 1 if a step failed or the machine stayed busy.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from fastloc.bench.report.words import IDLE_LOAD  # noqa: E402
from fastloc.bench.schema import slug  # noqa: E402
from fastloc.utils import hardware  # noqa: E402
from fastloc.utils.exit_status import exit_status  # noqa: E402
from record_parts.runner import Runner  # noqa: E402
from record_parts.step import GIVEN, Step  # noqa: E402
from record_parts.table import STEPS  # noqa: E402

DOCS = ("benchmarks/docs.py",)


def main(arguments: Sequence[str] | None = None, root: Path = HERE.parent, steps: Sequence[Step] = STEPS) -> int:
    """Run, and return the exit status. root, steps: the checkout and the table, which tests exchange."""
    args = parser(steps).parse_args(arguments)
    chosen = [step for step in steps if step.name in args.only]
    runner = Runner(root, chosen, slug(hardware.cpu()), dict(args.folders), args.load, args.wait, say=_say)
    return exit_status("records", lambda: _listed(runner) if args.list else _run(runner, args.budget))


def parser(steps: Sequence[Step]) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [step.name for step in steps]
    made.add_argument("--list", action="store_true", help="run nothing; print every step, and why it is stale")
    made.add_argument("--only", nargs="+", choices=names, default=names, metavar="STEP", help=f"steps: {', '.join(names)}")
    made.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS", help="time for all steps together (default: no end)")
    made.add_argument("--load", type=float, default=IDLE_LOAD, metavar="LIMIT",
                      help=f"load average above which no timed step starts (default: {IDLE_LOAD:g})")  # fmt: skip
    made.add_argument("--wait", type=float, default=300.0, metavar="SECONDS", help="time to wait for a lower load average (default: 300)")
    made.add_argument("--with", dest="folders", nargs="+", type=_folder, default=[], metavar="NAME=FOLDER",
                      help=f"folders that steps need: {', '.join(GIVEN)}")  # fmt: skip
    return made


def _listed(runner: Runner) -> int:
    reasons = runner.reasons()
    for step in runner.steps:
        why, lacks, seconds = reasons.get(step.name, ""), runner.missing(step), runner.seconds(step)
        takes = f"about {seconds:.0f} s" if seconds else "of unknown time"
        _say(f"{step.name}: {f'stale: {why}' if why else 'up to date'}; {takes}{', on an idle machine' if step.timed else ''}"
             f"{f'; needs {lacks}' if lacks else ''}")  # fmt: skip
    return 0


def _run(runner: Runner, budget: float) -> int:
    try:
        failed = runner.run(budget)
    finally:
        # also of what was finished before an error
        written = subprocess.run([sys.executable, "-P", *DOCS], cwd=runner.root, check=False).returncode
    return int(bool(failed or written))


def _folder(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if name not in GIVEN or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"must be NAME=FOLDER with a name of {', '.join(GIVEN)} and a folder that exists, got {text!r}")
    return name, str(Path(folder).resolve())


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
