"""Test-time registers: the fast path against the literal one in every method, and against the authors' own order of tokens."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import families
import towers
from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine.vit_engine import Engine, Tower
from fastloc.errors import RecipeError
from fastloc.functional.blocks import activated
from fastloc.functional.folding import fold
from fastloc.functional.methods.registers import RegisterBlock, at_taken_over, taken_over, with_registers
from fastloc.functional.similarity import grids
from fastloc.functional.vit import forward
from fastloc.recipes import RECIPES, Recipe, recipe
from fastloc.reference import arithmetic, first_tokens, parts, scores
from towers import error

EXACT = 1e-10
# blocks before the last of seven, neighbours and not; the first, whose registers are still what ln_pre makes of zeros
NEURONS = ((0, (3, 40, 41)), (2, (79,)), (3, (0, 5)))


def registered(name: str, count: int = 2, neurons: Any = NEURONS, **changes: Any) -> Recipe:
    return recipe(name, registers=count, neurons=neurons, **changes)


def texts(weights: Weights, count: int) -> Tensor:
    return torch.nn.functional.normalize(towers.array("words", count, weights.spec.embed, low=-1.0), dim=-1)


def check(weights: Weights, row: Recipe, batch: int, grid: tuple[int, int], count: int = 2) -> Tensor:
    """The fast path's grids, which are the reference's."""
    pixels, words = towers.pixels(batch, grid), texts(weights, count)
    found, _ = grids(weights, pixels, words, row)
    expected = scores.scores(weights, pixels, words, row).transpose(1, 2).reshape(found.shape)
    assert expected.any() and error(found, expected) < EXACT, (row.name, batch, grid)
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_every_method_is_its_reference(name: str) -> None:
    weights = towers.tower(activation="quick_gelu", scale=True)
    for batch, grid, count in ((1, (4, 4), 1), (2, (3, 5), 3)):
        found = check(weights, registered(name, count), batch, grid)
        plain, _ = grids(weights, towers.pixels(batch, grid), texts(weights, 2), RECIPES[name])
        assert found.shape == plain.shape and error(found, plain) > 1e-3, "registers change nothing"


# what a tower may be made of, by a method that attends and one that goes back through the whole depth
QUICK = [("siglip", "gem"), ("pe", "bi_modal"), ("eva02", "gem"), ("registers", "grad_cam")]


def runs(family: str, row: Recipe) -> bool:
    return not (row.reads == "grad-eclip" and families.spec(family).pool == "avg")


@pytest.mark.parametrize(("family", "name"), QUICK)
def test_families(family: str, name: str) -> None:
    check(families.tower(family), registered(name).at_scale(100.0), 2, (3, 5))


@pytest.mark.slow("every kind of method on every family", quick=2)
@pytest.mark.parametrize("family", families.NAMES)
@pytest.mark.parametrize("name", ["gem", "naclip", "resclip", "clip_surgery", "bi_modal", "legrad", "grad_cam_input"])
def test_every_family(name: str, family: str) -> None:
    row = registered(name, start=0) if name == "legrad" else registered(name)
    if runs(family, row):
        check(families.tower(family), row.at_scale(100.0), 2, (3, 5))


# where the authors' tokens stand


def behind(weights: Weights, pixels: Tensor, row: Recipe) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """The encoder with registers behind the patches, picture by picture, as `activate_on_registers` (shared/hook_fn.py) and `forward`
    (clip/clip/transformer.py) have it: the last stream [B, N + R, C], and each block's q, k and v [B, H, N + R, d]."""
    spec, count, table = weights.spec, row.registers, dict(row.neurons)
    streams, projections = [], []
    for picture in pixels:
        # LayerNorm looks at each token alone, so that what follows the position embedding can be made of two parts
        zeros = torch.zeros(1, count, spec.width, dtype=weights.dtype)
        assert weights.ln_pre_w is not None and weights.ln_pre_b is not None
        extra = arithmetic.layer_norm(zeros, weights.ln_pre_w, weights.ln_pre_b, spec.norm_eps)
        x, each = torch.cat([first_tokens.embed(weights, picture[None], row.position), extra], 1), []
        for number, block in enumerate(weights.blocks):
            q, k, v = parts.qkv(block, parts.entered(block, x, spec), spec)
            each.append((q, k, v))
            x = x + parts.out(block, arithmetic.attend(q, k, v), spec)
            hidden = arithmetic.layer_norm(x, block.ln2_w, block.ln2_b, spec.norm_eps) @ block.fc_w.T + block.fc_b
            hidden = arithmetic.activate(hidden, spec.activation)
            if number in table:
                listed = list(table[number])
                values = hidden[0][:, listed]
                extreme = values.max() if values.max().abs() > values.min().abs() else values.min()
                hidden[0, -count:, listed] = extreme
                hidden[0, 1:-count, listed] = 0
            x = x + hidden @ block.proj_w.T + block.proj_b
        streams.append(x)
        projections.append(each)
    blocks = [tuple(torch.cat(each) for each in zip(*(one[i] for one in projections), strict=True)) for i in range(spec.layers)]
    return torch.cat(streams), blocks


