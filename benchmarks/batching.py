"""Pictures a call: the same work in batches and one by one, in turns.

    python benchmarks/batching.py                      # every model and kind of work, as tables
    python benchmarks/batching.py --models embedded --work files frames
    python benchmarks/batching.py --record             # into benchmarks/records/batching.json
    python benchmarks/batching.py --seconds 900        # fewer rounds where they would take longer
    python benchmarks/batching.py --quick              # whether it works

    files     picture files of three sizes through `Localizer.attempts`, and the peaks of each
    frames    1080p frames through `predict_frames`
    rows      the same files through `Locate`, as `fastloc batch` has them: a window a thread, without its shards

Every round runs each number of pictures a call once, beginning with another one each time. A ratio is the time of one picture a call over
that of a batch, of the same round, so that above 1 the batch is faster; printed are its median, least and greatest. "error" is the largest
difference of a similarity from that of one picture a call; grids of rows are float16. "auto" is what `--batch auto` chooses before that.
ViT-B/32 has random weights, which cost the same as trained ones; ViT-B/16 at 448 pixels would take an hour and more on two cores. Ratios of
a machine that does other things are provisional.

--seconds is for the whole run: each row has its share of what is left, and makes rounds until it is over, 3 at least, so that a slow
machine can take longer. The record has the rounds of each row, and the seconds that were asked for and taken.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from fastloc.results.base_localizer import BaseLocalizer  # noqa: E402
from fastloc.results.batch_choice import choose_batch, find_batch  # noqa: E402
from fastloc.scale import Locate  # noqa: E402
from fastloc.utils.argument_types import count  # noqa: E402
from video_parts import record  # noqa: E402

RECORD = HERE / "records" / "batching.json"
TEXTS = ["cat", "pizza", "red car", "tree"]
SIZES, QUICK = (1, 2, 4, 8, 16), (1, 2)
ROUNDS, FEWEST, COUNT, PICTURES = 7, 3, 16, ((480, 640), (640, 480), (600, 600))
FRAME = (1080, 1920)
# a kind of work: what it does with so many pictures a call, what `--batch auto` measures of it, and similarities to compare
Work = tuple[Callable[[int], Any], Callable[[], int], Callable[[int], list[np.ndarray[Any, Any]]]]


def embedded(_: Path) -> dict[str, Any]:
    """The arguments of `fastloc.load`."""
    return {"model": "embedded"}


def embedded_onnx(folder: Path) -> dict[str, Any]:
    from fastloc.embedded import GEM_ONNX

    return {"model": str(GEM_ONNX)}


def vit(_: Path) -> dict[str, Any]:
    return {"model": "ViT-B-32", "pretrained": "random"}


def vit_onnx(folder: Path) -> dict[str, Any]:
    from fastloc.engine.localizer import Localizer
    from fastloc.export.options import Options
    from fastloc.export.to_onnx import export

    path = folder / "vit.onnx"
    if not path.exists():
        export(Localizer("ViT-B-32", "random"), path, Options(texts=TEXTS, batch=None))
    return {"model": str(path)}


MODELS = {"embedded": embedded, "embedded-onnx": embedded_onnx, "vit": vit, "vit-onnx": vit_onnx}


def files_work(options: dict[str, Any], paths: Sequence[Path], _: Sequence[Any]) -> Work:
    localizer = loaded(options)
    texts = localizer.encode_texts(TEXTS)

    def located(size: int) -> list[Any]:
        localizer.batch = size
        return list(localizer.attempts(paths, TEXTS))

    pictures = [Image.open(path).convert("RGB") for path in paths]
    return (
        lambda size: [result.points() for result in located(size)], lambda: choose_batch(localizer, pictures, texts).batch,
        lambda size: [result.similarity for result in located(size)],
    )  # fmt: skip


def frames_work(options: dict[str, Any], _: Sequence[Path], frames: Sequence[Any]) -> Work:
    localizer: Any = loaded(options)
    texts = localizer.encode_texts(TEXTS)

    def located(size: int) -> list[Any]:
        cut = (frames[start : start + size] for start in range(0, len(frames), size))
        return [found for part in cut for found in localizer.predict_frames(part, texts)]

    def auto() -> int:
        return find_batch(lambda size: len(localizer.predict_frames([frames[0]] * size, texts))).batch

    return located, auto, lambda size: [found.similarity for found in located(size)]


def rows_work(options: dict[str, Any], paths: Sequence[Path], _: Sequence[Any]) -> Work:
    locate = Locate(TEXTS, **options, masks=False, grids=True)
    # every thread has a window of two of the largest batches
    most = 2 * max(SIZES if len(paths) == COUNT else QUICK) * locate.threads
    pictures = [(f"{number}", path) for number, path in enumerate(islice(cycle(paths), most))]

    def located(size: int) -> list[dict[str, Any]]:
        locate.use_batch(size)
        return [row for _, found in locate.windows([(None, pictures)]) for row in found.rows]

    return (
        located, lambda: locate.find_batch(pictures).batch,
        lambda size: [np.array(row["grid"], np.float32) for row in located(size) if row["text_index"] == 0],
    )  # fmt: skip


WORK = {"files": files_work, "frames": frames_work, "rows": rows_work}


def loaded(options: dict[str, Any]) -> BaseLocalizer[Any]:
    from fastloc.auto import load

    found: BaseLocalizer[Any] = load(options["model"], **{name: value for name, value in options.items() if name != "model"})
    return found


def compared(work: Callable[[int], Any], sizes: Sequence[int], rounds: int, end: float = float("inf")) -> dict[int, list[float]]:
    """Ratios to one picture a call of each round. No round begins from which on the clock would pass `end`, seconds of `time.perf_counter`,
    as the last one took; at least `FEWEST` are made, or `rounds` where they are fewer. Every size has run before."""
    ratios: dict[int, list[float]] = {size: [] for size in sizes}
    took = 0.0
    for number in range(rounds):
        begun = time.perf_counter()
        if number >= FEWEST and begun + took > end:
            break
        first = number % len(sizes)
        seconds = {}
        for size in (*sizes[first:], *sizes[:first]):
            start = time.perf_counter()
            work(size)
            seconds[size] = time.perf_counter() - start
        took = time.perf_counter() - begun
        for size in sizes:
            ratios[size].append(seconds[1] / seconds[size])
    return ratios


def run(
    models: Sequence[str], works: Sequence[str], folder: Path, rounds: int, quick: bool = False, seconds: float = float("inf")
) -> list[dict[str, Any]]:
    """A row for every model and kind of work, in about so many seconds."""
    begun = time.perf_counter()
    sizes, pictures = (QUICK, 4) if quick else (SIZES, COUNT)
    noise = np.random.default_rng(0)
    paths = []
    for number in range(pictures):
        coarse = Image.fromarray(noise.integers(0, 256, (12, 12, 3), np.uint8))
        paths.append(folder / f"{number:02}.jpg")
        coarse.resize(PICTURES[number % len(PICTURES)][::-1], Image.Resampling.BICUBIC).save(paths[-1])
    frames = [np.roll(np.asarray(Image.open(paths[0]).resize(FRAME[::-1])), 40 * number, 1) for number in range(pictures)]
    rows: list[dict[str, Any]] = []
    for place, (name, kind) in enumerate(product(models, works)):
        now = time.perf_counter()
        end = now + (begun + seconds - now) / (len(models) * len(works) - place)
        work, auto, similarities = WORK[kind](MODELS[name](folder), paths, frames)
        # all sizes have run after this, so that what is built at a first call is not measured
        alone = similarities(1)
        errors = {size: max(float(np.abs(a - b).max()) for a, b in zip(alone, similarities(size), strict=True)) for size in sizes[1:]}
        # before the rounds, which take what is left
        chosen = None if quick else auto()
        ratios = compared(work, sizes, rounds, end)
        rows.append({
            "model": name, "work": kind, "pictures": len(alone), "rounds": len(ratios[1]), "auto": chosen,
            "sizes": [{"size": size, "ratios": ratios[size], "error": errors[size]} for size in sizes[1:]],
        })  # fmt: skip
        print(*lines(rows[-1:]), sep="\n", flush=True)
    return rows


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    found = []
    for row in rows:
        found.append(f"{row['model']}, {row['work']}: {row['rounds']} rounds of {row['pictures']} pictures; auto chose {row['auto']}")
        for each in row["sizes"]:
            median, least, most = np.median(each["ratios"]), min(each["ratios"]), max(each["ratios"])
            found.append(f"  batch {each['size']:2}: {median:.2f}x ({least:.2f} to {most:.2f}), error {each['error']:.1e}")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK), metavar="WORK", help=", ".join(WORK))
    parser.add_argument("--rounds", type=count, metavar="N", help=f"rounds at most (default: {ROUNDS})")
    parser.add_argument("--seconds", type=count, metavar="N", help=f"of the whole run, but {FEWEST} rounds a row at least (default: any)")
    parser.add_argument("--record", action="store_true", help=f"write benchmarks/records/{RECORD.name}")
    parser.add_argument("--quick", action="store_true", help="two rounds of a few pictures: whether it works")
    args = parser.parse_args(arguments)
    if args.quick and args.record:
        parser.error("a record is not of a quick run")
    head, begun = record.head(()), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fastloc-batching-") as folder:
        limit = float("inf") if args.seconds is None else float(args.seconds)
        rows = run(args.models, args.work, Path(folder), args.rounds or (2 if args.quick else ROUNDS), args.quick, limit)
    if args.record:
        asked = {"seconds": args.seconds, "taken_seconds": round(time.perf_counter() - begun)}
        record.write({"batching": {**head, **asked, "rows": rows}}, RECORD)
    return 0


if __name__ == "__main__":
    sys.exit(main())
