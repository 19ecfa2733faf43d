"""Exported files against the engine: every method in every spelling, precision and shape, in onnxruntime on this machine's CPU.

    python benchmarks/onnx_parity.py                       # everything, into a table
    python benchmarks/onnx_parity.py --record              # also writes benchmarks/records/onnx_parity.json
    python benchmarks/onnx_parity.py --methods gem --limit 20
    python benchmarks/onnx_parity.py --latency --record    # adds times, as multiples of PyTorch's, to the record: on an idle machine

The embedded model on the quality set, whose pictures have several shapes: files of any size take them all, files of one size their own.
Errors are the largest over all texts and the first SCENES pictures, against the engine in float32; labels are compared pixel by pixel.
Pointing accuracy is that of the whole set, for the files that are quantised.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
import onnx_ir as ir  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

import fastloc  # noqa: E402
from fastloc import embedded  # noqa: E402
from fastloc.export.graph import Parts  # noqa: E402
from fastloc.export.int8 import quantized  # noqa: E402
from fastloc.export.options import Options  # noqa: E402
from fastloc.export.to_onnx import trace  # noqa: E402
from fastloc.imaging import images  # noqa: E402
from fastloc.imaging.geometry import fit  # noqa: E402
from fastloc.imaging.preprocess import prepare  # noqa: E402
from fastloc.recipes import Recipe  # noqa: E402
from fastloc.runtime.providers import SHARED  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402
from gpu_parts import likeness, scenes  # noqa: E402
from quality_parts.kept_rows import Incomplete, marked, together  # noqa: E402

RECORD = HERE / "records" / "onnx_parity.json"
SIZE = (96, 96)
SCENES = 8
CPU = torch.device("cpu")
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One kind of file."""

    spelling: str
    dtype: str
    shape: str

    def options(self) -> Options:
        static = self.shape == "static"
        count = len(scenes.names()) if static else None
        return Options(self.spelling, self.dtype, batch=1 if static else None, size=SIZE if static else None, count=count)