@pytest.mark.parametrize("count", [1, 3])
def test_registers_in_front_are_the_authors_behind(count: int) -> None:
    """Attention does not ask for the order of its keys: the encoder's answer and a local path's are the same either way."""
    weights, pixels = towers.tower(), towers.pixels(3, (3, 5))
    row = registered("clearclip", count)
    stream, blocks = behind(weights, pixels, row)
    plain = forward(weights, pixels, registered("itsm", count, position=row.position), cls=True, capture=("block6", "embedded"))
    assert plain.cls is not None and error(plain.cls, parts.project(weights, stream[:, 0])) < EXACT
    assert error(plain.patches, parts.project(weights, stream[:, 1:-count])) < EXACT
    # class token, registers, patches
    assert error(plain.captured["block6"], torch.cat([stream[:, :1], stream[:, -count:], stream[:, 1:-count]], 1)) < EXACT
    q, _, v = blocks[-1]
    local = parts.out(weights.blocks[-1], arithmetic.attend(q, q, v), weights.spec)
    assert error(forward(weights, pixels, row).patches, parts.project(weights, local[:, 1:-count])) < EXACT
    # every register is the same token
    first = plain.captured["embedded"][:, 1 : 1 + count]
    assert weights.ln_pre_b is not None and torch.equal(first, weights.ln_pre_b.expand(3, count, -1))


def test_registers_do_not_turn() -> None:
    """Of a rotary tower: behind the patches they would have no place either."""
    weights = families.tower("pe")
    out = forward(weights, towers.pixels(1, (3, 5)), registered("itsm", 2), capture=("qkv0",))
    q = out.captured["qkv0"][0, 0]
    assert torch.equal(q[:, 1], q[:, 2]) and not torch.equal(q[:, 3], q[:, 4])
    prepared = fold(weights, registered("itsm", 2))
    assert (prepared.weights.spec.prefix, prepared.weights.prefix.shape, prepared.weights.pos.shape) == (3, (3, 32), (19, 32))


# what is promised besides


@pytest.mark.parametrize("name", ["gem", "clip_surgery", "bi_modal"])
def test_pictures_of_a_batch_do_not_meet(name: str) -> None:
    """The authors edit the first of a batch."""
    weights, row = towers.tower(), registered(name)
    pixels = torch.cat([towers.pixels(1, (3, 5), seed=seed) * factor for seed, factor in ((1, 1.0), (2, 30.0), (3, 0.1))])
    together = grids(weights, pixels, texts(weights, 2), row)[0]
    for i in range(3):
        assert error(grids(weights, pixels[i : i + 1], texts(weights, 2), row)[0], together[i : i + 1]) < 1e-11
    assert grids(weights, pixels[:0], texts(weights, 2), row)[0].shape == (0, 2, 3, 5)


@pytest.mark.parametrize("name", ["gem", "maskclip", "resclip", "grad_cam"])
def test_every_plan_gives_the_same(name: str) -> None:
    weights, row, pixels = towers.tower(), registered(name), towers.pixels(1, (3, 5))
    expected = grids(weights, pixels, texts(weights, 2), row)[0]
    for attention, projection in itertools.product(("sdpa", "bmm"), ("joint", "per-block")):
        for schedule in ("per-block", "deferred") if row.streams else ("per-block",):
            settings = {"dtype": "float64", "attention": attention, "projection": projection, "schedule": schedule}
            run = Engine(Tower(weights, torch.device("cpu"), "float64"), row, settings)
            assert error(run(pixels, texts(weights, 2))[0], expected) < 1e-12, settings


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_dtypes(dtype: torch.dtype) -> None:
    exact, row, pixels = towers.tower(scale=True), registered("gem"), towers.pixels(2, (6, 7))
    expected, out = forward(exact, pixels, row), forward(exact.to(dtype=dtype), pixels.to(dtype), row)
    assert out.patches.dtype == dtype
    # as without registers, see test_vit
    assert error(out.patches, expected.patches) < {torch.float32: 2e-6, torch.float16: 8e-3, torch.bfloat16: 6e-2}[dtype]


