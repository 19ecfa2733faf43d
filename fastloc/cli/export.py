"""`fastloc export`: a model with a method as one ONNX file."""

import argparse
from pathlib import Path
from typing import Any

from fastloc.cli.arguments import add_method, add_source, lines_of
from fastloc.errors import FastlocError, TextError
from fastloc.export.pipelines.table import PIPELINES
from fastloc.imaging.geometry import both_sides
from fastloc.onnx_file.differences import PIPELINES as RESIZERS
from fastloc.onnx_file.differences import differences
from fastloc.onnx_file.formats import DTYPES, INPUTS, OUTPUTS, RESIZES, SPELLINGS
from fastloc.utils import console
from fastloc.utils.argument_types import count_or_dynamic, pair, size_or_dynamic, words
from fastloc.utils.terminal import say

# as typed -> the exporter's name
PRECISIONS = {"fp32": "float32", "fp16": "float16", "int8": "int8-dynamic", "int8-static": "int8-static"}
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc export`."""
    parser.epilog = f"{_choices()}\n{parser.epilog or ''}"
    add_source(parser.add_argument_group("model"))
    add_method(parser.add_argument_group("method"), size_or_dynamic)
    file = parser.add_argument_group("file")
    file.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".onnx file to write")
    file.add_argument("--spelling", choices=SPELLINGS, default="ort", help="spelling of the attention, see below (default: ort)")
    file.add_argument(
        "--dtype", choices=PRECISIONS, default="fp32", dest="precision", help="precision of the tower, see below (default: fp32)"
    )
    file.add_argument("--opset", type=int, metavar="N", help="opset of ai.onnx (default: the spelling's)")
    file.add_argument("--calibrate", type=Path, metavar="DIR", help="folder of typical pictures to calibrate int8-static on")
    file.add_argument("--licence", default="", type=words, metavar="TEXT", help="licence of the model's weights, for the metadata")
    file.add_argument("--for", nargs="+", default=[], choices=PIPELINES, metavar="NAME", dest="pipelines",
                      help="pipelines whose configuration to write too, see below")  # fmt: skip
    picture = parser.add_argument_group("inputs and outputs")
    picture.add_argument("--input", choices=INPUTS, default="pixels", dest="kind", help="form of a picture, see below (default: pixels)")
    picture.add_argument(
        "--batch", type=count_or_dynamic, default=1, metavar="N", help="pictures a call: a number, or dynamic (default: 1)"
    )
    picture.add_argument("--height", type=int, metavar="N", help="height of the model's input, pixels; with --width, in place of --size")
    picture.add_argument("--width", type=int, metavar="N", help="width of the model's input, pixels; with --height, in place of --size")
    picture.add_argument("--frame", type=pair, metavar="HxW", help="size of the camera's frames, pixels, for --input frames")
    picture.add_argument("--layout", choices=("NHWC", "NCHW"), help="layout of frames (default: NHWC)")
    picture.add_argument("--bgr", action="store_true", help="order of channels is blue, green, red (default: red, green, blue)")
    picture.add_argument("--resize", choices=RESIZES, default="matmul", help="resize of frames, see below (default: matmul)")
    picture.add_argument("--outputs", nargs="+", default=["similarity", "scores", "background"], metavar="NAME",
                         help="outputs, see below (default: similarity scores background)")  # fmt: skip
    picture.add_argument("--texts", nargs="+", default=[], type=words, metavar="TEXT",
                         help="texts to bake in (default: none, embeddings are an input)")  # fmt: skip
    picture.add_argument("--texts-file", type=Path, metavar="FILE", help="file of texts to bake in, one a line")
    picture.add_argument(
        "--count", type=count_or_dynamic, metavar="N", help="text embeddings a call: a number, or dynamic (default: dynamic)"
    )


def _choices() -> str:
    """The meaning of each choice, from the tables."""
    sections = {
        "spelling": {name: f"{row.summary}: {row.reads}" for name, row in SPELLINGS.items()},
        "dtype": {typed: DTYPES[name] for typed, name in PRECISIONS.items()},
        "input": {name: row.summary for name, row in INPUTS.items()},
        "resize": RESIZES,
        "outputs": OUTPUTS,
        "for": {name: row.what for name, row in PIPELINES.items()},
    }
    return "".join(f"{title}:\n" + "".join(f"  {name:<13}{what}\n" for name, what in rows.items()) for title, rows in sections.items())


def run(args: argparse.Namespace) -> int:
    """Write the file and print its description."""
    texts, size = _texts(args), _size(args)
    pictures = _calibration(args.calibrate)
    from fastloc.auto import METHOD
    from fastloc.cli.localizers import changes
    from fastloc.engine.localizer import Localizer
    from fastloc.export.to_onnx import Options, export

    localizer = Localizer(
        args.model, args.pretrained, args.method or METHOD, size=None if size == "dynamic" else size, fit=args.fit, template=args.template,
        official=args.official, temperatures=args.temperatures, registers=args.registers, projections=args.projections, device="cpu",
        **changes(args),
    )  # fmt: skip
    usual = both_sides(localizer.input_size)
    frames = args.kind == "frames"
    options = Options(
        spelling=args.spelling, dtype=PRECISIONS[args.precision], opset=args.opset, batch=args.batch, fit=args.fit,
        # of frames the fit says the size
        size=None if size == "dynamic" or (frames and size is None) else usual,
        texts=texts, count=args.count, kind=args.kind, layout=args.layout or INPUTS[args.kind].layouts[0], bgr=args.bgr,
        frame=args.frame, resize=args.resize, outputs=tuple(args.outputs), licence=args.licence,
    )  # fmt: skip
    err = console.console(stderr=True)
    with err.status(f"exporting {localizer.recipe.name} of {localizer.source.name}"):
        manifest = export(localizer, args.output, options, calibration=pictures, pipelines=args.pipelines)
    megabytes = args.output.stat().st_size / 1e6
    say(f"{args.output}: {manifest.recipe.name} of {manifest.model.name}, {manifest.dtype}, {megabytes:.1f} MB")
    for line in (*differences(manifest), *(f"{name}: {RESIZERS[name]}" for name in args.pipelines)):
        say(f"fastloc: note: {line}", error=True)
    for name in args.pipelines:
        say(f"for {name}: {PIPELINES[name].target(args.output)}")
    say(f"check it on the device it is for: fastloc verify {args.output}")
    return 0


def _texts(args: argparse.Namespace) -> tuple[str, ...]:
    if args.texts and args.texts_file:
        raise TextError("texts must come from --texts or --texts-file, got both; leave one out")
    return tuple(lines_of(args.texts_file) if args.texts_file else (text.strip() for text in args.texts))


def _size(args: argparse.Namespace) -> Any:
    """The requested size: None, "dynamic", a number or (height, width)."""
    if args.height is None and args.width is None:
        return args.size
    if args.height is None or args.width is None:
        raise FastlocError("--height and --width must come together, got one of them")
    if args.size is not None:
        raise FastlocError("the size must come from --size, or from --height and --width, got both; leave one out")
    return args.height, args.width


def _calibration(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise FastlocError(f"--calibrate must be a folder of pictures, got {folder}")
    pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not pictures:
        raise FastlocError(f"--calibrate must hold pictures ({', '.join(sorted(PICTURES))}), got none in {folder}")
    return pictures