CASES = (
    *(Case(spelling, dtype, "dynamic") for spelling in ("ort", "onnx", "decomposed") for dtype in ("float32", "float16")),
    *(Case(spelling, "float32", "static") for spelling in ("ort", "onnx", "decomposed")),
    Case("ort", "int8-dynamic", "dynamic"), Case("decomposed", "int8-static", "dynamic"),
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    variants = scenes.variants()
    parser.add_argument("--methods", nargs="+", default=list(variants), choices=list(variants), metavar="METHOD")
    parser.add_argument("--limit", type=int, default=SCENES, help=f"pictures for the errors (default: {SCENES})")
    parser.add_argument("--latency", action="store_true", help="times instead of errors")
    parser.add_argument("--record", action="store_true", help="write the record")
    args = parser.parse_args(arguments)
    if args.record and args.limit != SCENES:
        parser.error(f"a record must be of {SCENES} scenes; leave --limit out")
    rows = []
    for name in args.methods:
        for case in CASES:
            if args.latency and case.shape != "static" and "int8" not in case.dtype:
                continue
            began = time.perf_counter()
            rows.append(latency(name, variants[name], case) if args.latency else parity(name, variants[name], case, args.limit))
            print(*(f"{key} {value}" for key, value in rows[-1].items()), f"({time.perf_counter() - began:.0f} s)", sep="  ", flush=True)
    if args.record:
        try:
            write("latency" if args.latency else "rows", rows, list(variants))
        except Incomplete as error:
            parser.error(str(error))
    return 0


def parity(name: str, row: Recipe, case: Case, limit: int) -> Row:
    """Differences of one file's answers from the engine's, on the quality set."""
    session, size = _file(row, case)
    exact = scenes.engine(row, CPU, "float32", {})
    found = _run(session)
    words, empty = likeness.words(row)
    pairs = ((geometry, exact(inputs, words, empty), found(inputs, words)) for _, geometry, inputs in _chunks(case, limit))
    far = likeness.compared(row.readout, pairs)
    points = _points(row, found) if case.dtype.startswith("int8") else {}
    return {
        "method": name, "spelling": case.spelling, "dtype": case.dtype, "shape": case.shape,
        "similarity": float(f"{far['similarity']:.2e}"), "heatmap": float(f"{far['heatmap']:.2e}"), "labels": round(far["labels"], 6),
        "mb": round(size / 1e6, 2), **points,
    }  # fmt: skip


def latency(name: str, row: Recipe, case: Case, rounds: int = 15) -> Row:
    """Time of one file over PyTorch's for the same picture, in turns; medians."""
    session, _ = _file(row, case)
    words, empty = likeness.words(row)
    inputs = torch.rand(1, 3, *SIZE)
    exact, found = scenes.engine(row, CPU, "float32", {"launch": "eager"}), _run(session)
    calls: dict[str, Callable[[], Any]] = {"torch": lambda: exact(inputs, words, empty), "file": lambda: found(inputs, words)}
    seconds: dict[str, list[float]] = {side: [] for side in calls}
    for i in range(rounds + 3):
        for side, call in calls.items():
            began = time.perf_counter()
            call()
            if i > 2:
                seconds[side].append(time.perf_counter() - began)
            # threads that still spin would slow the other side
            time.sleep(0.02)
    ratio = np.median(np.divide(seconds["file"], seconds["torch"]))
    return {"method": name, "spelling": case.spelling, "dtype": case.dtype, "shape": case.shape, "ratio": round(float(ratio), 3)}


def write(key: str, rows: list[Row], methods: list[str]) -> None:
    """Replace these rows in one part of the record; the other part must be of the same weights."""
    before = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    if before.get("model_sha256") != scenes.fingerprint():
        before = {}
    head = {"benchmark": "onnx_parity", "provider": "CPUExecutionProvider", "machine": platform.machine(), "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__, "fastloc": fastloc.__version__, "scenes": SCENES,
            "questions": sum(len(scene.things) for scene in scenes.quality_set()), "model_sha256": scenes.fingerprint()}  # fmt: skip
    rows = together(RECORD, head, key, rows, methods)
    parts = {**{part: marked(before[part], before, head) for part in ("rows", "latency") if part in before}, key: rows}
    body = ",\n".join(f' "{part}": [\n' + ",\n".join("  " + json.dumps(row) for row in parts[part]) + "\n ]" for part in sorted(parts))
    write_text(RECORD, json.dumps(head, indent=1)[:-2] + ",\n" + body + "\n}\n")


def _file(row: Recipe, case: Case) -> tuple[onnxruntime.InferenceSession, int]:
    """A session of the file, and its bytes."""
    _, empty = likeness.words(row)
    tower = scenes.image_tower()
    model = trace(Parts(tower, row.at_scale(tower.logit_scale), case.options(), None, None, empty))
    if case.dtype.startswith("int8"):
        feeds = list(calibration()) if case.dtype == "int8-static" else []
        model = quantized(model, case.dtype, feeds, spelling=case.spelling)
    content = ir.to_proto(model).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for entry in SHARED.items():
        options.add_session_config_entry(*entry)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]), len(content)


def _run(session: onnxruntime.InferenceSession) -> Callable[..., Tensor]:
    def run(pixels: Tensor, words: Tensor, empty: Tensor | None = None) -> Tensor:
        return torch.from_numpy(session.run(["similarity"], {"pixels": pixels.numpy(), "text_embeddings": words.numpy()})[0])

    return run


def _chunks(case: Case, limit: int) -> Iterator[tuple[Any, Any, Tensor]]:
    """The scenes that a file takes: all, or the square ones, one by one."""
    for part, geometry, inputs in scenes.chunks(limit):
        if case.shape == "dynamic":
            yield part, geometry, inputs
        elif geometry.input == SIZE:
            for scene, one in zip(part, inputs.split(1), strict=True):
                yield (scene,), geometry, one


def _points(row: Recipe, found: Callable[..., Tensor]) -> Row:
    """Pointing accuracy of the file, and its difference from the engine's in points of a hundred."""
    runs = {"float32": scenes.engine(row, CPU, "float32", {}), "file": found}
    measured = scenes.measure(row, runs, CPU)
    exact, mine = measured["float32"]["pointing"], measured["file"]["pointing"]
    return {"pointing": round(mine, 4), "points": round(100 * (mine - exact), 2)}


def calibration() -> Iterator[dict[str, Any]]:
    """The sample scenes of the package, none of which is in the quality set."""
    spec = scenes.image_tower().spec
    for path in sorted(embedded.SAMPLES.glob("*.webp")):
        picture = images.load(path)
        where = fit(picture.size[::-1], SIZE[0], spec.patch, "aspect")
        words = likeness.words(scenes.variants()["gem"])[0]
        yield {"pixels": prepare(picture, where, spec.mean, spec.std, spec.interpolation)[None], "text_embeddings": words.numpy()}


if __name__ == "__main__":
    sys.exit(main())
