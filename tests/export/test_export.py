"""The exporter's graph: every method in every spelling, precision and kind of input, against the functional ViT."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor

import literal_readouts
from fastloc.checkpoints.vit_weights import Weights
from fastloc.errors import FastlocError, TextError
from fastloc.export.graph import Parts
from fastloc.export.options import Options, check_texts
from fastloc.export.to_onnx import trace
from fastloc.functional.similarity import grids
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import Geometry, fit
from fastloc.imaging.preprocess import prepare
from fastloc.onnx_file.formats import DTYPES, SPELLINGS, UNSEEN
from fastloc.onnx_file.golden import picture
from fastloc.recipes import RECIPES, Recipe, recipe
from towers import PATCH, PATCHES, pixels, texts, tower

SIZE = (5 * PATCH, 7 * PATCH)
TOLERANCE = {"float32": 1e-5, "float16": 5e-3}
EMPTY = texts(1, seed=9)[0].float()
# what the embedded model recommends, and tables: other branches of the same code
VARIANTS = {
    "gem-table": recipe("gem", blocks=2, inv_temp=((((5.0, 4.0),) * 3,) * 4, (((3.0, 6.0), (2.0, 1.0), (4.0, 2.0)),) * 4)),
    "gem-plain": recipe("gem", iterations=0, inv_temp=5.0, residual=False),
    "qk": recipe("clearclip", terms=("qk", "identity"), blocks=2),
    "official": recipe("naclip", official=True),
}
# three blocks, of which two are changed: tracing takes its time, and a fourth block is like the third
LAYERS = 3
EXPORTED = {name: RECIPES[name] for name in PATCHES if RECIPES[name].inv_temp != "matched"}
ROWS = {name: replace(row, blocks=min(row.blocks, 2)) for name, row in {**EXPORTED, **VARIANTS}.items()}
# tracing takes seconds, most of all for files that take any size: each part of a method in some spelling here, and everything in
# benchmarks/onnx_parity.py
SPELLED = ("gem", "gem-table", "clip_surgery", "naclip", "qk", "pearl", "itaclip")
STATIC = [*((name, "ort") for name in ROWS), *((name, each) for name in SPELLED[:2] for each in ("onnx", "decomposed")),
          *((name, ("onnx", "decomposed")[turn % 2]) for turn, name in enumerate((*SPELLED[2:], "sc_clip", "sfp")))]  # fmt: skip
DYNAMIC = [("gem", "ort"), ("clip_surgery", "onnx"), ("naclip", "decomposed"), ("pearl", "ort"), ("itaclip", "decomposed"),
           ("sc_clip", "ort")]  # fmt: skip
HALF = [("gem", "onnx"), ("clip_surgery", "ort"), ("naclip", "decomposed"), ("maskclip", "onnx"),
        ("pearl", "ort"), ("pearl", "decomposed"), ("itaclip", "onnx")]  # fmt: skip


def parts(row: Recipe, options: Options, kind: dict[str, Any] | None = None, geometry: Geometry | None = None) -> Parts:
    weights = tower(torch.float32, layers=LAYERS, **(kind or {"activation": "quick_gelu"}))
    baked = texts(len(options.texts)).float() if options.texts else None
    return Parts(weights, row.at_scale(weights.logit_scale), options, geometry, baked, EMPTY)


def session(made: Parts) -> onnxruntime.InferenceSession:
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    content = ir.to_proto(trace(made)).SerializeToString()
    return onnxruntime.InferenceSession(content, quiet, providers=["CPUExecutionProvider"])


def answer(weights: Weights, row: Recipe, pixels: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        similarity, cosines = grids(weights, pixels, prompts, row, EMPTY, background=True)
    assert cosines is not None
    return similarity, cosines


def check(run: onnxruntime.InferenceSession, made: Parts, pixels: Tensor, prompts: Tensor) -> None:
    """Check all outputs of the session against the functional ViT and `fastloc.imaging.heatmaps`."""
    similarity, cosines = answer(made.weights, made.recipe, pixels, prompts)
    limit = TOLERANCE[made.options.dtype]
    fed = {"pixels": pixels.numpy()} | ({} if made.options.texts else {"text_embeddings": prompts.numpy()})
    names = [each.name for each in run.get_outputs()]
    found = dict(zip(names, run.run(names, fed), strict=True))
    error = np.abs(found["similarity"] - similarity.numpy()).max()
    assert error <= limit, f"similarity {found['similarity'].shape} is off by {error:.1e}"
    assert np.abs(found["scores"] - cosines[:, :-1].numpy()).max() <= limit
    assert found["background"].shape == (len(pixels), 1)
    assert np.abs(found["background"] - cosines[:, -1:].numpy()).max() <= limit
    if "heatmaps" in found:
        check_maps(found, made.recipe, fit(pixels.shape[2:], pixels.shape[2:], PATCH))


def check_maps(found: dict[str, np.ndarray], row: Recipe, where: Geometry) -> None:
    """Check heatmaps and labels against those of `fastloc.imaging.heatmaps` for the same similarity."""
    score = row.readout
    for grid, heat, best in zip(found["similarity"], found["heatmaps"], found["labels"], strict=True):
        expected = heatmaps.heatmaps(grid, where, score.order, score.scale, score.reverse)
        assert np.abs(heat - expected).max() <= 2e-5, f"heatmaps {heat.shape} are off by {np.abs(heat - expected).max():.1e}"
        labels = literal_readouts.labels(-grid if score.reverse else grid, where, order=score.order).astype(np.uint8)
        assert (labels == best).mean() > 0.999, f"{(labels != best).sum()} labels differ"


EVERYTHING = ("similarity", "scores", "background", "heatmaps", "labels")


@pytest.mark.slow("exports with dynamic axes in every spelling")
@pytest.mark.parametrize(("name", "spelling"), DYNAMIC)
def test_any_batch_size_and_texts(name: str, spelling: str) -> None:
    made = parts(ROWS[name], Options(spelling=spelling, batch=None, outputs=EVERYTHING))
    run = session(made)
    # the trained grid, a wide one, a high one, one of as many patches; one picture, several; one text, several
    for batch, grid, count in ((1, (4, 4), 3), (3, (3, 9), 1), (2, (8, 5), 2), (1, (2, 8), 3)):
        check(run, made, pixels(batch, grid, torch.float32), texts(count).float())


@pytest.mark.slow("an export of every method", quick="spelling")
@pytest.mark.parametrize(("name", "spelling"), STATIC)
def test_every_method(name: str, spelling: str) -> None:
    made = parts(ROWS[name], Options(spelling=spelling, size=SIZE, batch=2, count=3, outputs=EVERYTHING))
    check(session(made), made, pixels(2, (5, 7), torch.float32), texts(3).float())


@pytest.mark.slow("an export of each in float16", quick=1)
@pytest.mark.parametrize(("name", "spelling"), HALF)
def test_half_precision(name: str, spelling: str) -> None:
    made = parts(ROWS[name], Options(spelling=spelling, dtype="float16", size=SIZE, outputs=EVERYTHING))
    check(session(made), made, pixels(1, (5, 7), torch.float32), texts(3).float())


TOWERS = ({"scale": True}, {"pool": "avg", "activation": "gelu"}, {"pool": "avg-norm", "ln_pre": False, "activation": "gelu_tanh"})


@pytest.mark.slow("an export of every kind of tower", quick=1)
@pytest.mark.parametrize("kind", TOWERS, ids=str)
def test_other_towers(kind: dict[str, Any]) -> None:
    made = parts(ROWS["clip_surgery"], Options(size=SIZE, outputs=EVERYTHING), kind)
    check(session(made), made, pixels(1, (5, 7), torch.float32), texts(3).float())


@pytest.mark.slow("two exports of every spelling")
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_opset_is_as_good(spelling: str) -> None:
    # the default is what all other tests have
    for opset in sorted({min(SPELLINGS[spelling].opsets), max(SPELLINGS[spelling].opsets)}):
        made = parts(ROWS["clip_surgery"], Options(spelling=spelling, opset=opset, size=SIZE, outputs=EVERYTHING))
        model = trace(made)
        assert model.opset_imports[""] == opset
        if spelling != "ort":
            onnx.checker.check_model(ir.to_proto(model), full_check=True)
        run = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
        check(run, made, pixels(1, (5, 7), torch.float32), texts(2).float())


@pytest.mark.slow("two exports", quick=1)
@pytest.mark.parametrize("count", [1, 4])
def test_a_baked_vocabulary(count: int) -> None:
    made = parts(ROWS["clip_surgery"], Options(size=SIZE, texts=tuple("abcd"[:count])))
    run = session(made)
    assert [each.name for each in run.get_inputs()] == ["pixels"]
    assert [each.name for each in run.get_outputs()] == ["similarity", "scores", "background"]
    check(run, made, pixels(1, (5, 7), torch.float32), texts(count).float())


FRAMES = [
    ("stretch", (60, 100), "NHWC", False, "matmul"), ("crop", (60, 100), "NCHW", True, "matmul"),
    ("letterbox", (90, 40), "NHWC", True, "matmul"),
    # higher than wide and much smaller: Pillow resizes such along columns first, in its newer versions
    ("stretch", (300, 70), "NHWC", False, "matmul"), ("stretch", SIZE, "NCHW", False, "matmul"),
    ("stretch", (60, 100), "NHWC", False, "onnx"), ("crop", (90, 40), "NCHW", True, "onnx"), ("letterbox", (30, 30), "NHWC", False, "onnx"),
]  # fmt: skip


@pytest.mark.slow("eight exports with a resize in the graph", quick=1)
@pytest.mark.parametrize(("fitted", "frame", "layout", "bgr", "resize"), FRAMES)
def test_camera_frames_as_pillow_resizes_them(fitted: str, frame: tuple[int, int], layout: str, bgr: bool, resize: str) -> None:
    where = fit(frame, SIZE, PATCH, fitted)
    options = Options(kind="frames", frame=frame, size=SIZE, layout=layout, bgr=bgr, resize=resize, batch=None, outputs=EVERYTHING)
    made = parts(ROWS["gem"], options, geometry=where)
    run, spec = session(made), made.weights.spec
    pictures = np.stack([picture(seed, frame) for seed in (1, 2, 3)])
    fed = pictures[..., ::-1] if bgr else pictures
    fed = np.ascontiguousarray(fed if layout == "NHWC" else fed.transpose(0, 3, 1, 2))
    names = [each.name for each in run.get_outputs()]
    found = dict(zip(names, run.run(names, {"frames": fed, "text_embeddings": texts(3).float().numpy()}), strict=True))
    pixels = np.stack([prepare(Image.fromarray(each), where, spec.mean, spec.std, spec.interpolation) for each in pictures])
    expected, _ = answer(made.weights, made.recipe, torch.from_numpy(pixels), texts(3).float())
    # one step of 255 in some pixels
    assert np.abs(found["similarity"] - expected.numpy()).max() < 2e-3
    check_maps(found, made.recipe, where)


def test_bytes_are_pixels_before_normalisation() -> None:
    made = parts(ROWS["gem"], Options(kind="bytes", size=SIZE, bgr=True))
    spec, raw = made.weights.spec, picture(4, SIZE)
    fed = {"pixels": raw[None, ..., ::-1].transpose(0, 3, 1, 2).astype(np.float32), "text_embeddings": texts(2).float().numpy()}
    found = session(made).run(["similarity"], fed)[0]
    pixels = prepare(Image.fromarray(raw), fit(SIZE, SIZE, PATCH), spec.mean, spec.std, spec.interpolation)
    expected, _ = answer(made.weights, made.recipe, torch.from_numpy(pixels)[None], texts(2).float())
    assert np.abs(found - expected.numpy()).max() < 1e-5


@cache
def traced(options: Options) -> Any:
    """GEM's graph, made once for the tests that only read it."""
    return trace(parts(ROWS["gem"], options))


