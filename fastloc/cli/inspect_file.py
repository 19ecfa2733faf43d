"""`fastloc inspect`: the kind and the content of an exported file."""

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from fastloc.imaging.geometry import size_text
from fastloc.onnx_file.formats import TOWERS
from fastloc.utils import console

if TYPE_CHECKING:
    from fastloc.diagnostics.inspect_file import Report
    from fastloc.onnx_file.graph import Value
    from fastloc.onnx_file.manifest import Manifest
    from fastloc.runtime.placement import Placement


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    # argparse's own line puts the model last, where --providers would swallow it
    parser.usage = "fastloc inspect MODEL [options]"
    parser.add_argument("model", type=Path, metavar="MODEL", help="ONNX file of fastloc")
    parser.add_argument(
        "--providers", nargs="*", metavar="NAME", help="load it too, and show which provider runs which nodes (default: auto)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    from fastloc.cli.verify import asked
    from fastloc.diagnostics.inspect_file import inspect, loaded

    report = inspect(args.model)
    session = None if args.providers is None else loaded(report, asked(args.providers))
    placement, choice = (None, None) if session is None else (session.placement(), session.choice)
    if args.json:
        where: dict[str, Any] = {} if placement is None else {"placement": [vars(row) for row in placement.rows]}
        where |= {} if choice is None else {"choice": asdict(choice)}
        print(json.dumps({**report.to_dict(), **where}, indent=2))
    else:
        _show(report, placement)
        if choice is not None:
            print(f"\nchosen of: {choice}")
    return 0


def _show(report: "Report", placement: "Placement | None") -> None:
    out = console.console()
    out.print(Text(console.shown(report.content.file.path), "bold"), soft_wrap=True)
    _pairs(out, _about(report))
    _tensors(out, report)
    _graph(out, report)
    if placement is not None:
        rows = console.table("provider", "node", "count", right=("count",))
        for row in placement.rows:
            rows.add_row(row.provider, row.type, str(row.count))
        _section(out, "where its nodes run, after the runtime's fusions", rows)
    for note in report.notes:
        out.print(f"\nnote: {note}", soft_wrap=True)


def _about(report: "Report") -> dict[str, object]:
    """The rows of the first table: the file's manifest, size and versions."""
    content = report.content
    opsets = ", ".join(f"{name or 'ai.onnx'} {version}" for name, version in content.opsets.items())
    size = f"{_bytes(content.bytes)}" + "".join(f", and {_bytes(size)} in {name}" for name, size in report.external.items())
    about = {"size": size, "opsets": opsets, "written by": content.producer, "IR version": content.ir}
    if report.text is not None:
        return {"kind": "text tower", **{name: _listed(value) for name, value in report.text.items()}, **about}
    assert report.manifest is not None
    return {**_manifest(report.manifest), **about}


def _manifest(manifest: "Manifest") -> dict[str, object]:
    model, shape, texts, golden = manifest.model, manifest.input, manifest.texts, manifest.golden
    taken = "any multiple of the patch" if shape.size is None else size_text(shape.size)
    picture = f"{shape.kind}, {shape.layout}, {'BGR' if shape.bgr else 'RGB'}, encoder input {taken}"
    camera = f", camera frames {size_text(shape.frame)}" if shape.frame else ""
    count = texts.count if texts.count is not None else "any number"
    recipe = {each.name: getattr(manifest.recipe, each.name) for each in fields(manifest.recipe)}
    recipe |= {f"readout {each.name}": getattr(manifest.recipe.readout, each.name) for each in fields(manifest.recipe.readout)}
    for name in ("readout", "name", "summary", "source"):
        del recipe[name]
    return {
        "kind": f"image tower, metadata format {manifest.format}, exported by fastloc {manifest.version}",
        "model": f"{model.name}, patch {size_text(model.patch)}, embeddings {model.embed} wide",
        "image tower": f"{model.tower}, {TOWERS[model.tower]}",
        "licence": model.licence or "not stated",
        "weights": model.weights,
        "text tower": model.text,
        "normalisation": f"mean {_numbers(model.mean)}, std {_numbers(model.std)}, {model.interpolation}",
        "method": f"{manifest.recipe.name}: {manifest.recipe.summary} ({manifest.recipe.source})",
        "recipe": ", ".join(f"{name}={value}" for name, value in recipe.items()),
        "pictures": f"{picture}{camera}, usual size {size_text(shape.usual)}, fit {shape.fit}",
        "batch": shape.batch or "any number",
        "texts": f"baked in: {', '.join(texts.names)}" if texts.baked else f"embeddings, {count}",
        "template": texts.template or "not stated",
        "outputs": ", ".join(manifest.outputs),
        "precision": f"{manifest.dtype}, spelling {manifest.spelling}, opset {manifest.opset}",
        "golden": f"{golden.batch} pictures of {size_text(golden.size)}, {golden.texts or 'no'} embeddings, seed {golden.seed}"
        if golden
        else "none",
    }


def _tensors(out: Console, report: "Report") -> None:
    rows = console.table("", "name", "dtype", "shape")
    for kind, values in (("input", report.inputs), ("output", report.outputs)):
        for value in values:
            rows.add_row(kind, Text(value.name), value.dtype, Text(_shape(value)))
    _section(out, "what goes in and comes out", rows)
    rows = console.table("dtype", "tensors", "parameters", "bytes", right=("tensors", "parameters", "bytes"))
    for weights in report.weights:
        rows.add_row(weights.dtype, str(weights.tensors), f"{weights.parameters:,}", f"{weights.bytes:,}")
    _section(out, "parameters and constants", rows)


def _graph(out: Console, report: "Report") -> None:
    forms = ", ".join(f"{count} {kind}" for kind, count in report.attention.items())
    out.print(f"\nattention: {forms or 'none that is known'}", soft_wrap=True)
    rows = console.table("computes in", "nodes", "of these kinds", right=("nodes",))
    for precision, kinds in report.precision.items():
        rows.add_row(precision, str(sum(kinds.values())), ", ".join(f"{kind} {count}" for kind, count in kinds.items()))
    _section(out, f"{sum(report.nodes.values())} nodes by precision, as written", rows)


def _listed(value: object) -> object:
    """Words and templates of a text tower in short: there may be thousands, and a template holds scores of sentences."""
    if not isinstance(value, (list, dict)):
        return value
    names = ", ".join(map(str, list(value)[:4]))
    return f"{len(value)} ({names}{' …' if len(value) > 4 else ''})"


def _section(out: Console, title: str, rows: Any) -> None:
    out.print()
    out.print(Text(title, "bold"))
    out.print(rows)


def _pairs(out: Console, pairs: dict[str, object]) -> None:
    rows = console.table("", "")
    rows.show_header = False
    for name, value in pairs.items():
        rows.add_row(Text(name, "dim"), Text(str(value)))
    out.print(rows)


def _shape(value: "Value") -> str:
    return "[" + ", ".join("?" if side is None else str(side) for side in value.shape) + "]"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
