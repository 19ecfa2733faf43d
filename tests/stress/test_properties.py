"""Properties over random shapes: a picture's answer depends neither on its neighbours nor on their order, and a call repeats to the bit."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import towers
from fastloc.engine.vit_engine import Engine, Tower
from fastloc.onnx_file.golden import picture
from fastloc.recipes import RECIPES
from fastloc.runtime.localizer import OnnxLocalizer
from hostile import lost, steepness
from onnx_files import tiny_model
from tiny_localizer import NAMES, vectors

CPU = torch.device("cpu")
# a product of another batch may sum in another order: roundings of float64 and float32, over the largest value
SAME = {"float64": 1e-11, "float32": 6e-6}
DRAWS = 4


@pytest.mark.slow("random shapes of every method", quick=6)
@pytest.mark.parametrize("dtype", SAME)
@pytest.mark.parametrize("method", RECIPES)
def test_neighbours_order_and_repetition(method: str, dtype: str) -> None:
    draw = random.Random(f"{method} {dtype}")
    for _ in range(DRAWS):
        grid, batch, count, seed = (draw.randint(1, 6), draw.randint(1, 6)), draw.randint(1, 5), draw.randint(1, 4), draw.randrange(1000)
        weights, texts, empty = towers.tower(scale=draw.random() < 0.5), towers.texts(count, seed), towers.texts(1, seed + 1)[0]
        settings = {"dtype": dtype, "attention": draw.choice(("sdpa", "bmm")), "projection": draw.choice(("joint", "per-block"))}
        run = Engine(Tower(weights, CPU, dtype), RECIPES[method], settings)
        texts, empty = (each.to(getattr(torch, dtype)) for each in (texts, empty))
        # of brightnesses far apart, so that any mixing shows
        bright = torch.tensor([10.0 ** draw.uniform(-2, 2) for _ in range(batch)])
        pixels = towers.pixels(batch, grid, seed=seed) * bright[:, None, None, None]
        what = f"grid {grid}, batch {batch}, {count} texts, seed {seed}, {settings}"
        together, _ = run(pixels, texts, empty)
        assert together.isfinite().all() and torch.equal(together, run(pixels, texts, empty)[0]), what
        order = draw.sample(range(batch), batch)
        shuffled, _ = run(pixels[order], texts, empty)
        for i in range(batch):
            alone, _ = run(pixels[i : i + 1], texts, empty)
            for other in (together[i : i + 1], shuffled[order.index(i)][None]):
                assert lost(other, alone, 1e-30) < SAME[dtype] * steepness(RECIPES[method]), f"picture {i}: {what}"


@pytest.mark.parametrize("seed", range(6))
def test_an_exported_file(tmp_path: Path, seed: int) -> None:
    """The same of onnxruntime, for pictures of random sizes in inputs of random sizes."""
    draw = random.Random(seed)
    tiny_model(tmp_path / "tiny.onnx", size=None)
    sizes = [(draw.randint(9, 90), draw.randint(9, 90)) for _ in range(draw.randint(2, 6))]
    given = OnnxLocalizer(tmp_path / "tiny.onnx", embeddings=(NAMES, vectors()), size=(8 * draw.randint(1, 6), 8 * draw.randint(1, 6)))
    given.batch = draw.randint(1, 4)
    pictures = [Image.fromarray(picture(seed + i, size)) for i, size in enumerate(sizes)]
    together, again = given(pictures), given(pictures)
    order = draw.sample(range(len(pictures)), len(pictures))
    shuffled = given([pictures[i] for i in order])
    for i, shown in enumerate(pictures):
        np.testing.assert_array_equal(together[i].similarity, again[i].similarity)
        for other in (given(shown), shuffled[order.index(i)]):
            np.testing.assert_allclose(other.similarity, together[i].similarity, rtol=0, atol=1e-6)