# what the image embedding adds is one row of the last block
MAPS = ("similarity",)


def operators(options: Options) -> list[str]:
    return [node.op_type for node in traced(options).graph]


@pytest.mark.slow("an export of every spelling", quick=1)
@pytest.mark.parametrize(("spelling", "op"), [("ort", "MultiHeadAttention"), ("onnx", "Attention"), ("decomposed", "Softmax")])
def test_the_graph_is_the_restructured_one(spelling: str, op: str) -> None:
    """Three blocks, two of them changed: the last block's own attention is not there, and the streams of a block run as one."""
    found = operators(Options(spelling=spelling, size=SIZE, outputs=MAPS))
    assert found.count(op) == 2 + 2 * 2
    # patches into rows, and similarity: attention itself needs none
    assert spelling == "decomposed" or found.count("Transpose") <= 3


def test_one_product_for_all_changed_blocks() -> None:
    # patch embedding; q, k and v of three blocks; out and MLP of two; the joint projection; into the texts' space; the similarity
    assert operators(Options(size=SIZE, outputs=MAPS)).count("MatMul") == 1 + 3 + 3 * 2 + 1 + 1 + 1


def test_weights_are_stored_as_they_are_multiplied() -> None:
    model = traced(Options(size=SIZE))
    turned = [node.inputs[0] for node in model.graph if node.op_type == "Transpose"]
    assert not [value for value in turned if value is not None and value.is_initializer()]


