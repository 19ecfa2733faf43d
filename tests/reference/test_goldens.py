"""Parity with the official GEM package: its stored answers, from weights and inputs that a seed makes here again.

The files are written by `python benchmarks/goldens.py`; benchmarks/official_goldens/gem_vit.py lists the cases and says
what surprises in the official code. Tolerances are max abs error / max abs wanted. float64 leaves no room for another
formula. Official float32 itself is up to 1.1e-6 away from official float64, and two float32 programs may differ by both errors.
"""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest
import torch
from open_clip.model import CLIP

from fastloc.bench.peers.seeded import seeded_pixels, seeded_state, text_shapes, vision_shapes
from fastloc.checkpoints.text_encoder import TextEncoder
from fastloc.checkpoints.vit_layouts import from_open_clip as weights_of
from fastloc.checkpoints.vit_spec import from_open_clip as spec_of
from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional.readout import similarity
from fastloc.functional.vit import forward
from fastloc.imaging import heatmaps as maps
from fastloc.imaging.geometry import fit
from fastloc.recipes import Recipe, recipe
from fastloc.reference import methods, readouts
from repo import GOLDENS

NAMES = sorted(path.stem for path in GOLDENS.glob("gem_*.npz"))
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}

Floats = npt.NDArray[Any]


@dataclass(frozen=True)
class Golden:
    meta: dict[str, Any]
    arrays: dict[str, Floats]

    @property
    def size(self) -> tuple[int, int]:
        return self.meta["size"][0], self.meta["size"][1]

    def texts(self, image: int) -> Floats:
        """The unit text vectors [T, E] of one picture: all of them, or its own share."""
        texts = self.arrays["texts"]
        if not self.meta["batched"]:
            return texts
        share = len(texts) // self.meta["batch"]
        return texts[image * share : (image + 1) * share]

    def recipe(self) -> Recipe:
        inv_temp = "adaptive" if self.meta["temperature"] is None else self.meta["temperature"]
        return recipe("gem", blocks=self.meta["blocks"], iterations=self.meta["iterations"], inv_temp=inv_temp)


@cache
def golden(name: str) -> Golden:
    with np.load(GOLDENS / f"{name}.npz") as file:
        return Golden(json.loads(str(file["meta"])), {key: file[key] for key in file.files if key != "meta"})


@cache
def weights(config: str, seed: int) -> Weights:
    """The image tower of a configuration (as JSON, to be hashable) with the seed's weights, float32."""
    model = json.loads(config)
    state = {key: torch.from_numpy(array) for key, array in seeded_state(vision_shapes(model), seed).items()}
    return weights_of(state, spec_of(model))


def inputs(case: Golden, dtype: torch.dtype) -> tuple[Weights, torch.Tensor]:
    tower = weights(json.dumps(case.meta["model"]), case.meta["seed"]).to(dtype=dtype)
    return tower, torch.from_numpy(seeded_pixels((case.meta["batch"], 3, *case.size), case.meta["seed"])).to(dtype)


def ours(case: Golden, dtype: torch.dtype) -> dict[str, Floats]:
    """The golden file's arrays, computed by fastloc and sampled the same way."""
    tower, pixels = inputs(case, dtype)
    tokens, channels, step = case.meta["steps"]
    with torch.inference_mode():
        out = forward(tower, pixels, case.recipe())
        grids = [similarity(out, torch.from_numpy(case.texts(i)).to(dtype), case.recipe().readout)[i].numpy() for i in range(len(pixels))]
        found = {"patches": out.patches[:, ::tokens, ::channels].numpy()}
        if case.meta["vanilla"]:
            plain = forward(tower, pixels, recipe("gem", blocks=0), cls=True)
            assert plain.cls is not None
            found |= {"vanilla": plain.patches[:, ::tokens, ::channels].numpy(), "cls": plain.cls.numpy()}
    geometry = fit(case.size, case.size, tower.spec.patch)
    for name, order in (("cosine", "none"), ("heatmaps", case.recipe().readout.order)):
        found[name] = np.stack([maps.heatmaps(grid, geometry, order) for grid in grids])[..., ::step, ::step]
    # the official batched_forward scores 100 times the cosine
    found["cosine"] = found["cosine"] * (100 if case.meta["batched"] else 1)
    assert {*found, "texts"} == set(case.arrays)
    return found


def check(name: str, key: str, found: Floats, kind: str) -> None:
    expected = golden(name).arrays[key]
    assert found.shape == expected.shape and found.dtype == np.dtype(kind), f"{name} {key}: {found.shape} {found.dtype}"
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < TOLERANCE[kind], f"{name} {key} {expected.shape} {kind}: relative error {error:.2e}, allowed {TOLERANCE[kind]:.0e}"


EXACT = [name for name in NAMES if golden(name).meta["precision"] == "float64"]


def test_all_goldens_are_there() -> None:
    assert len(NAMES) == 15, f"tests/goldens holds {len(NAMES)} gem_*.npz files: {', '.join(NAMES)}"


@pytest.mark.parametrize("name", EXACT)
def test_float64_is_the_official_answer(name: str) -> None:
    for key, found in ours(golden(name), torch.float64).items():
        check(name, key, found, "float64")


@pytest.mark.slow("every golden a second time", quick=3)
@pytest.mark.parametrize("name", NAMES)
def test_float32_is_the_official_answer(name: str) -> None:
    for key, found in ours(golden(name), torch.float32).items():
        check(name, key, found, "float32")


@pytest.mark.parametrize("name", EXACT)
def test_the_reference_is_the_official_answer(name: str) -> None:
    """The slow statement of GEM, which anchors the other tests, is anchored itself."""
    case = golden(name)
    tower, pixels = inputs(case, torch.float64)
    tokens, channels, step = case.meta["steps"]
    patches = methods.gem(tower, pixels, case.meta["depth"], case.meta["iterations"], case.meta["temperature"])
    check(name, "patches", patches[:, ::tokens, ::channels].numpy(), "float64")
    grid = case.size[0] // tower.spec.patch[0], case.size[1] // tower.spec.patch[1]
    scores = [readouts.cosine(patches[i : i + 1], torch.from_numpy(case.texts(i))) for i in range(len(pixels))]
    heatmaps = torch.cat([readouts.gem_map(score, grid, case.size) for score in scores])
    check(name, "heatmaps", heatmaps[..., ::step, ::step].numpy(), "float64")


@pytest.mark.parametrize("name", ["gem_default", "gem_batched_texts", "gem_quickgelu_tall_batch"])
def test_texts_are_encoded_as_the_official_package_encodes_them(name: str) -> None:
    case = golden(name)
    model = case.meta["model"]
    clip = CLIP(**model).eval()
    state = seeded_state(vision_shapes(model) | text_shapes(model), case.meta["seed"])
    clip.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
    encode = TextEncoder(clip, open_clip.get_tokenizer("ViT-B-16"))
    check(name, "texts", encode(case.meta["texts"], "gem").numpy(), "float32")


def test_the_goldens_would_notice_another_default() -> None:
    """A tolerance proves something only if wrong settings fail it by far."""
    case = golden("gem_default")
    tower, pixels = inputs(case, torch.float64)
    expected = case.arrays["patches"]
    for wrong in ({"blocks": 7}, {"iterations": 0}, {"inv_temp": None}, {"terms": ("vv", "kk")}, {"combine": "sum"}, {"residual": False}):
        found = forward(tower, pixels, recipe("gem", **wrong)).patches.numpy()
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error > 1e-3, f"{wrong} changes the patches by {error:.1e} only"
