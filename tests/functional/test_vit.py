"""Promises of `forward` besides correctness: dtypes, shapes, batches that do not mix, captures, and clear refusals."""

import itertools
import re
import weakref
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import towers
from fastloc.errors import ModelError, RecipeError
from fastloc.functional.folding import fold
from fastloc.functional.local_path import LocalPath
from fastloc.functional.op_set import TORCH, activate, activate_in_place
from fastloc.functional.output import Output
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.vit import encode, forward, image_embedding, positions
from fastloc.recipes import RECIPES, recipe
from fastloc.reference import arithmetic, first_tokens, parts, scores
from peaks import peak
from towers import error

# largest difference from float64, relative to the largest feature: about sixteen roundings of a half dtype (2^-11 and 2^-8), and 32 in
# float32 (2^-24), whose sums are as long and whose roundings are all that is left; measured are 2.4e-3, 2.0e-2 and 0.8e-6
TOLERANCE = {torch.float32: 2e-6, torch.float16: 8e-3, torch.bfloat16: 6e-2}
# what an image gives alone and in a batch differs by the order of sums only
SAME = {torch.float64: 1e-12, torch.float32: 3e-6}
LAST = towers.LAYERS - 1


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", towers.PATCHES)
def test_dtypes(name: str, dtype: torch.dtype) -> None:
    exact, pixels = towers.tower(scale=True), towers.pixels(3, (6, 7))
    weights = exact.to(dtype=dtype)
    assert weights.dtype == dtype and weights.blocks[-1].ls2 is not None and weights.blocks[-1].ls2.dtype == dtype
    expected, out = forward(exact, pixels, RECIPES[name], cls=True), forward(weights, pixels.to(dtype), RECIPES[name], cls=True)
    assert out.cls is not None and expected.cls is not None
    assert out.patches.dtype == out.cls.dtype == dtype
    assert error(out.cls, expected.cls) < TOLERANCE[dtype]
    lost = error(out.patches, expected.patches)
    assert lost < TOLERANCE[dtype]
    # restructuring must not cost precision: the literal statement in the same dtype is the measure, over several pictures, because a
    # method that chooses tokens chooses others by a last bit, and processors round in their own ways
    costs = []
    for seed in range(4):
        pixels = towers.pixels(3, (6, 7), seed=seed)
        whole = forward(exact, pixels, RECIPES[name]).patches
        fast = forward(weights, pixels.to(dtype), RECIPES[name]).patches
        costs.append((error(fast, whole), error(scores.features(weights, pixels.to(dtype), RECIPES[name]), whole)))
    assert sum(cost for cost, _ in costs) < 2 * sum(cost for _, cost in costs)


def test_pixels_take_the_dtype_of_the_weights() -> None:
    weights, pixels = towers.tower(dtype=torch.float32), towers.pixels(2, (3, 5))
    out = forward(weights, pixels, RECIPES["gem"])
    assert out.patches.dtype == torch.float32
    assert torch.equal(out.patches, forward(weights, pixels.float(), RECIPES["gem"]).patches)


@pytest.mark.parametrize("dtype", SAME, ids=str)
@pytest.mark.parametrize("name", towers.PATCHES)
def test_images_of_a_batch_do_not_mix(name: str, dtype: torch.dtype) -> None:
    weights = towers.tower(scale=True).to(dtype=dtype)
    # three different pictures, one far brighter than the others, so that any mixing shows
    pixels = torch.cat([towers.pixels(1, (3, 5), dtype, seed) * factor for seed, factor in ((1, 1.0), (2, 30.0), (3, 0.1))])
    together = forward(weights, pixels, RECIPES[name], cls=True)
    for i in range(3):
        alone = forward(weights, pixels[i : i + 1], RECIPES[name], cls=True)
        assert together.cls is not None and alone.cls is not None
        assert error(together.patches[i : i + 1], alone.patches) < SAME[dtype], f"image {i}"
        assert error(together.cls[i : i + 1], alone.cls) < SAME[dtype], f"image {i}"
    swapped = forward(weights, pixels.flip(0), RECIPES[name])
    assert error(swapped.patches.flip(0), together.patches) < SAME[dtype]


@pytest.mark.parametrize("name", towers.PATCHES)
def test_shapes(name: str) -> None:
    for batch, grid in itertools.product((0, 1, 2), ((4, 4), (1, 1), (2, 9))):
        out = forward(towers.tower(), towers.pixels(2, grid)[:batch], RECIPES[name], cls=True)
        assert out.patches.shape == (batch, grid[0] * grid[1], towers.EMBED)
        assert out.cls is not None and out.cls.shape == (batch, towers.EMBED)
        assert out.grid == grid
        assert out.captured == {}
        assert out.patches.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_vectors_of_length_zero_are_no_nan(dtype: torch.dtype) -> None:
    weights = towers.tower(dtype=dtype)
    # no projection has anything to say: every head's q, k and v are zero
    blocks = tuple(replace(block, qkv_w=block.qkv_w * 0, qkv_b=block.qkv_b * 0) for block in weights.blocks)
    for name in towers.PATCHES:
        out = forward(replace(weights, blocks=blocks), towers.pixels(1, (2, 3), dtype), RECIPES[name])
        assert out.patches.isfinite().all(), name