@pytest.mark.slow("an export")
def test_small_matrices_of_a_head_are_no_weights() -> None:
    """PEARL's steps begin with a constant, and products with a weight are those that the quantiser of 8 bits takes."""
    plain, aligned = (trace(parts(ROWS[name], Options(size=SIZE, outputs=MAPS))) for name in ("clearclip", "pearl"))
    count = [sum(node.op_type == "MatMul" and node.inputs[1].is_initializer() for node in each.graph) for each in (plain, aligned)]
    assert count[0] == count[1]


def test_half_precision_is_in_the_file() -> None:
    model = trace(parts(ROWS["gem"], Options(dtype="float16", size=SIZE, outputs=MAPS)))
    products = [node for node in model.graph if node.op_type == "MatMul" and node.inputs[1] is not None and node.inputs[1].is_initializer()]
    assert {node.inputs[1].dtype for node in products if node.inputs[1] is not None} == {ir.DataType.FLOAT16}
    norms = [node for node in model.graph if node.op_type == "LayerNormalization"]
    assert {node.inputs[1].dtype for node in norms if node.inputs[1] is not None} == {ir.DataType.FLOAT}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"spelling": "flash"}, "unknown attention spelling 'flash'"),
    ({"dtype": "fp16"}, "unknown dtype 'fp16'"),
    ({"opset": 17}, "opset must be one of 18, 19, 20, 21, 22, 23"),
    ({"outputs": ()}, "outputs must be one or more of"),
    ({"outputs": ("heatmap",)}, "unknown output 'heatmap': did you mean 'heatmaps'"),
    ({"outputs": ("labels", "labels")}, "outputs must differ, got labels, labels"),
    ({"kind": "frames", "layout": "NHWC"}, "frame must be the camera's height x width"),
    ({"kind": "frames", "layout": "NHWC", "frame": (9, 9)}, "size must be the encoder's one size"),
    ({"frame": (9, 9)}, "frame must be left out"),
    ({"layout": "NHWC"}, "layout must be NCHW for input 'pixels', got 'NHWC'"),
    ({"resize": "onnx"}, "resize must be 'matmul'"),
    ({"kind": "frames", "layout": "NHWC", "frame": (9, 9), "size": SIZE, "resize": "onnx", "spelling": "onnx"}, "use resize 'matmul'"),
    ({"size": (41, 56)}, "size must be a multiple of the patch 8, got 41x56; use 40 or 48"),
    ({"texts": ("a",), "count": 1}, "where texts are baked in, got 1"),
    ({"count": 256, "outputs": ("labels",)}, "leave 'labels' out"),
    ({"count": 0}, "count must be 1 or more, got 0"),
    ({"batch": 0}, "batch must be 1 or more, or None for any, got 0"),
    ({"dtype": "int8-dynamic", "spelling": "decomposed"}, "spelling must be 'ort'"),
    ({"dtype": "int8-static", "spelling": "onnx"}, "'decomposed'"),
    ({"size": 40}, "size must be (height, width) in pixels, got 40"),
    ({"size": (40, 56.0)}, "size must be (height, width) in pixels, got (40, 56.0)"),
    ({"batch": "2"}, "batch must be a whole number or None, got '2'"),
    ({"texts": "cat"}, "texts must be a tuple of strings, got 'cat'; use ('cat',)"),
    ({"texts": ("cat", None)}, "texts must be a tuple of strings, got ('cat', None)"),
    ({"outputs": "labels"}, "outputs must be a tuple of strings, got 'labels'; use ('labels',)"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "message"), REFUSED, ids=str)
def test_what_cannot_be_had_is_refused_with_the_nearest_that_works(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(FastlocError) as caught:
        Options(**asked).check(tower(torch.float32).spec, RECIPES["gem"])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_onnx_resize_of_a_filter_it_has_not() -> None:
    spec = replace(tower(torch.float32).spec, interpolation="lanczos")
    with pytest.raises(FastlocError, match="resize must be 'matmul' for interpolation 'lanczos'"):
        Options(kind="frames", layout="NHWC", frame=(9, 9), size=SIZE, resize="onnx").check(spec, RECIPES["gem"])


def test_a_text_named_twice() -> None:
    with pytest.raises(TextError, match="must differ, got 'cat' twice"):
        check_texts(("cat", "dog", "cat"))


def test_the_byte_of_what_was_not_seen() -> None:
    assert np.array([heatmaps.BACKGROUND]).astype(np.uint8) == UNSEEN


def test_every_dtype_has_tolerances() -> None:
    from fastloc.onnx_file import golden

    assert set(DTYPES) == set(golden.TOLERANCES) == set(golden.MAP_TOLERANCES) == set(golden.LEAST_AGREEMENT)


