"""`fastloc batch convert`: the rows of a batch as labels that other tools read."""

import argparse
import sys
from pathlib import Path

from fastloc.scale.labels.convert import FORMATS, convert
from fastloc.utils import console


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc batch convert`."""
    parser.add_argument("folder", metavar="OUT", type=Path, help="folder of `fastloc batch -o`")
    parser.add_argument("--to", required=True, choices=tuple(FORMATS), help="format of the labels")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="PATH", help="what to write: a .json file for coco, a folder for the others"
    )
    parser.add_argument("--images", default="", metavar="WHERE", help="folder or address to which the pictures' keys are relative")
    parser.add_argument("--min-score", type=float, metavar="F", help="least calibrated score of a text, 0 to 1 (default: any)")
    parser.add_argument("--min-heat", type=float, metavar="F", help="least heat of an object, 0 to 1 (default: any)")


def run(args: argparse.Namespace) -> int:
    """Run the command: 0. Raises FastlocError."""
    made = convert(args.folder, args.to, args.output, images=args.images, score=args.min_score, heat=args.min_heat)
    line = f"written: {console.shown(args.output)} ({made.pictures} pictures, {made.objects} objects of {made.texts} texts)"
    print(line, file=sys.stderr if str(args.output).startswith("/dev/") else sys.stdout)
    return 0
