"""The runtimes of a CPU and their precisions: how often they point at the object, what they take, and how they share the cores.

    python benchmarks/runtimes.py                      # every part, as tables
    python benchmarks/runtimes.py --parts speed --record   # one part, written into benchmarks/records/runtimes.json
    python benchmarks/runtimes.py --quick              # whether it works

    pointing  the embedded model on the quality set: pointing and the error of similarities against the engine in float32, of PyTorch,
              onnxruntime and OpenVINO, in float32, bfloat16 and 8 bits; of 8 bits also with the products of attention, and by NNCF
    speed     one picture through each of them, in turns: the embedded model, and a ViT-B/16 with random weights; and torch.compile
    threads   one picture, and a stream of 720p frames, while a thread decodes and another encodes: with threads that spin, threads that
              sleep, and in OpenVINO with threads bound to cores and not

What is not installed, and a precision that the processor lacks, is left out, and said. OpenVINO: pip install "fastloc[openvino]"; NNCF: pip
install nncf. A record keeps the parts of earlier runs. Times mean something on a machine that does nothing else, and within one part of one
run.
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

from runtime_parts import pointing, speed, threads  # noqa: E402
from video_parts import record  # noqa: E402

RECORD = HERE / "records" / "runtimes.json"
PARTS = {"pointing": pointing, "speed": speed, "threads": threads}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--record", action="store_true", help=f"write the parts into benchmarks/records/{RECORD.name}")
    parser.add_argument("--quick", action="store_true", help="seconds for each part: whether it works")
    args = parser.parse_args(arguments)
    if args.quick and args.record:
        parser.error("a record is not of a quick run")
    for name in args.parts:
        head = record.head(("openvino", "nncf"))
        with tempfile.TemporaryDirectory() as folder:
            found: dict[str, Any] = {**head, **PARTS[name].run(Path(folder), args.quick)}
        print(name, *PARTS[name].lines(found), sep="\n", flush=True)
        if args.record:
            record.write({name: found}, RECORD)
    return 0


if __name__ == "__main__":
    sys.exit(main())
