"""Engines that TensorRT-RTX really builds, without a GPU, of small files and of real ViT-B/16s; and TensorRT where there is one."""

from pathlib import Path

import onnx
import pytest

import family_folders
import fastloc
import hierarchical_towers
from engine_inputs import left, rtx, tiny, why_no
from fastloc.errors import ModelError, PlanError
from fastloc.export.trt import build as engines
from fastloc.export.trt import report as engine_file
from fastloc.export.trt.build import Profiles, Progress, build
from fastloc.utils.hardware import Gpu, cuda_gpu
from onnx_files import change


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(index: int = 0) -> Gpu:
        raise PlanError("no NVIDIA driver")

    monkeypatch.setattr(engines, "cuda_gpu", none)


def check_header(engine: Path) -> None:
    """The runtime recognises its own engine of this version; without a GPU it says no more."""
    import tensorrt_rtx as trt

    bad = trt.EngineInvalidityDiagnostics
    runtime = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR))
    _, found = runtime.get_engine_validity(engine.read_bytes())
    assert not int(found) & (int(bad.MALFORMED_ENGINE) | int(bad.VERSION_MISMATCH))
    _, found = runtime.get_engine_validity(b"no engine" * 100)
    assert int(found) & int(bad.MALFORMED_ENGINE)


@rtx
@pytest.mark.usefixtures("no_gpu")
def test_rtx_builds_without_a_gpu(tmp_path: Path) -> None:
    path = tiny(tmp_path, batch=None, size=None, count=None)
    sizes = Profiles(batch=(1, 1, 4), size=((32, 40), (32, 40), (64, 80)), texts=(1, 2, 9))
    heard: list[Progress] = []
    report = build(path, profiles=sizes, sm=["80", "120"], progress=heard.append)
    assert report.capabilities == ("80", "120") and not report.loaded and report.gpu is None
    assert report.shapes["pixels"] == [[1, 3, 32, 40], [1, 3, 32, 40], [4, 3, 64, 80]]
    assert engine_file.read(tmp_path / "tiny.rtx.engine") == report
    assert heard and left(tmp_path) == ["tiny.rtx.engine", "tiny.rtx.engine.json"]
    check_header(tmp_path / "tiny.rtx.engine")


@rtx
@pytest.mark.usefixtures("no_gpu")
def test_rtx_finds_weights_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path = tiny(folder, external=True)
    monkeypatch.chdir(tmp_path)
    assert build(path.relative_to(tmp_path), tmp_path / "out.engine").bytes == (tmp_path / "out.engine").stat().st_size
    (folder / "tiny.onnx.data").unlink()
    with pytest.raises(ModelError, match="which is missing: copy both files together"):
        build(path)


@rtx
@pytest.mark.usefixtures("no_gpu")
def test_rtx_says_in_one_line_what_it_does_not_read(tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.node[-1].op_type = "NonsenseOp"

    with pytest.raises(ModelError, match=r"TensorRT-RTX [\d.]+ does not build it: node NonsenseOp") as error:
        build(change(tiny(tmp_path), edit))
    assert "\n" not in str(error.value) and left(tmp_path) == []


# every compute capability once, both spellings that TensorRT takes, and both dtypes
MATRIX = (("gem", "onnx", "float16", "89"), ("clip_surgery", "decomposed", "float32", "86"))
BYTES = {"float16": 2, "float32": 4}


@pytest.mark.slow("builds engines of ViT-B/16")
@rtx
@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("method", "spelling", "dtype", "sm"), MATRIX)
def test_rtx_takes_a_real_vit(tmp_path: Path, method: str, spelling: str, dtype: str, sm: str) -> None:
    from fastloc.export.to_onnx import Options, export

    localizer = fastloc.Localizer("ViT-B-16", "random", method, size=224)
    path = tmp_path / "vit.onnx"
    export(localizer, path, Options(spelling=spelling, dtype=dtype, size=(224, 224), count=3))
    report = build(path, sm=[sm])
    # nothing of the tower has become another type, and the read-out alone is in float32
    assert report.products[dtype] >= 40 and sum(report.products.values()) - report.products[dtype] <= 4, report.products
    assert report.warnings == ()
    weights = path.stat().st_size
    assert 0.95 * weights < report.bytes < 1.2 * weights + (8 << 20)
    assert weights > 80_000_000 * BYTES[dtype]
    io = {each.name: (each.mode, each.dtype, each.shape) for each in report.tensors}
    assert io["pixels"] == ("input", "float32", (1, 3, 224, 224)) and io["text_embeddings"] == ("input", "float32", (3, 512))
    assert io["similarity"] == ("output", "float32", (1, 3, 14, 14))
    check_header(tmp_path / "vit.rtx.engine")


