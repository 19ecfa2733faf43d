"""Half precision against float32 on this machine's CPU: how often every method points at the object, and how far similarities are off.

    python benchmarks/quality_parts/precision.py                # a table
    python benchmarks/quality_parts/precision.py --record       # also writes benchmarks/records/precision.json; with --methods, their rows
    in it

The embedded model and the quality set, every method with its official parameters and with the recommended ones, as in `quality.py`.
`gpu.py` does the same on a GPU, where half precision is what runs by itself.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import torch  # noqa: E402

import fastloc  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402
from gpu_parts import scenes  # noqa: E402
from quality_parts.kept_rows import Incomplete, together  # noqa: E402

RECORD = HERE / "records" / "precision.json"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    variants = scenes.variants()
    parser.add_argument("--methods", nargs="+", default=list(variants), choices=list(variants), metavar="METHOD")
    parser.add_argument("--limit", type=int, help="measure only the first scenes")
    parser.add_argument("--record", action="store_true", help="write the record")
    args = parser.parse_args(arguments)
    if args.record and args.limit:
        parser.error("a record must be of all scenes; leave --limit out")
    device, rows, began = torch.device("cpu"), [], time.perf_counter()
    for name in args.methods:
        runs = {dtype: scenes.engine(variants[name], device, dtype, {}) for dtype in ("float32", *scenes.DTYPES)}
        with torch.inference_mode():
            rows += scenes.rows_of(name, scenes.measure(variants[name], runs, device, args.limit))
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if args.record:
        head = {"benchmark": "precision", "device": "cpu", "machine": platform.machine(), "torch": torch.__version__,
                "fastloc": fastloc.__version__, "scenes": len(scenes.quality_set()), "model_sha256": scenes.fingerprint()}  # fmt: skip
        rounded = [{key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()} for row in rows]
        try:
            rounded = together(RECORD, head, "rows", rounded, variants)
        except Incomplete as error:
            parser.error(str(error))
        lines = ",\n".join("  " + json.dumps(row) for row in rounded)
        write_text(RECORD, json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n' + lines + "\n ]\n}\n")
    print("\n".join(scenes.table(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
