"""CLIP's ResNets against open_clip's own module, and every method on them against its slow reference."""

from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints import resnet_spec, resnet_weights
from fastloc.engine.resnet_engine import ResNetEngine, ResNetTower
from fastloc.errors import ModelError, RecipeError
from fastloc.functional import resnet
from fastloc.imaging.geometry import fit
from fastloc.imaging.heatmaps import heatmaps
from fastloc.recipes import RECIPES, Recipe, recipe
from fastloc.reference import first_tokens, readouts
from fastloc.reference import resnet as reference_resnet
from resnet_towers import EMBED, config, network, pixels, texts, tower
from towers import error

# the trained grid, larger, smaller, and neither square nor of the trained count
GRIDS = ((2, 2), (3, 3), (1, 2), (4, 1), (2, 3))
GRID, BATCH = (3, 2), 3
CPU = torch.device("cpu")
# at the trained scale these texts' shares would be 1 or 0, and autograd's own rounding all that is left of a gradient
GRAD_CAM = recipe("grad_cam", target_scale=5.0)


def engine(method: Recipe, dtype: str = "float64", **vision: object) -> ResNetEngine:
    return ResNetEngine(ResNetTower(tower(**vision), CPU, dtype), method, {"dtype": dtype})


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("layers", [(1, 2, 1, 1), (1, 1, 1, 1), (2, 1, 1, 2)])
def test_the_image_embedding_is_open_clip_s(dtype: torch.dtype, tolerance: float, layers: tuple[int, ...]) -> None:
    x = pixels(BATCH, (2, 2), dtype)
    expected = network(layers=list(layers)).to(dtype)(x)
    weights = resnet_weights.from_open_clip(
        {f"visual.{name}": each for name, each in network(layers=list(layers)).state_dict().items()},
        resnet_spec.from_open_clip(config(layers=list(layers))),
    ).to(dtype=dtype)
    found = resnet.forward(weights, x, recipe("itsm"), cls=True).cls
    assert found is not None and found.dtype == dtype
    assert error(found, expected) < tolerance
    if dtype == torch.float64:
        assert error(reference_resnet.encoder(weights, x), expected) < 1e-12


@pytest.mark.parametrize(("method", "grid", "batch"), [*product(reference_resnet.METHODS, GRIDS, (1, 3))])
def test_patch_features_are_the_reference_s(method: str, grid: tuple[int, int], batch: int) -> None:
    x = pixels(batch, grid)
    out = resnet.forward(tower(), x, recipe(method))
    assert out.grid == grid and out.patches.shape == (batch, grid[0] * grid[1], EMBED)
    gap = error(out.patches, reference_resnet.METHODS[method](tower(), x))
    assert gap < 1e-10, f"{method} at {grid}, batch {batch}: {gap:.1e}"


@pytest.mark.parametrize(("method", "grid", "batch"), [*product(("itsm", "rclip", "clip_surgery"), GRIDS, (1, 3))])
def test_official_forms_are_the_reference_s(method: str, grid: tuple[int, int], batch: int) -> None:
    x = pixels(batch, grid)
    out = resnet.forward(tower(), x, recipe(method, official=True), cls=True)
    stated = reference_resnet.clip_surgery if method == "clip_surgery" else reference_resnet.raw_map
    assert out.cls is not None and out.grid == grid
    gap = error(torch.cat([out.cls[:, None], out.patches], 1), stated(first_tokens.keeping_position(tower(), x), x))
    assert gap < 1e-10, f"{method} at {grid}, batch {batch}: {gap:.1e}"
    kept = recipe(method, official=True, keep_position=False)
    resized = error(resnet.forward(tower(), x, kept).patches, out.patches)
    assert resized > 1e-3 if grid == (4, 1) else resized == 0, "only as many positions in another shape are kept"


@pytest.mark.parametrize("method", ["itsm", "rclip", "maskclip", "clip_surgery"])
def test_scores_of_official_forms_are_the_reference_s(method: str) -> None:
    """Of a form that is written for transformers too, all that means nothing here is let through."""
    x, words, row = pixels(2, (4, 1)), texts(3), recipe(method, official=True)
    grids, _ = engine(row)(x, words, texts(1, seed=7)[0])
    assert error(grids.flatten(2).transpose(1, 2), reference_resnet.scores(tower(), x, words, row)) < 1e-10


