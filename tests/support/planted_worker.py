"""A contender of the tests, in which something is planted: the engine itself, or a quick stand-in that answers what stands in a file.

Its command line is JSON: {"engine": whether it is the engine, "seconds": a call's least time, "slower": its sleep on top as a share of
that, "wrong": added to the answer, "wrong_later": added from the second time on, "fails", "dies": at which command}.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fastloc.bench.peers.protocol import Passes, serve

PLANTED: dict[str, Any] = {"seconds": 0.0, "slower": 0.0, "wrong": 0.0, **json.loads(sys.argv[1])}


def build(case: dict[str, Any]) -> Passes:
    passes = _engine(case) if PLANTED.get("engine") else _stand_in(case)
    _planted("prepare")
    real, answer, asked = passes.model, passes.answer, [0]
    assert answer

    def model(index: int) -> Any:
        _planted("go")
        began = time.perf_counter()
        found = real(index)
        # a call of a known length: what else the machine does is lost in it
        time.sleep(max(PLANTED["seconds"] - (time.perf_counter() - began), 0) + PLANTED["slower"] * PLANTED["seconds"])
        return found

    def grids() -> np.ndarray[Any, Any]:
        asked[0] += 1
        late = asked[0] > 1 and PLANTED.get("wrong_later", 0.0)
        return answer() + np.float32(PLANTED["wrong"] or late)

    return Passes(model, grids, None, columns=passes.columns)


def _engine(case: dict[str, Any]) -> Passes:
    from fastloc.bench.backends import torch_backend
    from fastloc.bench.backends.table import BACKENDS
    from fastloc.bench.cases import Case

    return torch_backend.engine(BACKENDS["torch"], Case.from_dict(case))


def _stand_in(case: dict[str, Any]) -> Passes:
    grids = np.load(Path(case["inputs"]) / "wanted.npy")
    return Passes(lambda index: grids, lambda: grids)


def _planted(fault: str) -> None:
    if PLANTED.get("fails") == fault:
        raise MemoryError("planted")
    if PLANTED.get("dies") == fault:
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)


serve(build, {"python": "test"})
