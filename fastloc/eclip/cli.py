"""The command line: `python -m fastloc.eclip DATA -o FOLDER`."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastloc.eclip.settings import Settings
from fastloc.utils.argument_types import Parser, count, size
from fastloc.utils.exit_status import exit_status
from fastloc.utils.terminal import say

if TYPE_CHECKING:
    from fastloc.eclip.steps import CurveRow
    from fastloc.eclip.trainer import Report

_CACHES = ("memory", "disk", "none")

_DESCRIPTION = """\
Train ECLIP's two projections (arXiv 2209.07046) behind a frozen CLIP, from pictures with captions.

    python -m fastloc.eclip pairs/ -o run             # pairs/captions.csv: image,caption
    python -m fastloc.eclip shards/*.tar -o run --model ViT-B-16 --pretrained laion2b_s34b_b88k --device cuda

Several GPUs: run the module with torchrun, a process each.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and return the exit status."""
    return exit_status("fastloc.eclip", lambda: run(parser().parse_args(argv)))


def parser() -> argparse.ArgumentParser:
    """The parser with all arguments; those that change a training's result are the rows of `Settings`."""
    made = Parser(prog="python -m fastloc.eclip", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = "pairs: a folder with captions.csv or captions.jsonl (columns image, caption), such a table, or WebDataset shards (.tar)"
    made.add_argument("data", nargs="+", type=Path, metavar="DATA", help=text)
    made.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for checkpoint, loss curve and projections"
    )
    model = made.add_argument_group("model")
    model.add_argument("--model", default="embedded", metavar="NAME", help="model: a name of `fastloc models` (default: embedded)")
    model.add_argument("--pretrained", metavar="TAG", help="weights of an open_clip model: a tag or a file")
    model.add_argument("--size", type=size, metavar="N|HxW", help="size of the model's input, pixels (default: the model's)")
    model.add_argument("--device", metavar="NAME", help="device: cpu, cuda, cuda:1 … (default: cuda if there is one)")
    text = "precision of the frozen image encoder; projections train in float32 (default: float32 on a CPU, float16 on a GPU)"
    model.add_argument("--dtype", metavar="NAME", help=text)
    _add_running(made.add_argument_group("execution (changes no result)"))
    group = made.add_argument_group("training (open: the paper does not fix it)")
    for row in fields(Settings):
        _add_setting(group, row)
    return made


def _add_running(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--resume", action="store_true", help="continue from the checkpoint in the folder")
    group.add_argument("--save-every", type=count, default=100, metavar="N", help="steps between checkpoints (default: 100)")
    group.add_argument("--stop-at", type=count, metavar="N", help="step to stop after, to be resumed (default: the last)")
    group.add_argument("--strict", action="store_true", help="stop at the first unusable picture or caption (default: leave it out)")
    group.add_argument("--cache", choices=_CACHES, default="memory", help="place of the frozen encoder's features (default: memory)")
    text = "size of a process's cache, megabytes; features beyond it are encoded again (default: 2048)"
    group.add_argument("--cache-limit", type=count, default=2048, metavar="MB", help=text)
    group.add_argument("--workers", type=count, default=2, metavar="N", help="threads that read pictures (default: 2)")


def _add_setting(group: "argparse._ArgumentGroup", row: Any) -> None:
    option, text = f"--{row.name.replace('_', '-')}", row.metadata["help"]
    text = f"{text} ({'open, ' if row.metadata['open'] else ''}default: {row.default})"
    if isinstance(row.default, bool):
        group.add_argument(option, action=argparse.BooleanOptionalAction, default=row.default, help=text)
    elif row.metadata["choices"]:
        group.add_argument(option, choices=row.metadata["choices"], default=row.default, help=text)
    else:
        letter = "N" if isinstance(row.default, int) else "F"
        group.add_argument(option, type=type(row.default), default=row.default, metavar=letter, help=text)


def run(args: argparse.Namespace) -> int:
    """Read the data, train, and print the path of the projections."""
    # wrong arguments raise before anything heavy is imported
    settings = Settings(**{row.name: getattr(args, row.name) for row in fields(Settings)})
    from fastloc.eclip.loss import rank
    from fastloc.eclip.pairs import Left, read_pairs
    from fastloc.eclip.trainer import PROJECTIONS, Running, joined_processes, train
    from fastloc.engine.localizer import Localizer

    left = Left(args.strict)
    pairs = read_pairs(args.data, left)
    running = Running(args.save_every, args.stop_at, args.resume, args.cache, args.cache_limit << 20, args.workers)
    with joined_processes(args.device) as device:
        localizer = Localizer(args.model, args.pretrained, "itsm", size=args.size, fit=settings.fit, device=device, dtype=args.dtype)
        with _progress(rank() == 0) as report:
            made = train(localizer, pairs, args.output, settings, running, left, report)
        if rank() == 0:
            _print_summary(args, made.settings, left, args.output / PROJECTIONS)
    return 0


def _print_summary(args: argparse.Namespace, settings: Any, left: Any, path: Path) -> None:
    for line in left.lines():
        say(f"fastloc.eclip: note: {line}", error=True)
    if settings["trained"] < settings["steps"]:
        say(f"stopped at step {settings['trained']} of {settings['steps']}; go on with --resume")
    model = "" if args.model == "embedded" else f" --model {args.model}" + (f" --pretrained {args.pretrained}" if args.pretrained else "")
    say(f"{path}: {settings['trained']} steps, loss {settings['loss']}")
    say(f"use it: fastloc locate PICTURE -t TEXT --method eclip{model} --projections {path}")


@contextmanager
def _progress(shown: bool) -> Iterator["Report"]:
    """A bar on standard error."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int, row: "CurveRow | None") -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, text="")
            text = "" if row is None else f"loss {row.loss:.3f}, own text nearest {row.accuracy:.0%}"
            bar.update(tasks[what], completed=done, total=total, text=text)

        yield report

