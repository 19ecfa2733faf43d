"""A contender of the tests: the engine on a seeded tower, whose calls last at least so long, and in which something is planted.

Its command line is JSON: {"seconds": a call's least time, "slower": its sleep on top as a share of that, "wrong": added to the answer,
"fails": at which command, "dies": at which command}.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np

from fastloc.bench import run_torch
from fastloc.bench.backends import BACKENDS
from fastloc.bench.cases import Case
from fastloc.bench.peers.protocol import Passes, serve

PLANTED: dict[str, Any] = {"seconds": 0.0, "slower": 0.0, "wrong": 0.0, **json.loads(sys.argv[1])}


def build(told: dict[str, Any]) -> Passes:
    passes = run_torch.engine(BACKENDS["torch"], Case.of(told))
    _planted("prepare")
    real, answer, asked = passes.model, passes.answer, [0]
    assert real and answer

    def model(index: int) -> Any:
        _planted("go")
        began = time.perf_counter()
        found = real(index)
        # a call of a known length: what else the machine does is lost in it
        time.sleep(max(PLANTED["seconds"] - (time.perf_counter() - began), 0) + PLANTED["slower"] * PLANTED["seconds"])
        return found

    def given() -> np.ndarray[Any, Any]:
        asked[0] += 1
        late = asked[0] > 1 and PLANTED.get("wrong_later", 0.0)
        return answer() + np.float32(PLANTED["wrong"] or late)

    return Passes(model, given, None, told=passes.told)


def _planted(what: str) -> None:
    if PLANTED.get("fails") == what:
        raise MemoryError("planted")
    if PLANTED.get("dies") == what:
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)


serve(build, {"python": "test"})
