"""Every family of image towers as a file: each spelling, precision and input against the functional ViT, and a folder from end to end."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor

import families
import family_folders
from fastloc import Localizer, OnnxLocalizer, cli
from fastloc.checkpoints.vit_weights import Weights
from fastloc.diagnostics.verify import verify
from fastloc.export.graph import Parts
from fastloc.export.int8 import products_of, quantized
from fastloc.export.options import Options
from fastloc.export.to_onnx import export, trace
from fastloc.functional.folding import without_scale
from fastloc.functional.similarity import grids
from fastloc.imaging.geometry import Geometry, fit
from fastloc.imaging.preprocess import prepare
from fastloc.onnx_file import golden
from fastloc.onnx_file.formats import SPELLINGS
from fastloc.onnx_file.golden import picture, unit_texts
from fastloc.onnx_file.manifest import Manifest
from fastloc.recipes import RECIPES, Recipe
from towers import PATCH, pixels

SIZE = (5 * PATCH, 7 * PATCH)
# what the first family has, see test_export
TOLERANCE = {"float32": 1e-5, "float16": 5e-3}
# three blocks, of which two are changed, as in test_export
LAYERS = 3
ALL = ("similarity", "scores", "background")
# those that people choose first are the quick ones: an attention pool without a class token, and rotated queries and keys
FAMILIES = ("siglip", "pe", *(name for name in families.NAMES if name not in ("siglip", "pe")))
# a spelling with each precision, and a method of each kind: self-self attention, class scores, and a bias of the logits; a family takes
# two of these, and its neighbours the others: tracing takes seconds
STATIC = [
    (("gem", "ort", "float32"), ("clip_surgery", "onnx", "float16")),
    (("gem", "decomposed", "float16"), ("gem", "onnx", "float32")),
    (("naclip", "decomposed", "float32"), ("clip_surgery", "ort", "float16")),
]
# every position, token in front and pool; the other families combine the same
DYNAMIC = ("siglip", "pe", "eva02", "vitamin", "tips", "relpos")
# every pool and projection, with and without a token in front
POOLED = ("coca", "siglip", "pe", "eva02", "vitamin", "gap", "tips")
CASES = [(family, *case) for index, family in enumerate(FAMILIES) for case in STATIC[index % 3]]


def row(method: str, **changes: Any) -> Recipe:
    recipe = RECIPES[method]
    return replace(recipe, blocks=min(recipe.blocks, 2), **changes)


def parts(family: str, recipe: Recipe, options: Options, geometry: Geometry | None = None) -> Parts:
    weights = families.tower(family, torch.float32, layers=LAYERS)
    return Parts(weights, recipe.at_scale(weights.logit_scale), options, geometry, None, texts(weights, 1, seed=9)[0])


def texts(weights: Weights, count: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(unit_texts(seed, count, weights.spec.embed))


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), quiet, providers=["CPUExecutionProvider"])


def check(run: onnxruntime.InferenceSession, made: Parts, fed: np.ndarray, pixels: Tensor, count: int, limit: float) -> None:
    """Compare a file's answer to `fed` with the functional ViT's answer to the pixels `given`."""
    prompts = texts(made.weights, count)
    with torch.no_grad():
        similarity, cosines = grids(made.weights, pixels, prompts, made.recipe, made.empty, background=True)
    assert cosines is not None
    picture_input = run.get_inputs()[0].name
    found = run.run(list(ALL), {picture_input: fed, "text_embeddings": prompts.numpy()})
    for name, one, expected in zip(ALL, found, (similarity, cosines[:, :-1], cosines[:, -1:]), strict=True):
        error = float(np.abs(one - expected.numpy()).max())
        assert error <= limit, f"{name} {one.shape} is off by {error:.1e}"


@pytest.mark.slow("an export of every family in every spelling", quick=1)
@pytest.mark.parametrize(("family", "method", "spelling", "dtype"), CASES)
def test_one_size(family: str, method: str, spelling: str, dtype: str) -> None:
    made = parts(family, row(method), Options(spelling=spelling, dtype=dtype, size=SIZE, batch=2))
    model = trace(made)
    images = pixels(2, (5, 7), torch.float32)
    check(session(model), made, images.numpy(), images, 3, TOLERANCE[dtype])
    norms = [node for node in model.graph if node.op_type == "LayerNormalization"]
    # in half precision too, the pool's and those of queries, keys and sub-LN with them
    assert {node.inputs[1].dtype for node in norms if node.inputs[1] is not None} == {ir.DataType.FLOAT}
    assert all(node.outputs[0].dtype == ir.DataType.FLOAT for node in model.graph if node.op_type == "Softmax" and spelling == "onnx")
    # the angles and biases are numbers already
    assert not [node for node in model.graph if node.op_type in ("Cos", "Sin", "Sign")]
    # nothing is put in front of the patches where a tower has no such token
    assert all(value is None or value.shape is None or 0 not in value.shape for node in model.graph for value in node.inputs)


@pytest.mark.slow("an export with dynamic axes of every part that depends on the size")
@pytest.mark.parametrize("family", DYNAMIC)
def test_any_batch_size_and_texts(family: str) -> None:
    spelling = list(SPELLINGS)[DYNAMIC.index(family) % len(SPELLINGS)]
    made = parts(family, row("gem"), Options(spelling=spelling, batch=None))
    model = trace(made)
    # a bias is made of the grid's sides, and numbers already where these are fixed
    assert bool([node for node in model.graph if node.op_type == "Sign"]) == bool(made.weights.spec.relative)
    turns = [node for node in model.graph if node.op_type in ("Cos", "Sin")]
    assert len(turns) == (2 if made.weights.spec.rope else 0)
    run = session(model)
    for batch, grid, count in ((1, (4, 4), 3), (3, (3, 9), 1), (2, (8, 5), 2)):
        images = pixels(batch, grid, torch.float32)
        check(run, made, images.numpy(), images, count, TOLERANCE["float32"])


@pytest.mark.slow("two exports of every spelling")
@pytest.mark.parametrize(("family", "spelling"), [("siglip", "onnx"), ("pe", "ort"), ("eva02", "onnx"), ("relpos", "decomposed")])
def test_oldest_and_newest_opset(family: str, spelling: str) -> None:
    for opset in sorted({min(SPELLINGS[spelling].opsets), max(SPELLINGS[spelling].opsets)}):
        made = parts(family, row("clip_surgery"), Options(spelling=spelling, opset=opset, size=SIZE))
        model = trace(made)
        assert model.opset_imports[""] == opset
        images = pixels(1, (5, 7), torch.float32)
        check(session(model), made, images.numpy(), images, 2, TOLERANCE["float32"])


@pytest.mark.slow("an export of every stem with each input", quick=1)
@pytest.mark.parametrize("kind", ["bytes", "frames"])
@pytest.mark.parametrize("family", ["mobileclip", "siglip", "pe"])
def test_bytes_and_frames(family: str, kind: str) -> None:
    frame = (60, 100) if kind == "frames" else SIZE
    where = fit(frame, SIZE, PATCH, "letterbox")
    more: dict[str, Any] = {"frame": frame, "layout": "NHWC"} if kind == "frames" else {}
    made = parts(family, row("gem"), Options(kind=kind, size=SIZE, **more), where if kind == "frames" else None)
    spec, raw = made.weights.spec, picture(4, frame)
    fed = raw[None] if kind == "frames" else raw[None].transpose(0, 3, 1, 2).astype(np.float32)
    pixels = torch.from_numpy(prepare(Image.fromarray(raw), where, spec.mean, spec.std, spec.interpolation))[None]
    # frames: one step of 255 in some pixels
    check(session(trace(made)), made, fed, pixels, 2, 2e-3 if kind == "frames" else 1e-5)


OPTIONS = [("pe", {"rotary": False}), ("eva02", {"rotary": False}), ("siglip", {"patch_read": "value"})]


@pytest.mark.slow("an export of each option")
@pytest.mark.parametrize(("family", "changes"), OPTIONS)
def test_options_of_a_recipe(family: str, changes: dict[str, Any]) -> None:
    made = parts(family, row("gem", **changes), Options(size=SIZE))
    images = pixels(1, (5, 7), torch.float32)
    check(session(trace(made)), made, images.numpy(), images, 2, TOLERANCE["float32"])
    plain = replace(made, recipe=row("gem").at_scale(made.weights.logit_scale))
    # the option is no other name of the same
    with pytest.raises(AssertionError, match="is off by"):
        check(session(trace(made)), plain, images.numpy(), images, 2, TOLERANCE["float32"])


@pytest.mark.slow("quantises every kind of pool")
@pytest.mark.parametrize("family", POOLED)
def test_eight_bits(family: str) -> None:
    made = parts(family, row("gem"), Options(dtype="int8-dynamic", size=SIZE))
    small = quantized(trace(made), "int8-dynamic", [], products_of(made.weights.spec))
    # neither the pool's products nor the projection
    kept = [value.const_value.numpy() for value in small.graph.initializers.values() if value.const_value is not None]
    folded = without_scale(made.weights).pool
    for matrix in (folded.value_w.T if folded is not None and folded.value_w is not None else None, made.weights.proj):
        assert matrix is None or any(each.shape == matrix.shape and np.allclose(each, matrix.numpy()) for each in kept)
    images = pixels(1, (5, 7), torch.float32)
    check(session(small), made, images.numpy(), images, 3, golden.TOLERANCES["int8-dynamic"])


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_folders.folder(tmp_path_factory.mktemp("models") / "siglip", "siglip", layers=LAYERS)


def test_a_folder_from_end_to_end(siglip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "siglip.onnx"
    asked = ["--method", "gem", "--blocks", "2", "--height", "40", "--width", "56", "--texts", "cat", "dog"]
    assert cli.main(["export", "-o", str(file), "--model", str(siglip), *asked]) == 0, capsys.readouterr().err
    found = OnnxLocalizer(file, providers="cpu")
    model = found.manifest.model
    assert (model.mean, model.std, model.interpolation) == ((0.5,) * 3, (0.5,) * 3, "bilinear")
    assert (model.patch, model.embed) == ((PATCH, PATCH), 32)
    assert verify(file, "cpu").good
    localizer = Localizer(str(siglip), method="gem", blocks=2, size=SIZE, fit="stretch", device="cpu", dtype="float32")
    frame = picture(3, (64, 90))
    here, there = localizer(frame, ["cat", "dog"]), found(frame)
    assert np.abs(here.similarity - there.similarity).max() < 1e-5
    assert np.abs(np.asarray(here.scores) - np.asarray(there.scores)).max() < 1e-5
    assert [(a.x, a.y) for a in here.points()] == [(b.x, b.y) for b in there.points()]


def test_options_of_a_recipe_are_in_the_manifest(siglip: Path, tmp_path: Path) -> None:
    localizer = Localizer(str(siglip), method="gem", blocks=1, size=SIZE, fit="stretch", rotary=False, patch_read="value")
    manifest = export(localizer, tmp_path / "value.onnx", Options(size=SIZE))
    text = manifest.dumps()
    assert Manifest.loads(text) == manifest
    assert (manifest.recipe.rotary, manifest.recipe.patch_read) == (False, "value")
    # files of before these options
    old = text.replace(', "rotary": false', "").replace(', "patch_read": "value"', "")
    assert "rotary" not in old and "patch_read" not in old
    assert (Manifest.loads(old).recipe.rotary, Manifest.loads(old).recipe.patch_read) == (True, None)


REGISTERED = [("clip", "gem", "ort", "float32"), ("siglip", "bi_modal", "onnx", "float16"), ("eva02", "naclip", "decomposed", "float32")]


@pytest.mark.slow("an export of every spelling with test-time registers")
@pytest.mark.parametrize(("family", "method", "spelling", "dtype"), REGISTERED)
def test_registers_at_test_time(family: str, method: str, spelling: str, dtype: str) -> None:
    changed = row(method, registers=2, neurons=((0, (3, 40)), (1, (79,))))
    dynamic = spelling == "decomposed"
    made = parts(family, changed, Options(spelling=spelling, dtype=dtype, size=None if dynamic else SIZE, batch=None if dynamic else 2))
    model = trace(made)
    assert {"Where", "ReduceMax"} <= {node.op_type for node in model.graph}
    images = pixels(2, (5, 7), torch.float32)
    check(session(model), made, images.numpy(), images, 3, TOLERANCE[dtype])
    plain = replace(made, recipe=row(method).at_scale(made.weights.logit_scale))
    with pytest.raises(AssertionError, match="is off by"):
        check(session(model), plain, images.numpy(), images, 3, TOLERANCE[dtype])
