"""Methods on hierarchical towers against slow references, for every kind of head; narrow towers."""

from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from fastloc.checkpoints.hierarchical import weights as hierarchical_weights
from fastloc.engine.hierarchical.engine import HierarchicalEngine, HierarchicalTower
from fastloc.errors import ModelError, RecipeError
from fastloc.functional.hierarchical import forms
from fastloc.recipes import RECIPES, Recipe, recipe
from fastloc.reference import hierarchical as reference
from hierarchical_towers import HEADS, LINEAR, pixels, texts, tower
from live_tensors import LiveTensors
from towers import error

CPU = torch.device("cpu")
GRID = (2, 3)


def engine(method: Recipe, head: str = HEADS[0], dtype: str = "float64") -> HierarchicalEngine:
    return HierarchicalEngine(HierarchicalTower(tower(head), CPU, dtype), method, {"dtype": dtype})


@pytest.mark.parametrize(("head", "method", "batch"), [*product(HEADS, ("itsm", "rclip"), (1, 3))])
def test_features_are_the_reference_s(head: str, method: str, batch: int) -> None:
    x = pixels(batch, GRID)
    out = forms.forward(tower(head), x, recipe(method), cls=True)
    assert out.grid == GRID and out.cls is not None
    assert error(out.patches, reference.itsm(tower(head), x)) < 1e-10
    assert error(out.cls, reference.encoder(tower(head), x)) < 1e-10


@pytest.mark.parametrize("head", HEADS)
def test_the_mean_of_the_cells_is_the_embedding_where_the_head_is_linear(head: str) -> None:
    out = forms.forward(tower(head), pixels(2, GRID), recipe("itsm"), cls=True)
    assert out.cls is not None
    gap = error(out.patches.mean(1), out.cls)
    assert tower(head).head.is_linear == (head in LINEAR)
    assert gap < 1e-10 if head in LINEAR else gap > 1e-3


@pytest.mark.parametrize(("head", "count"), [*product(HEADS, (1, 3))])
def test_the_engine_s_maps(head: str, count: int) -> None:
    x, words = pixels(2, GRID), texts(count)
    grids, scores = engine(recipe("itsm"), head)(x, words, texts(1, 1)[0], background=True)
    assert error(grids.flatten(2).transpose(1, 2), reference.scores(tower(head), x, words)) < 1e-10
    everything = torch.cat([words, texts(1, 1)])
    assert scores is not None and error(scores, F.normalize(reference.encoder(tower(head), x), dim=-1) @ everything.T) < 1e-10


@pytest.mark.parametrize(
    ("head", "target", "start"), [*product(HEADS, forms.TARGETS, (-1,)), *product(HEADS[1:3], forms.TARGETS, (-2, -4))]
)
def test_grad_cam_is_autograd_s(head: str, target: str, start: int) -> None:
    x, words = pixels(2, GRID), texts(3)
    maps, scores = engine(recipe("grad_cam", target=target, target_scale=8.0, start=start), head)(x, words)
    expected = reference.grad_cam(tower(head), x, words, target, 8.0, start)
    finer = 2 ** (-1 - start)
    assert maps.shape == (2, 3, GRID[0] * finer, GRID[1] * finer) and float(expected.max()) > 0
    assert error(maps, expected) < 1e-10
    assert scores is not None and error(scores, F.normalize(reference.encoder(tower(head), x), dim=-1) @ words.T) < 1e-10


@pytest.mark.parametrize("cam", ["grad-cam++", "layer-cam"])
@pytest.mark.parametrize(("head", "start"), [*product(HEADS, (-1,)), *product(HEADS[1:3], (-2, -4))])
def test_grad_cam_plus_plus_and_layer_cam_are_autograd_s(head: str, start: int, cam: str) -> None:
    x, words = pixels(2, GRID), texts(3)
    for target, scale in (("softmax", 5.0), ("logit", 30.0), ("cosine", 1.0)):
        row = recipe("grad_cam", cam=cam, target=target, target_scale=scale, start=start)
        maps, scores = engine(row, head)(x, words)
        assert maps.min() >= 0 and maps.max() > 0 and scores is not None
        assert error(maps, reference.grad_cam(tower(head), x, words, target, scale, start, cam)) < 1e-10
        plain, _ = engine(replace(row, cam="grad-cam"), head)(x, words)
        assert error(maps / maps.amax(), plain / plain.amax()) > 1e-3, "the three are one map"


@pytest.mark.parametrize("cam", ["grad-cam++", "layer-cam"])
@pytest.mark.parametrize("start", [-1, -2])
def test_gradients_at_cells_err_as_little_as_the_reference_in_float32(cam: str, start: int) -> None:
    x, words, row = pixels(2, GRID), texts(3), recipe("grad_cam", cam=cam, target_scale=5.0, start=start)
    expected = engine(row)(x, words)[0]
    literal = reference.grad_cam(tower().to(dtype=torch.float32), x.float(), words.float(), "softmax", 5.0, start, cam)
    own, found = error(literal, expected), error(engine(row, dtype="float32")(x.float(), words.float())[0], expected)
    assert found < max(2 * own, 2e-6), f"the reference's own error is {own:.1e}"


