"""Arguments that several commands take, and their conversion to values. Nothing heavy is imported here."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastloc.auto import CLASSIFIER, CLIP, EXPORTED, kind_of
from fastloc.errors import FastlocError, ImageError, TextError
from fastloc.imaging.picture_files import MAX_PIXELS
from fastloc.imaging.picture_sources import paths
from fastloc.utils.argument_types import count, inv_temp, prompt, setting, share, size, words

if TYPE_CHECKING:
    from PIL.Image import Image

Pair = tuple[int, int]

# the name of standard input
STDIN = "-"


def add_source(group: "argparse._ArgumentGroup") -> None:
    """Add the options that choose a model."""
    known = "model: a name of `fastloc models`, a folder, hf:OWNER/NAME, OpenAI's .pt or an exported .onnx file (default: embedded)"
    group.add_argument("--model", default="embedded", metavar="NAME", help=known)
    group.add_argument("--pretrained", metavar="TAG", help="weights of an open_clip model: a tag or a file; @sha256:DIGITS pins it")


def add_execution(group: "argparse._ArgumentGroup") -> None:
    """Add the options of the device and the execution."""
    group.add_argument("--device", metavar="NAME", help="device: cpu, cuda, cuda:1 … (default: cuda if there is one)")
    group.add_argument("--dtype", metavar="NAME", help="precision: float32, bfloat16, float16 or float64 (default: the plan's choice)")
    group.add_argument(
        "--plan", nargs="+", action="extend", type=setting, default=[], metavar="FIELD=CHOICE", help="choices of `fastloc plan`"
    )


def add_self_check(group: "argparse._ArgumentGroup") -> None:
    """Add the option that answers some calls twice."""
    text = "answer a random share of the calls again by another plan, and warn where the two differ"
    group.add_argument(
        "--self-check", nargs="?", const=True, default=False, type=share, metavar="SHARE",
        help=f"{text} (default: none; without SHARE a tenth)",
    )  # fmt: skip


def add_method(group: "argparse._ArgumentGroup", sized: Callable[[str], object] | None = None) -> None:
    """Add the options of the method, and of its pictures and texts; `sized` reads --size."""
    group.add_argument("--method", metavar="NAME", help="method: a name of `fastloc methods`, or best (default: gem)")
    add_inputs(group, sized)
    group.add_argument("--blocks", type=int, metavar="N", help="number of last blocks that the method changes (default: the method's)")
    group.add_argument(
        "--iterations", type=int, metavar="N", help="passes of self-self attention before the last one (default: the method's)"
    )
    add_projections(group)
    group.add_argument(
        "--inv-temp", type=inv_temp, metavar="F", help="inverse temperature of the attention, or adaptive (default: the method's)"
    )
    add_measured(group)


def add_measured(group: "argparse._ArgumentGroup") -> None:
    """Add the options for measurements on the model."""
    about = "inverse temperatures of `fastloc calibrate`; none: do not measure a model that has none (default: measure once)"
    group.add_argument("--temperatures", type=Path, metavar="FILE", help=about)
    group.add_argument("--registers", type=Path, metavar="FILE", help="test-time registers: the neurons of `fastloc registers`")


def add_projections(group: "argparse._ArgumentGroup | argparse.ArgumentParser") -> None:
    """Add the option for the model's trained projections."""
    text = "projections of `python -m fastloc.eclip`; own: those shipped with the model (default: own, for method eclip alone)"
    group.add_argument("--projections", metavar="FILE", help=text)


def add_inputs(group: "argparse._ArgumentGroup", sized: Callable[[str], object] | None = None) -> None:
    """Add the options that prepare pictures and texts for a method; `sized` reads --size."""
    group.add_argument("--official", action="store_true", help="run the method with its authors' settings, without the model's own")
    group.add_argument("--size", type=sized or size, metavar="N|HxW", help="size of the model's input, pixels (default: the model's)")
    group.add_argument(
        "--fit", choices=("stretch", "aspect", "crop", "letterbox", "own", "own-up", "naflex"),
        help="way to resize a picture to that size (default: the method's)",
    )
    group.add_argument(
        "--template", type=words, metavar="NAME", help="prompt template: a name, or a text of yours with {} (default: the method's)"
    )


