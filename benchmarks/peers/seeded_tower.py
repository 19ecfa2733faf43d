"""The tower that both fastloc sides of benchmarks/against_gem.py run: the official side's model, with the same seeded weights."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from fastloc.spec import from_open_clip as spec_of
from fastloc.weights import Weights
from fastloc.weights import from_open_clip as weights_of

TESTS = Path(__file__).parents[2] / "tests"
sys.path.insert(0, str(TESTS))
from seeded import seeded_state, vision_shapes  # noqa: E402


def seeded_tower() -> Weights:
    # the model is stated once, with the official side's goldens
    with np.load(TESTS / "goldens" / "gem_vit_b16_224.npz") as golden:
        model = json.loads(str(golden["meta"]))["model"]
    state = seeded_state(vision_shapes(model), 0)
    return weights_of({name: torch.from_numpy(array) for name, array in state.items()}, spec_of(model))
