"""Time and memory of a result's read-outs, beside those of another commit.

    python benchmarks/readouts.py                              # of the working tree
    python benchmarks/readouts.py --against COMMIT             # of both, by turns
    python benchmarks/readouts.py --against COMMIT --record    # also writes benchmarks/records/readouts_cost.json

Each round has new processes with the same similarities, first of one, then of the other, so what else the machine does falls on both.
A process may use one processor, or as many as the step's name says, so that what divides its work among threads does not do so unseen.
Times mean something on a machine that does nothing else, ratios on any.

MB is what the first result adds to the process: the package, the picture (four bytes a pixel in Pillow) and the answer. "own" is what the
step itself adds at most, answer included, to a process that holds the package and the result already.
"""

from __future__ import annotations

import argparse
import ctypes
import inspect
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPO = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(REPO / "benchmarks") not in sys.path:
    sys.path.insert(0, str(REPO / "benchmarks"))

RECORD = REPO / "benchmarks" / "records" / "readouts_cost.json"
# height, width and texts
CASES = {"12 Mpx": (3000, 4000, 10), "1080p": (1080, 1920, 4)}
ORDERS = ("picture", "grid", "softmax")
# results of a process: of a picture that comes alone, and of a video's frames, which come by the thousand
REPEATS = {"12 Mpx": 3, "1080p": 15}


def result_of(case: str, order: str) -> Any:
    """A result of smooth random similarities, as a model's are: 28 x 28 patches of a few blobs."""
    from fastloc.imaging.geometry import fit
    from fastloc.results.result import Result

    height, width, texts = CASES[case]
    noise = np.random.default_rng(0).standard_normal((texts, 9, 9)).astype(np.float32)
    grid = [np.asarray(Image.fromarray(each).resize((28, 28), Image.Resampling.BICUBIC)) for each in noise]
    return Result(
        picture=Image.new("RGB", (width, height)), texts=tuple(map(str, range(texts))), similarity=0.2 + 0.03 * np.stack(grid),
        geometry=fit((height, width), 448, 16), order=order, logit_scale=100.0,
    )  # fmt: skip


