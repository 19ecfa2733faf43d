"""fastloc's side of benchmarks/against_gem.py: tensor to heatmaps, texts encoded beforehand."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import numpy as np
import torch
from line_worker import Pass, serve

from fastloc import maps
from fastloc.engine import Engine, Tower
from fastloc.geometry import fit
from fastloc.recipes import recipe
from fastloc.spec import from_open_clip as spec_of
from fastloc.weights import from_open_clip as weights_of

TESTS = Path(__file__).parents[2] / "tests"
sys.path.insert(0, str(TESTS))
from seeded import seeded_pixels, seeded_state, seeded_texts, vision_shapes  # noqa: E402

THREADS, TEXTS, DTYPE = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
# the model is stated once, with the official side's goldens
with np.load(TESTS / "goldens" / "gem_vit_b16_224.npz") as golden:
    MODEL = json.loads(str(golden["meta"]))["model"]


def versions() -> dict[str, str]:
    return {"python": python_version(), **{name: version(name) for name in ("fastloc", "torch", "numpy")}}


def build(size: int) -> Pass:
    spec = spec_of(MODEL)
    state = seeded_state(vision_shapes(MODEL), 0)
    weights = weights_of({name: torch.from_numpy(array) for name, array in state.items()}, spec)
    pixels = torch.from_numpy(seeded_pixels((1, 3, size, size), 0))
    texts = torch.from_numpy(seeded_texts(TEXTS, spec.embed, 0))
    gem, geometry = recipe("gem"), fit((size, size), size, spec.patch)
    engine = Engine(Tower(weights, torch.device("cpu"), DTYPE), gem, {"dtype": DTYPE})

    def once() -> np.ndarray:
        grids, _ = engine(pixels, texts)
        return maps.heatmaps(grids[0].numpy(), geometry, gem.readout.order)

    return once


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    serve(build, versions)
