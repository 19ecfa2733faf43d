"""Every method on hostile inputs, in every dtype and spelling of attention: finite, and the literal reference's numbers."""

from dataclasses import replace
from functools import cache

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import resnet_towers
import towers
from fastloc.checkpoints.resnet_weights import EPS, Conv, Norm, _mapped
from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine.tower_kinds import tower_kind
from fastloc.engine.vit_engine import Engine, Tower
from fastloc.export.graph import Parts
from fastloc.export.options import Options
from fastloc.export.to_onnx import trace
from fastloc.onnx_file.formats import SPELLINGS as SPELLED
from fastloc.recipes import RECIPES
from fastloc.reference import resnet
from hostile import CASES, TOLERANCE, exact, lost, steepness

CPU = torch.device("cpu")
NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
# (batch, settings of the plan)
SPELLINGS = (
    (2, {"attention": "sdpa", "projection": "per-block"}),
    (2, {"attention": "bmm", "projection": "joint"}),
    (1, {"attention": "sdpa", "projection": "joint", "schedule": "deferred"}),
)
EMPTY = towers.texts(1, seed=5)[0]
# of a ResNet: logits that are no cosines, and a gradient that ReLUs switch on and off; in half precision rounding decides
STEEP = ("clip_surgery", "grad_cam")
# 0/0 in the authors' code: directions of zero vectors, the range of one cell or of two texts that cancel
UNDEFINED = ("features of length 0", "vectors of length 0", "one token", "opposite texts")
# cases that are pictures alone
PICTURES = ("ordinary", "black", "one colour", "denormal", "a spike", "huge", "checks", "beside a huge one", "twins")


@cache
def tower(case: str, dtype: torch.dtype) -> Weights:
    """The case's tower, its numbers rounded to the dtype: what is measured is the computation."""
    return CASES[case].tower(towers.tower(scale=True)).to(dtype=dtype)


def spellings(method: str, dtype: torch.dtype) -> list[tuple[int, dict[str, str]]]:
    # in half precision rounding hides what is left between them
    most = len(SPELLINGS) if dtype == torch.float32 else 1
    return [each for each in SPELLINGS[:most] if RECIPES[method].streams or "schedule" not in each[1]]


@pytest.mark.slow("every method in three dtypes, three spellings and 20 inputs", quick="case")
@pytest.mark.parametrize("dtype", NAMES, ids=NAMES.get)
@pytest.mark.parametrize("method", RECIPES)
@pytest.mark.parametrize("case", CASES)
def test_finite_and_the_reference_s(case: str, method: str, dtype: torch.dtype) -> None:
    row, hostile = RECIPES[method], CASES[case]
    texts, weights = hostile.texts().to(dtype).double(), tower(case, dtype)
    for batch, settings in spellings(method, dtype):
        pixels = hostile.pixels(hostile.grid, batch).to(dtype)
        run = Engine(Tower(weights, CPU, NAMES[dtype]), row, {"dtype": NAMES[dtype], **settings})
        found, cosines = run(pixels.float(), texts.float(), EMPTY.float())
        assert found.isfinite().all() and (cosines is None or cosines.isfinite().all()), settings
        if not hostile.stated:
            continue
        expected = exact(weights.to(dtype=torch.float64), pixels.double(), texts, row, EMPTY, hostile.grid)
        if not expected.isfinite().all():
            assert case in UNDEFINED, settings
            # a feature without a direction is like nothing
            assert case != "features of length 0" or row.reads != "patches" or not found.any(), settings
            continue
        own = lost(exact(weights, pixels, texts, row, EMPTY, hostile.grid), expected)
        if not own <= 0.5:
            # in half precision the literal statement overflows, or is off by its own size: there is no number to be near to
            assert dtype != torch.float32, settings
            continue
        # logits of ten thousands have roundings that decide between patches: another order of sums is several times as far off
        times = 10.0 if case == "one-hot attention" else max(2.0, steepness(row))
        error, limit = lost(found, expected), max(TOLERANCE[dtype] * steepness(row), times * own)
        assert error <= limit, f"{settings}: off by {error:.1e}, the reference itself by {own:.1e}"


