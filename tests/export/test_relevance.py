"""Gradients, rollout and anchors as ONNX: no autograd at the edge, the same numbers as PyTorch, any number of pictures, sizes and texts."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import families
from fastloc.checkpoints.vit_weights import named_tensors
from fastloc.errors import FastlocError
from fastloc.export.graph import Parts
from fastloc.export.options import Options
from fastloc.export.to_onnx import trace
from fastloc.functional.similarity import grids
from fastloc.onnx_file import golden
from fastloc.recipes import RECIPES, Recipe, recipe
from towers import PATCH, error, pixels, texts, tower

SIZE = (3 * PATCH, 5 * PATCH)
EMPTY = texts(1, seed=1)[0].float()
# of the largest value; half precision is a softmax of a hundred cosines here
PARITY = {"float32": 1e-4, "float16": 3e-2}
# tracing takes seconds: each function once, and what another spelling, precision or number of texts could change
CASES = [
    *((name, "ort", "float32", False) for name in ("grad_cam", "grad_cam_input", "bi_modal", "legrad", "grad_eclip", "rollout")),
    ("grad_cam_clip_es", "decomposed", "float32", False), ("anchor_qk", "onnx", "float32", False), ("legrad", "onnx", "float16", False),
    ("grad_cam", "decomposed", "float32", True), ("cliper", "ort", "float32", False), ("cliper", "decomposed", "float32", True),
    ("cliper", "onnx", "float16", False),
]  # fmt: skip


# how a gradient reaches the tokens: through attention pools with and without an MLP, rotations, norms inside, and norms behind
FAMILY_CASES = [
    ("pe", "bi_modal", "ort"), ("siglip", "legrad", "onnx"), ("siglip", "grad_cam", "ort"), ("siglip", "grad_eclip", "decomposed"),
    ("coca", "legrad", "ort"), ("coca", "rollout", "decomposed"), ("eva02", "bi_modal", "onnx"), ("eva02-e", "grad_cam_input", "ort"),
    ("registers", "grad_cam", "decomposed"), ("siglip", "cliper", "onnx"), ("eva02", "cliper", "ort"),
    ("relpos", "grad_cam_input", "ort"), ("relpos", "bi_modal", "onnx"), ("relpos", "cliper", "decomposed"),
]  # fmt: skip


def parts(row: Recipe, options: Options) -> Parts:
    return Parts(tower(torch.float32, layers=2, activation="quick_gelu"), row, options, None, None, EMPTY)


def words_for(made: Parts, count: int) -> torch.Tensor:
    """[count, E] of unit length, the first those of `texts` where the model's are as wide."""
    wide = torch.cat([texts(count), texts(count, seed=2)], 1)[:, : made.weights.spec.embed]
    return torch.nn.functional.normalize(wide, dim=-1).float()


def check(model: ir.Model, made: Parts, batch: int, grid: tuple[int, int], count: int) -> None:
    run = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    images, words = pixels(batch, grid, torch.float32), words_for(made, count)
    names = [each.name for each in run.get_outputs()]
    found = dict(zip(names, run.run(names, {"pixels": images.numpy(), "text_embeddings": words.numpy()}), strict=True))
    expected, cosines = grids(made.weights, images, words, made.recipe, made.empty, background=True)
    assert cosines is not None and names == ["similarity", "scores", "background"]
    limit = PARITY[made.options.dtype]
    wrong = error(torch.from_numpy(found["similarity"]), expected)
    assert wrong < limit, f"batch {batch}, grid {grid}, {count} texts: off by {wrong:.1e}"
    together = np.concatenate([found["scores"], found["background"]], 1)
    assert np.abs(together - cosines.numpy()).max() < (1e-5 if limit < 1e-3 else 1e-3)


@pytest.mark.slow("an export of another field")
def test_grad_eclip_s_second_form() -> None:
    made = parts(recipe("grad_eclip", compares="plain"), Options(spelling="decomposed", batch=2, size=SIZE, count=3))
    check(trace(made), made, 2, (3, 5), 3)


