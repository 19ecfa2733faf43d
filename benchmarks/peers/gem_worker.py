"""The official package's side of benchmarks/against_gem.py: the wrapper's own forward, texts encoded beforehand."""

import sys
from typing import Any

import numpy as np
import torch
from gem_goldens import CONFIGS
from line_worker import Pass, serve
from official_gem import fix_texts, heatmaps, official_model, versions

from seeded import seeded_pixels, seeded_texts

MODEL: dict[str, Any] = CONFIGS["ViT-B-16"]
THREADS, TEXTS = int(sys.argv[1]), int(sys.argv[2])


def build(size: int) -> Pass:
    model = official_model(MODEL, seed=0)
    fix_texts(model, torch.from_numpy(seeded_texts(TEXTS, MODEL["embed_dim"], 0)))
    pixels = torch.from_numpy(seeded_pixels((1, 3, size, size), 0))

    def once() -> np.ndarray:
        return heatmaps(model, pixels, [""] * TEXTS)[0].numpy()

    return once


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    serve(build, versions)
