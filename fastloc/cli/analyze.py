"""`fastloc analyze`: the depth at which a model's classes appear, the targets of its attentions, and its inverted maps."""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc.cli.arguments import add_inputs, pictures_of
from fastloc.cli.explain import add_model, localizer_of
from fastloc.errors import FastlocError, RecipeError, unknown
from fastloc.utils import console
from fastloc.utils.argument_types import prompt

if TYPE_CHECKING:
    from fastloc.analysis.scenes import Scene

FOLDER = Path("fastloc-analysis")
Rows = list[dict[str, Any]]


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc analyze`."""
    parser.usage = "fastloc analyze [IMAGE ...] [--masks DIR] [-t TEXT ...] [--negatives TEXT ...] [options]"
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE",
        help="pictures: files, folders, quoted patterns, .txt lists (default: the scenes that come with fastloc)",
    )  # fmt: skip
    texts: dict[str, Any] = {"metavar": "TEXT", "nargs": "+", "action": "extend", "default": [], "type": prompt}
    parser.add_argument("-t", "--text", dest="texts", help="texts that are in the pictures", **texts)
    parser.add_argument("--negatives", help="texts that are not in the pictures", **texts)
    parser.add_argument("--masks", type=Path, metavar="DIR", help="folder of masks <picture>.png: value k marks the k-th text, 0 none")
    add_model(parser)
    method = parser.add_argument_group("methods")
    method.add_argument(
        "--methods", nargs="+", action="extend", metavar="NAME", help="methods, by the names of `fastloc methods` (default: all)"
    )
    add_inputs(method)
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o", "--output", type=Path, default=FOLDER, metavar="DIR", help=f"folder for CSV files and plots (default: {FOLDER})"
    )


def analyze(args: argparse.Namespace) -> int:
    """Run the command. Raises FastlocError before anything is written."""
    from fastloc.analysis import tables as analysis_rows

    names, args.images = _names(args.methods), pictures_of(args.images)
    _check(args)
    scenes, localizer = _scenes(args), localizer_of(args)
    tables: dict[str, Rows] = {"modules": list(analysis_rows.modules(localizer, scenes))}
    out = console.console()
    if all(scene.masks is None for scene in scenes):
        print("fastloc: note: without --masks only the modules are analysed", file=sys.stderr)
    else:
        tables["attention"] = list(analysis_rows.attentions(localizer, scenes))
        with console.progress(len(names), stdout_is_data=False) as (out, step):
            tables["methods"] = list(analysis_rows.methods(localizer, scenes, names, step))
    written = _write(args.output, tables, localizer.source.name)
    for name, rows in tables.items():
        _SUMMARIES[name](out, rows)
    for path in written:
        out.print(f"written: {console.shown(path)}", soft_wrap=True)
    return 0


def _names(given: Sequence[str] | None) -> list[str]:
    from fastloc.recipes import RECIPES

    for name in given or ():
        if name not in RECIPES:
            raise RecipeError(unknown("method", name, sorted(RECIPES)))
    return list(dict.fromkeys(given or RECIPES))


def _check(args: argparse.Namespace) -> None:
    if args.model.endswith(".onnx"):
        raise FastlocError(f"--model must be no exported file, which holds one method, got {args.model}; give the model it was made of")
    if args.images and not args.texts:
        raise FastlocError("-t must name what is in your pictures, got none")
    for option, given in (("-t", args.texts), ("--negatives", args.negatives), ("--masks", args.masks)):
        if given and not args.images:
            raise FastlocError(f"{option} must be left out for the sample scenes, which have theirs; give pictures of your own")
    if args.masks and not args.masks.is_dir():
        raise FastlocError(f"--masks must be a folder, got {args.masks}")
    if args.output.exists() and not args.output.is_dir():
        raise FastlocError(f"--output must be a folder, got the file {args.output}")
    if not args.output.parent.is_dir():
        raise FastlocError(f"{args.output}: the folder {args.output.parent} does not exist")
    stems = [Path(image).stem for image in args.images]
    for stem in stems:
        if stems.count(stem) > 1:
            raise FastlocError(f"two pictures are named {stem!r}; rows and masks go by that name")


def _scenes(args: argparse.Namespace) -> "list[Scene]":
    from fastloc.analysis.scenes import pictures, samples

    return pictures(args.images, args.texts, args.negatives, args.masks) if args.images else samples()


def _write(folder: Path, tables: dict[str, Rows], model: str) -> list[Path]:
    """Write a CSV file for each table, and a plot where matplotlib is installed; all are made before the first is written."""
    from fastloc.analysis.tables import COLUMNS
    from fastloc.utils.atomic_write import write_whole
    from fastloc.utils.system import files

    contents = {f"{name}.csv": _csv(COLUMNS[name], rows) for name, rows in tables.items()}
    try:
        from fastloc.analysis.plots import plots

        contents |= {f"{name}.png": drawn for name, drawn in plots(tables, model).items()}
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        print('fastloc: note: without matplotlib there are no plots: pip install "fastloc[bench]"', file=sys.stderr)
    files.make_folder(folder, exist_ok=True)
    return [write_whole(folder / name, lambda file, content=content: file.write(content)) for name, content in contents.items()]  # type: ignore[misc]


def _csv(columns: Sequence[str], rows: Rows) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
    return text.getvalue().encode()


def _mean(rows: Rows, key: str, **where: Any) -> float:
    values = [row[key] for row in rows if all(row.get(name) == value for name, value in where.items())]
    return sum(values) / len(values) if values else float("nan")


def _show_modules(out: Any, rows: Rows) -> None:
    table = console.table("module", "mode", "positive", "negative", right=("positive", "negative"))
    last = max(row["block"] for row in rows)
    for module in ("attention", "ffn"):
        for mode in ("contribution", "accumulated"):
            means = [_mean(rows, "cosine", module=module, mode=mode, kind=kind, block=last) for kind in ("positive", "negative")]
            table.add_row(f"block {last} {module}", mode, *(f"{mean:.3f}" for mean in means))
    out.print(table)
    out.print("cosine with texts that are in the picture and texts that are not, at the last block; all blocks are in the file\n")


def _show_attention(out: Any, rows: Rows) -> None:
    names = list(dict.fromkeys(row["attention"] for row in rows))
    table = console.table("block", *(f"{name} {kind}" for kind in ("lift", "auc") for name in names), right=("block",))
    for block in sorted({row["block"] for row in rows}):
        cells = (_mean(rows, kind, block=block, attention=name, anchor="object") for kind in ("lift", "auc") for name in names)
        table.add_row(str(block), *(f"{cell:.2f}" for cell in cells))
    out.print(table)
    out.print("attention of the patch deepest in the object: on the object over its share of the area (1 = evenly spread), and AUC\n")


def _show_methods(out: Any, rows: Rows) -> None:
    table = console.table("method", "inside", "outside", "difference", right=("inside", "outside", "difference"))
    scored = [row for row in rows if "score" in row]
    names = sorted({row["method"] for row in scored}, key=lambda name: -_mean(scored, "score", method=name))
    for name in names:
        table.add_row(name, *(f"{_mean(scored, key, method=name):.3f}" for key in ("inside", "outside", "score")))
    out.print(table)
    for row in rows:
        if "refusal" in row:
            out.print(f"{row['method']} did not run: {row['refusal']}", soft_wrap=True)
    out.print("mean of the min-maxed map on the object and beside it; below 0 the map is inside out\n")


_SUMMARIES = {"modules": _show_modules, "attention": _show_attention, "methods": _show_methods}
