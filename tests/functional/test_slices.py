"""Slices of a pass: their sizes, and that no result of one waits between the intermediates of the others."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import resnet_towers
import towers
from fastloc.functional import attention, resnet, slices
from fastloc.functional.folding import fold
from fastloc.functional.methods import entropy_matching, sc_clip
from fastloc.functional.op_set import Ops
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.similarity import answer
from fastloc.functional.vit import positions
from fastloc.recipes import RECIPES, recipe
from live_tensors import LiveTensors

# tokens of the grid below, and the heads of the tower
GRID = (5, 7)
LINE = (1 + GRID[0] * GRID[1]) * towers.HEADS


def test_a_slice_has_as_many_rows_as_products_need() -> None:
    """The 3,137 tokens of 896 px, of 12 heads: 4 MB would be 27 rows. Never more than may be in memory, and all where nothing is said."""
    like = torch.empty(0)
    assert slices.at_once(1 << 24, like, 12 * 3137) == 128 * 12 * 3137
    assert slices.at_once(1 << 24, like, 12 * 197) == slices.at_once(1 << 24, like) == 1 << 20
    assert slices.at_once(1 << 21, like, 12 * 3137) == 1 << 21
    assert slices.at_once(None, like, 12 * 3137) is None
    assert slices.at_once(1 << 24, torch.empty(0, device="meta"), 12 * 3137) == 1 << 24


@pytest.mark.parametrize(("most", "expected"), [
    (None, [slice(None)]), (1, [slice(i, i + 1) for i in range(5)]), (6, [slice(0, 2), slice(2, 4), slice(4, 5)]), (15, [slice(None)]),
])  # fmt: skip
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_parts_come_back_in_their_places(most: int | None, expected: list[slice], axis: int) -> None:
    """Five items of three numbers each."""
    whole, seen = torch.arange(125.0).reshape(5, 5, 5), []

    def make(part: slice) -> Tensor:
        seen.append(part)
        return whole.movedim(axis, 0)[part].movedim(0, axis) * 2

    assert torch.equal(slices.in_parts(5, 3, most, make, axis), whole * 2) and seen == expected


def test_no_item_is_one_call() -> None:
    assert slices.in_parts(0, 3, 1, lambda part: torch.zeros(2, 0)[:, part]).shape == (2, 0)


def test_a_gradient_passes_through_parts() -> None:
    x = torch.arange(6.0, requires_grad=True)
    slices.in_parts(6, 1, 2, lambda part: x[None, part] ** 2).sum().backward()
    assert torch.equal(x.grad, 2 * x.detach())


def living(run: Callable[[], object]) -> tuple[int, int]:
    """The most tensors that live at one time, and the ops that run."""
    with torch.inference_mode(), LiveTensors() as seen:
        run()
    return seen.most, seen.calls


def of_method(name: str, form: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """`living` of a method whose slices have so many rows of the attention's maps."""
    size = rows * LINE
    for module, field in ((slices, "CACHE"), (attention, "SLICE"), (entropy_matching, "SLICE"), (sc_clip, "SLICE")):
        monkeypatch.setattr(module, field, size)
    monkeypatch.setattr(slices, "ROWS", 0)
    how = attention.attend if form == "sdpa" else attention.attend_in_slices
    ops = Ops(local=attention.local_form(how, size), most=size)
    row, weights = RECIPES[name], towers.tower(torch.float32)
    prepared = fold(weights, replace(row, blocks=min(row.blocks, 1)))
    tokens, grid = patch_tokens(weights, towers.pixels(1, GRID, torch.float32))
    places, texts = positions(weights, grid, row), towers.texts(4).float()
    return living(lambda: answer(prepared, tokens, places, grid, texts, lambda out, words: out.patches, ops))


# CLIPer keeps what its read-out needs of every head, and at eight rows a slice a head has slices of its own
@pytest.mark.parametrize("form", ["sdpa", "bmm"])
@pytest.mark.parametrize("name", list(RECIPES))
def test_no_result_of_a_slice_waits_for_the_others(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small tensor between large ones keeps the allocator from using their memory again: 1.5 GB where 20,020 patches need 0.1."""
    few, many = (of_method(name, form, rows, monkeypatch) for rows in (8, 1))
    assert many[0] <= few[0] + 1


@pytest.mark.parametrize("name", ["gem_matched", "naclip", "bi_modal", "legrad", "rollout", "cliper", "sc_clip", "grad_cam_clip_es"])
def test_smaller_slices_are_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above is one only where they are."""
    assert of_method(name, "bmm", 1, monkeypatch)[1] > 1.4 * of_method(name, "bmm", 8, monkeypatch)[1]


@pytest.mark.parametrize("cam", ["grad-cam++", "layer-cam"])
def test_no_map_of_a_text_waits_on_a_resnet(cam: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = resnet.prepare(resnet_towers.tower(torch.float32), recipe("grad_cam", cam=cam))
    x = resnet.features(prepared.weights, resnet_towers.pixels(1, (3, 4), torch.float32))
    table = resnet.position_table(prepared.weights, (3, 4), prepared.recipe)
    monkeypatch.setattr(resnet, "TOGETHER", 2)
    few, many = (living(lambda count=count: resnet.relevance(prepared, x, table, resnet_towers.texts(count).float())) for count in (4, 40))
    assert many[1] > 5 * few[1] and many[0] <= few[0] + 1