def add_exported(group: "argparse._ArgumentGroup") -> None:
    """Add the options of an exported file: its companions and settings."""
    places = "runtimes for an .onnx file: auto (cuda, else cpu), fastest, cpu, openvino, cuda … (default: auto)"
    group.add_argument("--providers", nargs="+", metavar="NAME", help=places)
    group.add_argument("--embeddings", type=Path, metavar="FILE", help="encoded texts of `fastloc embed`, for an .onnx file")
    group.add_argument(
        "--text-tower", type=Path, metavar="FILE", help="text tower for an .onnx file (default: NAME.text.onnx beside it)"
    )


def add_texts(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the texts to look for; a file that has its texts baked in needs none."""
    more = "" if required else " (default: the texts baked into an .onnx file)"
    parser.add_argument(
        "-t", "--text", dest="texts", metavar="TEXT", nargs="+", action="extend", required=required, type=prompt,
        help=f"texts to look for{more}",
    )  # fmt: skip


def add_like(parser: argparse.ArgumentParser) -> None:
    """Add the option for examples to look for."""
    parser.add_argument(
        "--like", nargs="+", action="extend", default=[], type=words, metavar="PICTURE[:X0,Y0,X1,Y1[=TEXT]]",
        help="examples to look for: a picture, or a box of it in pixels, mixed with a text if given",
    )  # fmt: skip


def texts_of(args: argparse.Namespace) -> list[str] | None:
    """The texts and examples of the command line; None for those of an exported file. Exits as argparse does where neither is there.

    Raises FastlocError for an example that cannot be used.
    """
    kind = kind_of(args.model)
    if args.like and kind != CLIP:
        instead = "give the result of `fastloc embed --like` as --embeddings"
        why = "a classifier knows its classes alone" if kind == CLASSIFIER else f"the file takes embeddings: {instead}"
        raise FastlocError(f"--like cannot be given with {args.model}: {why}")
    if not args.texts and not args.like and kind != EXPORTED:
        args.usage_error("the following arguments are required: -t/--text")
    return [*(args.texts or ()), *examples_of(args.like)] or None


def examples_of(given: Sequence[str]) -> list[str]:
    """The examples that `--like` names. Raises FastlocError for one that cannot be used."""
    if not given:
        return []
    from fastloc.imaging.example import Example

    return [Example.typed(each) for each in given]


def add_pixels(group: "argparse._ArgumentGroup") -> None:
    """Add the option that limits a picture's size."""
    group.add_argument(
        "--max-pixels", type=count, default=MAX_PIXELS, metavar="N", help=f"largest picture to read, pixels (default: {MAX_PIXELS})"
    )


def add_decode(group: "argparse._ArgumentGroup") -> None:
    """Add the option that decodes large JPEG files at a reduced scale."""
    text = "reduced: decode a JPEG far larger than the model's input at 1/2, 1/4 or 1/8; similarities move a little"
    group.add_argument("--decode", choices=("full", "reduced"), default="full", help=f"{text} (default: full)")


def pictures_of(given: Iterable[str]) -> list[str]:
    """The pictures that arguments name: files and addresses, `-` for standard input, and those of folders, patterns and list files.

    Raises ImageError for one of these that has none.
    """
    return [path for each in given for path in ([each] if each == STDIN else paths(each))]


def read_picture(name: str, max_pixels: int = MAX_PIXELS, enough: Callable[[Pair], Pair] | None = None) -> "Image":
    """The picture of a name that `pictures_of` gave; `enough` as for `fastloc.imaging.images.load`. Raises ImageError."""
    from fastloc.imaging import images

    if name != STDIN:
        return images.load(name, max_pixels=max_pixels, enough=enough)
    if sys.stdin is None or sys.stdin.isatty():
        raise ImageError("standard input must hold a picture, got a terminal; `fastloc locate - < picture.jpg`")
    return images.load(sys.stdin.buffer, "standard input", max_pixels=max_pixels, enough=enough)


def add_list(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that list something."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def lines_of(path: Path) -> list[str]:
    """The texts in a file, one a line, blank lines left out; of standard input for `-`.

    Raises:
        TextError: it cannot be read, or holds none.
    """
    try:
        # standard input is bytes too: the locale may be another one
        content = (sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"texts file {str(path)!r} cannot be read: {error}") from error
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    if not lines:
        raise TextError(f"texts file {str(path)!r} must hold one text a line, got none")
    return lines