def test_the_raw_map_reads_each_position_alone_or_by_the_pool_s_attention() -> None:
    x = pixels(1, GRID)
    alone, attending = (resnet.forward(tower(), x, recipe("itsm", terms=terms)).patches for terms in ((), ("qk",)))
    assert error(alone, attending) > 1e-2
    with pytest.raises(RecipeError, match=r"terms of 'itsm' on a ResNet must be \(\) for each position alone or \('qk',\)"):
        resnet.forward(tower(), x, recipe("itsm", terms=("vv",)))


@pytest.mark.parametrize("mode", ["bilinear", "bilinear-antialias", "bicubic", "bicubic-antialias"])
def test_the_position_embedding_is_resized_as_the_recipe_says(mode: str) -> None:
    x = pixels(1, (3, 4))
    found = resnet.forward(tower(), x, recipe("itsm", position=mode), cls=True)
    assert error(found.patches, reference_resnet.itsm(tower(), x, mode)) < 1e-10
    assert found.cls is not None and error(found.cls, reference_resnet.encoder(tower(), x, mode)) < 1e-10


def test_clip_surgery_for_resnets_in_the_paper_s_form() -> None:
    """inv_temp is 8 / sqrt(head width): 1 for the 64 numbers a head of open_clip's ResNets have."""
    x, spec = pixels(2, GRID), tower().spec
    paper = recipe("clip_surgery", unit=True, inv_temp=8 * spec.head_width**-0.5)
    out, expected = resnet.forward(tower(), x, paper, cls=True), reference_resnet.clip_surgery(tower(), x, "resnet")
    assert out.cls is not None
    assert error(torch.cat([out.cls[:, None], out.patches], 1), expected) < 1e-10
    assert error(out.patches, resnet.forward(tower(), x, recipe("clip_surgery")).patches) > 1e-2


@pytest.mark.parametrize(("grid", "batch", "count"), [*product(GRIDS, (1, 3), (1, 4))])
def test_grad_cam_is_autograd_s(grid: tuple[int, int], batch: int, count: int) -> None:
    x, words = pixels(batch, grid), texts(count)
    maps, scores = engine(GRAD_CAM)(x, words)
    expected = reference_resnet.grad_cam(tower(), x, words, GRAD_CAM.position, GRAD_CAM.target, GRAD_CAM.target_scale)
    assert maps.shape == (batch, count, *grid) and float(expected.max()) > 0
    assert error(maps, expected) < 1e-10
    assert scores is not None
    assert error(scores, F.normalize(reference_resnet.encoder(tower(), x, GRAD_CAM.position), dim=-1) @ words.T) < 1e-10


@pytest.mark.parametrize("target", resnet.TARGETS)
def test_grad_cam_of_every_target(target: str) -> None:
    x, words = pixels(2, GRID), texts(3)
    maps, _ = engine(recipe("grad_cam", target=target, target_scale=8.0))(x, words)
    assert error(maps, reference_resnet.grad_cam(tower(), x, words, GRAD_CAM.position, target, 8.0)) < 1e-10


@pytest.mark.parametrize("cam", ["grad-cam++", "layer-cam"])
@pytest.mark.parametrize(("grid", "batch", "count"), [*product(GRIDS, (1, 3), (1, 4))])
def test_grad_cam_plus_plus_and_layer_cam_are_autograd_s(cam: str, grid: tuple[int, int], batch: int, count: int) -> None:
    x, words = pixels(batch, grid), texts(count)
    for target, scale in (("softmax", 5.0), ("logit", 30.0), ("cosine", 1.0)):
        row = recipe("grad_cam", cam=cam, target=target, target_scale=scale)
        maps, scores = engine(row)(x, words)
        assert maps.shape == (batch, count, *grid) and maps.min() >= 0 and maps.max() > 0 and scores is not None
        assert error(maps, reference_resnet.scores(tower(), x, words, row).transpose(1, 2).unflatten(2, grid)) < 1e-10
        plain, _ = engine(replace(row, cam="grad-cam"))(x, words)
        assert error(maps / maps.amax(), plain / plain.amax()) > 1e-3, "the three are one map"