def test_memory_layout_of_pixels_does_not_matter() -> None:
    pixels = towers.pixels(2, (3, 5))
    expected = forward(towers.tower(), pixels, RECIPES["gem"]).patches
    turned = pixels.transpose(2, 3).contiguous().transpose(2, 3)
    for each in (pixels.contiguous(memory_format=torch.channels_last), turned):
        assert error(forward(towers.tower(), each, RECIPES["gem"]).patches, expected) < SAME[torch.float64]


@pytest.mark.parametrize("name", towers.PATCHES)
def test_nothing_is_changed_in_place(name: str) -> None:
    weights, pixels = towers.tower(scale=True).to(dtype=torch.float32), towers.pixels(2, (3, 5), torch.float32)
    tensors = [getattr(part, field.name) for part in (weights, *weights.blocks) for field in fields(part)]
    watched = [pixels, *(tensor for tensor in tensors if isinstance(tensor, Tensor))]
    before = [tensor.clone() for tensor in watched]
    first = forward(weights, pixels, RECIPES[name], cls=True, capture=["embedded", "local", "qkv6", "block6"])
    again = forward(weights, pixels, RECIPES[name], cls=True)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(watched, before, strict=True))
    assert torch.equal(first.patches, again.patches)


@pytest.mark.slow("the profiler takes a second to start")
@pytest.mark.parametrize("pool", ["tok", "avg", "avg-norm"])
@pytest.mark.parametrize("name", ["itsm", "clearclip"])
def test_the_mlp_runs_beside_the_stream_and_its_norm_alone(name: str, pool: str, tmp_path: Path) -> None:
    weights = towers.tower(torch.float32, pool=pool, mlp_ratio=8.0)
    grid, prepared = (16, 16), fold(weights, recipe(name))
    pixels, places = towers.pixels(1, grid, torch.float32), positions(weights, grid, prepared.recipe)
    stream = weights.spec.width * (weights.spec.prefix + 16 * 16) * pixels.itemsize

    def whole() -> Output:
        return encode(prepared, patch_tokens(weights, pixels)[0], places, grid, cls=True)

    for call in (whole, lambda: image_embedding(weights, pixels, places)):
        # the stream, its norm, and the hidden layer before and behind its activation; of others the patches without positions, and the
        # local path's sum
        held = peak(call, tmp_path) / stream
        assert 18 <= held < 19.5 + (name == "clearclip"), held


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "quick_gelu", "silu"])
def test_an_activation_in_place_has_the_same_bits(activation: str, dtype: torch.dtype) -> None:
    x = torch.linspace(-9, 9, 1003).to(dtype).reshape(17, 59)
    # a gate is a part of the rows
    for hidden in (x.clone(), torch.cat([x, x], 1)[:, :59]):
        expected = activate(hidden, activation)
        found = activate_in_place(hidden, activation)
        assert found.data_ptr() == hidden.data_ptr() and torch.equal(found, expected)


@pytest.mark.parametrize("side", [None, object()], ids=["one-stream", "side-stream"])
def test_the_stream_that_a_side_stream_has_still_to_read_stays_in_memory(side: Any) -> None:
    x = torch.ones(1, 1 + 6, 32)
    local = LocalPath(fold(towers.tower(torch.float32), recipe("gem")), replace(TORCH, side=side), (2, 3), x)
    stream = x[:, 1:]
    kept = weakref.ref(stream)
    local.begin(stream)
    del stream
    # as the next summand does, as soon as its kernel is launched
    local.accumulated = torch.zeros(1, 6, 32)
    assert (kept() is not None) == (side is not None)


@pytest.mark.parametrize("name", towers.PATCHES)
def test_gradients_flow_to_the_pixels(name: str) -> None:
    weights, direction = towers.tower(scale=True), towers.pixels(2, (3, 5), seed=4)
    pixels = towers.pixels(2, (3, 5)).requires_grad_()

    def loss(at: Tensor) -> Tensor:
        out = forward(weights, at, RECIPES[name], cls=True)
        assert out.cls is not None
        return out.patches.square().sum() + out.cls.square().sum()

    (gradient,) = torch.autograd.grad(loss(pixels), pixels)
    step = 1e-5 * direction
    with torch.no_grad():
        difference = (loss(pixels + step) - loss(pixels - step)) / 2
    assert error(difference, (gradient * step).sum()) < 1e-6


