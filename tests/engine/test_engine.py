"""The engine: every way of executing gives the same numbers, on frames as on pixels, and with kernels in the interpreter."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import towers
from fastloc.engine.vit_engine import Engine, Tower
from fastloc.errors import FastlocError, ModelError, PlanError
from fastloc.functional import readout
from fastloc.functional.similarity import grids as grids_of
from fastloc.functional.vit import forward
from fastloc.imaging.geometry import fit
from fastloc.imaging.preprocess import prepare
from fastloc.kernels import device as kernels
from fastloc.recipes import RECIPES, recipe
from towers import error

CPU = torch.device("cpu")
# kernels run in Triton's interpreter on a CPU, and on a GPU where there is one
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TEXTS = towers.texts(3)
EXACT = 1e-10
KIND = {"width": 64, "head_width": 16, "activation": "quick_gelu", "scale": True}
FUSED = {"norm": "triton", "activation": "triton", "readout": "triton", "projection": "joint", "dtype": "float16"}


def expected(name: str, pixels: Tensor, texts: Tensor = TEXTS) -> Tensor:
    """The similarity of the functional pass, float64."""
    return grids_of(towers.tower(**KIND), pixels, texts, RECIPES[name], TEXTS[0])[0]


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


def engine(name: str, device: torch.device = CPU, dtype: str = "float64", **settings: str) -> Engine:
    return Engine(Tower(towers.tower(**KIND), device, dtype), RECIPES[name], {"dtype": dtype, **settings})


@pytest.mark.parametrize("name", RECIPES)
def test_every_way_gives_the_same(name: str) -> None:
    for batch, attention, projection in itertools.product((1, 2), ("sdpa", "bmm"), ("joint", "per-block")):
        pixels = towers.pixels(batch, (3, 5))
        for schedule in ("per-block", "deferred") if batch == 1 and RECIPES[name].streams else ("per-block",):
            run = engine(name, attention=attention, projection=projection, schedule=schedule)
            grids, _ = run(pixels, TEXTS, TEXTS[0])
            assert error(grids, expected(name, pixels)) < EXACT, (batch, attention, projection, schedule)


@pytest.mark.slow("kernels in the interpreter", quick=6)
@pytest.mark.parametrize("deferred", [False, True], ids=["per-block", "deferred"])
@pytest.mark.parametrize("name", RECIPES)
def test_with_kernels(name: str, deferred: bool) -> None:
    """The kernels' pass is no further from float64 than twice PyTorch's own in the same dtype."""
    if deferred and not RECIPES[name].streams:
        pytest.skip("the local path of this recipe does not attend, so there is nothing to defer")
    pixels = towers.pixels(1 if deferred else 2, (3, 5))
    if RECIPES[name].inv_temp == "matched":
        pytest.skip("no kernel solves temperatures")
    attends = {"attention": "triton", "schedule": "deferred" if deferred else "per-block"} if RECIPES[name].streams else {}
    fast = engine(name, DEVICE, **{**FUSED, **attends, "launch": "eager"})
    plain = engine(name, DEVICE, dtype="float16", attention="sdpa", norm="torch", activation="torch", readout="torch", launch="eager")
    assert not kernels.why_not(DEVICE)
    exact = expected(name, pixels)
    found, usual = (run(pixels.float(), TEXTS.float())[0].cpu() for run in (fast, plain))
    assert found.dtype == torch.float32
    # of the whole map: the largest of few differences is a matter of luck
    assert distance(found, exact) < 2 * distance(usual, exact)


@pytest.mark.slow("kernels in the interpreter")
@pytest.mark.parametrize("name", ["gem", "naclip"])
def test_registers_with_kernels(name: str) -> None:
    """Test-time registers are tokens in front of the patches to every kernel."""
    row, pixels = recipe(name, registers=2, neurons=((0, (3, 40)), (2, (7,)))), towers.pixels(2, (3, 5))
    exact, _ = grids_of(towers.tower(**KIND), pixels, TEXTS, row)
    settings = {**FUSED, "launch": "eager"}
    fast, plain = (
        Engine(Tower(towers.tower(**KIND), DEVICE, "float16"), row, each)
        for each in ({**settings, "attention": "triton"}, {"dtype": "float16", "attention": "sdpa", "launch": "eager"})
    )
    assert fast.plan(2, (24, 40)).attention == "triton"
    found, usual = (run(pixels.float(), TEXTS.float())[0].cpu() for run in (fast, plain))
    assert distance(found, exact) < 2 * distance(usual, exact)


def test_registers_on_frames() -> None:
    row = recipe("gem", registers=2, neurons=((0, (3, 40)), (2, (7,))))
    bytes_ = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    geometry, spec = fit((50, 70), 32, 8, "letterbox"), towers.tower(**KIND).spec
    pictures = [Image.fromarray(frame) for frame in bytes_]
    pixels = torch.stack([torch.from_numpy(prepare(each, geometry, spec.mean, spec.std, spec.interpolation)) for each in pictures])
    run = Engine(Tower(towers.tower(**KIND), CPU, "float64"), row, {"dtype": "float64", "frames": "torch"})
    found, _ = run(torch.from_numpy(bytes_), TEXTS, geometry=geometry)
    # prepare works in float32
    assert error(found, grids_of(towers.tower(**KIND), pixels.double(), TEXTS, row)[0]) < 2e-5


def test_scores_come_where_the_method_reads_the_image() -> None:
    pixels = towers.pixels(2, (3, 5))
    _, none = engine("gem")(pixels, TEXTS)
    _, scores = engine("clip_surgery")(pixels, TEXTS)
    assert none is None and scores is not None
    cls = forward(towers.tower(**KIND), pixels, RECIPES["clip_surgery"], cls=True).cls
    assert cls is not None and error(scores, torch.nn.functional.normalize(cls, dim=-1) @ TEXTS.T) < EXACT
    # a single text has no rivals, so the image embedding is not needed
    assert engine("clip_surgery")(pixels, TEXTS[:1], TEXTS[1])[1] is None


@pytest.mark.slow("sixteen passes over large frames", quick=4)
@pytest.mark.parametrize("bgr", [False, True], ids=["rgb", "bgr"])
@pytest.mark.parametrize("name", ["stretch", "aspect", "crop", "letterbox"])
@pytest.mark.parametrize("form", ["torch", "triton"])
def test_frames_are_the_pictures_that_pillow_prepares(form: str, name: str, bgr: bool) -> None:
    bytes_ = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    geometry, spec = fit((50, 70), 32, 8, name), towers.tower(**KIND).spec
    pictures = [Image.fromarray(frame) for frame in bytes_]
    pixels = torch.stack([torch.from_numpy(prepare(each, geometry, spec.mean, spec.std, spec.interpolation)) for each in pictures])
    on_device = form == "triton"
    run = engine("gem", DEVICE if on_device else CPU, dtype="float32" if on_device else "float64", frames=form, launch="eager")
    frames = torch.from_numpy(bytes_[..., ::-1].copy() if bgr else bytes_)
    found, _ = run(frames, TEXTS.float() if on_device else TEXTS, geometry=geometry, bgr=bgr)
    # prepare works in float32
    assert error(found.cpu(), expected("gem", pixels.double())) < 2e-5


def test_shapes_are_planned_and_kept_one_by_one() -> None:
    run = engine("gem")
    for side, batch in ((3, 1), (5, 1), (3, 2)):
        pixels = towers.pixels(batch, (side, 4))
        assert error(run(pixels, TEXTS)[0], expected("gem", pixels)) < EXACT
    assert run.plan(1, (24, 32)) is run.plan(1, (24, 32))
    assert run._plans.cache_info().currsize == 3


def test_an_empty_batch_and_one_text() -> None:
    grids, _ = engine("gem")(towers.pixels(1, (3, 5))[:0], TEXTS[:1])
    assert grids.shape == (0, 1, 3, 5)


def test_refusals() -> None:
    with pytest.raises(ModelError, match="input size must be a multiple of the patch 8x8, got 24x33"):
        engine("gem")(torch.zeros(1, 3, 24, 33), TEXTS)
    with pytest.raises(PlanError, match="the batch must be 1"):
        engine("gem", schedule="deferred")(towers.pixels(2, (3, 5)), TEXTS)
    with pytest.raises(FastlocError, match=r"frames must be \[B, 50, 70, 3\].* got \[1, 9, 9, 3\]"):
        engine("gem", frames="torch")(torch.zeros(1, 9, 9, 3, dtype=torch.uint8), TEXTS, geometry=fit((50, 70), 32, 8, "crop"))


def test_a_table_of_temperatures_goes_through_every_schedule() -> None:
    table = (torch.arange(1, 2 * 4 * 3 * 2 + 1).reshape(2, 4, 3, 2) / 10).tolist()
    row = recipe("gem", blocks=2, inv_temp=table)
    pixels = towers.pixels(1, (3, 5))
    exact = readout.similarity(forward(towers.tower(**KIND), pixels, row), TEXTS, row.readout)
    for schedule in ("per-block", "deferred"):
        run = Engine(Tower(towers.tower(**KIND), CPU, "float64"), row, {"dtype": "float64", "schedule": schedule})
        assert error(run(pixels, TEXTS)[0], exact) < EXACT
    half = {**FUSED, "attention": "triton", "launch": "eager"}
    found = Engine(Tower(towers.tower(**KIND), DEVICE, "float16"), row, half)(pixels.float(), TEXTS.float())[0]
    assert error(found.cpu(), exact) < 8e-3