def test_no_map_of_a_text_waits_between_backward_passes() -> None:
    """See `tests/functional/test_slices.py`."""
    run, most = engine(recipe("grad_cam", start=-2)), []
    for count in (3, 24):
        with LiveTensors() as seen:
            run(pixels(1, GRID), texts(count))
        most.append(seen.most)
    assert most[1] <= most[0] + 1


def test_the_last_map_is_what_grad_cam_reads_by_default() -> None:
    x, words = pixels(1, GRID), texts(2)
    assert torch.equal(engine(recipe("grad_cam"))(x, words)[0], engine(recipe("grad_cam", start=-1))(x, words)[0])


def test_a_text_that_is_nearly_sure_keeps_its_map_in_float32() -> None:
    x, words = pixels(2, GRID), texts(3)
    sure = recipe("grad_cam", target_scale=40.0)
    expected, found = engine(sure)(x, words)[0], engine(sure, dtype="float32")(x.float(), words.float())[0]
    assert 0 < float(expected.max()) < 1e-4, "no text is sure, so this tests nothing"
    for picture, text in product(range(2), range(3)):
        one = expected[picture, text]
        assert float(one.max()) == 0 or error(found[picture, text], one) < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", [recipe("itsm"), recipe("grad_cam", target="cosine"), recipe("grad_cam", target="cosine", start=-2)])
def test_smaller_dtypes(method: Recipe, dtype: str) -> None:
    x, words = pixels(2, GRID), texts(3)
    found, expected = engine(method, dtype=dtype)(x.float(), words.float())[0], engine(method)(x, words)[0]
    assert found.dtype == torch.float32
    assert error(found, expected) < (1e-4 if dtype == "float32" else 0.1)


def test_a_tower_keeps_its_names_in_every_dtype_and_folded() -> None:
    weights = tower()
    names = hierarchical_weights.named_tensors(weights)
    other = weights.to(dtype=torch.float32)
    assert other.dtype == torch.float32 and weights.dtype == torch.float64 and other.device == CPU
    assert hierarchical_weights.named_tensors(other).keys() == names.keys()
    again = hierarchical_weights.folded(weights.folded())
    assert hierarchical_weights.named_tensors(again).keys() == hierarchical_weights.named_tensors(weights.folded()).keys()


@pytest.mark.parametrize("method", sorted(set(RECIPES) - set(forms.FORMS)))
def test_methods_of_transformers_are_refused(method: str) -> None:
    with pytest.raises(RecipeError, match=f"method '{method}' is one of plain transformers.*a ConvNeXt.*there are: itsm, rclip, grad_cam"):
        forms.forward(tower(), pixels(1, GRID), RECIPES[method])


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("grad_cam", {"target": "softmax-of-mean"}, "unknown target on a ConvNeXt 'softmax-of-mean'"),
        ("grad_cam", {"start": -5}, "start of 'grad_cam' on a ConvNeXt must be a stage counted from the end, -1 … -4, or 0"),
        ("grad_cam", {"start": 2}, "got 2; give one of these"),
        ("itsm", {"rotary": False}, "rotary means nothing to 'itsm' on a ConvNeXt, and this model is one; what can be changed: order"),
        ("grad_cam", {"one_head": True}, "one_head means nothing to 'grad_cam' on a ConvNeXt"),
    ],
)
def test_fields_that_mean_nothing(method: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        forms.check(recipe(method, **changes), tower().spec)
    assert message in str(caught.value)


def test_grad_cam_has_no_features() -> None:
    with pytest.raises(RecipeError, match=r"call fastloc\.functional\.hierarchical\.forms\.relevance with the texts"):
        forms.forward(tower(), pixels(1, GRID), recipe("grad_cam"))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 3, 64, 40), "input size must be a multiple of the ConvNeXt's stride 32x32, got 64x40"),
        (torch.zeros(1, 3, 0, 32), "got 0x32"),
        (torch.zeros(3, 64, 64), "pixels must be normalised floats"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "got torch.uint8"),
    ],
)
def test_pixels_of_the_wrong_shape(x: torch.Tensor, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        forms.forward(tower(), x, recipe("itsm"))


def test_the_pass_is_differentiable() -> None:
    x = pixels(1, (1, 1)).requires_grad_()
    (gradient,) = torch.autograd.grad(forms.forward(tower(), x, recipe("itsm")).patches.square().sum(), x)
    assert float(gradient.abs().max()) > 0


def test_logit_scale_reaches_the_target() -> None:
    x, words = pixels(1, GRID), texts(2)
    row = recipe("grad_cam", target="logit")
    plain = engine(row)(x, words)[0]
    twice = HierarchicalEngine(HierarchicalTower(replace(tower(), logit_scale=2 * tower().logit_scale), CPU, "float64"), row, {})
    assert error(twice(x, words)[0], 2 * plain) < 1e-10
