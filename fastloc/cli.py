"""The command line: what may be typed, and how every way of ending is told.

Exit status: 0 when everything went well; 1 for an error, also when only some of the pictures failed; 2 for a command that
cannot be understood; 130 when interrupted. Results go to standard output, everything else to standard error.
"""

import argparse
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import __version__
from .errors import FastlocError, FastlocWarning

# what `fastloc[engine]` brings
ENGINE_PACKAGES = ("torch", "torchvision", "open_clip", "safetensors")

_EXAMPLES = """\
examples:
  fastloc demo
  fastloc locate photo.jpg -t "a dog" --model ViT-B-16 --pretrained laion2b_s34b_b88k
  fastloc locate *.jpg -t cat pizza "red car" --method clip_surgery -o maps
  fastloc locate photo.jpg -t cat --size 480x640 --json > where.json
"""
_LOCATE_EXAMPLES = """\
Pictures come before -t, which takes every word or quoted phrase that follows it as one thing to look for.
Positions are in pixels of the upright picture, x to the right and y down.

""" + _EXAMPLES.replace("  fastloc demo\n", "")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. A command that cannot be understood raises SystemExit(2), as argparse does."""
    args = build_parser().parse_args(argv)
    try:
        with _notes():
            status = int(args.run(args))
            # a reader that has gone is noticed here, not when the interpreter shuts down
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader has gone (`| head`); what is still buffered must not fail once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (FastlocError, OSError) as error:
        return _fail(error)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ENGINE_PACKAGES:
            raise
        return _fail(f'this needs {error.name}, which is not installed: pip install "fastloc[engine]"')


def _fail(message: object) -> int:
    print(f"fastloc: error: {' '.join(str(message).split())}", file=sys.stderr)
    return 1


@contextmanager
def _notes() -> Iterator[None]:
    """Print each FastlocWarning once, as a line of its own; leave other warnings as they are."""
    with warnings.catch_warnings():
        usual, seen = warnings.showwarning, set[str]()

        def show(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
            if not issubclass(category, FastlocWarning):
                usual(message, category, *place, **more)  # type: ignore[arg-type]
            elif str(message) not in seen:
                seen.add(str(message))
                print(f"fastloc: note: {message}", file=sys.stderr)

        warnings.simplefilter("always", FastlocWarning)
        warnings.showwarning = show
        yield


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `args.run(args)` of what it returns carries one out."""
    parser = argparse.ArgumentParser(
        prog="fastloc", description="Where in this picture is that, in words?", epilog=_EXAMPLES, formatter_class=_Help
    )
    parser.add_argument("--version", action="version", version=f"fastloc {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_locate(_command(commands, "locate", "find texts in pictures", _run_locate, _LOCATE_EXAMPLES))
    _add_list(_command(commands, "methods", "list the localisation methods", _run_methods))
    models = _command(commands, "models", "list the models that fit", _run_models)
    _add_list(models)
    models.add_argument("--all", action="store_true", help="list the models that do not fit too, each with the reason")
    _add_plan(_command(commands, "plan", "tell how a method would be executed here, and why", _run_plan))
    _add_demo(_command(commands, "demo", "find three things in a picture that comes with fastloc", _run_demo))
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    run: Callable[[argparse.Namespace], int],
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    sentence = f"{summary[0].upper()}{summary[1:]}."
    parser = commands.add_parser(name, help=summary, description=sentence, epilog=epilog, formatter_class=_Help)
    parser.set_defaults(run=run)
    return parser


def _add_locate(parser: argparse.ArgumentParser) -> None:
    # argparse's own line puts the pictures last, where -t would swallow them
    parser.usage = "fastloc locate IMAGE [IMAGE ...] -t TEXT [TEXT ...] [options]"
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a picture file")
    parser.add_argument(
        "-t", "--text", dest="texts", metavar="TEXT", nargs="+", action="extend", required=True, type=_prompt, help="what to look for"
    )
    _add_model(parser.add_argument_group("model"))
    _add_method(parser.add_argument_group("method"))
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for <picture>.<method>.png (default: the current folder)")
    output.add_argument(
        "--threshold", type=float, default=0.5, metavar="F", help="share of full heat from which a pixel is in a box (default: 0.5)"
    )
    output.add_argument("--npz", action="store_true", help="write the maps as arrays too, <picture>.<method>.npz")
    output.add_argument("--json", action="store_true", help="print JSON; overlays are then drawn only with -o")


def _add_model(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--model", default="embedded", metavar="NAME", help="see `fastloc models`; or a folder (default: embedded)")
    group.add_argument("--pretrained", metavar="TAG", help="weights of an open_clip model: a tag or a file")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 … (default: cuda where there is one)")
    group.add_argument("--dtype", metavar="NAME", help="float32, bfloat16, float16 or float64 (default: the plan's choice)")
    group.add_argument(
        "--plan", nargs="+", action="extend", type=_setting, default=[], metavar="FIELD=CHOICE", help="how to execute: see `fastloc plan`"
    )


def _add_method(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--method", default="gem", metavar="NAME", help="see `fastloc methods` (default: gem)")
    group.add_argument("--official", action="store_true", help="the method as published, without what the model recommends")
    group.add_argument("--size", type=_size, metavar="N|HxW", help="size of the model's input in pixels (default: the model's own)")
    group.add_argument(
        "--fit", choices=("stretch", "aspect", "crop", "letterbox"), help="how a picture is brought to that size (default: the method's)"
    )
    group.add_argument("--template", metavar="NAME", help="prompt templates by name, or one of your own with {} in it")
    group.add_argument("--blocks", type=int, metavar="N", help="how many of the last blocks the method changes")
    group.add_argument("--iterations", type=int, metavar="N", help="passes of self-self attention before the last one")
    group.add_argument("--inv-temp", type=_inv_temp, metavar="F", help="inverse temperature of the attention, or `adaptive`")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    _add_model(parser.add_argument_group("model"))
    _add_method(parser.add_argument_group("method"))
    parser.add_argument("--batch", type=_count, default=1, metavar="N", help="pictures at once (default: 1)")
    _add_list(parser)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="gem", metavar="NAME", help="see `fastloc methods` (default: gem)")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("fastloc-demo.png"), metavar="FILE", help="picture to write (default: fastloc-demo.png)"
    )


def _prompt(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a text to look for is empty")
    return text


def _size(text: str) -> int | tuple[int, int]:
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; give one number such as 336, or height x width such as 336x448")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count; give 1 or more")
    return int(text)


def _setting(text: str) -> tuple[str, str]:
    field, equals, choice = text.partition("=")
    if not (field and equals and choice):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=CHOICE, such as attention=sdpa")
    return field, choice


def _inv_temp(text: str) -> float | str:
    if text == "adaptive":
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not an inverse temperature; give a number above 0, or adaptive")
    return value


# each command's code, and with it rich and the engine, is imported when the command is run: `--help` stays quick


def _run_locate(args: argparse.Namespace) -> int:
    from .cli_locate import locate

    return locate(args)


def _run_demo(args: argparse.Namespace) -> int:
    from .cli_demo import demo

    return demo(args)


def _run_methods(args: argparse.Namespace) -> int:
    from .cli_lists import methods

    return methods(args)


def _run_plan(args: argparse.Namespace) -> int:
    from .cli_lists import plan

    return plan(args)


def _run_models(args: argparse.Namespace) -> int:
    from .cli_lists import models

    return models(args)
