"""`fastloc calibrate`: a model's inverse temperatures, measured on a few pictures and written to a file."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc.cli.arguments import add_source, pictures_of
from fastloc.errors import FastlocError
from fastloc.imaging.geometry import both_sides
from fastloc.utils import console
from fastloc.utils.argument_types import count, size

if TYPE_CHECKING:
    import numpy as np

    from fastloc.engine.localizer import Localizer
    from fastloc.recipes.temperatures import Temperatures

# pictures made or taken where none are given
COUNT = 6


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc calibrate`."""
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE",
        help="pictures: files, folders, quoted patterns, .txt lists; about six typical ones",
    )  # fmt: skip
    parser.add_argument("--from", dest="at_hand", choices=("scenes", "noise"), help="sample scenes or noise, in place of pictures")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".json file to write")
    group = parser.add_argument_group("model")
    add_source(group)
    group.add_argument("--device", metavar="NAME", help="device: cpu, cuda, cuda:1 … (default: cuda if there is one)")
    group.add_argument("--size", type=size, metavar="N|HxW", help="size of the model's input, pixels (default: the model's)")
    what = parser.add_argument_group("measurement")
    what.add_argument("--rho", type=float, default=0.7, metavar="F", help="share of the tokens over which a row spreads (default: 0.7)")
    what.add_argument("--blocks", type=count, metavar="N", help="number of last blocks (default: 6, or all if fewer)")
    what.add_argument(
        "--iterations", type=int, default=1, metavar="N", help="passes of attention before the last one (default: 1, as in gem)"
    )
    what.add_argument("--count", type=count, default=COUNT, metavar="N", help=f"number of pictures of --from (default: {COUNT})")


def run(args: argparse.Namespace) -> int:
    """Measure, write the file, and print the findings."""
    if bool(args.images) == bool(args.at_hand):
        raise FastlocError("give pictures, or --from scenes or --from noise" + (", not both" if args.images else ""))
    if args.output.suffix != ".json":
        raise FastlocError(f"--output must be a .json file, got {args.output}")
    from fastloc.engine.calibration import at_hand, calibrate
    from fastloc.engine.localizer import Localizer

    localizer = Localizer(args.model, args.pretrained, "itsm", size=args.size, device=args.device)
    size = both_sides(localizer.input_size)
    pictures: list[Any] = at_hand(args.at_hand, args.count, size) if args.at_hand else pictures_of(args.images)
    source = f"fastloc's {args.at_hand}" if args.at_hand else "pictures"
    with console.console(stderr=True).status(f"measuring {localizer.source.name}"):
        found = calibrate(localizer, pictures, rho=args.rho, blocks=args.blocks, iterations=args.iterations, source=source)
        spread = _spread(localizer, found, pictures)
    found.save(args.output)
    out = console.console()
    out.print(_table(found, spread))
    sizes = ", ".join(f"{high} x {across}" for high, across in found.sizes)
    out.print(f"{found.pictures} pictures ({found.source}) at {sizes} pixels. rho met: over what share of the tokens rows spread by it.")
    out.print(f"written: {console.shown(args.output)} (image tower {found.tower})", soft_wrap=True)
    if args.model == "embedded":
        print("fastloc: note: the embedded model comes with a table of its own", file=sys.stderr)
    return 0


def _spread(localizer: "Localizer", found: "Temperatures", pictures: list[Any]) -> "np.ndarray[Any, Any]":
    """The shares of the tokens over which rows spread by the table, [pictures, blocks, H, S, passes]."""
    import torch

    from fastloc.engine.calibration import inputs, measured_tower, shares
    from fastloc.recipes import recipe

    row = recipe("gem_matched", rho=found.rho, blocks=found.blocks, iterations=found.iterations, terms=found.streams)
    weights = measured_tower(localizer)
    table, rows = torch.tensor(found.table, dtype=torch.float64), []
    with torch.inference_mode():
        for pixels in inputs(localizer, pictures):
            rows.append(shares(weights, pixels, row, table))
    return torch.cat(rows).float().cpu().numpy()


def _table(found: "Temperatures", spread: "np.ndarray[Any, Any]") -> Any:
    import numpy as np

    drawn = console.table("block", "pass", "inverse temperatures", "their mean", "rho met", right=("block", "pass", "their mean"))
    numbers = np.asarray(found.table)
    for block in range(found.blocks):
        for step in range(found.iterations + 1):
            mine, met = numbers[block, ..., step], spread[:, block, ..., step]
            cells = (f"{mine.min():.1f} to {mine.max():.1f}", f"{np.exp(np.log(mine).mean()):.1f}", f"{met.min():.2f} to {met.max():.2f}")
            drawn.add_row(f"-{found.blocks - block}", str(step + 1), *cells)
    return drawn
