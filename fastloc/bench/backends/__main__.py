"""The process of one of fastloc's own contenders: `python -P -m fastloc.bench.backends NAME` speaks `peers.protocol`."""

import sys
from collections.abc import Callable
from pathlib import Path

from fastloc.bench import run_facts
from fastloc.bench.backends.table import Backend, backend
from fastloc.bench.cases import Case
from fastloc.bench.peers.protocol import Passes, serve


def main(arguments: list[str]) -> None:
    row = backend(arguments[0])
    if row.runtime == "onnxruntime":
        from fastloc.bench.backends import onnx_backend

        folder = Path(arguments[1])
        serve(lambda fields: onnx_backend.build(row, Case.from_dict(fields), folder), onnx_backend.versions(), tree=str(run_facts.TREE))
    else:
        from fastloc.bench.backends import torch_backend

        made: Callable[[Backend, Case], Passes] = getattr(torch_backend, row.build)
        serve(lambda fields: made(row, Case.from_dict(fields)), torch_backend.versions(), tree=str(run_facts.TREE))


if __name__ == "__main__":
    main(sys.argv[1:])
