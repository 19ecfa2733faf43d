"""`fastloc batch`: texts in any number of pictures, as rows in Parquet. An interrupted run continues where it stopped."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc.auto import CLIP, kind_of
from fastloc.cli.arguments import add_decode, add_execution, add_exported, add_method, add_pixels, add_self_check, add_source, add_texts
from fastloc.cli.localizers import changes, note_embedded, note_self_check
from fastloc.errors import FastlocError
from fastloc.utils.argument_types import count, count_or_auto
from fastloc.utils.terminal import say

if TYPE_CHECKING:
    from fastloc.scale.batch import Maker
    from fastloc.scale.locate import Locate
    from fastloc.scale.shards import Counts, Shard

# seconds between two lines that say how far it is
EVERY = 10.0
_BATCH = "pictures a call of the model: a number, or auto to measure it on the first ones and keep it for the folder (default: 8)"
# options of a localizer, by the names that arguments and localizers share
_OPTIONS = ("projections", "size", "fit", "template", "dtype", "temperatures", "registers", "embeddings", "providers")


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc batch`."""
    # argparse's own line puts the sources last, where -t would swallow them
    parser.usage = "fastloc batch SOURCE [SOURCE ...] -t TEXT [TEXT ...] -o OUT [options]"
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE",
        help="folder (searched in depth), quoted pattern, .txt list, .tar or .parquet; also at an address such as s3://bucket/folder",
    )  # fmt: skip
    add_texts(parser)
    group = parser.add_argument_group("model")
    add_source(group)
    add_execution(group)
    add_self_check(group)
    add_exported(group)
    add_method(parser.add_argument_group("method"))
    add_pixels(group)
    add_decode(group)
    group.add_argument("--batch", type=count_or_auto, default=8, metavar="N", help=_BATCH)
    group.add_argument("--threads", type=count, metavar="N", help="threads, each with a window of pictures (default: one a core)")
    _add_output(parser.add_argument_group("output"))
    group = parser.add_argument_group("sources")
    group.add_argument(
        "--image-column", default="", metavar="NAME", help="column of a .parquet file with bytes or paths (default: usual names)"
    )
    group.add_argument("--key-column", default="", metavar="NAME", help="column of keys (default: key, __key__, id or image_id, if any)")
    _add_ray(parser.add_argument_group("Ray"))


def _add_ray(ray: "argparse._ArgumentGroup") -> None:
    text = "run on Ray: the cluster at HOST:PORT, auto for this machine's cluster, local for this machine alone"
    ray.add_argument("--ray", nargs="?", const="", metavar="ADDRESS", help=f"{text} (default: RAY_ADDRESS, else local)")
    ray.add_argument("--actors", type=count, metavar="N", help="number of actors (default: as many as GPUs allow, or one every 4 cores)")
    ray.add_argument("--actor-gpus", type=float, metavar="F", help="GPUs an actor, such as 0.5 (default: 1 on cuda)")


def _add_output(output: "argparse._ArgumentGroup") -> None:
    output.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="folder for the rows; the same command continues a run that is there"
    )
    output.add_argument(
        "--threshold", type=float, default=0.5, metavar="F", help="least heat of a pixel in a box, 0 to 1 (default: 0.5)"
    )
    output.add_argument("--min-score", type=float, metavar="F", help="least score of a text with boxes and a mask, 0 to 1 (default: any)")
    output.add_argument("--no-heatmaps", action="store_true", help="write peaks, boxes and scores, but no masks")
    output.add_argument("--grids", action="store_true", help="write similarity grids too, float16")
    output.add_argument("--shard", type=count, default=1024, metavar="N", help="pictures a file of rows (default: 1024)")
    output.add_argument("--retry-failed", action="store_true", help="try failed pictures again")