@pytest.mark.parametrize("cam", ["grad-cam++", "layer-cam"])
def test_gradients_at_positions_err_as_little_as_the_reference_in_float32(cam: str) -> None:
    x, words, row = pixels(2, GRID), texts(3), recipe("grad_cam", cam=cam, target_scale=5.0)
    expected = engine(row)(x, words)[0]
    literal = reference_resnet.scores(tower(torch.float32), x.float(), words.float(), row).transpose(1, 2).unflatten(2, GRID)
    own, found = error(literal, expected), error(engine(row, "float32")(x.float(), words.float())[0], expected)
    assert found < max(2 * own, 2e-6), f"the reference's own error is {own:.1e}"


def test_a_text_that_is_nearly_sure_keeps_its_map_in_float32() -> None:
    x, words = pixels(2, GRID), texts(3)
    # CLIP's own scale
    sure = recipe("grad_cam")
    expected, found = engine(sure)(x, words)[0], engine(sure, "float32")(x.float(), words.float())[0]
    assert 0 < float(expected.max()) < 1e-5, "no text is sure, so this tests nothing"
    for picture, text in product(range(2), range(3)):
        one = expected[picture, text]
        assert float(one.max()) == 0 or error(found[picture, text], one) < 1e-3


@pytest.mark.parametrize(("method", "count"), [*product(reference_resnet.METHODS, (1, 3))])
def test_scores_and_maps_are_the_reference_s(method: str, count: int) -> None:
    x, words, empty = pixels(2, GRID), texts(count), texts(1, seed=7)[0]
    grids, scores = engine(recipe(method))(x, words, empty)
    if method == "clip_surgery":
        rows = reference_resnet.clip_surgery(tower(), x)
        several = readouts.feature_surgery(rows, words)[:, 1:]
        expected = several if count > 1 else readouts.minus_empty(rows[:, 1:], words, empty)
        assert (scores is None) == (count == 1)
    else:
        expected = readouts.cosine(reference_resnet.METHODS[method](tower(), x), words)
        assert scores is None
    assert error(grids.flatten(2).transpose(1, 2), expected) < 1e-10
    size = (GRID[0] * 32, GRID[1] * 32)
    readout = recipe(method).readout
    found = heatmaps(grids[0].numpy(), fit(size, size, 32), readout.order, readout.logit_scale, readout.reverse)
    official = {"itsm": readouts.surgery_map, "clip_surgery": readouts.surgery_map, "rclip": readouts.rclip_map}
    if method in official:
        assert error(torch.from_numpy(found), official[method](expected, GRID, size)[0]) < 1e-10


METHODS = [*reference_resnet.METHODS, "grad_cam"]


def row(method: str) -> Recipe:
    return GRAD_CAM if method == "grad_cam" else recipe(method)


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_alone_and_in_a_batch_and_a_second_run(method: str) -> None:
    x, words = pixels(BATCH, GRID), texts(2)
    run = engine(row(method))
    together = run(x, words)[0]
    assert torch.equal(together, run(x, words)[0])
    for i in range(BATCH):
        assert error(run(x[i : i + 1], words)[0], together[i : i + 1]) < 1e-12, f"{method}: picture {i} depends on its batch"
    # no text depends on another, but where texts are compared with one another
    if method not in ("clip_surgery", "grad_cam"):
        assert error(run(x, words[1:])[0], together[:, 1:]) < 1e-12


def slow(method: str, dtype: torch.dtype) -> Tensor:
    """The reference's maps [B, T, h, w] of two pictures and three texts."""
    x, words, weights = pixels(2, GRID, dtype), texts(3).to(dtype), tower(dtype)
    if method == "grad_cam":
        return reference_resnet.grad_cam(weights, x, words, GRAD_CAM.position, GRAD_CAM.target, GRAD_CAM.target_scale)
    if method == "clip_surgery":
        scores = readouts.feature_surgery(reference_resnet.clip_surgery(weights, x), words)[:, 1:]
    else:
        scores = readouts.cosine(reference_resnet.METHODS[method](weights, x), words)
    return scores.transpose(1, 2).unflatten(2, GRID)