# captures


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("name", towers.PATCHES)
def test_captures(name: str, cls: bool) -> None:
    """Every capture is what its name says, and asking for it changes nothing else."""
    weights, pixels, row = towers.tower(scale=True), towers.pixels(2, (3, 5)), RECIPES[name]
    names = ["embedded", "local", *(f"{kind}{i}" for kind in ("block", "qkv") for i in range(towers.LAYERS))]
    plain = forward(weights, pixels, row, cls=cls)
    out = forward(weights, pixels, row, cls=cls, capture=names)
    assert sorted(out.captured) == sorted(names)
    assert error(out.patches, plain.patches) < SAME[torch.float64]

    x = first_tokens.embed(weights, pixels, row.position)
    assert error(out.captured["embedded"], x) < SAME[torch.float64]
    for i, block in enumerate(weights.blocks):
        y = parts.entered(block, x, weights.spec)
        projected = parts.qkv(block, y, weights.spec)
        assert error(out.captured[f"qkv{i}"], torch.stack(projected, 1)) < 1e-11
        x = x + parts.out(block, arithmetic.attend(*projected), weights.spec)
        x = x + parts.mlp(block, x, weights.spec)
        assert error(out.captured[f"block{i}"], x) < 1e-11
    assert error(parts.project(weights, out.captured["local"]), out.patches) < SAME[torch.float64]


@pytest.mark.parametrize("name", towers.PATCHES)
def test_each_capture_alone(name: str) -> None:
    """The last block is cut short where nothing needs it; each capture must bring back what it needs, and no more comes back."""
    weights, pixels = towers.tower(scale=True), towers.pixels(2, (3, 5))
    everything = forward(weights, pixels, RECIPES[name], cls=True, capture=[f"block{LAST}", f"qkv{LAST}", "local", "embedded"])
    for capture, cls in itertools.product(everything.captured, (False, True)):
        out = forward(weights, pixels, RECIPES[name], cls=cls, capture={capture})
        assert list(out.captured) == [capture]
        assert error(out.captured[capture], everything.captured[capture]) < SAME[torch.float64], capture
        assert error(out.patches, everything.patches) < SAME[torch.float64], capture


# refusals


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 32, 32), "pixels must be normalised floats [B, 3, H, W], got torch.float64 (3, 32, 32)"),
        ((1, 1, 32, 32), "got torch.float64 (1, 1, 32, 32)"),
        ((1, 32, 32, 3), "got torch.float64 (1, 32, 32, 3)"),
        ((1, 3, 32, 36), "input size must be a multiple of the patch 8x8, got 32x36"),
        ((1, 3, 4, 32), "input size must be a multiple of the patch 8x8, got 4x32"),
        ((1, 3, 0, 32), "input size must be a multiple of the patch 8x8, got 0x32"),
    ],
)
def test_pixels_of_a_wrong_shape(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        forward(towers.tower(), torch.zeros(shape, dtype=torch.float64), RECIPES["gem"])


def test_pixels_that_are_not_floats() -> None:
    with pytest.raises(ModelError, match=re.escape("pixels must be normalised floats [B, 3, H, W], got torch.uint8")):
        forward(towers.tower(), torch.zeros(1, 3, 32, 32, dtype=torch.uint8), RECIPES["gem"])


def test_recipe_of_more_blocks_than_there_are() -> None:
    with pytest.raises(RecipeError, match="recipe 'gem': blocks must be at most the model's 7, got 8"):
        forward(towers.tower(), towers.pixels(1, (2, 2)), recipe("gem", blocks=8))


@pytest.mark.parametrize("name", ["locale", "block7", "qkv-1", "block", "qkv07", ""])
def test_unknown_capture(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"unknown capture {name!r}: known are 'embedded', 'local', 'block0' … and 'qkv0' … 'qkv6'"):
        forward(towers.tower(), towers.pixels(1, (2, 2)), RECIPES["gem"], capture=["local", name])


@pytest.mark.parametrize("shape", [(5, 1, 1, 1), (1, 3, 1, 1), (1, 1, 2, 1), (1, 1, 1, 3), (6, 4, 3, 2, 1), (6,)])
def test_table_that_does_not_fit(shape: tuple[int, ...]) -> None:
    table = torch.ones(shape).tolist()
    with pytest.raises(RecipeError, match=r"inv_temp table (must be nested|must be for the model's 4 heads, got 3)"):
        forward(towers.tower(), towers.pixels(1, (2, 2)), recipe("gem", inv_temp=table))


def test_weights_move_as_a_copy() -> None:
    weights = towers.tower()
    half = weights.to(dtype=torch.float16)
    assert weights.dtype == torch.float64 and half.dtype == torch.float16 and half.device.type == "cpu"
    assert half.spec == weights.spec and len(half.blocks) == len(weights.blocks)
    assert replace(weights, ln_pre_w=None, ln_pre_b=None).to(dtype=torch.float32).ln_pre_w is None
