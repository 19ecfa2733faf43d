"""`fastloc export-text`: a model's text tower as a file. `fastloc embed`: encoded texts as a file, with a model or with such a tower."""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fastloc.auto import METHOD
from fastloc.cli.arguments import add_like, add_projections, examples_of, lines_of
from fastloc.embedded import GEM_TEXT_ONNX
from fastloc.errors import FastlocError
from fastloc.utils import console
from fastloc.utils.argument_types import words

if TYPE_CHECKING:
    from fastloc.text.embeddings import TextEmbeddings

# the embedded model's template, and GEM's
TEMPLATE = "gem"


def add_export(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc export-text`."""
    _add_model(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="file to write, such as model.text.onnx")
    parser.add_argument(
        "--dtype", default="float32", metavar="NAME", help="precision of the stored weights, float32 or float16 (default: float32)"
    )
    parser.add_argument("--opset", type=int, metavar="N", help="opset of ai.onnx, 18 to 23 (default: 18)")
    parser.add_argument("--licence", default="", type=words, metavar="TEXT", help="licence of the model's weights, for the metadata")


def add_embed(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc embed`."""
    parser.usage = "fastloc embed TEXT [TEXT ...] -o FILE [options]"
    parser.add_argument("texts", nargs="*", type=words, metavar="TEXT", help="texts to encode")
    parser.add_argument("--texts-file", type=Path, metavar="FILE", help="file of texts, one a line; - for standard input")
    add_like(parser)
    parser.add_argument("--method", metavar="NAME", help="method of the exported file, for --like (default: gem)")
    _add_model(parser)
    parser.add_argument("--text", type=Path, metavar="FILE", help="text tower of `fastloc export-text`, in place of --model")
    parser.add_argument(
        "--template", default=TEMPLATE, type=words, metavar="NAME",
        help="prompt template: a name, or a text of yours with {} (default: gem)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="file to write, .npz or .safetensors")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="model: a name of `fastloc models`, or a folder (default: embedded)")
    parser.add_argument("--pretrained", metavar="TAG", help="weights of an open_clip model: a tag or a file; @sha256:DIGITS pins it")
    add_projections(parser)


def run_export(args: argparse.Namespace) -> int:
    """Write a text tower."""
    from fastloc.checkpoints.projections import loaded
    from fastloc.export.text.export import export_text

    source = loaded(args.model or "embedded", args.pretrained, args.projections)
    manifest = export_text(source, args.output, opset=args.opset, dtype=args.dtype, licence=args.licence)
    size = args.output.stat().st_size / 1e6
    console.console().print(f"written: {console.shown(args.output)} ({size:.1f} MB, text tower {manifest.digest})", soft_wrap=True)
    return 0


def run_embed(args: argparse.Namespace) -> int:
    """Write embeddings."""
    found = _embedded(args, _texts(args))
    found.save(args.output)
    count, width = found.vectors.shape
    out = console.console()
    out.print(f"written: {console.shown(args.output)} ({count} texts of {width} numbers, text tower {found.tower})", soft_wrap=True)
    return 0


def _embedded(args: argparse.Namespace, texts: list[str]) -> "TextEmbeddings":
    from fastloc.text.embeddings import TextEmbeddings, ending

    if args.text is not None and (args.model is not None or args.pretrained is not None or args.projections is not None):
        raise FastlocError("--text must come without --model, --pretrained and --projections, got both; leave one out")
    # a wrong ending is reported before a model is loaded
    ending(args.output)
    tower = args.text
    if args.like:
        return _with_examples(args, texts)
    if args.method:
        raise FastlocError("--method must come with --like, got it alone; leave it out, because texts are encoded without a method")
    if tower is None and args.model in (None, "embedded") and args.projections is None and find_spec("torch") is None:
        tower = GEM_TEXT_ONNX
    if tower is not None:
        from fastloc.runtime.text_encoder import OnnxTextEncoder

        encoder = OnnxTextEncoder(tower)
        return TextEmbeddings(tuple(texts), encoder(texts, args.template), args.template, encoder.digest)
    from fastloc.checkpoints.projections import loaded

    text = loaded(args.model or "embedded", args.pretrained, args.projections).text
    return TextEmbeddings(tuple(texts), text(texts, args.template).numpy(), args.template, text.digest)


def _with_examples(args: argparse.Namespace, texts: list[str]) -> "TextEmbeddings":
    if args.text is not None:
        raise FastlocError("--like must come with --model, whose image tower it needs, got --text; give --model in its place")
    from fastloc.engine.localizer import Localizer

    localizer = Localizer(
        args.model or "embedded", args.pretrained, args.method or METHOD, template=args.template, projections=args.projections
    )
    return localizer.embeddings([*texts, *examples_of(args.like)])


def _texts(args: argparse.Namespace) -> list[str]:
    """The texts of the command line, then those of the file; blank lines are left out."""
    from fastloc.text.prompts import checked

    if args.like and not args.texts and not args.texts_file:
        return []
    return checked([*args.texts, *(lines_of(args.texts_file) if args.texts_file else [])])
