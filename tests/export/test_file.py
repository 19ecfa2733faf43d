"""The written file: what it says of itself, that it is checked before it has its name, and `fastloc export` from the command line."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fastloc import Localizer, OnnxLocalizer, cli
from fastloc.checkpoints.vit_weights import named_tensors
from fastloc.cli import app
from fastloc.diagnostics.verify import verify
from fastloc.errors import FastlocError, ModelError
from fastloc.export import golden_check, to_onnx
from fastloc.export.to_onnx import Options, export
from fastloc.onnx_file import header
from fastloc.onnx_file.manifest import Manifest
from fastloc.utils.hashing import tower_digest
from repo import SAMPLES

SIZE = (96, 96)


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def manifest(localizer: Localizer, folder: Path) -> Manifest:
    """The manifest of folder/camera.onnx, with every field that a manifest can hold."""
    options = Options(
        kind="frames", layout="NHWC", bgr=True, frame=(360, 480), size=SIZE, fit="letterbox", texts=("cat", "pizza", "red car"),
        outputs=("similarity", "heatmaps", "labels"), licence="Apache-2.0",
    )  # fmt: skip
    return export(localizer, folder / "camera.onnx", options)


def test_the_file_says_what_it_is(manifest: Manifest, localizer: Localizer, folder: Path) -> None:
    assert header.read(folder / "camera.onnx").manifest() == manifest
    weights = {name: tensor.numpy() for name, tensor in named_tensors(localizer.source.weights).items()}
    assert manifest.model.weights == tower_digest(weights)
    assert manifest.model.text == localizer.source.text.digest
    assert manifest.recipe == localizer.recipe
    assert (manifest.input.frame, manifest.input.size, manifest.input.fit) == ((360, 480), SIZE, "letterbox")
    assert (manifest.texts.names, manifest.texts.template) == (("cat", "pizza", "red car"), "gem")
    assert manifest.model.licence == "Apache-2.0"
    assert [each.name for each in folder.iterdir()] == ["camera.onnx"], "something was left behind"


def test_a_manifest_survives_the_metadata(manifest: Manifest) -> None:
    assert Manifest.loads(manifest.dumps()) == manifest
    table = replace(manifest, recipe=replace(manifest.recipe, inv_temp=(((((2.0,),) * 3,),) * 6), iterations=0))
    assert Manifest.loads(table.dumps()) == table


def test_the_file_computes_what_the_engine_does(manifest: Manifest, folder: Path, localizer: Localizer) -> None:
    assert verify(folder / "camera.onnx", "cpu").good
    found = OnnxLocalizer(folder / "camera.onnx", providers="cpu")(SAMPLES / "market.png")
    expected = Localizer(fit="letterbox")(SAMPLES / "market.png", list(manifest.texts.names))
    # one step of 255 in some pixels
    assert np.abs(found.similarity - expected.similarity).max() < 2e-3
    assert [(a.x, a.y) for a in found.points()] == [(b.x, b.y) for b in expected.points()]


@pytest.mark.slow("quantises and runs two files", quick=1)
@pytest.mark.parametrize("options", [Options(dtype="int8-dynamic", size=SIZE), Options("decomposed", "int8-static", size=SIZE)], ids=str)
def test_eight_bits(options: Options, localizer: Localizer, tmp_path: Path) -> None:
    pictures = sorted(SAMPLES.glob("*.webp")) if options.dtype == "int8-static" else []
    manifest = export(localizer, tmp_path / "int8.onnx", options, calibration=pictures)
    verdict = verify(tmp_path / "int8.onnx", "cpu")
    assert manifest.dtype == options.dtype and verdict.good
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    found = "DynamicQuantizeLinear" if options.dtype == "int8-dynamic" else "QuantizeLinear"
    # q, k, v, out and both of the MLP of five blocks, v alone of the last, the patch embedding and the joint projection, at least
    assert kinds.count(found) >= 5 * 4
    weights = {numpy_helper.to_array(each).dtype for each in onnx.load(tmp_path / "int8.onnx").graph.initializer if len(each.dims) == 2}
    assert np.dtype(np.int8) in weights
    # symmetric, which is all that TensorRT takes
    zeros = [numpy_helper.to_array(each) for each in onnx.load(tmp_path / "int8.onnx").graph.initializer if "zero_point" in each.name]
    assert options.dtype == "int8-dynamic" or all((each == 0).all() and each.dtype == np.int8 for each in zeros)


@pytest.mark.slow("quantises a file")
@pytest.mark.parametrize("texts", [(), ("cat", "pizza")], ids=["embeddings", "baked"])
def test_eight_bits_end_at_the_last_layer_norm(texts: tuple[str, ...], localizer: Localizer, tmp_path: Path) -> None:
    export(localizer, tmp_path / "int8.onnx", Options(dtype="int8-dynamic", size=SIZE, texts=texts))
    graph = onnx.load(tmp_path / "int8.onnx").graph
    producers = {name: node for node in graph.node for name in node.output}
    head: dict[str, str] = {}
    waiting = [value.name for value in graph.output]
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if node is not None and name not in head and node.op_type != "LayerNormalization":
            head[name] = node.op_type
            waiting += node.input
    # the projection into the texts' space and the products with texts are among them
    assert "MatMul" in head.values() and not {"MatMulInteger", "DynamicQuantizeLinear", "MatMulIntegerToFloat"} & set(head.values())
    assert any(node.op_type == "MatMulInteger" for node in graph.node)


@pytest.mark.slow("exports twice")
def test_a_file_that_computes_something_else_is_not_written(
    localizer: Localizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*args: Any) -> Any:
        golden = golden_check.golden_of(*args)
        sample = golden.outputs["similarity"]
        return replace(golden, outputs={"similarity": type(sample).take(sample.numbers().reshape(sample.shape) + np.float32(1e-3))})

    monkeypatch.setattr(to_onnx, "golden_of", wrong)
    with pytest.raises(ModelError, match=r"does not compute what the model does.*similarity is off by 1\.0e-03"):
        export(localizer, tmp_path / "wrong.onnx", Options(size=SIZE))
    assert not list(tmp_path.iterdir())


def test_a_large_model_has_its_weights_beside_it(localizer: Localizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_onnx, "LARGEST", 1_000_000)
    export(localizer, tmp_path / "large.onnx", Options(size=SIZE))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["large.onnx", "large.onnx.data"]
    assert verify(tmp_path / "large.onnx", "cpu").good
    (tmp_path / "large.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"large\.onnx\.data"):
        OnnxLocalizer(tmp_path / "large.onnx")


def test_an_exporter_that_takes_an_example_literally_is_found_out(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    example = to_onnx._example

    def literal(parts: Any) -> Any:
        inputs, shapes = example(parts)
        return inputs, {**shapes, "picture": {}}

    monkeypatch.setattr(to_onnx, "_example", literal)
    options = Options(batch=None, size=SIZE)
    with pytest.raises(ModelError, match="made axis 0 of the input the constant 2"):
        to_onnx.trace(to_onnx._parts(localizer, options))


def test_pictures_of_one_size_are_stretched_where_the_method_would_keep_their_shape(localizer: Localizer) -> None:
    assert localizer.fit == "aspect"
    assert to_onnx._fit(localizer, Options(size=SIZE)) == "stretch"
    assert to_onnx._fit(localizer, Options()) == "aspect"
    assert to_onnx._fit(localizer, Options(kind="frames", frame=(9, 9), size=SIZE)) == "aspect"
    with pytest.raises(FastlocError, match="use a dynamic size, or fit 'stretch'"):
        to_onnx._fit(localizer, Options(size=SIZE, fit="aspect"))


BAD_PATHS: list[tuple[str, str]] = [
    ("gem.pt", "must end in .onnx, got '.pt'"), ("gem", "got 'no extension'"), ("no/gem.onnx", "must be in a folder that exists")
]  # fmt: skip


@pytest.mark.parametrize(("name", "message"), BAD_PATHS)
def test_paths_that_cannot_be_written(name: str, message: str, localizer: Localizer, tmp_path: Path) -> None:
    with pytest.raises(FastlocError) as caught:
        export(localizer, tmp_path / name)
    assert message in str(caught.value)


Call = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        try:
            status = cli.main(shlex.split(line))
        except SystemExit as stop:
            status = int(str(stop.code))
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_export_and_use_from_the_command_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\n\n pizza \n")
    status, out, err = call("export -o gem.onnx --size 96 --texts-file names.txt --dtype fp16 --spelling onnx --outputs similarity")
    assert status == 0, err
    assert "gem.onnx: gem of embedded, float16" in out and "fastloc verify gem.onnx" in out
    assert call("verify gem.onnx")[0] == 0
    status, out, err = call(f"locate {SAMPLES / 'market.webp'} -t cat pizza --model gem.onnx --json")
    assert status == 0 and '"method": "gem"' in out, err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("export -o gem.onnx --size 97", "must be a multiple of the patch"),
        ("export -o gem.onnx --size 96 --height 96 --width 96", "got both; leave one out"),
        ("export -o gem.onnx --height 96", "--height and --width must come together"),
        ("export -o gem.onnx --outputs heat", "unknown output 'heat': did you mean 'heatmaps'"),
        ("export -o gem.onnx --input frames", "must be the camera's height x width"),
        ("export -o gem.onnx --dtype int8-static", "must have pictures to calibrate on"),
        ("export -o gem.onnx --calibrate nowhere", "--calibrate must be a folder of pictures, got nowhere"),
        ("export -o gem.onnx --texts a --texts-file b", "got both; leave one out"),
        ("export -o gem.onnx --texts-file none.txt", "texts file 'none.txt' cannot be read"),
        ("export -o gem.onnx --method gme", "did you mean 'gem'"),
        ("export -o gem.pt", "must end in .onnx"),
        ("export -o gem.onnx --size 96 --fit aspect", "fit must give one size, got 'aspect'"),
    ],
)
def test_what_is_wrong_is_reported_in_one_line(line: str, message: str, call: Call, tmp_path: Path) -> None:
    status, out, err = call(line)
    assert status in (1, 2) and message in err, err
    assert "Traceback" not in err and len(err.strip().splitlines()) == 1 and not out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--method sclip", "--dtype float16", "--blocks 3", "--pretrained x"])
def test_what_a_file_has_decided_cannot_be_asked_for(option: str, call: Call, folder: Path, manifest: Manifest) -> None:
    status, _, err = call(f"locate x.png -t cat --model {folder / 'camera.onnx'} {option}")
    assert status == 1 and f"{option.split()[0]} cannot be given with" in err and "the file decides that" in err


def test_every_command_explains_itself(call: Call) -> None:
    for row in app.COMMANDS:
        status, out, _ = call(f"{row.name} --help")
        assert status == 0 and row.summary[1:] in " ".join(out.split()), row.name


def test_the_help_of_export_is_made_of_the_tables(call: Call) -> None:
    from fastloc.onnx_file.formats import INPUTS, OUTPUTS, SPELLINGS

    out = call("export --help")[1]
    assert all(name in out for name in (*SPELLINGS, *INPUTS, *OUTPUTS))
    assert all(row.reads in out for row in SPELLINGS.values())


