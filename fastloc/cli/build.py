"""`fastloc build`: an engine of TensorRT or TensorRT-RTX. Progress goes to standard error, the report to standard output."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fastloc.utils.argument_types import count, sides, span
from fastloc.utils.heartbeat import waiting
from fastloc.utils.terminal import say

if TYPE_CHECKING:
    from fastloc.export.trt.build import EngineReport, Progress

# seconds between two lines of progress where they cannot be drawn over one another
APART = 10.0
MEGABYTE = 1 << 20

EXAMPLES = """\
examples:
  fastloc build gem.onnx                          TensorRT-RTX, for every RTX GPU from Ampere on; needs no GPU
  fastloc build gem.onnx --sm 89 120              for these alone
  fastloc build gem.onnx --batch 1:1:8            a file that takes any batch; smallest, usual and largest
  fastloc build gem.onnx --runtime tensorrt       TensorRT, on the GPU that the engine is for
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments and examples."""
    parser.epilog = EXAMPLES
    parser.add_argument("model", type=Path, metavar="MODEL", help="ONNX file of `fastloc export`")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="engine to write (default: beside the model)")
    parser.add_argument(
        "--runtime", default="tensorrt-rtx", metavar="NAME", help="runtime: tensorrt-rtx or tensorrt (default: tensorrt-rtx)"
    )
    parser.add_argument(
        "--sm", nargs="+", default=[], metavar="SM", help="compute capabilities, such as 86 89 120, or current (default: current)"
    )
    ranges = parser.add_argument_group("ranges of open dimensions, SMALLEST:USUAL:LARGEST or one number for all three")
    ranges.add_argument("--batch", type=span(count), metavar="RANGE", help="pictures a call, such as 1:1:8")
    ranges.add_argument("--size", type=span(sides), metavar="RANGE", help="size of the encoder's input, pixels, such as 224:448:448")
    ranges.add_argument("--texts", type=span(count), metavar="RANGE", help="text embeddings a call, such as 1:4:16")
    how = parser.add_argument_group("builder")
    how.add_argument("--timing-cache", type=Path, metavar="DIR", help="folder that keeps measured times for the next build (tensorrt)")
    how.add_argument("--workspace", type=count, metavar="MB", help="GPU memory of one kernel, megabytes (default: the builder's)")
    how.add_argument("--optimization-level", type=int, metavar="N", help="effort of the search, 0 to 5 (tensorrt; default: 3)")
    how.add_argument("--tf32", action="store_true", help="compute float32 products in TensorFloat-32: faster, less exact")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command: 0, or FastlocError."""
    from fastloc.export.trt.build import Profiles, build

    with waiting(f"fastloc: building {args.model.name}", apart=APART) as say:
        report = build(
            args.model, args.output, runtime=args.runtime, sm=args.sm, profiles=Profiles(args.batch, args.size, args.texts),
            timing_cache=args.timing_cache, workspace=args.workspace and args.workspace * MEGABYTE,
            optimization_level=args.optimization_level, tf32=args.tf32, progress=lambda at: say(progress_line(at)),
        )  # fmt: skip
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        _show(report, (args.output or args.model).parent / report.engine)
    return 0


def progress_line(at: Progress) -> str:
    """The progress of a build, in words."""
    steps = f" {at.done}/{at.total}" if at.total > 1 else ""
    return f"{at.phase}{steps}"


def _show(report: EngineReport, path: Path) -> None:
    from fastloc.utils import console

    out = console.console()
    rows = console.table("tensor", "", "dtype", "shape")
    for each in report.tensors:
        rows.add_row(each.name, each.mode, each.dtype, " x ".join("?" if side < 0 else str(side) for side in each.shape))
    out.print(rows)
    products = ", ".join(f"{count} in {dtype}" for dtype, count in report.products.items())
    layers = sum(sum(counts.values()) for counts in report.layers.values())
    out.print(f"runtime: {report.runtime} {report.runtime_version}, for {report.serves}", soft_wrap=True)
    out.print(f"precision: strongly typed, {layers} layers; of those that multiply {products}", soft_wrap=True)
    loaded = f"loaded again on {report.gpu}" if report.loaded else "not loaded: it is for GPUs that need not be here"
    out.print(f"built in {report.seconds:.1f} s; {loaded}", soft_wrap=True)
    for warning in report.warnings:
        say(f"fastloc: note: {report.runtime} warns: {warning}", error=True)
    out.print(f"written: {console.shown(path)} ({report.bytes / MEGABYTE:.1f} MB)", soft_wrap=True)
    out.print(f"written: {console.shown(path)}.json", soft_wrap=True)
