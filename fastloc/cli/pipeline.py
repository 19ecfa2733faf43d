"""`fastloc pipeline`: the files that GStreamer, DeepStream or Triton need beside an exported file."""

import argparse
from pathlib import Path

from fastloc.export.pipelines.table import PIPELINES, write
from fastloc.onnx_file.differences import PIPELINES as RESIZERS
from fastloc.utils.terminal import say


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    # argparse's own line puts the model last, where --for would swallow it
    parser.usage = "fastloc pipeline MODEL --for NAME [NAME ...]"
    parser.add_argument("model", type=Path, metavar="MODEL", help="ONNX file of `fastloc export`")
    parser.add_argument("--for", nargs="+", required=True, choices=PIPELINES, metavar="NAME", dest="pipelines",
                        help="pipelines whose configuration to write beside the model")  # fmt: skip
    parser.epilog = "for:\n" + "".join(f"  {name:<13}{row.what}\n" for name, row in PIPELINES.items())


def run(args: argparse.Namespace) -> int:
    """Write the files and print their names. Returns the exit status."""
    for path, name in zip(write(args.model, args.pipelines), args.pipelines, strict=True):
        say(path)
        say(f"fastloc: note: {name}: {RESIZERS[name]}", error=True)
    return 0
