"""The process of one of fastloc's own contenders: `python -P -m fastloc.bench.worker NAME` speaks the protocol of `peers.protocol`."""

import sys
from collections.abc import Callable
from pathlib import Path

from fastloc.bench import facts
from fastloc.bench.backends import Backend, backend
from fastloc.bench.cases import Case
from fastloc.bench.peers.protocol import Passes, serve


def main(arguments: list[str]) -> None:
    row = backend(arguments[0])
    if row.runtime == "onnxruntime":
        from fastloc.bench import run_onnx

        folder = Path(arguments[1])
        serve(lambda told: run_onnx.build(row, Case.of(told), folder), run_onnx.versions(), tree=str(facts.TREE))
    else:
        from fastloc.bench import run_torch

        made: Callable[[Backend, Case], Passes] = getattr(run_torch, row.build)
        serve(lambda told: made(row, Case.of(told)), run_torch.versions(), tree=str(facts.TREE))


if __name__ == "__main__":
    main(sys.argv[1:])