@pytest.mark.slow("exports and builds the embedded model")
@rtx
@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("spelling", ["onnx", "decomposed"])
def test_rtx_takes_a_method_that_balances_in_float32(tmp_path: Path, spelling: str) -> None:
    """CLIPer's attention is balanced in float32 in a float16 file too: more than half of its products."""
    from fastloc.export.to_onnx import Options, export

    export(fastloc.Localizer(method="cliper"), tmp_path / "model.onnx", Options(spelling=spelling, dtype="float16", size=(96, 96), count=3))
    report = build(tmp_path / "model.onnx", sm=["80"])
    assert report.products["float16"] >= 20 and report.products["float32"] >= 20, report.products


@pytest.mark.slow("exports and builds a small tower")
@rtx
@pytest.mark.usefixtures("no_gpu")
def test_rtx_takes_registers_at_test_time(tmp_path: Path) -> None:
    """In the deepest backward, where half precision is compared with its own maximum."""
    from fastloc.export.to_onnx import Options, export

    tower = family_folders.folder(tmp_path / "model", "siglip", width=128, heads=2, hidden=256, embed=128, layers=3)
    localizer = fastloc.Localizer(str(tower), method="itsm").with_method("bi_modal", registers=2, neurons=((0, (3, 40)), (1, (79,))))
    export(localizer, tmp_path / "model.onnx", Options(spelling="onnx", dtype="float16", size=(40, 56), count=3))
    assert build(tmp_path / "model.onnx", sm=["80"]).warnings == ()


# the main path's last block has one query where the embedding is the class token's, and a pool reads all tokens
@pytest.mark.slow("exports and builds small towers", quick=1)
@rtx
@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("family", "spelling", "dtype"),
    [("siglip", "onnx", "float16"), ("eva02", "decomposed", "float32"), ("pe", "onnx", "float16"), ("relpos", "decomposed", "float32")],
)
def test_rtx_takes_every_kind_of_tower(tmp_path: Path, family: str, spelling: str, dtype: str) -> None:
    from fastloc.export.to_onnx import Options, export

    shape = {"width": 128, "heads": 2, "hidden": 256, "embed": 128, "layers": 3}
    tower = family_folders.folder(tmp_path / "model", family, **shape)
    path = tmp_path / "model.onnx"
    export(fastloc.Localizer(str(tower), method="gem", blocks=2), path, Options(spelling=spelling, dtype=dtype, size=(40, 56), count=3))
    report = build(path, sm=["80", "120"])
    assert report.warnings == () and report.products[dtype] > 10, report.products


# convolutions as they are, and attention of the last stage
@pytest.mark.slow("exports and builds small towers")
@rtx
@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("family", "method", "spelling", "dtype"),
    [("FastViT", "naclip", "onnx", "float16"), ("ConvNeXt", "itsm", "decomposed", "float32"), ("ConvNeXt", "grad_cam", "onnx", "float16")],
)
def test_rtx_takes_towers_whose_grid_shrinks(tmp_path: Path, family: str, method: str, spelling: str, dtype: str) -> None:
    from fastloc.export.to_onnx import Options, export

    with hierarchical_towers.narrow_sizes(family):
        localizer = fastloc.Localizer(str(hierarchical_towers.folder(tmp_path / "model", family)), method=method)
    export(localizer, tmp_path / "model.onnx", Options(spelling=spelling, dtype=dtype, size=(64, 96), count=3))
    report = build(tmp_path / "model.onnx", sm=["80", "120"])
    assert report.warnings == () and report.products[dtype] > 10, report.products


# TensorRT


def test_tensorrt_where_it_is(tmp_path: Path) -> None:
    """Not run without the package and a GPU."""
    if reason := why_no("tensorrt"):
        pytest.skip(reason)
    try:
        cuda_gpu()
    except PlanError as error:
        pytest.skip(f"TensorRT builds on a GPU: {error}")
    report = build(tiny(tmp_path), runtime="tensorrt", timing_cache=tmp_path / "times")
    assert report.loaded and report.products["float32"] > 0
