"""`fastloc locate`: texts in pictures, as tables and overlays or as JSON. A picture that cannot be used does not stop the others."""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastloc._version import __version__
from fastloc.cli.arguments import (
    STDIN,
    Pair,
    add_decode,
    add_execution,
    add_exported,
    add_like,
    add_method,
    add_pixels,
    add_self_check,
    add_source,
    add_texts,
    pictures_of,
    read_picture,
    texts_of,
)  # fmt: skip
from fastloc.cli.localizers import engine, note_embedded, note_self_check
from fastloc.errors import FastlocError, ImageError
from fastloc.imaging.picture_files import is_address
from fastloc.results.batch_choice import AUTO, SAMPLE, BatchChoice, choose_batch, fixed_batch
from fastloc.utils import console
from fastloc.utils.argument_types import count_or_auto
from fastloc.utils.system import files as system_files
from fastloc.utils.terminal import say

if TYPE_CHECKING:
    from PIL.Image import Image

    from fastloc.engine.classifier_localizer import CnnLocalizer
    from fastloc.engine.localizer import Localizer
    from fastloc.results.result import Result
    from fastloc.runtime.localizer import OnnxLocalizer

# pictures from which on it pays to measure a batch
FEW = 16


@dataclass(frozen=True)
class Job:
    """One picture and the files its answer goes to; None for a file that is not written."""

    image: str
    overlay: Path | None
    npz: Path | None

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.overlay, self.npz) if path]


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc locate`."""
    # argparse's own line puts the pictures last, where -t would swallow them
    parser.usage = "fastloc locate IMAGE [IMAGE ...] -t TEXT [TEXT ...] [options]"
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE",
        help="picture: a file, an http(s) address or - for standard input; or several: a folder, a quoted pattern or a .txt list",
    )  # fmt: skip
    add_texts(parser, required=False)
    add_like(parser)
    group = parser.add_argument_group("model")
    add_source(group)
    add_execution(group)
    add_self_check(group)
    add_exported(group)
    add_method(parser.add_argument_group("method"))
    add_pixels(group)
    add_decode(group)
    group.add_argument(
        "--batch", type=count_or_auto, default=1, metavar="N",
        help="pictures a call of the model: a number, or auto to measure it on the first ones (default: 1)",
    )  # fmt: skip
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for <picture>.<method>.png (default: the current folder)")
    output.add_argument(
        "--threshold", type=float, default=0.5, metavar="F", help="least heat of a pixel in a box, 0 to 1 (default: 0.5)"
    )
    output.add_argument(
        "--min-score", type=float, metavar="F",
        help="least score of a text with boxes, 0 to 1; 0.5 is as likely in the picture as not (default: any)",
    )  # fmt: skip
    output.add_argument(
        "--refine", choices=("pamr", "propagate"),
        help="fit maps to the picture's edges: pamr by pixels (slow on large pictures), propagate by cells (PEARL) (default: no)",
    )  # fmt: skip
    output.add_argument("--npz", action="store_true", help="write the maps as <picture>.<method>.npz too")
    output.add_argument("--json", action="store_true", help="print JSON, and draw overlays only with -o")


def locate(args: argparse.Namespace) -> int:
    """Run the command: 0, or 1 if a picture could not be used. Raises FastlocError for an error that concerns all of them."""
    folder, images, args.texts = _folder(args), pictures_of(args.images), texts_of(args)
    localizer = engine(args)
    jobs = plan(images, localizer.method, folder, npz=args.npz, overlay=not args.json or args.output is not None)
    note_embedded(args, localizer)
    found: list[dict[str, Any]] = []
    failed: list[tuple[str, ImageError]] = []
    with console.progress(len(jobs), stdout_is_data=args.json) as (out, step):
        for job, result in zip(jobs, _results(localizer, jobs, args), strict=True):
            try:
                if isinstance(result, ImageError):
                    raise result
                found.append(_answer(result, job, args))
            except ImageError as error:
                failed.append((job.image, error))
            else:
                if not args.json:
                    console.finding(out, console.shown(job.image), found[-1], job.files)
            step()
    note_self_check(localizer)
    if args.json:
        errors = [{"name": image, "error": str(error)} for image, error in failed]
        print(json.dumps({"fastloc": __version__, "pictures": found, "errors": errors}, indent=2))
    return _complain([error for _, error in failed], len(jobs))


def plan(images: Sequence[str], method: str, folder: Path, *, npz: bool, overlay: bool = True) -> list[Job]:
    """A job for each picture. Files are named <stem>.<method>.*, with a number where that name is taken by another picture's
    file or is one of the pictures itself, so that no input or output of this run is overwritten."""
    inputs = {Path(image).resolve() for image in images}
    taken: set[str] = set()
    jobs = []
    for image in images:
        names = (f"{_stem(image)}{number}.{method}" for number in ("", *(f"-{n}" for n in range(2, len(images) + len(inputs) + 2))))
        name = next(each for each in names if each.casefold() not in taken and not inputs & {(folder / f"{each}.png").resolve()})
        # without case: on some file systems A.png and a.png are one file
        taken.add(name.casefold())
        jobs.append(Job(image, folder / f"{name}.png" if overlay else None, folder / f"{name}.npz" if npz else None))
    return jobs


def _stem(image: str) -> str:
    """The stem of the files of a picture."""
    if image == STDIN:
        return "stdin"
    # an address ends where its query begins
    return Path(urlsplit(image).path if is_address(image) else image).stem or "picture"


def _folder(args: argparse.Namespace) -> Path:
    folder: Path = args.output or Path()
    if folder.exists() and not folder.is_dir():
        raise FastlocError(f"--output must be a folder, got the file {folder}")
    return folder


def _results(
    localizer: "Localizer | OnnxLocalizer | CnnLocalizer", jobs: Sequence[Job], args: argparse.Namespace
) -> "Iterator[Result | ImageError]":
    """The result of each job, or the reason why it has none, some batches read ahead."""
    enough = localizer.enough if args.decode == "reduced" else None
    if args.batch == AUTO:
        say(f"fastloc: {_choose(localizer, jobs, args, enough)}", error=True)
    elif fixed_batch(localizer) is None:
        localizer.batch = args.batch
    sources = (_picture(job.image, args.max_pixels, enough) for job in jobs)
    return localizer.attempts(sources, args.texts, max_pixels=args.max_pixels, decode=args.decode)


def _choose(
    localizer: "Localizer | OnnxLocalizer | CnnLocalizer", jobs: Sequence[Job], args: argparse.Namespace,
    enough: Callable[[Pair], Pair] | None,
) -> BatchChoice:  # fmt: skip
    """Set the localizer's batch by measuring it on the first pictures, decoded as all will be; 1 for a few, which are done before that
    would be known."""
    if (fixed := fixed_batch(localizer)) is not None:
        return fixed
    if len(jobs) < FEW:
        localizer.batch = 1
        return BatchChoice(1, {}, f"fewer than {FEW} pictures, too few to measure on")
    usable: list[Image] = []
    for job in jobs[:FEW]:
        if job.image != STDIN and len(usable) < SAMPLE:
            with suppress(ImageError):
                picture = read_picture(job.image, args.max_pixels, enough)
                localizer.place(picture)
                usable.append(picture)
    return choose_batch(localizer, usable, localizer.encode_texts(args.texts))


def _picture(name: str, max_pixels: int, enough: Callable[[Pair], Pair] | None) -> Any:
    """A picture for the localizer: its path, or what standard input holds, or the reason why that is none."""
    if name != STDIN:
        return name
    try:
        return read_picture(STDIN, max_pixels, enough)
    except ImageError as error:
        return error


def _answer(result: "Result", job: Job, args: argparse.Namespace) -> dict[str, Any]:
    if job.image == STDIN:
        result = replace(result, name=STDIN)
    if args.refine:
        result = result.refined(args.refine)
    for path in job.files:
        system_files.make_folder(path.parent, parents=True, exist_ok=True)
    if job.overlay:
        result.save(job.overlay)
    if job.npz:
        result.to_npz(job.npz)
    files = {"overlay": job.overlay and str(job.overlay), "npz": job.npz and str(job.npz)}
    return {**result.to_dict(args.threshold, score=args.min_score), **files}


def _complain(errors: Iterable[ImageError], count: int) -> int:
    """List the pictures that could not be used. Returns the exit status."""
    lines = [" ".join(str(error).split()) for error in errors]
    if count == 1 and lines:
        say(f"fastloc: error: {lines[0]}", error=True)
    elif lines:
        say(f"fastloc: error: {len(lines)} of {count} pictures could not be used:", *(f"  {line}" for line in lines), error=True)
    return 1 if lines else 0
