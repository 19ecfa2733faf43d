"""A bias of relative positions: timm's numbers, where it is added and where it is not, and towers without one as they were."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.layers import RelPosMlp
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import families
import towers
from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine import triton_ops
from fastloc.functional import position_embedding
from fastloc.functional.attention import FORMS
from fastloc.functional.folding import fold
from fastloc.functional.methods.registers import with_registers
from fastloc.functional.methods.row_blocks import Kept, Recomputed, Summed
from fastloc.functional.op_set import TORCH, Ops
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.position_embedding import Biases, Positions, relative_biases
from fastloc.functional.similarity import grids
from fastloc.functional.vit import encode, forward, positions
from fastloc.recipes import RECIPES, Recipe, recipe
from fastloc.reference import any_recipe, first_tokens
from towers import error

EXACT = 1e-10
NAMES = {"relative_in_w": "fc1.weight", "relative_in_b": "fc1.bias", "relative_out_w": "fc2.weight", "relative_out_b": "fc2.bias"}


def biases(weights: Weights, grid: tuple[int, int]) -> Biases:
    found = relative_biases(weights, grid)
    assert found is not None
    return found


def timms(weights: Weights, block: int, grid: tuple[int, int]) -> Tensor:
    """timm's own bias of this grid, [1, H, N, N]."""
    spec = weights.spec
    module = RelPosMlp(window_size=grid, num_heads=spec.heads, hidden_dim=spec.relative, prefix_tokens=spec.prefix, dtype=torch.float64)
    module.mlp.load_state_dict({key: getattr(weights.blocks[block], name) for name, key in NAMES.items()})
    with torch.no_grad():
        return module.eval().get_bias()


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (7, 2), (1, 6), (9, 9)])
def test_it_is_timms_on_every_grid(grid: tuple[int, int]) -> None:
    weights = families.tower("relpos")
    for i in (0, 3):
        expected, literal = timms(weights, i, grid), first_tokens.relative_bias(weights.blocks[i], weights.spec, grid)
        assert isinstance(literal, Tensor)
        assert error(biases(weights, grid)(i), literal[None]) < EXACT
        # timm's distances are float32 in any dtype
        assert error(literal[None], expected) < 1e-7
    # the sign of a distance counts, and both axes do
    assert grid == (1, 6) or float((expected - expected.mT).abs().max()) > 0.1


def test_it_is_computed_in_float32_at_least() -> None:
    weights = families.tower("relpos", torch.float16)
    half, exact = (biases(each, (3, 5))(0) for each in (weights, weights.to(dtype=torch.float64)))
    assert half.dtype == torch.float16
    # rounded once, at the end
    torch.testing.assert_close(half.double(), exact, rtol=1.01 * 2**-11, atol=1e-7)


