"""`python -m fastloc.bench`: its arguments and its exit status.

Exit status: 0 when everything was measured; 1 for an error, and for a regression that `--against` found; 2 for a command that cannot
be understood; 130 when interrupted, with what was measured until then in its file.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastloc.bench.backends.table import BACKENDS
from fastloc.bench.request import DTYPES
from fastloc.utils import terminal
from fastloc.utils.argument_types import Parser
from fastloc.utils.exit_status import exit_status

if TYPE_CHECKING:
    from rich.status import Status

    from fastloc.bench.request import Request
    from fastloc.bench.run import Outcome

SUITES = ("methods", "peers", "waterfall", "plan", "tokens", "batch", "texts", "blocks", "cold")
USUAL = ("methods", "waterfall", "cold")
SECONDS = 90.0

_EXAMPLES = """\
examples:
  python -m fastloc.bench                                          a few minutes: every method, on what is here
  python -m fastloc.bench --methods gem,clip_surgery --sizes 224,448 --backends all --plot -o records
  python -m fastloc.bench --suites peers --models ViT-B-16 --sizes 224,448 --vs peers    (after `make peers`)
  python -m fastloc.bench --suites tokens,batch,texts,blocks --models ViT-B-16 -o records
  python -m fastloc.bench --against records/some-machine/20261121-184005.jsonl
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and return the exit status."""

    def work() -> int:
        args = parser().parse_args(argv)
        return _against(args) if args.against else _measure(args)

    return exit_status("fastloc.bench", work)


def parser() -> argparse.ArgumentParser:
    """The parser of the command. Lists are separated by commas."""
    made = Parser(
        prog="python -m fastloc.bench", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_EXAMPLES,
        description="Measure each method on this machine: time, memory, correctness, distance from the hardware's limit, and peers.",
    )  # fmt: skip
    cases = made.add_argument_group("cases")
    cases.add_argument("--methods", type=_names, metavar="A,B|all", help="methods, by the names of `fastloc methods` (default: all)")
    cases.add_argument("--models", type=_names, metavar="A,B", help="models: embedded, or an open_clip architecture (random weights), with "
                       ":TAG for weights and @SIZE for an input size in pixels (default: embedded,ViT-B-16)")  # fmt: skip
    cases.add_argument("--sizes", type=_counts, metavar="N,M", help="sizes of the model's input, pixels (default: each model's)")
    cases.add_argument("--batch", type=_counts, default=(1,), metavar="N,M", help="pictures a call (default: 1)")
    cases.add_argument("--texts", type=_count, default=4, metavar="N", help="number of texts, encoded before (default: 4)")
    cases.add_argument("--suites", type=_names, metavar="A,B|all", help=f"suites: {', '.join(SUITES)} (default: {','.join(USUAL)})")
    how = made.add_argument_group("execution")
    how.add_argument("--backends", type=_names, metavar="A,B|all", help=f"backends: {', '.join(BACKENDS)} (default: the fastest to set up)")
    how.add_argument(
        "--vs", type=_names, metavar="A,B|peers", help="other packages to compare with, set up by `make peers` (default: none)"
    )
    how.add_argument("--device", metavar="NAME", help="device: cpu, cuda, cuda:1 … (default: cuda if there is one)")
    how.add_argument("--dtype", choices=DTYPES, help="precision of the image tower (default: float16 on a GPU, float32 on a CPU)")
    how.add_argument("--threads", type=_count, metavar="N", help="CPU threads of a contender (default: one a core)")
    how.add_argument("--seconds", type=_seconds, default=SECONDS, metavar="N",
                     help=f"time of all timed calls, seconds, without setup; at least five rounds each (default: {SECONDS:g})")  # fmt: skip
    out = made.add_argument_group("output")
    out.add_argument("-o", "--out", type=Path, default=Path("fastloc-bench"), metavar="DIR",
                     help="folder for the records: DIR/<machine>/<time>.jsonl (default: fastloc-bench)")  # fmt: skip
    out.add_argument("--json", action="store_true", help="print lines of JSON in place of tables")
    out.add_argument("--plot", action="store_true", help="draw plots, PNG and SVG, beside the records")
    watch = made.add_argument_group("regression watch")
    watch.add_argument(
        "--against", metavar="RECORDS|COMMIT", help="earlier checkout to compare with, in turns; exit status 1 if this one is slower"
    )
    watch.add_argument(
        "--threshold", type=_seconds, default=5.0, metavar="PERCENT", help="slowdown that counts as a regression, percent (default: 5)"
    )
    return made


def request(args: argparse.Namespace) -> "Request":
    """The request of parsed arguments, checked; nothing heavy is started.

    Raises:
        FastlocError: a name, a size or a folder that cannot be used.
    """
    from fastloc.bench import request as requests

    device = requests.device_of(args.device)
    dtype = args.dtype or ("float16" if device.startswith("cuda") else "float32")
    models = requests.models_of(args.models)
    requests.check_sizes(models, args.sizes or ())
    requests.check_out(args.out, args.plot)
    methods, suites = requests.methods_of(args.methods), requests.suites_of(args.suites, args.vs, SUITES, USUAL)
    requests.check_methods(models, methods, args.methods)
    requests.check_suites(models, suites, args.suites)
    return requests.Request(
        models=models, methods=methods, backends=requests.backends_of(args.backends, device, dtype),
        peers=requests.peers_of(args.vs), suites=suites, sizes=tuple(args.sizes or ()),
        batches=tuple(args.batch), texts=args.texts, dtype=dtype, device=device, threads=args.threads or os.cpu_count() or 1,
        seconds=args.seconds, out=args.out,
    )  # fmt: skip


def _measure(args: argparse.Namespace) -> int:
    asked = request(args)
    from fastloc.bench.run import run

    with _Progress(live=not args.json) as say:
        outcome = run(asked, say)
    _tell(outcome, args)
    if outcome.interrupted:
        terminal.say(f"fastloc.bench: interrupted; {len(outcome.rows)} rows were measured", error=True)
        raise outcome.interrupted
    return 0


def _tell(outcome: "Outcome", args: argparse.Namespace) -> None:
    if args.json:
        for row in outcome.rows:
            print(json.dumps(row, ensure_ascii=False))
    else:
        from rich.console import Console

        from fastloc.bench.report.tables import show

        show(outcome.rows, Console())
    if args.plot and outcome.rows:
        from fastloc.bench.report.plots import draw

        for file in draw(outcome.rows, outcome.file.parent):
            terminal.say(file, error=True)
    terminal.say(outcome.file, error=True)


def _against(args: argparse.Namespace) -> int:
    from fastloc.bench.regression import compare

    with _Progress(live=True) as say:
        verdict = compare(args.against, args.threshold / 100, args.seconds, args.threads or os.cpu_count() or 1, say)
    terminal.say("\n".join(verdict.lines()))
    return 1 if verdict.slower else 0


class _Progress:
    """Progress on standard error: one line that is overwritten, or a line a step where it is no terminal."""

    def __init__(self, live: bool) -> None:
        self.status: Status | None = None
        if live and sys.stderr.isatty():
            from rich.console import Console

            self.status = Console(stderr=True).status("starting")
        self.last = ""

    def __enter__(self) -> Callable[[str], None]:
        if self.status:
            self.status.start()
        return self.say

    def __exit__(self, *error: object) -> None:
        if self.status:
            self.status.stop()

    def say(self, what: str) -> None:
        if self.status:
            self.status.update(what)
        # the first round is shown, the others are not
        elif what.partition(": round")[0] != self.last:
            self.last = what.partition(": round")[0]
            terminal.say(what, error=True)


def _names(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"must be a list of names separated by commas, got {text!r}")
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text!r}")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_count(each.strip()) for each in text.split(",")))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value

