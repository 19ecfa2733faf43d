"""Time and memory of a result's read-outs, beside those of another checkout: `python benchmarks/readouts.py --against FOLDER`.

Both are run by turns, each round in new processes with the same similarities, so what else the machine does falls on both. Nothing but
numpy and one core is used.
"""

from __future__ import annotations

import argparse
import inspect
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPO = Path(__file__).resolve().parents[1]
# height, width and texts
CASES = {"12 Mpx": (3000, 4000, 10), "1080p": (1080, 1920, 4)}
ORDERS = ("picture", "grid", "softmax")


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


def saved(result: Any) -> None:
    """The overlay as a PNG file."""
    result._repr_png_()


@cache
def drawer() -> Any:
    from fastloc.video.output.drawing import Drawer

    return Drawer()


def drawn(result: Any) -> None:
    """A frame of a video, drawn."""
    drawer()(np.asarray(result.picture), result)


def decoded(result: Any) -> None:
    """A JPEG file of the picture's size to the model's input, at a reduced scale where there is one."""
    from fastloc.imaging import images
    from fastloc.imaging.preprocess import prepare

    geometry = result.geometry
    height, width = geometry.resized
    kept = {"enough": lambda _: (2 * height, 2 * width)} if "enough" in inspect.signature(images.load).parameters else {}
    prepare(images.load(FILES[geometry.picture], **kept), geometry, (0.5,) * 3, (0.5,) * 3)


# made where a step needs one
FILES: dict[tuple[int, int], bytes] = {}

STEPS = {
    "maps as bytes": lambda result: result.heatmap_array("uint8") if hasattr(result, "heatmap_array") else result.heatmaps,
    "maps": lambda result: result.heatmaps,
    "overlay": lambda result: result.overlay(),
    "overlay, saved": saved,
    "frame drawn": drawn,
    "file to input": decoded,
    "points": lambda result: result.points(),
    "points, boxes": lambda result: (result.points(), result.boxes()),
    "points, boxes, labels": lambda result: (result.points(), result.boxes(), result.labels()),
    "masks": lambda result: result.masks(),
}


def measured(case: str, order: str, step: str, repeats: int) -> dict[str, float]:
    """Milliseconds, the median of several, of results that have computed nothing yet; and MB that the first one added to the process."""
    if step == "file to input":
        FILES[CASES[case][:2]] = jpeg_of(CASES[case][:2])
    times = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    after = before
    for number in range(repeats):
        result = result_of(case, order)
        begun = time.perf_counter()
        STEPS[step](result)
        times.append(1e3 * (time.perf_counter() - begun))
        if not number:
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"ms": statistics.median(times), "mb": (after - before) / 1024}


def child(folder: Path, case: str, order: str, step: str, repeats: int) -> dict[str, float]:
    """`measured` in a process of its own, with the package of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    told = [sys.executable, __file__, "--one", case, order, step, "--repeats", str(repeats)]
    found: dict[str, float] = json.loads(subprocess.run(told, env=environment, check=True, capture_output=True, encoding="utf-8").stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, such as a git worktree")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="results a process")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--orders", nargs="+", default=list(ORDERS[:1]), choices=ORDERS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(*args.one, args.repeats)))
        return
    folders = [REPO] if args.against is None else [args.against.resolve(), REPO]
    for case in CASES:
        for order in args.orders:
            for step in args.steps:
                rounds = [[child(folder, case, order, step, args.repeats) for folder in folders] for _ in range(args.rounds)]
                line = [f"{case:7} {order:8} {step:22}"]
                for each in zip(*rounds, strict=True):
                    time_ms, memory = (statistics.median(one[key] for one in each) for key in ("ms", "mb"))
                    line.append(f"{time_ms:8.1f} ms {memory:7.0f} MB")
                if args.against is not None:
                    ratios = sorted(other["ms"] / own["ms"] for other, own in rounds)
                    line.append(f"{statistics.median(ratios):5.1f}x ({ratios[0]:.1f} to {ratios[-1]:.1f})")
                print("  ".join(line), flush=True)


if __name__ == "__main__":
    main()