def run(args: argparse.Namespace) -> int:
    """Run the command: 0, or 1 if a picture could not be used. Raises FastlocError for an error that concerns all of them."""
    # a missing package is found now, not by the first picture
    for package in ("pyarrow", "fsspec", "pycocotools"):
        import_module(package)
    from fastloc.scale.batch import batch
    from fastloc.scale.sources.listing import Columns

    folder = _folder(args)
    _check_ray(args)
    locate = _locate(args)
    note_embedded(args, locate.localizer)
    counts = batch(
        args.sources, locate, folder, shard=args.shard, columns=Columns(args.image_column, args.key_column), retry=args.retry_failed,
        maker=_maker(args, locate, folder), report=_Progress(),
        chosen=lambda line: say(f"fastloc: {line}", error=True),
    )  # fmt: skip
    say(f"{folder}: {counts.pictures:,} pictures in, {counts.located:,} out, {counts.failed:,} failed")
    if args.ray is None:
        note_self_check(locate.localizer)
    if counts.failed:
        where = folder / "errors.parquet"
        say(f"fastloc: error: {counts.failed:,} of {counts.pictures:,} pictures could not be used: see {where}", error=True)
    return 1 if counts.failed else 0


def _folder(args: argparse.Namespace) -> Path:
    if "://" in args.output:
        raise FastlocError(f"-o must be a folder, got the address {args.output}; mount it, or copy the folder there afterwards")
    if args.no_heatmaps and args.grids:
        raise FastlocError("--no-heatmaps must stand without --grids, got both; leave one out")
    return Path(args.output)


def _locate(args: argparse.Namespace) -> "Locate":
    from fastloc.scale.locate import Locate

    options: dict[str, Any] = {name: value for name in _OPTIONS if (value := getattr(args, name))}
    options |= changes(args) | ({"official": True} if args.official else {}) | ({"plan": dict(args.plan)} if args.plan else {})
    if args.text_tower:
        options["text"] = args.text_tower
    if kind_of(args.model) == CLIP and (wrong := [name for name in ("embeddings", "providers", "text") if name in options]):
        raise FastlocError(f"--{wrong[0]} must come with an exported .onnx file, got --model {args.model}; leave it out")
    return Locate(
        args.texts, model=args.model, pretrained=args.pretrained, method=args.method, device=args.device, threshold=args.threshold,
        score=args.min_score, masks=not args.no_heatmaps, grids=args.grids, batch=args.batch, threads=args.threads,
        max_pixels=args.max_pixels, decode=args.decode, self_check=args.self_check, **options,
    )  # fmt: skip


def _check_ray(args: argparse.Namespace) -> None:
    """Raise FastlocError for a fault of Ray before the model is loaded."""
    if args.ray is not None:
        from fastloc.scale.ray_session import check

        check(args.ray)
    for name in ("actors", "actor_gpus"):
        if args.ray is None and (value := getattr(args, name)) is not None:
            option = name.replace("_", "-")
            raise FastlocError(f"--{option} must come with --ray, got {value:g} without; add --ray, or leave it out")


def _maker(args: argparse.Namespace, locate: "Locate", folder: Path) -> "Maker | None":
    """The actors of Ray where you ask for them; None for this process."""
    if args.ray is None:
        return None
    from fastloc.scale import on_ray

    def made(shards: Iterable["Shard"]) -> Iterator[tuple[int, "Counts"]]:
        # where Ray says that an actor has died
        with redirect_stdout(sys.stderr):
            yield from on_ray.run(locate, shards, folder, address=args.ray, actors=args.actors, gpus=args.actor_gpus)

    return made


class _Progress:
    """A line to standard error now and then."""

    def __init__(self) -> None:
        self.begun = self.last = time.monotonic()

    def __call__(self, counts: "Counts") -> None:
        now = time.monotonic()
        if now - self.last >= EVERY:
            self.last = now
            say(f"fastloc: {counts.pictures:,} pictures, {counts.failed:,} failed, {now - self.begun:.0f} s", error=True)
