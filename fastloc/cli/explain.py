"""`fastloc explain`: all methods on one picture, side by side, as a contact sheet and as a page."""

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING

from fastloc.cli.arguments import (
    add_execution,
    add_inputs,
    add_measured,
    add_pixels,
    add_projections,
    add_source,
    add_texts,
    read_picture,
)  # fmt: skip
from fastloc.cli.localizers import CHANGES, note_embedded, torch_engine
from fastloc.errors import FastlocError, RecipeError, unknown
from fastloc.utils import console
from fastloc.utils.argument_types import count
from fastloc.utils.terminal import say

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console

    from fastloc.analysis.explain import Explained
    from fastloc.engine.localizer import Localizer
    from fastloc.recipes import Recipe

SHEET = Path("fastloc-explain.png")
# methods whose reasons not to run are printed, each in a line
FEW = 3
# changes no block, so that it runs on every model
_PLAINEST = "itsm"
# temperatures are read by the methods that use them alone
_MEASURED = "gem_calibrated"


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc explain`."""
    parser.usage = "fastloc explain IMAGE -t TEXT [TEXT ...] [options]"
    parser.add_argument("image", metavar="IMAGE", help="a picture: a file, an http(s) address, or - for standard input")
    add_texts(parser)
    add_model(parser)
    method = parser.add_argument_group("methods")
    chosen = method.add_mutually_exclusive_group()
    chosen.add_argument(
        "--methods", nargs="+", action="extend", metavar="NAME", help="methods, by the names of `fastloc methods` (default: all)"
    )
    chosen.add_argument("--all", action="store_true", help="show all methods (the default)")
    add_inputs(method)
    add_pixels(method)
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", type=Path, default=SHEET, metavar="FILE", help=f"picture to write (default: {SHEET})")
    output.add_argument("--html", type=Path, metavar="FILE", help="page to write, one file with each method's parameters")
    output.add_argument(
        "--runs", type=count, default=3, metavar="N", help="timed passes of each method; the median is shown (default: 3)"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options of a model for a command that tries several methods on it: no field of a method can be changed."""
    group = parser.add_argument_group("model")
    add_source(group)
    add_execution(group)
    add_measured(group)
    add_projections(group)
    parser.set_defaults(**dict.fromkeys(CHANGES))


def explain(args: argparse.Namespace) -> int:
    """Run the command: 0, or 1 if a method broke. Raises FastlocError before anything is written."""
    from fastloc.analysis.contact_sheet import sheet
    from fastloc.analysis.explain import explain as compared
    from fastloc.analysis.html_page import page
    from fastloc.utils.atomic_write import picture_format, write_whole

    rows, kind = _rows(args.methods), picture_format(args.output)
    _check_files(args)
    picture, localizer = read_picture(args.image, args.max_pixels), localizer_of(args)
    note_embedded(args, localizer)
    choices = {"fit": args.fit, "template": args.template, "official": args.official}
    with console.progress(len(rows), stdout_is_data=False) as (out, step):
        name = console.shown(Path(args.image).name)
        found = compared(localizer, picture, args.texts, rows, name=name, runs=args.runs, step=step, **choices)
    drawn = _encoded(sheet(found), kind, args.output)
    content = page(found).encode("utf-8", "backslashreplace") if args.html else b""
    written = [write_whole(args.output, lambda file: file.write(drawn))]
    if args.html:
        written.append(write_whole(args.html, lambda file: file.write(content)))
    _show(out, found)
    for path in written:
        out.print(f"written: {console.shown(path)}", soft_wrap=True)
    broken = [f"{column.method} {column.refusal}" for column in found.columns if column.fault]
    for line in broken:
        say(f"fastloc: error: {line}", error=True)
    return 1 if broken else 0


def _encoded(picture: "Image", kind: str, path: Path) -> bytes:
    """The picture's file. Raises FastlocError for one that the format cannot hold: a WebP's side has 16383 pixels at most."""
    file = io.BytesIO()
    try:
        picture.save(file, format=kind)
    except (OSError, ValueError) as error:
        size = f"{picture.width} x {picture.height}"
        raise FastlocError(f"{path}: a sheet of {size} cannot be written so ({error}); .png can hold it") from error
    return file.getvalue()


def _show(out: "Console", found: "Explained") -> None:
    """Print times and peaks as a table, and the methods that did not run."""
    from fastloc.analysis.contact_sheet import milliseconds

    table = console.table("method", "time", *found.texts, right=("time",))
    for column in found.columns:
        if column.ms is not None:
            table.add_row(column.method, milliseconds(column.ms), *(f"{point.x},{point.y}" for point in column.points))
    out.print(table)
    out.print(f"columns of texts: where each peaks, x,y in pixels. {found.timing}", soft_wrap=True)
    refused = [column for column in found.columns if column.refusal and not column.fault]
    if len(refused) > FEW:
        out.print(f"did not run, the sheet says why: {', '.join(column.method for column in refused)}", soft_wrap=True)
    else:
        for column in refused:
            out.print(f"did not run: {column.method}: {column.refusal}", soft_wrap=True)


def _rows(names: list[str] | None) -> "list[Recipe]":
    """The recipes of these names, in the given order, each once; of all where none is given."""
    from fastloc.recipes import RECIPES

    for name in names or ():
        if name not in RECIPES:
            raise RecipeError(unknown("method", name, sorted(RECIPES)))
    return [RECIPES[name] for name in dict.fromkeys(names or RECIPES)]


def _check_files(args: argparse.Namespace) -> None:
    """Raise FastlocError for files whose faults would otherwise appear after minutes of work."""
    if args.model.endswith(".onnx"):
        raise FastlocError(f"--model must be no exported file, which holds one method, got {args.model}; give the model it was made of")
    for path in filter(None, (args.output, args.html)):
        if not path.parent.is_dir():
            raise FastlocError(f"{path}: the folder {path.parent} does not exist")
        if path.resolve() == Path(args.image).resolve():
            raise FastlocError(f"{path}: the output must be another file than the picture, got the same")
    if args.html and args.html.resolve() == args.output.resolve():
        raise FastlocError(f"{args.html}: the sheet and the page must be two files, got one")


def localizer_of(args: argparse.Namespace) -> "Localizer":
    """The localizer of the model, with the method that needs the least of it."""
    args.method = _MEASURED if args.temperatures else _PLAINEST
    return torch_engine(args)
