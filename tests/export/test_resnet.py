"""CLIP's ResNets as files: every method, spelling, precision and input against the functional ResNet, and a model from end to end."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import Tensor

from fastloc import Localizer, OnnxLocalizer, cli
from fastloc.checkpoints.digests import digest
from fastloc.diagnostics.inspect_file import inspect
from fastloc.diagnostics.verify import verify
from fastloc.errors import FastlocError, RecipeError
from fastloc.export.graph import Parts
from fastloc.export.int8 import CONVOLUTIONS, quantized
from fastloc.export.options import Options
from fastloc.export.resnet_graph import ResNetGraph, grids
from fastloc.export.to_onnx import export, trace
from fastloc.imaging.geometry import Geometry, fit
from fastloc.imaging.preprocess import prepare
from fastloc.onnx_file import golden, header
from fastloc.onnx_file.formats import SPELLINGS
from fastloc.onnx_file.golden import picture
from fastloc.onnx_file.manifest import Manifest
from fastloc.recipes import Recipe, recipe
from resnet_towers import STRIDE, config, pixels, texts, tower

SIZE = (3 * STRIDE, 4 * STRIDE)
# as for ViTs, see test_export
TOLERANCE = {"float32": 1e-5, "float16": 5e-3}
# of maps of gradients, over their largest value; as for ViTs, see test_relevance
PARITY = {"float32": 1e-4, "float16": 3e-2}
ALL = ("similarity", "scores", "background")
EMPTY = texts(1, seed=9)[0].float()
ROWS = {
    **{name: recipe(name) for name in ("itsm", "rclip", "maskclip", "clip_surgery", "grad_cam")},
    "official": recipe("itsm", official=True),
    "unit": recipe("clip_surgery", unit=True, inv_temp=1.0),
    "softmax": recipe("grad_cam", target="softmax"),
}
NAMES = ["cat", "dog"]
METHODS = ("maskclip", "clip_surgery", "grad_cam", "itsm", "rclip")
# what differs between spellings is the pool's attention alone, the same for every method
STATIC = [*(("itsm", each) for each in SPELLINGS), *((name, list(SPELLINGS)[turn % 3]) for turn, name in enumerate(ROWS) if name != "itsm")]


def parts(row: Recipe, options: Options, geometry: Geometry | None = None) -> Parts:
    weights = tower(torch.float32)
    baked = texts(len(options.texts)).float() if options.texts else None
    return Parts(weights, row.at_scale(weights.logit_scale), options, geometry, baked, EMPTY)


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), quiet, providers=["CPUExecutionProvider"])


def check(run: onnxruntime.InferenceSession, made: Parts, fed: np.ndarray, images: Tensor, count: int, limit: float) -> None:
    """Compare a file's answer to `fed` with the functional ResNet's in float64 to the normalised pixels `images`."""
    prompts = texts(count).float()
    with torch.no_grad():
        similarity, cosines = grids(tower(), images.double(), prompts.double(), made.recipe, EMPTY.double(), background=True)
    assert cosines is not None
    feeds = {run.get_inputs()[0].name: fed} | ({} if made.options.texts else {"text_embeddings": prompts.numpy()})
    for name, one, expected in zip(ALL, run.run(list(ALL), feeds), (similarity, cosines[:, :-1], cosines[:, -1:]), strict=True):
        assert one.shape == expected.shape, name
        gradients = name == "similarity" and made.recipe.reads != "patches"
        error = float(np.abs(one - expected.numpy()).max() / (expected.abs().max() if gradients else 1))
        most = PARITY[made.options.dtype] if gradients else limit
        assert error <= most, f"{name} {one.shape} is off by {error:.1e}"


@pytest.mark.slow("an export of every method, and of one in every spelling", quick=3)
@pytest.mark.parametrize(("name", "spelling"), STATIC)
def test_one_size(name: str, spelling: str) -> None:
    made = parts(ROWS[name], Options(spelling=spelling, size=SIZE, batch=2, count=3))
    model = trace(made)
    images = pixels(2, (3, 4), torch.float32)
    check(session(model), made, images.numpy(), images, 3, TOLERANCE["float32"])
    kinds = {node.op_type for node in model.graph}
    # norms are folded; the position table of this size is a constant
    assert "BatchNormalization" not in kinds and not {"Range", "Shape"} & kinds


SPELLED = [*zip(METHODS, ("onnx", "ort", "decomposed", "decomposed", "ort"), strict=True), ("unit", "onnx")]


@pytest.mark.slow("exports with dynamic axes")
@pytest.mark.parametrize(("name", "spelling"), SPELLED[:3])
def test_any_batch_size_and_texts(name: str, spelling: str) -> None:
    made = parts(ROWS[name], Options(spelling=spelling, batch=None))
    run = session(trace(made))
    # the trained grid, a wide one, a high one, one of as many positions; one text, several
    for batch, grid, count in ((1, (2, 2), 3), (3, (2, 5), 1), (2, (4, 3), 2), (1, (1, 4), 3)):
        images = pixels(batch, grid, torch.float32)
        check(run, made, images.numpy(), images, count, TOLERANCE["float32"])


@pytest.mark.slow("an export in float16 of every method", quick=1)
@pytest.mark.parametrize(("name", "spelling"), SPELLED)
def test_half_precision(name: str, spelling: str) -> None:
    made = parts(ROWS[name], Options(spelling=spelling, dtype="float16", size=SIZE))
    model = trace(made)
    images = pixels(1, (3, 4), torch.float32)
    check(session(model), made, images.numpy(), images, 3, TOLERANCE["float16"])
    kernels = {node.inputs[1].dtype for node in model.graph if node.op_type == "Conv" and node.inputs[1] is not None}
    assert kernels == {ir.DataType.FLOAT16}


@pytest.mark.slow("two exports of every spelling")
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_oldest_and_newest_opset(spelling: str) -> None:
    for opset in sorted({min(SPELLINGS[spelling].opsets), max(SPELLINGS[spelling].opsets)}):
        made = parts(ROWS["clip_surgery"], Options(spelling=spelling, opset=opset, size=SIZE))
        model = trace(made)
        assert model.opset_imports[""] == opset
        images = pixels(1, (3, 4), torch.float32)
        check(session(model), made, images.numpy(), images, 2, TOLERANCE["float32"])


INPUTS: list[tuple[str, dict[str, Any]]] = [
    ("frames", {"layout": "NHWC", "bgr": True}), ("bytes", {"bgr": True}), ("frames", {"layout": "NCHW", "resize": "onnx"})
]  # fmt: skip


@pytest.mark.slow("an export of each input", quick=1)
@pytest.mark.parametrize(("kind", "more"), INPUTS)
def test_bytes_and_frames(kind: str, more: dict[str, Any]) -> None:
    frame = (100, 60) if kind == "frames" else SIZE
    where = fit(frame, SIZE, (STRIDE, STRIDE), "letterbox")
    changes = {**more, "frame": frame} if kind == "frames" else more
    made = parts(ROWS["itsm"], Options(kind=kind, size=SIZE, **changes), where if kind == "frames" else None)
    spec, raw = made.weights.spec, picture(4, frame)
    fed = raw[None, ..., ::-1] if more.get("bgr") else raw[None]
    if more.get("layout") != "NHWC":
        fed = fed.transpose(0, 3, 1, 2)
    fed = np.ascontiguousarray(fed, np.uint8 if kind == "frames" else np.float32)
    images = torch.from_numpy(prepare(Image.fromarray(raw), where, spec.mean, spec.std, spec.interpolation))[None]
    # frames: one step of 255 in some pixels
    check(session(trace(made)), made, fed, images, 2, 5e-3 if kind == "frames" else 1e-5)


@pytest.mark.slow("quantises two files", quick=1)
@pytest.mark.parametrize("name", ["itsm", "clip_surgery"])
def test_eight_bits(name: str) -> None:
    made = parts(ROWS[name], Options("decomposed", "int8-static", size=SIZE))
    feeds = [{"pixels": pixels(1, (3, 4), torch.float32, seed).numpy(), "text_embeddings": texts(2).float().numpy()} for seed in range(4)]
    small = ir.to_proto(quantized(trace(made), "int8-static", feeds, CONVOLUTIONS, "decomposed"))
    produced = {output: node for node in small.graph.node for output in node.output}
    numbers = {each.name: numpy_helper.to_array(each) for each in small.graph.initializer}
    kernels = [produced[node.input[1]] for node in small.graph.node if node.op_type == "Conv"]
    assert len(kernels) == len([node for node in trace(made).graph if node.op_type == "Conv"])
    for node in kernels:
        assert node.op_type == "DequantizeLinear"
        kernel, scale, zero = (numbers[each] for each in node.input)
        # a scale a channel; symmetric, which is all that TensorRT takes
        assert kernel.dtype == np.int8 and scale.shape == (len(kernel),) and not zero.any()
    # the pool stays as it is
    assert all(produced[name].op_type != "DequantizeLinear" for node in small.graph.node if node.op_type == "MatMul"
               for name in node.input if name in produced)  # fmt: skip
    images = pixels(1, (3, 4), torch.float32)
    check(session(ir.from_proto(small)), made, images.numpy(), images, 3, golden.TOLERANCES["int8-static"])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of a small ResNet."""
    path = tmp_path_factory.mktemp("model") / "tiny.json"
    path.write_text(json.dumps(config()))
    return path