def test_gradients_are_the_references() -> None:
    weights, row = towers.tower(), registered("gem", blocks=2)
    for_fast, for_literal = (towers.pixels(2, (3, 5)).requires_grad_() for _ in range(2))
    forward(weights, for_fast, row).patches.square().sum().backward()
    scores.features(weights, for_literal, row).square().sum().backward()
    assert for_fast.grad is not None and for_literal.grad is not None
    assert error(for_fast.grad, for_literal.grad) < EXACT


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_the_closed_gradient_is_autograds(sign: float, ties: bool) -> None:
    spec = towers.tower().spec
    block = with_registers(towers.tower(), registered("itsm")).blocks[0]
    assert isinstance(block, RegisterBlock)
    hidden = sign * activated(towers.array("hidden", 2, 3 + 15, spec.mlp_width, low=-2.0, high=3.0), spec)
    if ties:
        # in a register and in two patches
        for place in (1, 7, 9):
            hidden[:, place, 40] = sign * 9.0
    hidden.requires_grad_()
    gradient = towers.array("gradient", 2, 4, 3 + 15, spec.mlp_width, low=-1.0)
    behind = taken_over(block, hidden)
    for text in range(4):
        (expected,) = torch.autograd.grad(behind, hidden, gradient[:, text], retain_graph=True)
        assert error(at_taken_over(block, gradient, hidden.detach())[:, text], expected) < 1e-12
    shared = at_taken_over(block, gradient[:, :, :1], hidden.detach())
    assert torch.equal(shared, at_taken_over(block, gradient[:, :, :1].expand(-1, -1, 18, -1), hidden.detach()))


def test_the_extreme_is_of_all_listed_neurons_and_all_tokens() -> None:
    block = with_registers(towers.tower(), registered("itsm", 2)).blocks[0]
    assert isinstance(block, RegisterBlock)
    hidden = torch.zeros(2, 6, block.listed.shape[0], dtype=torch.float64)
    # neurons 3, 40 and 41: the class token's, a patch's, and one that is not listed
    hidden[0, 0, 3], hidden[0, 4, 41], hidden[0, 5, 42] = 2.0, -5.0, 99.0
    hidden[1, 1, 40] = 1.5
    found = taken_over(block, hidden)
    assert (found[0, 1:3][:, [3, 40, 41]] == -5).all() and (found[1, 1:3][:, [3, 40, 41]] == 1.5).all()
    assert float(found[0, 0, 3]) == 2.0 and not found[:, 3:][..., [3, 40, 41]].any() and float(found[0, 5, 42]) == 99.0


def test_the_towers_own_tokens_in_front_are_left_alone() -> None:
    weights = families.tower("registers")
    block = with_registers(weights, registered("itsm", 1)).blocks[0]
    assert isinstance(block, RegisterBlock) and weights.spec.prefix == 4
    hidden = towers.array("own", 1, 5 + 2, weights.spec.mlp_width, low=1.0, high=2.0)
    found = taken_over(block, hidden)
    assert torch.equal(found[:, :4], hidden[:, :4]) and not torch.equal(found[:, 4], hidden[:, 4])


# what cannot be


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"registers": 1}, "registers need the model's register neurons, got none; find them with `fastloc registers`"),
        ({"registers": 1, "neurons": ((6, (0,)),)}, "must be of a block before the last, 0 … 5, got block 6"),
        ({"registers": 1, "neurons": ((0, (80,)),)}, "must be among the MLP's, 0 … 79, got 80"),
    ],
)
def test_what_the_tower_does_not_have(changes: dict[str, Any], message: str) -> None:
    row = recipe("gem", **changes)
    with pytest.raises(RecipeError) as caught:
        forward(towers.tower(), towers.pixels(1, (2, 2)), row)
    assert str(caught.value).startswith("recipe 'gem': register") and message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"registers": -1}, "registers must be a whole number, 0 or more, got -1"),
        ({"registers": True}, "registers must be a whole number"),
        ({"neurons": ((0, (1,)),)}, "neurons are for test-time registers; give registers=1 too"),
        *(({"registers": 1, "neurons": each}, "neurons must be (block, neurons) pairs of whole numbers from 0") for each in (
            5, ((0, 1),), ((0, ()),), ((0, (1, 1)),), ((1, (0,)), (0, (0,))), ((0, (0,)), (0, (1,))), ((0, (-1,)),), ((0, (True,)),),
            ((0, (1,), 2),),
        )),
    ],
    ids=str,
)  # fmt: skip
def test_contradictions(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe("gem", **changes)
    assert message in str(caught.value)


def test_lists_are_welcome_and_the_row_is_frozen() -> None:
    row = recipe("gem", registers=1, neurons=[[2, [4, 5]]])
    assert row.neurons == ((2, (4, 5)),) and hash(row) == hash(replace(row))
