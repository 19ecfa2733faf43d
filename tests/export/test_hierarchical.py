"""Towers whose grid shrinks as files: families, methods, precisions and sizes against the function in float64."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.errors import RecipeError
from fastloc.export.graph import Parts
from fastloc.export.hierarchical_graph import grids
from fastloc.export.options import Options
from fastloc.export.to_onnx import trace
from fastloc.recipes import Recipe, recipe
from hierarchical_towers import narrow, pixels, texts

# as for ViTs and ResNets
TOLERANCE = {"float32": 1e-5, "float16": 5e-3}
GRADIENTS = {"float32": 1e-4, "float16": 3e-2}
GRID = (2, 3)
LOCAL = {
    "gem": recipe("gem", blocks=2),
    "sclip": recipe("sclip"),
    "maskclip": recipe("maskclip"),
}
CAMS = {cam: recipe("grad_cam", cam=cam, target_scale=5.0) for cam in ("grad-cam++", "layer-cam")}
CELLS = {name: recipe(name) for name in ("itsm", "rclip", "grad_cam")}
FAMILIES = ("ConvNeXt", "FastViT", "Swin")
METHODS = {"ConvNeXt": CELLS, "FastViT": CELLS | LOCAL, "Swin": CELLS}


def tower(family: str) -> HierarchicalWeights:
    """A narrow tower of a family in float32."""
    return narrow(family).to(dtype=torch.float32)


def session(family: str, row: Recipe, options: Options) -> onnxruntime.InferenceSession:
    weights = tower(family)
    model = trace(Parts(weights, row.at_scale(weights.logit_scale), options, None, None, texts(1, 9)[0].float()))
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), quiet, providers=["CPUExecutionProvider"])


def check(run: onnxruntime.InferenceSession, family: str, row: Recipe, grid: tuple[int, int], dtype: str) -> None:
    """Compare a file's similarities and cosines with the function's in float64."""
    images, prompts = pixels(1, grid).float(), texts(3).float()
    with torch.no_grad():
        exact = tower(family).to(dtype=torch.float64)
        similarity, cosines = grids(exact, images.double(), prompts.double(), row.at_scale(exact.logit_scale), texts(1, 9)[0])
    feeds = {run.get_inputs()[0].name: images.numpy(), "text_embeddings": prompts.numpy()}
    ours, scores = run.run(["similarity", "scores"], feeds)
    assert ours.shape == similarity.shape
    most = similarity.abs().max().item() * GRADIENTS[dtype] if row.reads != "patches" else TOLERANCE[dtype]
    assert most > 0 and float(np.abs(ours - similarity.numpy()).max()) <= most
    if cosines is not None:
        assert float(np.abs(scores - cosines[:, :3].numpy()).max()) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("family", "method"), [(family, method) for family in FAMILIES for method in METHODS[family]])
def test_every_method(family: str, method: str) -> None:
    row, size = (CELLS | LOCAL)[method], (GRID[0] * 32, GRID[1] * 32)
    check(session(family, row, Options(size=size, outputs=("similarity", "scores"))), family, row, GRID, "float32")


@pytest.mark.slow("an export each", quick=1)
@pytest.mark.parametrize(("family", "cam"), [(family, cam) for family in FAMILIES for cam in CAMS])
def test_other_weighings(family: str, cam: str) -> None:
    options = Options(size=(GRID[0] * 32, GRID[1] * 32), outputs=("similarity", "scores"))
    check(session(family, CAMS[cam], options), family, CAMS[cam], GRID, "float32")


@pytest.mark.parametrize("family", ["ConvNeXt", "FastViT", "Swin"])
def test_float16(family: str) -> None:
    row, size = CELLS["itsm"], (GRID[0] * 32, GRID[1] * 32)
    options = Options(size=size, dtype="float16", outputs=("similarity", "scores"))
    check(session(family, row, options), family, row, GRID, "float16")


@pytest.mark.parametrize("family", ["ConvNeXt", "FastViT"])
def test_any_size(family: str) -> None:
    run = session(family, CELLS["itsm"], Options(size=None, outputs=("similarity", "scores")))
    for grid in ((2, 3), (3, 2), (1, 4)):
        check(run, family, CELLS["itsm"], grid, "float32")


def test_an_earlier_stage_is_refused() -> None:
    row = recipe("grad_cam", start=-2)
    with pytest.raises(RecipeError, match="start of 'grad_cam' must be 0 in a file, got -2"):
        session("ConvNeXt", row, Options(size=(64, 96)))
