"""A turn as a complex product, and by its parts where a graph is made: the same numbers."""

from dataclasses import replace

import pytest
import torch

import families
import towers
from fastloc.checkpoints.vit_spec import Rope
from fastloc.functional.rotary import rotate_in_place, rotated, rotations
from fastloc.functional.vit import forward
from fastloc.recipes import recipe


def parts(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Each pair by the 2 x 2 matrix of its angle."""
    cos, sin = turns[0][:, None, None], turns[1][:, None, None]
    matrix = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    return (matrix @ x.unflatten(-1, (-1, 2))[..., None])[..., 0].flatten(-2)


@pytest.mark.parametrize("name", ["pe", "pe-g", "eva02"])
def test_both_ways_turn_alike(name: str) -> None:
    spec = families.spec(name)
    grid = (3, 5)
    turns = rotations(spec, grid, torch.zeros(1, dtype=torch.float64))
    x = torch.randn(2, spec.prefix + 15, 3, spec.heads, spec.head_width, dtype=torch.float64)[:, :, :2]
    expected = parts(x, turns)
    torch.testing.assert_close(rotated(x, turns), expected, rtol=0, atol=1e-12)
    # no complex numbers in a graph
    made = torch.export.export(_Turn(), (x, turns))
    assert not any("complex" in str(node.target) for node in made.graph.nodes)
    torch.testing.assert_close(made.module()(x, turns), expected, rtol=0, atol=1e-12)
    half = rotated(x.bfloat16(), turns.bfloat16())
    assert half.dtype == torch.bfloat16 and float((half.double() - expected).norm() / expected.norm()) < 0.01


@pytest.mark.parametrize(("rope", "grid"), [
    (Rope(), (3, 5)), (Rope("rows"), (3, 5)), (Rope("columns", 0.5), (2, 3)), (Rope("rows", 0.5, (4, 8)), (3, 5)),
], ids=str)  # fmt: skip
def test_angles_by_hand(rope: Rope, grid: tuple[int, int]) -> None:
    """Place times 10000^(-j / (d/4)), half of the pairs by the column and half by the row; tokens in front do not turn."""
    spec = replace(families.spec("pe"), rope=rope)
    quarter = spec.head_width // 4
    assert quarter > 1 and spec.prefix == 1
    found = rotations(spec, grid, torch.zeros(1, dtype=torch.float64))
    assert found.shape == (2, 1 + grid[0] * grid[1], 2 * quarter)
    for token in range(found.shape[1]):
        y, x = (-rope.offset, -rope.offset) if not token else divmod(token - 1, grid[1])
        places = [(x, 1), (y, 0)] if rope.first == "columns" else [(y, 0), (x, 1)]
        scaled = [(place + rope.offset) * (rope.grid[axis] / grid[axis] if rope.grid else 1) for place, axis in places]
        angles = torch.tensor([place * 10000.0 ** (-j / quarter) for place in scaled for j in range(quarter)], dtype=torch.float64)
        torch.testing.assert_close(found[:, token], torch.stack([angles.cos(), angles.sin()]), rtol=0, atol=1e-12)
    half = rotations(spec, grid, torch.zeros(1, dtype=torch.float16))
    assert half.dtype == torch.float16 and torch.equal(half, rotations(spec, grid, torch.zeros(1)).half())


def test_gradients_pass_through() -> None:
    turns = rotations(families.spec("pe"), (2, 2), torch.zeros(1, dtype=torch.float64))
    x = torch.randn(1, 5, 2, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: rotated(each, turns), x)


class _Turn(torch.nn.Module):
    def forward(self, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        return rotated(x, turns)


def test_a_turn_in_place_is_the_same_and_leaves_the_rest_alone() -> None:
    spec = families.spec("pe")
    turns = rotations(spec, (3, 5), torch.zeros(1, dtype=torch.float64))
    packed = torch.randn(2, 16, 3, spec.heads, spec.head_width, dtype=torch.float64)
    expected, values = rotated(packed[:, :, :2], turns), packed[:, :, 2].clone()
    assert rotate_in_place(packed[:, :, :2], turns) is False, "a gradient may be asked for"
    with torch.inference_mode():
        assert not rotate_in_place(packed[:, :, :2].half(), turns)
        assert rotate_in_place(packed[:, :, :2], turns)
    assert torch.equal(packed[:, :, :2], expected) and torch.equal(packed[:, :, 2], values)


@pytest.mark.parametrize("name", ["pe", "pe-g", "eva02"])
@pytest.mark.parametrize("rotary", [True, False])
def test_a_pass_is_the_same_where_it_turns_in_place(name: str, rotary: bool) -> None:
    weights, pixels, row = families.tower(name), towers.pixels(2, (3, 5)), recipe("gem", rotary=rotary)
    apart = forward(weights, pixels, row, cls=True)
    with torch.inference_mode():
        within = forward(weights, pixels, row, cls=True)
    assert within.cls is not None and apart.cls is not None
    assert torch.equal(within.patches, apart.patches) and torch.equal(within.cls, apart.cls)
