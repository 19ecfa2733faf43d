"""`fastloc registers`: a model's register neurons, found in a few pictures and written to a file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc.cli.arguments import add_source, pictures_of
from fastloc.errors import FastlocError
from fastloc.utils import console
from fastloc.utils.argument_types import count, size

if TYPE_CHECKING:
    from fastloc.engine.registers.search import Search


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc registers`."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE",
        help="pictures: files, folders, quoted patterns, .txt lists; a hundred or more typical ones",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".json file to write")
    group = parser.add_argument_group("model")
    add_source(group)
    group.add_argument("--device", metavar="NAME", help="device: cpu, cuda, cuda:1 … (default: cuda if there is one)")
    group.add_argument("--size", type=size, metavar="N|HxW", help="size of the model's input, pixels (default: the model's)")
    outliers = parser.add_argument_group("outliers")
    outliers.add_argument("--threshold", type=float, metavar="F", help="least length of an outlier token (default: by --ratio)")
    outliers.add_argument(
        "--ratio", type=float, default=3.0, metavar="F", help="least length of an outlier, in medians of its picture (default: 3)"
    )
    outliers.add_argument(
        "--at", type=int, default=-1, metavar="N", help="block behind which to look, from the end where negative (default: -1)"
    )
    kept = parser.add_argument_group("neurons")
    kept.add_argument("--depth", type=float, default=0.5, metavar="F", help="share of the blocks to search, from the first (default: 0.5)")
    kept.add_argument("--top", type=count, default=10, metavar="N", help="number of neurons (default: 10)")
    kept.add_argument("--dense", action="store_true", help="keep neurons that are active in most tokens too")
    kept.add_argument("--tokens", type=count, default=1, metavar="N", help="number of registers (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Search, write the file, and print the findings. Raises FastlocError, and writes nothing, where no token is an outlier."""
    if args.output.suffix != ".json":
        raise FastlocError(f"--output must be a .json file, got {args.output}")
    from fastloc.engine.localizer import Localizer
    from fastloc.engine.registers.search import Rule, outliers_left, search

    rule = Rule(args.threshold, args.ratio, args.at, args.depth, args.top, not args.dense)
    pictures: list[Any] = pictures_of(args.images)
    localizer = Localizer(args.model, args.pretrained, "itsm", size=args.size, device=args.device)
    with console.console(stderr=True).status(f"searching {localizer.source.name}"):
        found = search(localizer, pictures, rule, registers=args.tokens)
        before, after = outliers_left(localizer, pictures, rule, found.neurons)
    found.neurons.save(args.output)
    out = console.console()
    out.print(_table(found))
    out.print(f"{found.neurons.tokens} outliers ({rule.words}) in {found.neurons.pictures} of {len(pictures)} pictures.")
    more = "; a greater --depth or --top may take the rest" if after else ""
    out.print(f"Patches among them: {before}; with registers {after}{more}.")
    out.print(f"written: {console.shown(args.output)} (image tower {found.neurons.tower})", soft_wrap=True)
    return 0


def _table(found: "Search") -> Any:
    drawn = console.table("block", "neurons", "mean size at outliers", right=("block", "neurons"))
    for (block, neurons), scores in zip(found.neurons.neurons, found.scores, strict=True):
        drawn.add_row(str(block), ", ".join(map(str, neurons)), f"{min(scores):.2f} to {max(scores):.2f}")
    return drawn