def jpeg_of(size: tuple[int, int]) -> bytes:
    """A JPEG file of a smooth picture with grain, (height, width)."""
    random = np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
    file = io.BytesIO()
    grain = random.normal(0, 6, (*size, 1)).astype(np.float32)
    Image.fromarray((np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def saved(result: Any) -> bytes:
    """The overlay as a PNG file."""
    found: bytes = result._repr_png_()
    return found


@cache
def drawer() -> Any:
    from fastloc.video.output.drawing import Drawer

    return Drawer()


def drawn(result: Any) -> Any:
    """A frame of a video, drawn: its pixels are an array, as a decoder's are."""
    return drawer()(FRAMES[result.geometry.picture], result)


def drawn_in_planes(result: Any) -> Any:
    """A decoded frame of a video, drawn in its planes, and the frame that the encoder gets; through RGB where a commit knows no planes."""
    try:
        from fastloc.video.sources.planes import Planes
    except ImportError:
        return drawn_for_an_encoder(result)
    return drawer()(Planes.over(DECODED[result.geometry.picture]), result).native


def drawn_for_an_encoder(result: Any) -> Any:
    """The same frame the other way: converted to RGB, drawn, and converted back as `Encoder` does it."""
    pixels = DECODED[result.geometry.picture].reformat(format="rgb24", threads=1).to_ndarray()
    return as_yuv(drawer()(pixels, result))


def as_yuv(pixels: np.ndarray[Any, Any]) -> Any:
    """The frame of RGB pixels that an encoder takes, and a decoder gives."""
    import av
    from av.video.reformatter import ColorRange, Colorspace

    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)


def decoded(result: Any) -> Any:
    """A JPEG file of the picture's size to the model's input, at a reduced scale where there is one."""
    from fastloc.imaging import images
    from fastloc.imaging.preprocess import prepare

    geometry = result.geometry
    height, width = geometry.resized
    kept = {"enough": lambda _: (2 * height, 2 * width)} if "enough" in inspect.signature(images.load).parameters else {}
    return prepare(images.load(FILES[geometry.picture], **kept), geometry, (0.5,) * 3, (0.5,) * 3)


def frame_to_input(result: Any) -> Any:
    """A decoded frame to the model's input in its planes; through RGB and Pillow's resize where a commit has no other way."""
    from fastloc.imaging.preprocess import prepare

    try:
        from fastloc.imaging.reduced_picture import ScaledPicture
        from fastloc.video.sources.planes import Planes
    except ImportError:
        return frame_to_input_through_rgb(result)
    geometry = result.geometry
    planes = Planes.over(DECODED[geometry.picture])
    picture = ScaledPicture(geometry.picture[::-1], lambda: Image.fromarray(planes.rgb()), planes.scaled)
    return prepare(picture, geometry, (0.5,) * 3, (0.5,) * 3)


def frame_to_input_through_rgb(result: Any) -> Any:
    """The same, exactly that of a picture: converted to RGB, and resized by Pillow."""
    from fastloc.imaging.preprocess import prepare

    pixels = DECODED[result.geometry.picture].reformat(format="rgb24", threads=1).to_ndarray()
    return prepare(Image.fromarray(pixels), result.geometry, (0.5,) * 3, (0.5,) * 3)


# made where a step needs one, before the clock starts
FILES: dict[tuple[int, int], bytes] = {}
FRAMES: dict[tuple[int, int], np.ndarray[Any, Any]] = {}
DECODED: dict[tuple[int, int], Any] = {}

STEPS = {
    "maps as bytes": lambda result: result.heatmap_array("uint8") if hasattr(result, "heatmap_array") else result.heatmaps,
    "maps": lambda result: result.heatmaps,
    "overlay": lambda result: result.overlay(),
    "overlay, saved": saved,
    "frame drawn": drawn,
    "frame drawn, two threads": drawn,
    "frame to RGB, drawn, and back": drawn_for_an_encoder,
    "frame drawn in planes": drawn_in_planes,
    "frame drawn in planes, two threads": drawn_in_planes,
    "file to input": decoded,
    "frame to input": frame_to_input_through_rgb,
    "frame to input in planes": frame_to_input,
    "points": lambda result: result.points(),
    "points, boxes": lambda result: (result.points(), result.boxes()),
    "points, boxes, labels": lambda result: (result.points(), result.boxes(), result.labels()),
    "labels at a threshold": lambda result: result.labels(0.5),
    "masks": lambda result: result.masks(),
}


# processors of a step, where they are more than one
PROCESSORS = {"frame drawn, two threads": 2, "frame drawn in planes, two threads": 2}


def held_kb(name: str = "VmHWM") -> int:
    """The most memory that this process has held, in KB, or "VmRSS", what it holds; getrusage's figure is never less than that of the
    process it was forked from."""
    found = re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(found[1]) if found else 0


def fresh_peak() -> None:
    """Give memory that nothing holds back to the system, and count the peak from what is held now."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def measured(case: str, order: str, step: str, repeats: int) -> dict[str, float]:
    """Milliseconds, the median of several, of results that have computed nothing yet, and of work of all threads; MB that the first one
    added to the process; and those that the step alone added, of the last one, whose packages are there."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: PROCESSORS.get(step, 1)])
    size = CASES[case][:2]
    if step == "file to input":
        FILES[size] = jpeg_of(size)
    if STEPS[step] is drawn:
        FRAMES[size] = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    if STEPS[step] in (drawn_in_planes, drawn_for_an_encoder, frame_to_input, frame_to_input_through_rgb):
        DECODED[size] = as_yuv(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    times, work = [], []
    before = held_kb()
    after, own = before, 0
    for number in range(repeats):
        result = result_of(case, order)
        if number == repeats - 1:
            fresh_peak()
        there, begun, worked = held_kb("VmRSS"), time.perf_counter(), time.process_time()
        # held until the clock and the memory are read: an answer is a part of its cost, and giving it back is not
        answer = STEPS[step](result)
        times.append(1e3 * (time.perf_counter() - begun))
        work.append(1e3 * (time.process_time() - worked))
        if not number:
            after = held_kb()
        own = held_kb() - there
        del answer, result
    return {"ms": statistics.median(times), "cpu_ms": statistics.median(work), "mb": (after - before) / 1024, "own_mb": own / 1024}


def child(folder: Path, case: str, order: str, step: str, repeats: int) -> dict[str, float]:
    """`measured` in a process of its own, with the package of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", case, order, step, "--repeats", str(repeats)]
    run = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    found: dict[str, float] = json.loads(run.stdout)
    return found


def unpacked(commit: str, folder: Path) -> Path:
    """The package of a commit, in a folder."""
    packed = subprocess.run(["git", "-C", str(REPO), "archive", commit, "fastloc"], check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(folder, filter="data")
    return folder


def short(commit: str) -> str:
    """The name of a commit, eight digits."""
    command = ["git", "-C", str(REPO), "rev-parse", "--verify", "--short=8", commit + "^{commit}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.strip()


def row_of(case: str, order: str, step: str, rounds: list[list[dict[str, float]]]) -> dict[str, Any]:
    """Of rounds by turns the median, least and greatest time of each folder, its median memory, and the ratio of the times in a round."""
    sides = list(zip(*rounds, strict=True))
    row: dict[str, Any] = {"case": case, "order": order, "step": step}
    for name, side in zip(("before", "now")[-len(sides):], sides, strict=True):
        row[f"{name}_ms"] = spread([one["ms"] for one in side])
        row[f"{name}_cpu_ms"] = spread([one["cpu_ms"] for one in side])
        for kind in ("mb", "own_mb"):
            row[f"{name}_{kind}"] = round(statistics.median(one[kind] for one in side))
    if len(sides) == 2:
        row["ratio"] = spread([before["ms"] / now["ms"] for before, now in rounds])
    return row


def spread(values: list[float]) -> list[float]:
    """Median, least and greatest."""
    return [round(value, 2) for value in (statistics.median(values), min(values), max(values))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="a commit, whose package is unpacked into a temporary folder")
    parser.add_argument("--record", action="store_true", help=f"write benchmarks/records/{RECORD.name}; needs --against")
    parser.add_argument("--rounds", type=int, default=5)
    usual = ", ".join(f"{count} of {case}" for case, count in REPEATS.items())
    parser.add_argument("--repeats", type=int, help=f"results a process (default: {usual})")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--orders", nargs="+", default=list(ORDERS[:1]), choices=ORDERS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(*args.one, args.repeats)))
        return
    if args.record and args.against is None:
        parser.error("--record needs --against COMMIT: the record is of both, by turns")
    with tempfile.TemporaryDirectory() as folder:
        folders = [*([] if args.against is None else [unpacked(args.against, Path(folder))]), REPO]
        head = _head(args) if args.record else {}
        rows = []
        for case, order, step in product(args.cases, args.orders, args.steps):
            repeats = args.repeats or REPEATS[case]
            rounds = [[child(each, case, order, step, repeats) for each in folders] for _ in range(args.rounds)]
            rows.append(row_of(case, order, step, rounds))
            print(_line(rows[-1]), flush=True)
    if args.record:
        from video_parts import record

        record.write({"readouts": {**head, "rows": rows}}, RECORD)


def _head(args: argparse.Namespace) -> dict[str, Any]:
    """The facts of a record. A process has one thread, unless a step's name says more, and of the packages numpy, Pillow and PyAV alone."""
    from video_parts import record

    facts = record.head(("PIL", "av"))
    facts["versions"] = {name: facts["versions"][name] for name in ("fastloc", "numpy", "PIL", "av")}
    return {**facts, "threads": 1, "against": short(args.against), "rounds": args.rounds,
            "repeats": {case: args.repeats or REPEATS[case] for case in args.cases}}  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    cells = [f"{row['case']:7} {row['order']:8} {row['step']:34}"]
    sides = [name for name in ("before", "now") if f"{name}_ms" in row]
    for name in sides:
        ms, cpu = (row[f"{name}_{kind}"][0] for kind in ("ms", "cpu_ms"))
        cells.append(f"{ms:8.1f} ms (CPU {cpu:7.1f}) {row[f'{name}_mb']:5} MB, own {row[f'{name}_own_mb']:4}")
    return "  ".join([*cells, *(["{:5.2f}x ({:.2f} to {:.2f})".format(*row["ratio"])] if "ratio" in row else [])])


if __name__ == "__main__":
    main()
