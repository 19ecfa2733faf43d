"""Arguments that several commands take, and how what is typed becomes a value. Nothing heavy is imported here."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from fastloc.errors import TextError
from fastloc.utils.argument_types import inv_temp, setting, size


def add_source(group: "argparse._ArgumentGroup") -> None:
    """Which model."""
    known = "see `fastloc models`; a folder; hf-hub:OWNER/NAME; an exported .onnx file (default: embedded)"
    group.add_argument("--model", default="embedded", metavar="NAME", help=known)
    group.add_argument("--pretrained", metavar="TAG", help="weights of an open_clip model: a tag or a file")


def add_execution(group: "argparse._ArgumentGroup") -> None:
    """Where and how it runs."""
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 … (default: cuda where there is one)")
    group.add_argument("--dtype", metavar="NAME", help="float32, bfloat16, float16 or float64 (default: the plan's choice)")
    group.add_argument(
        "--plan", nargs="+", action="extend", type=setting, default=[], metavar="FIELD=CHOICE", help="how to execute: see `fastloc plan`"
    )


def add_method(group: "argparse._ArgumentGroup", sized: Callable[[str], object] | None = None) -> None:
    """Which method, and how pictures and texts are brought to it; `sized` reads --size."""
    group.add_argument("--method", metavar="NAME", help="see `fastloc methods` (default: gem)")
    add_inputs(group, sized)
    group.add_argument("--blocks", type=int, metavar="N", help="how many of the last blocks the method changes")
    group.add_argument("--iterations", type=int, metavar="N", help="passes of self-self attention before the last one")
    add_projections(group)
    group.add_argument("--inv-temp", type=inv_temp, metavar="F", help="inverse temperature of the attention, or `adaptive`")
    add_temperatures(group)


def add_temperatures(group: "argparse._ArgumentGroup") -> None:
    """What was measured on the model."""
    group.add_argument("--temperatures", type=Path, metavar="FILE", help="inverse temperatures from `fastloc calibrate` on this model")


def add_projections(group: "argparse._ArgumentGroup | argparse.ArgumentParser") -> None:
    """Whether the model has trained projections in place."""
    told = "projections that `python -m fastloc.eclip` trained for the model; own: those that came with it (default: for eclip alone)"
    group.add_argument("--projections", metavar="FILE", help=told)


def add_inputs(group: "argparse._ArgumentGroup", sized: Callable[[str], object] | None = None) -> None:
    """How pictures and texts are brought to a method; `sized` reads --size."""
    group.add_argument("--official", action="store_true", help="the method as published, without what the model recommends")
    group.add_argument("--size", type=sized or size, metavar="N|HxW", help="size of the model's input in pixels (default: the model's own)")
    group.add_argument(
        "--fit", choices=("stretch", "aspect", "crop", "letterbox"), help="how a picture is brought to that size (default: the method's)"
    )
    group.add_argument("--template", metavar="NAME", help="prompt templates by name, or one of your own with {} in it")


def add_list(parser: argparse.ArgumentParser) -> None:
    """For commands that list something."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def lines_of(path: Path) -> list[str]:
    """The texts in a file, one a line, blank lines left out; of standard input for `-`.

    Raises:
        TextError: it cannot be read, or holds none.
    """
    try:
        content = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"texts file {str(path)!r} cannot be read: {error}") from error
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    if not lines:
        raise TextError(f"texts file {str(path)!r} holds no text; one a line is wanted")
    return lines
