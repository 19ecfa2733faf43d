"""Twenty thousand patches: memory is bounded by rows of the attention's maps, and two spellings agree."""

import json
import os
import subprocess
import sys

import pytest

from repo import SUPPORT

# in a process of its own, and not by getrusage: its peak is the parent's where that was higher
_SCRIPT = """
import json, sys
from dataclasses import replace
import torch
import towers
from fastloc.bench.peers.protocol import peak, reset_peak
from fastloc.engine.vit_engine import Engine, Tower
from fastloc.recipes import RECIPES

row = RECIPES[sys.argv[1]]
row = replace(row, blocks=min(row.blocks, 1))
tower = Tower(towers.tower(torch.float32, layers=2, width=16, head_width=8), torch.device("cpu"), "float32")
texts, empty = towers.texts(2).float(), towers.texts(1, seed=1)[0].float()
found, before = [], 0
for attention in ("sdpa", "bmm"):
    run = Engine(tower, row, {"dtype": "float32", "attention": attention})
    small = run(towers.pixels(1, (8, 8), torch.float32), texts, empty)
    before = before or reset_peak()
    found.append(run(towers.pixels(1, (140, 143), torch.float32), texts, empty)[0])
one, other = found
grown = (peak() - before) / 2**20
print(json.dumps({"grown": grown, "finite": bool(one.isfinite().all() and other.isfinite().all()), "shape": list(one.shape),
                  "apart": float((one - other).abs().max() / one.abs().max())}))
"""
TOKENS = 1 + 140 * 143
# one of each kind of pass
METHODS = ("itsm", "gem", "gem_matched", "naclip", "rollout")
# one head's map in float32, MB
MAP = TOKENS**2 * 4 / 2**20


@pytest.mark.slow("passes over 20,020 patches")
@pytest.mark.parametrize("method", METHODS)
def test_memory_is_bounded(method: str) -> None:
    run = subprocess.run(
        [sys.executable, "-P", "-c", _SCRIPT, method], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(SUPPORT)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout)
    assert found["finite"] and found["shape"] == [1, 2, 140, 143]
    assert found["grown"] < MAP / 3, found
    # sums of 20,000 terms in another order
    assert found["apart"] < 2e-4, found
