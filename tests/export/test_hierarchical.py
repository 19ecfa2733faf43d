"""Towers whose grid shrinks as files: families, methods, precisions and sizes against the function in float64."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from fastloc import Localizer
from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.errors import RecipeError
from fastloc.export.graph import Parts
from fastloc.export.hierarchical_graph import grids
from fastloc.export.options import Options
from fastloc.export.to_onnx import export, trace
from fastloc.onnx_file.golden import picture
from fastloc.recipes import Recipe, recipe
from fastloc.runtime.open_session import open_session
from hierarchical_towers import folder, narrow, narrow_sizes, pixels, texts

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


@pytest.mark.slow("an export each", quick="family")
@pytest.mark.parametrize(("family", "method"), [(family, method) for family in FAMILIES for method in METHODS[family]])
def test_every_method(family: str, method: str) -> None:
    row, size = (CELLS | LOCAL)[method], (GRID[0] * 32, GRID[1] * 32)
    check(session(family, row, Options(size=size, outputs=("similarity", "scores"))), family, row, GRID, "float32")


@pytest.mark.slow("an export each", quick=1)
@pytest.mark.parametrize(("family", "cam"), [(family, cam) for family in FAMILIES for cam in CAMS])
def test_other_weighings(family: str, cam: str) -> None:
    options = Options(size=(GRID[0] * 32, GRID[1] * 32), outputs=("similarity", "scores"))
    check(session(family, CAMS[cam], options), family, CAMS[cam], GRID, "float32")


@pytest.mark.slow("an export each", quick=1)
@pytest.mark.parametrize("family", ["ConvNeXt", "FastViT", "Swin"])
def test_float16(family: str) -> None:
    row, size = CELLS["itsm"], (GRID[0] * 32, GRID[1] * 32)
    options = Options(size=size, dtype="float16", outputs=("similarity", "scores"))
    check(session(family, row, options), family, row, GRID, "float16")


@pytest.mark.slow("an export each", quick=1)
@pytest.mark.parametrize("family", ["ConvNeXt", "FastViT"])
def test_any_size(family: str) -> None:
    run = session(family, CELLS["itsm"], Options(size=None, outputs=("similarity", "scores")))
    for grid in ((2, 3), (3, 2), (1, 4)):
        check(run, family, CELLS["itsm"], grid, "float32")


def test_an_earlier_stage_is_refused() -> None:
    row = recipe("grad_cam", start=-2)
    with pytest.raises(RecipeError, match="start of 'grad_cam' must be 0 in a file, got -2"):
        session("ConvNeXt", row, Options(size=(64, 96)))


# what each kind of layer is in 8 bits: every linear layer of the narrow tower but the head's
LINEAR = {"FastViT": 2 * 5 + 2 * 2, "ConvNeXt": 2 * 5}


@pytest.mark.slow("quantises and runs a file", quick=1)
@pytest.mark.parametrize(
    ("family", "spelling", "dtype"),
    [("FastViT", "ort", "int8-static"), ("FastViT", "ort", "int8-dynamic"), ("FastViT", "decomposed", "int8-static"),
     ("ConvNeXt", "ort", "int8-static")],
)  # fmt: skip
def test_eight_bits(family: str, spelling: str, dtype: str, tmp_path: Path) -> None:
    method = "naclip" if family == "FastViT" else "itsm"
    with narrow_sizes(family):
        localizer = Localizer(str(folder(tmp_path / "model", family)), method=method)
    pictures = [picture(seed, (64, 96)) for seed in range(6)] if dtype == "int8-static" else []
    file = tmp_path / "int8.onnx"
    # the export's own check holds the file against the function in float32
    feeds = export(localizer, file, Options(spelling, dtype, size=(64, 96), count=3), calibration=pictures).golden_inputs()
    export(localizer, tmp_path / "exact.onnx", Options(spelling, size=(64, 96), count=3))
    found, exact = (open_session(each, "cpu", threads=1).run(feeds)["similarity"] for each in (file, tmp_path / "exact.onnx"))
    # weights of noise are harsher than trained ones; what loses a bias or a scale is off by the range
    assert 0 < float(np.abs(found - exact).max()) < 0.25 * float(np.ptp(exact))
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level, quiet.optimized_model_filepath = 3, str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(file), quiet, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    # product and bias in one node, whose result nobody rounds to 8 bits; TensorRT takes no such biases, and gets results of 8 bits
    product = "DynamicQuantizeMatMul" if dtype == "int8-dynamic" else "QGemm" if spelling == "ort" else "QLinearMatMul"
    assert kinds[product] >= LINEAR[family] and kinds["DequantizeLinear"] == (0 if spelling == "ort" else kinds["QLinearMatMul"]), kinds
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer}
    assert any(numbers.dtype == np.int32 for numbers in stored.values()) == (product == "QGemm")
    weights = [numbers for numbers in stored.values() if numbers.dtype == np.int8 and numbers.ndim > 1]
    # two products of 8 and 7 bits stay below 2^15, where an x86 processor without VNNI would saturate their sum
    assert len(weights) >= LINEAR[family] and {int(np.abs(each.astype(int)).max()) for each in weights} == {64}
