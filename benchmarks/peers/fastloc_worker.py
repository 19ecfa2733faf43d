"""fastloc's side of benchmarks/against_gem.py: tensor to heatmaps, texts encoded beforehand."""

import sys
from importlib.metadata import version
from platform import python_version

import numpy as np
import torch
from line_worker import Pass, serve
from seeded_tower import seeded_tower

from fastloc import maps
from fastloc.engine import Engine, Tower
from fastloc.geometry import fit
from fastloc.recipes import recipe
from seeded import seeded_pixels, seeded_texts

THREADS, TEXTS, DTYPE = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def versions() -> dict[str, str]:
    return {"python": python_version(), **{name: version(name) for name in ("fastloc", "torch", "numpy")}}


def build(size: int) -> Pass:
    weights = seeded_tower()
    pixels = torch.from_numpy(seeded_pixels((1, 3, size, size), 0))
    texts = torch.from_numpy(seeded_texts(TEXTS, weights.spec.embed, 0))
    gem, geometry = recipe("gem"), fit((size, size), size, weights.spec.patch)
    engine = Engine(Tower(weights, torch.device("cpu"), DTYPE), gem, {"dtype": DTYPE})

    def once() -> np.ndarray:
        grids, _ = engine(pixels, texts)
        return maps.heatmaps(grids[0].numpy(), geometry, gem.readout.order)

    return once


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    serve(build, versions)