@pytest.mark.parametrize(("method", "dtype"), [*product(METHODS, ("float32", "bfloat16"))])
def test_smaller_dtypes_err_as_little_as_the_reference(method: str, dtype: str) -> None:
    expected, found = slow(method, torch.float64), engine(row(method), dtype)(pixels(2, GRID, torch.float32), texts(3).float())[0]
    own = error(slow(method, getattr(torch, dtype)), expected)
    assert found.dtype == torch.float32
    assert error(found, expected) < max(2 * own, 2e-6), f"{method} in {dtype}: the reference's own error is {own:.1e}"


def test_folding_keeps_the_tower() -> None:
    weights = resnet_weights.folded(tower())
    assert all(each.norm is None for each in weights.stem)
    assert tower().stem[0].norm is not None, "folding changed the weights that it was given"
    again = resnet_weights.folded(weights)
    assert torch.equal(again.stem[1].kernel, weights.stem[1].kernel)
    names = resnet_weights.named_tensors(tower())
    assert "stages.1.1.convs.2.norm.variance" in names and "pool.out_w" in names
    assert sum(each.numel() for each in names.values()) == sum(
        each.numel() for name, each in network().state_dict().items() if "num_batches" not in name
    )


@pytest.mark.parametrize("method", sorted(set(RECIPES) - set(resnet.FORMS)))
def test_a_method_of_transformers_is_refused(method: str) -> None:
    with pytest.raises(RecipeError, match=rf"'{method}' is one of transformers.*itsm, rclip, maskclip, clip_surgery"):
        resnet.forward(tower(), pixels(1, GRID), recipe(method))


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("clip_surgery", {"blocks": 3}, "blocks means nothing to 'clip_surgery'"),
        ("maskclip", {"position": "bilinear"}, "position means nothing to 'maskclip'"),
        ("itsm", {"unit": True}, "unit means nothing"),
        ("clip_surgery", {"inv_temp": "adaptive"}, "inv_temp must be .* got 'adaptive'"),
        ("itsm", {"cam": "layer-cam"}, "cam is for what reads 'grad-cam', not 'patches'"),
        ("grad_cam", {"cam": "layercam"}, "unknown cam 'layercam': did you mean 'layer-cam'"),
        ("grad_cam", {"target": "softmax-of-mean"}, "unknown target on ResNets 'softmax-of-mean'"),
    ],
)
def test_a_field_that_nothing_reads_is_refused(method: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        resnet.prepare(tower(), recipe(method, **changes))


@pytest.mark.parametrize("shape", [(1, 3, 64, 50), (3, 64, 64), (1, 4, 64, 64), (1, 3, 0, 64)])
def test_other_inputs_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"multiple of the ResNet's stride|normalised floats \[B, 3, H, W\]"):
        engine(recipe("itsm"))(torch.zeros(shape), texts(1))


def without(key: str) -> dict[str, Tensor]:
    return {f"visual.{name}": each for name, each in network().state_dict().items() if name != key}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (without("layer2.1.bn3.running_var"), "layer2.1.bn3.running_var' is missing"),
        (without("") | {"visual.layer1.1.conv1.weight": torch.zeros(1)}, "layer1.1.conv1.weight' is there, but the model has 1"),
        (without("") | {"visual.attnpool.c_proj.weight": torch.zeros(1, 2)}, r"must have shape \(24, 128\), got \(1, 2\)"),
    ],
)
def test_other_weights_are_refused(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resnet_weights.from_open_clip(state, resnet_spec.from_open_clip(config()))


def test_the_tests_would_notice_the_mean_token() -> None:
    """A tolerance proves something only if wrong settings fail it by far."""
    x = pixels(1, GRID)
    raw = resnet.forward(tower(), x, recipe("itsm")).patches
    bare = replace(tower(), pool=replace(tower().pool, position=torch.zeros_like(tower().pool.position)))
    assert error(raw, resnet.forward(bare, x, recipe("itsm")).patches) > 1e-2
    assert error(raw, reference_resnet.clip_surgery(tower(), x)[:, 1:]) > 1e-2
