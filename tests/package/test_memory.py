"""Memory grows with the number of tokens N, not with its square: the reason why no N x N map may exist."""

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
from fastloc.functional.op_set import Ops
from fastloc.functional.attention import FORMS
from fastloc.functional.folding import fold
from fastloc.recipes import recipe
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.similarity import answer
from fastloc.functional.vit import positions

name, form = sys.argv[1:]
row = recipe(name)
row = replace(row, blocks=min(row.blocks, 1))
prepared = fold(towers.tower(torch.float32, layers=2), row)
peaks = []
reset_peak()
with torch.inference_mode():
    for side in (24, 48, 96):
        tokens, grid = patch_tokens(prepared.weights, torch.rand(1, 3, 8 * side, 8 * side))
        places, text = positions(prepared.weights, grid, row), towers.texts(1).float()
        answer(prepared, tokens, places, grid, text, lambda out, words: out.patches, Ops(local=FORMS[form]))
        peaks.append(peak() / 2**20)
print(json.dumps(peaks))
"""
TOKENS = 1 + 96 * 96
# one head's logits in float32, MB: what a form that keeps N x N maps holds at least
MAP = TOKENS**2 * 4 / 2**20


@pytest.mark.slow("a process with a large pass for every method")
@pytest.mark.parametrize(("name", "form"), [
    ("gem", "sdpa"), ("gem", "bmm"), ("naclip", "sdpa"), ("clip_surgery", "sdpa"), ("pearl", "sdpa"), ("pearl", "bmm"),
    ("itaclip", "sdpa"), ("cliper", "sdpa"), ("sc_clip", "sdpa"), ("sfp", "sdpa"),
])  # fmt: skip
def test_peak_memory_grows_with_the_tokens(name: str, form: str) -> None:
    run = subprocess.run(
        [sys.executable, "-P", "-c", _SCRIPT, name, form], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(SUPPORT)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    warm, middle, large = json.loads(run.stdout)
    growth = [middle - warm, large - middle]
    # from 577 to 2305 to 9217 tokens: each step is four times the one before if memory is linear, sixteen times if it is not
    assert growth[1] < 4 * max(growth[0], 8) + 16, growth
    assert growth[1] < MAP / 4, growth