@pytest.mark.parametrize("method", ["gem", "resclip", "bi_modal", "anchor_qk", "cliper"])
def test_large_ones_are_made_where_they_are_read(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, pixels = families.tower("relpos"), towers.pixels(1, (3, 5))
    kept, texts = biases(weights, (3, 5)), torch.eye(families.EMBED, dtype=torch.float64)[:2]
    assert kept(0) is kept(0) and kept(-1) is kept(weights.spec.layers - 1)
    expected, _ = grids(weights, pixels, texts, RECIPES[method], texts[0])
    monkeypatch.setattr(position_embedding, "KEPT", 0)
    made = biases(weights, (3, 5))
    assert made(0) is not made(0) and torch.equal(made(0), kept(0)) and torch.equal(made(-1), kept(-1))
    assert torch.equal(grids(weights, pixels, texts, RECIPES[method], texts[0])[0], expected)


def test_tokens_in_front_have_none() -> None:
    weights, row = families.tower("relpos"), recipe("gem", registers=2, neurons=((1, (3,)),))
    plain, more = (biases(each, (3, 5))(2) for each in (weights, with_registers(weights, row)))
    assert plain.shape[-1] == 16 and more.shape[-1] == 18
    assert not more[..., :3, :].any() and not more[..., :3].any()
    assert torch.equal(more[..., 3:, 3:], plain[..., 1:, 1:])


def run(weights: Weights, row: Recipe, places: Positions, ops: Ops = TORCH, pictures: int = 1) -> tuple[Tensor, Tensor]:
    """Patches and image embedding with these positions."""
    prepared = fold(weights, row, joint=ops.deferred)
    tokens, grid = patch_tokens(prepared.weights, towers.pixels(pictures, (3, 5)))
    out = encode(prepared, tokens, places, grid, ops, cls=True)
    assert out.cls is not None
    return out.patches, out.cls


@pytest.mark.parametrize("method", ["gem", "clearclip", "naclip", "sclip", "pearl", "maskclip"])
def test_the_last_blocks_bias_is_in_the_encoders_attention_alone(method: str) -> None:
    weights, row = families.tower("relpos"), recipe(method, blocks=1)
    places = positions(weights, (3, 5), row)
    kept, last = biases(weights, (3, 5)), weights.spec.layers - 1
    without = replace(places, biases=lambda block: kept(block) * (block != last))
    (patches, cls), (other, changed) = run(weights, row, places), run(weights, row, without)
    # the class token's row of a bias is 0
    assert torch.equal(patches, other) and torch.equal(changed, cls)
    plain = RECIPES["itsm"]
    assert error(run(weights, plain, without)[0], run(weights, plain, places)[0]) > 1e-3
    # the term that is the encoder's own product has it
    own = replace(row, terms=("qk",), unit=False, iterations=0, inv_temp=None, procrustes_weight=0.0, rho=None)
    assert error(run(weights, own, without)[0], run(weights, own, places)[0]) > 1e-3
    # and the blocks before feed every method
    assert error(run(weights, row, replace(places, biases=None))[0], patches) > 1e-3


TERMS: list[dict[str, Any]] = [
    {"terms": ("qk",)}, {"terms": ("vv", "qk", "identity")}, {"terms": ("qk", "kk"), "bias_std": 1.5}, {"terms": ("qk",), "bias_std": 2.0},
    {"terms": ("qk", "qq"), "unit": True, "inv_temp": 9.0}, {"terms": ("qk", "procrustes"), "procrustes_weight": 0.1},
    {"terms": ("kk", "qk"), "inv_temp": "adaptive", "combine": "sum"},
]  # fmt: skip
CROSSED: list[dict[str, Any]] = [
    {"blocks": 1, "terms": ("kk",), "cross": (5 / 12, 9 / 12), "cross_weight": 0.4},
    {"blocks": 1, "terms": ("qk", "vv"), "cross_blocks": (2, 4), "cross_terms": "own", "cross_weight": 0.4},
]  # fmt: skip


@pytest.mark.parametrize("changes", [*TERMS, *CROSSED], ids=str)
def test_rows_with_the_encoders_own_product(changes: dict[str, Any]) -> None:
    weights, row = families.tower("relpos"), recipe("itsm", **{"blocks": 3, "residual": True, **changes})
    pixels = towers.pixels(2, (3, 5))
    expected = any_recipe.features(weights, pixels, row)
    assert error(forward(weights, pixels, row).patches, expected) < EXACT
    places = positions(weights, (3, 5), row)
    for name, form in FORMS.items():
        assert error(run(weights, row, places, Ops(local=form), 2)[0], expected) < EXACT, name
    with torch.inference_mode():
        deferred = run(weights, row, places, Ops(deferred=True, slots=True))[0]
    assert error(deferred, expected[:1]) < EXACT


@pytest.mark.parametrize(("most", "kind"), [(None, Kept), (1024, Kept), (600, Kept), (255, Recomputed)])
def test_sums_of_maps_with_a_bias(most: int | None, kind: type) -> None:
    q, k, v = (towers.array(name, 2, 16, 4, 8, low=-1) for name in "qkv")
    bias = towers.array("bias", 1, 4, 16, 16, low=-2)
    summed, maps = Summed(TORCH.attend, most), torch.softmax(q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / 2 + bias, -1)
    for _ in range(2):
        assert error(summed.attend(q, k, v, 0.5, bias), TORCH.attend(q, k, v, 0.5, bias)) < EXACT
    made = [summed.maps(i, j) for i, (_, several) in enumerate(summed.groups) for j in range(len(several))]
    assert {type(each) for each in made} == {kind}
    along = torch.cat([torch.cat([rows for _, rows in each.rows()], 2).flatten(0, 1) for each in made])
    assert error(along, 2 * maps.flatten(0, 1)) < EXACT
    across = torch.cat([torch.cat([rows for _, _, rows in each.both(1)], 2).flatten(0, 1) for each in made])
    assert error(across, 2 * maps.flatten(0, 1).mT[:, 1:]) < EXACT


def test_kernels_say_why_not() -> None:
    spec = families.spec("relpos", width=256)
    row = recipe("itsm", blocks=2, terms=("qk", "kk"))
    assert "a bias of relative positions" in triton_ops.why_not_attention(spec, row, 17, torch.float16)[0]
    for other in (recipe("gem"), recipe("naclip"), recipe("clip_surgery")):
        assert not triton_ops.why_not_attention(spec, other, 17, torch.float16)
    assert not triton_ops.why_not_attention(replace(spec, relative=0), row, 17, torch.float16)


class _Counted(TorchDispatchMode):
    """Counts the operators of a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ops[str(function)] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["itsm", "gem", "naclip", "resclip", "sfp"])
def test_towers_without_one_run_no_other_operator(method: str) -> None:
    """The operators of a pass are those of the same tower whose positions leave the bias out, and no bias is sliced, made or added."""
    row, counts = RECIPES[method], {}
    relative, plain = families.tower("relpos"), families.tower("relpos", relative=0)
    assert positions(plain, (3, 5), row).biases is None
    for name, weights, bare in (("plain", plain, False), ("bare", relative, True), ("relative", relative, False)):
        places = positions(weights, (3, 5), row)
        with torch.no_grad(), _Counted() as counted:
            run(weights, row, replace(places, biases=None) if bare else places)
        counts[name] = counted.ops
    assert counts["plain"] == counts["bare"]
    assert sum(counts["relative"].values()) > sum(counts["plain"].values())