@cache
def localizer(file: Path, method: str = "clip_surgery") -> Localizer:
    return Localizer(str(file), "random", method, size=SIZE, fit="stretch", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def exported(file: Path) -> Path:
    """A file with texts baked in, by the command line."""
    target = file.with_name("tiny.onnx")
    model = ["--model", str(file), "--pretrained", "random", "--method", "clip_surgery", "--height", "96", "--width", "128"]
    assert cli.main(["export", "-o", str(target), *model, "--texts", *NAMES, "--outputs", *ALL, "heatmaps", "labels"]) == 0
    return target


def test_the_file_answers_as_the_model_does(file: Path, exported: Path) -> None:
    here, there = localizer(file), OnnxLocalizer(exported, providers="cpu")
    assert verify(exported, "cpu").good
    frame = picture(3, (64, 90))
    one, other = here(frame, NAMES), there(frame)
    assert np.abs(one.similarity - other.similarity).max() < 1e-5
    assert np.abs(np.asarray(one.scores) - np.asarray(other.scores)).max() < 1e-5
    assert [(a.x, a.y) for a in one.points()] == [(b.x, b.y) for b in other.points()]


def test_the_file_says_what_it_is(file: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, report = localizer(file), inspect(exported)
    found = report.manifest
    assert found is not None and found.recipe == here.recipe
    assert (found.model.tower, found.model.patch, found.model.weights) == ("resnet", (STRIDE, STRIDE), digest(here.source.weights))
    assert report.nodes["Conv"] == 3 + 5 * 3 + 4, "the stem, three in each of five bottlenecks, and a skip in each stage"
    assert cli.main(["inspect", str(exported)]) == 0
    assert "resnet, CLIP's ResNet with an attention pool" in " ".join(capsys.readouterr().out.split())


def test_files_of_before_do_not_name_their_tower(exported: Path) -> None:
    manifest = header.read(exported).manifest()
    text = manifest.dumps()
    assert Manifest.loads(text) == manifest
    old = text.replace(', "tower": "resnet"', "")
    assert '"tower"' not in old and Manifest.loads(old).model == replace(manifest.model, tower="vit")
    with pytest.raises(FastlocError, match="unknown tower"):
        Manifest.loads(text.replace('"tower": "resnet"', '"tower": "mlp"'))


@pytest.mark.slow("an export that takes any size")
def test_a_file_of_any_size_keeps_the_shape(file: Path, tmp_path: Path) -> None:
    here = Localizer(str(file), "random", "maskclip", size=96, fit="aspect", device="cpu", dtype="float32")
    export(here, tmp_path / "any.onnx", Options(batch=None))
    assert verify(tmp_path / "any.onnx", "cpu").good
    embeddings = (NAMES, here.source.text(NAMES, here.template).numpy())
    there = OnnxLocalizer(tmp_path / "any.onnx", providers="cpu", embeddings=embeddings)
    for shape in ((64, 150), (150, 64)):
        frame = picture(3, shape)
        one, other = here(frame, NAMES), there(frame, NAMES)
        assert one.similarity.shape == other.similarity.shape
        assert np.abs(one.similarity - other.similarity).max() < 1e-5


@pytest.mark.slow("quantises a file")
def test_eight_bits_from_the_command_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, target = tmp_path / "pictures", tmp_path / "int8.onnx"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(picture(seed, (80, 100))).save(folder / f"{seed}.png")
    model = ["export", "-o", str(target), "--model", str(file), "--pretrained", "random", "--method", "itsm", "--size", "64"]
    assert cli.main([*model, "--dtype", "int8-static", "--calibrate", str(folder)]) == 0, capsys.readouterr().err
    assert verify(target, "cpu").good
    assert header.read(target).manifest().dtype == "int8-static"


def test_ranges_are_calibrated(file: Path, tmp_path: Path) -> None:
    with pytest.raises(FastlocError, match="dtype must be 'int8-static' for a tower of convolutions, got 'int8-dynamic'"):
        export(localizer(file), tmp_path / "tiny.onnx", Options(dtype="int8-dynamic", size=SIZE))
    assert not list(tmp_path.iterdir())


def test_sizes_are_multiples_of_the_stride(file: Path, tmp_path: Path) -> None:
    with pytest.raises(FastlocError, match="size must be a multiple of the patch 32, got 100x128; use 96 or 128"):
        export(localizer(file), tmp_path / "odd.onnx", Options(size=(100, 128)))


@pytest.mark.parametrize("cam", ["grad-cam++", "layer-cam"])
def test_gradients_at_positions_need_a_number_of_texts(cam: str) -> None:
    row = recipe("grad_cam", cam=cam)
    with pytest.raises(RecipeError, match=r"number of texts must be fixed in a ResNet's file with cam .*, got none; give texts"):
        ResNetGraph(parts(row, Options(size=SIZE)))
    for options in (Options(size=SIZE, count=2), Options(size=SIZE, texts=("cat", "dog"))):
        assert ResNetGraph(parts(row, options)).prepared.recipe.cam == cam


@pytest.mark.slow("an export that takes any number of pictures")
def test_gradients_at_positions_of_more_texts_than_are_computed_together(file: Path, tmp_path: Path) -> None:
    here = Localizer(str(file), "random", "grad_cam", cam="layer-cam", size=SIZE, device="cpu", dtype="float32")
    texts = [f"{name} {i}" for i in range(10) for name in ("a cat", "a dog")]
    export(here, tmp_path / "many.onnx", Options(batch=None, size=SIZE, texts=tuple(texts)))
    there = OnnxLocalizer(tmp_path / "many.onnx", providers="cpu")
    frames = [picture(seed, (80, 100)) for seed in range(3)]
    for one, other in zip(here(frames, texts), there(frames), strict=True):
        assert np.abs(one.similarity - other.similarity).max() < 1e-5
