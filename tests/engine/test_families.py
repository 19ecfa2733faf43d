"""Plans of every family's tower: all options give the same numbers, and a plan names the options that a tower rules out."""

import itertools

import pytest
import torch

import families
import towers
from fastloc.engine import triton_ops
from fastloc.engine.cost import operations
from fastloc.engine.plan import PlanRequest
from fastloc.engine.plan_options import choose
from fastloc.engine.vit_engine import Engine, Tower
from fastloc.errors import PlanError
from fastloc.functional import vit
from fastloc.functional.folding import without_scale
from fastloc.functional.similarity import grids
from fastloc.kernels import device as kernels
from fastloc.recipes import RECIPES, recipe
from towers import error

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
# kernels run in Triton's interpreter on a CPU, and on a GPU where there is one
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
METHODS = ("itsm", "maskclip", "clip_surgery", "naclip", "gem", "pearl", "itaclip")
EXACT = 1e-10


def _texts(name: str) -> torch.Tensor:
    made = torch.randn(3, families.spec(name).embed, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.nn.functional.normalize(made, dim=-1)


@pytest.mark.slow("every plan of every family", quick=4)
@pytest.mark.parametrize("method", [name for name in METHODS if name in RECIPES])
@pytest.mark.parametrize("name", families.NAMES)
def test_every_plan_gives_the_same(name: str, method: str) -> None:
    weights, texts = families.tower(name), _texts(name)
    for batch, attention, projection in itertools.product((1, 2), ("sdpa", "bmm"), ("joint", "per-block")):
        if projection == "joint" and weights.spec.norm == "post":
            continue
        pixels = towers.pixels(batch, (3, 5))
        expected = grids(weights, pixels, texts, RECIPES[method], texts[0])[0]
        for schedule in ("per-block", "deferred") if batch == 1 and RECIPES[method].streams else ("per-block",):
            settings = {"dtype": "float64", "attention": attention, "projection": projection, "schedule": schedule}
            found, _ = Engine(Tower(weights, CPU, "float64"), RECIPES[method], settings)(pixels, texts, texts[0])
            assert error(found, expected) < EXACT, settings


# each tower with every method, and with both schedules
IN_FRONT = [
    (name, method, ("per-block", "deferred")[(first + second) % 2])
    for first, name in enumerate(("siglip", "pe-g", "eva02", "coca", "tips", "registers"))
    for second, method in enumerate(("gem", "naclip", "clip_surgery"))
]


@pytest.mark.slow("kernels in the interpreter", quick=1)
@pytest.mark.parametrize(("name", "method", "schedule"), IN_FRONT)
def test_kernels_take_any_number_of_tokens_in_front(name: str, method: str, schedule: str) -> None:
    """The kernels' pass is no further from float64 than twice PyTorch's own in the same dtype."""
    pytest.importorskip("triton")
    changes = {"width": 64, "heads": 4, **({"embed": 64} if families.tower(name).proj is None else {})}
    weights = families.tower(name, **changes)
    texts = torch.nn.functional.normalize(torch.randn(3, weights.spec.embed, generator=torch.Generator().manual_seed(0)).double(), dim=-1)
    pixels = towers.pixels(1, (3, 5))
    exact = grids(weights, pixels, texts, RECIPES[method], texts[0])[0]
    assert not kernels.why_not(DEVICE)

    def distance(**settings: str) -> float:
        run = Engine(Tower(weights, DEVICE, "float16"), RECIPES[method], {"dtype": "float16", "launch": "eager", **settings})
        found = run(*(each.float().to(DEVICE) for each in (pixels, texts, texts[0])))[0]
        return float((found.cpu().double() - exact).norm() / exact.norm())

    fused = distance(attention="triton", norm="triton", readout="triton", activation="torch", projection="joint", schedule=schedule)
    assert fused < 2 * distance(attention="sdpa", norm="torch", readout="torch", activation="torch")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans for a GPU that is not there: only questions to the driver are answered for it."""
    monkeypatch.setattr(kernels, "why_not", lambda device: [] if device.type == "cuda" else ["the device is a CPU"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")


@pytest.mark.usefixtures("gpu")
def test_terms_with_a_norm_of_their_own_are_not_projected_together() -> None:
    request = PlanRequest(GPU, families.spec("eva02-e"), recipe("gem"), 1, (32, 32))
    plan = choose(request, {"attention": "sdpa"})
    assert (plan.projection, plan.schedule) == ("per-block", "per-block")
    text = plan.explain()
    assert "not joint: each block's term passes a LayerNorm of its own (post-norm)" in text
    assert "not side-stream: it needs the joint projection" in text
    with pytest.raises(PlanError, match=r"projection 'joint' is not possible here: .*post-norm"):
        choose(request, {"projection": "joint"})


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("width", "reason"), [(8, "from 16 to 128, got 8"), (20, "must be a multiple of 8"), (136, "from 16 to 128")])
def test_head_widths_that_kernels_cannot_take(width: int, reason: str) -> None:
    spec = families.spec("pe", width=4 * width)
    plan = choose(PlanRequest(GPU, spec, recipe("gem"), 1, (32, 32)), {})
    assert plan.attention == "sdpa" and reason in plan.explain()


@pytest.mark.parametrize("width", [64, 72, 80, 88, 96, 104, 112])
def test_head_widths_of_the_families(width: int) -> None:
    """PE 64 and 96, SO400M 72, H 80, EVA g 88, bigG 104, EVA E 112."""
    for name in families.NAMES:
        spec = families.spec(name, width=4 * width)
        for method in ("gem", "naclip", "clip_surgery"):
            assert not triton_ops.why_not_attention(spec, recipe(method), spec.prefix + 16, torch.float16), (name, method)


def test_every_norm_is_asked_for() -> None:
    assert not triton_ops.why_not_norm(families.spec("eva02"), torch.float16)
    assert "[1, 2, 9000]" in triton_ops.why_not_norm(families.spec("eva02", hidden=9000), torch.float16)[0]
    assert "[1, 2, 9000]" in triton_ops.why_not_norm(families.spec("coca", embed=9000), torch.float16)[0]
    # nothing normalises these
    assert not triton_ops.why_not_norm(families.spec("siglip", hidden=9000, embed=9000), torch.float16)


def test_gated_rows_are_not_activated_by_the_kernel() -> None:
    assert "gated" in triton_ops.why_not_activation(families.spec("eva02", activation="quick_gelu"), torch.float16)[0]
    assert "silu" in triton_ops.why_not_activation(families.spec("eva02"), torch.float16)[0]
    assert not triton_ops.why_not_activation(families.spec("clip"), torch.float16)


def test_operations_count_the_mlp_and_the_tokens_that_there_are() -> None:
    plain = families.spec("siglip", width=100, hidden=300, layers=1)
    size = (4 * families.PATCH, 4 * families.PATCH)
    assert operations(plain, size) == 16 * (8 * 100**2 + 4 * 100 * 300) + 4 * 16**2 * 100
    gated = families.spec("tips-g", width=100, hidden=300, layers=1)
    assert operations(gated, size) == 18 * (8 * 100**2 + 6 * 100 * 300) + 4 * 18**2 * 100


@pytest.mark.parametrize("name", families.NAMES)
def test_the_embedding_alone_is_that_of_the_whole_pass(name: str) -> None:
    weights, pixels, row = families.tower(name), towers.pixels(2, (3, 5)), RECIPES["itsm"]
    places = vit.positions(weights, (3, 5), row)
    assert error(vit.image_embedding(without_scale(weights), pixels, places), vit.forward(weights, pixels, row, cls=True).cls) < EXACT
