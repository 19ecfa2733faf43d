"""Models for an edge device: the size of their files, the time of a frame in onnxruntime on this CPU, and pointing at the object.

    python benchmarks/edge.py                                # every model, as a table
    python benchmarks/edge.py --models MobileCLIP2-S0 RN50   # some
    python benchmarks/edge.py --record                       # written into benchmarks/records/edge.json
    python benchmarks/edge.py --quick                        # whether it works

A frame is the pass of `itsm`, the untouched encoder with every patch read, from normalised pixels of the model's own size with four texts
to similarities; every kind of tower has that method. Files are of one size: float32, float16, and 8 bits with ranges found at every call
or calibrated. open_clip's own image tower runs eagerly in the same turns. Models without trained weights at hand have seeded random ones,
which take the same time. An embedded model, whose weights are trained, also answers the quality set from its files. Times mean something
on a machine that does nothing else.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from edge_parts import pointing, speed  # noqa: E402
from fastloc.utils.hardware import processors  # noqa: E402
from video_parts import record  # noqa: E402

RECORD = HERE / "records" / "edge.json"
MODELS = (
    "embedded", "embedded-device", "MobileCLIP2-S0", "MobileCLIP2-S2", "MobileCLIP2-B", "ViT-B-32", "ViT-B-16", "RN50", "ViTamin-S",
    "convnext_base",
)  # fmt: skip
QUICK = ("embedded", "MobileCLIP2-S0")


def rows(names: tuple[str, ...], quick: bool) -> list[dict[str, Any]]:
    """A row a model."""
    found = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            row = speed.measured(name, Path(folder), speed.QUICK if quick else speed.ROUNDS)
            if name in pointing.EMBEDDED:
                row["pointing"] = pointing.measured(name, Path(folder), pointing.QUICK if quick else None)
        found.append(row)
        print(line(row), flush=True)
    return found


def line(row: dict[str, Any]) -> str:
    """A model as text."""
    times = ", ".join(f"{way} {each['ms']:.1f} ms" for way, each in row["times"].items())
    sizes = ", ".join(f"{dtype} {size:.1f} MB" for dtype, size in row["mb"].items())
    points = ", ".join(f"{dtype} {share:.3f}" for dtype, share in row.get("pointing", {}).get("files", {}).items())
    return f"{row['model']} ({row['weights']}) {row['size']} px: {sizes}; {times}{f'; pointing {points}' if points else ''}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="NAME", help=f"as of `python -m fastloc.bench` (default: {' '.join(MODELS)})")
    parser.add_argument("--record", action="store_true", help=f"write benchmarks/records/{RECORD.name}")
    parser.add_argument("--quick", action="store_true", help="two models and two rounds: whether it works")
    args = parser.parse_args(arguments)
    if args.record and (args.quick or args.models):
        parser.error("a record must be of all models and rounds; leave --quick and --models out")
    head = record.head()
    names = tuple(args.models or (QUICK if args.quick else MODELS))
    found = {**head, "used_threads": processors(), "texts": speed.TEXTS, "rows": rows(names, args.quick)}
    if args.record:
        record.write({"models": found}, RECORD)
    return 0


if __name__ == "__main__":
    sys.exit(main())