@pytest.mark.slow("an export of every gradient method", quick=2)
@pytest.mark.parametrize(("name", "spelling", "dtype", "dynamic"), CASES)
def test_the_file_computes_what_pytorch_does(name: str, spelling: str, dtype: str, dynamic: bool) -> None:
    fixed = {} if dynamic else {"size": SIZE, "count": 3}
    made = parts(RECIPES[name], Options(spelling=spelling, dtype=dtype, batch=None if dynamic else 2, **fixed))  # type: ignore[arg-type]
    model = trace(made)
    assert "Tile" not in {node.op_type for node in model.graph}, "TensorRT-RTX's builder ends with a fault on it"
    for batch, grid, count in ((1, (4, 4), 1), (2, (3, 5), 4)) if dynamic else ((2, (3, 5), 3),):
        check(model, made, batch, grid, count)


@pytest.mark.slow("an export of a gradient method of every kind of tower")
@pytest.mark.parametrize(("family", "name", "spelling"), FAMILY_CASES)
def test_the_file_of_another_family(family: str, name: str, spelling: str) -> None:
    weights = families.tower(family, torch.float32, layers=2)
    empty = torch.nn.functional.normalize(torch.ones(weights.spec.embed), dim=0)
    made = Parts(weights, RECIPES[name], Options(spelling=spelling, size=SIZE, count=3, batch=2), None, None, empty)  # type: ignore[arg-type]
    check(trace(made), made, 2, (3, 5), 3)


def test_a_weight_that_a_backward_reads_is_in_the_file_once() -> None:
    # so wide that the tracer leaves transpositions to us
    weights = tower(torch.float32, layers=2, width=256, head_width=64)
    made = Parts(weights, RECIPES["legrad"], Options(size=SIZE), None, None, EMPTY)
    stored = sum(each.const_value.nbytes for each in trace(made).graph.initializers.values() if each.const_value is not None)
    assert stored < 1.05 * sum(each.nbytes for each in named_tensors(weights).values())


@pytest.mark.parametrize("dtype", ["int8-dynamic", "int8-static"])
def test_eight_bits_are_refused(dtype: str) -> None:
    with pytest.raises(FastlocError, match="got 'legrad', which reads 'legrad'; use 'float16' or 'float32'"):
        Options(dtype=dtype).check(tower(torch.float32).spec, RECIPES["legrad"])


def test_scores_alone_can_be_asked_for() -> None:
    Options(outputs=("scores", "background")).check(tower(torch.float32).spec, RECIPES["grad_eclip"])


def test_a_golden_is_judged_by_the_range_of_its_maps() -> None:
    """A relevance of 1e-6 that is wrong by half is wrong; one of 1000 that is off by its last digit is not."""
    right = np.random.default_rng(0).random((1, 2, 3, 4), np.float32)
    for scale in (1e-9, 1e3):
        one = golden.Golden(0, 1, (24, 32), 2, {"similarity": golden.Sample.take((scale * right).astype(np.float32))})
        good, bad = ({"similarity": (scale * each).astype(np.float32)} for each in (right * (1 + 1e-6), right[..., ::-1].copy()))
        assert not golden.failures(golden.compare(one, good), "float32", "relevance")
        assert "of its range" in golden.failures(golden.compare(one, bad), "float32", "relevance")[0]


@pytest.mark.slow("exports a gradient with its golden")
def test_the_whole_export(tmp_path: Path) -> None:
    """With the embedded model: manifest, golden and check included."""
    from fastloc.engine.localizer import Localizer
    from fastloc.export.to_onnx import export
    from fastloc.runtime.localizer import OnnxLocalizer

    localizer = Localizer(method="legrad", size=48)
    manifest = export(localizer, tmp_path / "legrad.onnx", Options(size=(48, 48), texts=("red circle", "dog")))
    assert manifest.recipe == recipe("legrad") and manifest.outputs == ("similarity", "scores", "background")
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    found, expected = OnnxLocalizer(tmp_path / "legrad.onnx")(picture), localizer(picture, ["red circle", "dog"])
    assert np.abs(found.similarity - expected.similarity).max() < 1e-4 * np.abs(expected.similarity).max()
    assert found.scores is not None and expected.scores is not None and np.abs(found.scores - expected.scores).max() < 1e-5
