"""`fastloc demo`: one complete run, with a picture and a model that come with fastloc."""

import argparse
import json
import shutil
import sys
from pathlib import Path

from fastloc.auto import EMBEDDED, METHOD, load
from fastloc.cli.localizers import PHOTOGRAPHS
from fastloc.embedded import SAMPLES
from fastloc.utils import console


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc demo`."""
    parser.add_argument("--method", default=METHOD, metavar="NAME", help="method: a name of `fastloc methods` (default: gem)")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("fastloc-demo.png"), metavar="FILE", help="picture to write (default: fastloc-demo.png)"
    )


def demo(args: argparse.Namespace) -> int:
    """Find the sample's texts in it, write the overlay, and print the next commands to try."""
    file, texts = sample()
    result = load(EMBEDDED, method=args.method)(file, texts)
    written = result.save(args.output)
    out = console.console()
    console.finding(out, f"{file.name} (comes with fastloc)", result.to_dict(), [written])
    out.print("For your own photographs, with a CLIP trained on photographs (its weights are downloaded once):")
    out.print(f'  {command()} locate photo.jpg -t "a dog" {PHOTOGRAPHS}', soft_wrap=True)
    return 0


def sample() -> tuple[Path, list[str]]:
    """The first sample that ships with fastloc: its picture and the texts to look for in it."""
    first = next(iter(json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8")).values()))
    return SAMPLES / first["file"], list(first["texts"])


def command() -> str:
    """The command that calls fastloc from here: `fastloc` if that is on the PATH, else this Python."""
    python = Path(sys.executable)
    found = shutil.which("fastloc")
    if found and Path(found).parent == python.parent:
        return "fastloc"
    here = Path.cwd()
    return f"{python.relative_to(here) if python.is_relative_to(here) else python} -m fastloc"