def unfolded(conv: Conv) -> Conv:
    """A convolution whose BatchNorm was folded and rounded, with one that adds its bias, which is all that the reference reads."""
    assert conv.bias is not None
    nothing = torch.zeros_like(conv.bias)
    return Conv(conv.kernel, Norm(nothing + 1, conv.bias, nothing, nothing + (1 - EPS)), None)


@pytest.mark.slow("every method of a ResNet in three dtypes", quick="method")
@pytest.mark.parametrize("dtype", NAMES, ids=NAMES.get)
@pytest.mark.parametrize("method", ["itsm", "rclip", "clip_surgery", "maskclip", "grad_cam"])
def test_resnets(method: str, dtype: torch.dtype) -> None:
    row, kind = RECIPES[method], tower_kind(resnet_towers.tower())
    run = kind.engine(kind.tower(resnet_towers.tower(), CPU, NAMES[dtype]), row, {"dtype": NAMES[dtype]})
    weights = _mapped(run.tower.weights, Conv, unfolded)
    texts = resnet_towers.texts(3).to(dtype).double()
    for name in PICTURES:
        # the same pictures, four patches of theirs a cell
        pixels = CASES[name].pixels((8, 12), 2).to(dtype)
        found, _ = run(pixels.float(), texts.float())
        assert found.isfinite().all(), name
        expected, own = (
            resnet.scores(made, pixels.to(made.dtype), texts.to(made.dtype), row).transpose(1, 2).reshape(found.shape)
            for made in (weights.to(dtype=torch.float64), weights)
        )
        error, limit = lost(found, expected), max(TOLERANCE[dtype], 2 * lost(own, expected))
        if method in STEEP:
            limit = 1e-4 if dtype == torch.float32 else torch.inf
        assert error <= limit, f"{name}: off by {error:.1e}"


# the largest difference of cosines: rounding, and for float16 that of `fastloc.onnx_file.golden`
EXPORTED = {"float32": 1e-5, "float16": 5e-3}


# every spelling in both precisions, and three of the six for a method: tracing takes seconds
GRAPHS = [
    (method, spelling, list(EXPORTED)[(first + second) % 2])
    for first, method in enumerate(("gem", "clip_surgery", "naclip", "pearl"))
    for second, spelling in enumerate(SPELLED)
]


@pytest.mark.slow("exports in every spelling")
@pytest.mark.parametrize(("method", "spelling", "dtype"), GRAPHS)
def test_exported_graphs(method: str, spelling: str, dtype: str) -> None:
    weights = towers.tower(torch.float32, layers=3)
    row = replace(RECIPES[method], blocks=min(RECIPES[method].blocks, 2)).at_scale(weights.logit_scale)
    options = Options(spelling=spelling, dtype=dtype, size=(3 * towers.PATCH, 5 * towers.PATCH), batch=2, count=3)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    content = ir.to_proto(trace(Parts(weights, row, options, None, None, EMPTY.float()))).SerializeToString()
    session = onnxruntime.InferenceSession(content, quiet, providers=["CPUExecutionProvider"])
    texts = towers.texts(3)
    for name in PICTURES:
        pixels = CASES[name].pixels((3, 5), 2).float()
        (found,) = session.run(["similarity"], {"pixels": pixels.numpy(), "text_embeddings": texts.float().numpy()})
        assert np.isfinite(found).all(), name
        expected = exact(weights.to(dtype=torch.float64), pixels.double(), texts, row, EMPTY, (3, 5))
        error = float(np.abs(found - expected.numpy()).max())
        assert error <= EXPORTED[dtype], f"{name}: off by {error:.1e}"
