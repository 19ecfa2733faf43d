"""`fastloc inspect`, and the reading of ONNX files below it, against the onnx package."""

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastloc.cli import inspect_file
from fastloc.diagnostics.inspect_file import inspect
from fastloc.errors import ModelError
from fastloc.onnx_file.graph import DTYPES, Content, read
from fastloc.onnx_file.precision import by_precision
from fastloc.onnx_file.text_manifest import KEY as TEXT_KEY
from fastloc.onnx_file.text_manifest import TextManifest
from onnx_files import change, change_metadata, tiny_model

KINDS: dict[str, dict[str, Any]] = {
    "decomposed": {},
    "ort float16": {"spelling": "ort", "dtype": "float16"},
    "onnx frames": {"spelling": "onnx", "kind": "frames", "layout": "NHWC", "frame": (64, 80)},
    "any size": {"size": None},
    "weights beside it": {"external": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_read_as_onnx_reads_it(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    tiny_model(path, **KINDS[kind])
    found, right = read(path), onnx.load(path)
    assert found.bytes == path.stat().st_size and found.ir == right.ir_version and found.producer == "fastloc tests"
    assert found.opsets == {each.domain: each.version for each in right.opset_import}
    assert [(node.op, node.domain, node.name, list(node.inputs), list(node.outputs)) for node in found.graph.nodes] == [
        (node.op_type, node.domain, node.name, list(node.input), list(node.output)) for node in right.graph.node
    ]
    arrays = {each.name: numpy_helper.to_array(each) for each in right.graph.initializer}
    assert {each.name: (each.shape, each.dtype, each.bytes) for each in found.graph.tensors} == {
        name: (array.shape, array.dtype.name, array.nbytes) for name, array in arrays.items()
    }
    for ours, theirs in ((found.graph.inputs, right.graph.input), (found.graph.outputs, right.graph.output)):
        sides = [[side.dim_param or side.dim_value for side in each.type.tensor_type.shape.dim] for each in theirs]
        assert [list(each.shape) for each in ours] == sides
        assert [each.name for each in ours] == [each.name for each in theirs]


def test_dtypes_are_onnx_s() -> None:
    for code, (name, bits) in DTYPES.items():
        theirs = TensorProto.DataType.Name(code).lower()
        assert {"float": "float32", "double": "float64"}.get(theirs, theirs) == name
        if name in ("float16", "float32", "float64", "int64", "uint8", "bool", "complex128"):
            assert np.dtype(name).itemsize * 8 == bits


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray[Any, Any]], path: Path, **inputs: int) -> Content:
    """A file of these nodes, read; inputs by name with their element types."""
    made = [helper.make_tensor_value_info(name, kind, ["n", 8]) for name, kind in inputs.items()]
    last = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.UNDEFINED, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    onnx.save_model(helper.make_model(helper.make_graph(nodes, "g", made, [last], tensors)), path)
    return read(path)


FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
node = helper.make_node
ONE = {"one": np.float32(1), "zero": np.uint8(0), "w8": np.ones((8, 8), np.int8), "w": np.ones((8, 8), np.float32)}
PRECISIONS: dict[str, tuple[list[onnx.NodeProto], dict[str, list[str]]]] = {
    "cast there and back": (
        [node("Cast", ["x"], ["h"], to=HALF), node("Relu", ["h"], ["r"]), node("Cast", ["r"], ["f"], to=FLOAT), node("Exp", ["f"], ["y"])],
        {"float16": ["Cast", "Relu"], "float32": ["Cast", "Exp"]},
    ),
    "a microsoft op": (
        [
            node("Cast", ["x"], ["h"], to=HALF),
            node("MultiHeadAttention", ["h", "h", "h"], ["a"], domain="com.microsoft", num_heads=1),
            node("Relu", ["a"], ["y"]),
        ],
        {"float16": ["Cast", "Relu", "com.microsoft.MultiHeadAttention"]},
    ),
    "shapes are of no precision": (
        [node("Shape", ["x"], ["s"]), node("Add", ["s", "s"], ["t"]), node("Cast", ["t"], ["y"], to=FLOAT)],
        {"other": ["Add", "Shape"], "float32": ["Cast"]},
    ),
    "compared": (
        [node("Cast", ["x"], ["h"], to=HALF), node("Less", ["h", "h"], ["b"]), node("Where", ["b", "h", "h"], ["y"])],
        {"float16": ["Cast", "Less", "Where"]},
    ),
    "quantised on the fly": (
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("MatMulInteger", ["q", "w8", "z"], ["i"]),
            node("Cast", ["i"], ["f"], to=FLOAT),
            node("Mul", ["f", "s"], ["y"]),
        ],
        {"float32": ["Cast", "DynamicQuantizeLinear", "Mul"], "int8": ["MatMulInteger"]},
    ),
    "quantisers on both sides": (
        [
            node("QuantizeLinear", ["x", "one", "zero"], ["q"]),
            node("DequantizeLinear", ["q", "one", "zero"], ["d"]),
            node("DequantizeLinear", ["w8", "one"], ["v"]),
            node("MatMul", ["d", "v"], ["y"]),
        ],
        {"float32": ["DequantizeLinear", "DequantizeLinear", "QuantizeLinear"], "int8 (Q/DQ)": ["MatMul"]},
    ),
    "a quantiser on one side": (
        [
            node("QuantizeLinear", ["x", "one", "zero"], ["q"]),
            node("DequantizeLinear", ["q", "one", "zero"], ["d"]),
            node("MatMul", ["d", "w"], ["y"]),
        ],
        {"float32": ["DequantizeLinear", "MatMul", "QuantizeLinear"]},
    ),
}


@pytest.mark.parametrize("case", PRECISIONS)
def test_precision_is_followed_through_the_graph(case: str, tmp_path: Path) -> None:
    nodes, expected = PRECISIONS[case]
    found = by_precision(model(nodes, ONE, tmp_path / "a.onnx", x=FLOAT).graph)
    assert {name: sorted(kinds.elements()) for name, kinds in found.items()} == expected


def test_nodes_inside_if_are_counted_and_know_what_is_outside(tmp_path: Path) -> None:
    half = helper.make_tensor_value_info("r", TensorProto.UNDEFINED, None)
    branch = helper.make_graph([node("Relu", ["h"], ["r"])], "b", [], [half])
    nodes = [
        node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))),
        node("Cast", ["x"], ["h"], to=HALF),
        node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    content = model(nodes, {}, tmp_path / "a.onnx", x=FLOAT)
    assert Counter(each.op for each in content.graph.every_node()) == {"Constant": 1, "Cast": 1, "If": 1, "Relu": 2}
    assert by_precision(content.graph)["float16"]["Relu"] == 2
    assert [each.dtype for each in content.graph.every_tensor()] == ["bool"]


def test_the_report_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    manifest = tiny_model(path, dtype="float16", spelling="ort")
    report, right = inspect(path), onnx.load(path)
    assert report.manifest == manifest and report.text is None
    assert report.attention == {"com.microsoft.MultiHeadAttention": 1}
    assert sum(report.nodes.values()) == len(right.graph.node) == sum(sum(kinds.values()) for kinds in report.precision.values())
    half = next(each for each in report.weights if each.dtype == "float16")
    assert (half.tensors, half.parameters, half.bytes) == (2, 16 * 3 * 64 + 16, 2 * (16 * 3 * 64 + 16))
    assert report.precision["float16"]["Conv"] == report.precision["float32"]["LpNormalization"] == 1
    assert [note.partition(":")[0] for note in report.notes] == ["only onnxruntime runs com.microsoft.MultiHeadAttention"]


@pytest.mark.parametrize(
    ("spelling", "form"), [("onnx", "Attention"), ("ort", "com.microsoft.MultiHeadAttention"), ("decomposed", "Softmax")]
)
def test_the_form_of_attention(spelling: str, form: str, tmp_path: Path) -> None:
    tiny_model(tmp_path / "a.onnx", spelling=spelling)
    assert inspect(tmp_path / "a.onnx").attention == {form: 1}


def test_an_antialiased_resize_is_noted(tmp_path: Path) -> None:
    def resize(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "scales"))
        model.graph.node.insert(0, node("Resize", ["pixels", "", "scales"], ["resized"], mode="linear", antialias=1))

    tiny_model(tmp_path / "a.onnx")
    assert not inspect(tmp_path / "a.onnx").notes
    assert any("antialiased" in note for note in inspect(change(tmp_path / "a.onnx", resize)).notes)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def _plain(path: Path) -> None:
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save_model(proto, path)


def _text(path: Path) -> None:
    _plain(path)
    change_metadata(path, "[1", TEXT_KEY)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "no such file"),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "not an ONNX file"),
    "cut off": (_cut, "truncated"),
    "another's": (_plain, "was not exported by fastloc"),
    "newer": (lambda path: change_metadata(path, '{"format": 99}'), "format 99"),
    "damaged": (lambda path: change_metadata(path, "{"), "damaged"),
    "weights missing": (lambda path: path.with_name("a.onnx.data").unlink(), "a.onnx.data"),
    "a damaged text tower": (_text, "damaged"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_one_line(bad: str, tmp_path: Path) -> None:
    spoil, words = BAD[bad]
    path = tmp_path / "a.onnx"
    tiny_model(path, external=bad == "weights missing")
    spoil(path)
    with pytest.raises(ModelError) as caught:
        command(path)
    assert words in str(caught.value) and "\n" not in str(caught.value), str(caught.value)


def test_a_damaged_graph_is_an_error_of_ours(tmp_path: Path) -> None:
    tiny_model(tmp_path / "a.onnx")
    whole, draw = (tmp_path / "a.onnx").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        bytes_ = bytearray(whole)
        bytes_[int(draw.integers(len(whole) // 4))] ^= int(draw.integers(1, 256))
        (tmp_path / "b.onnx").write_bytes(bytes_)
        try:
            inspect(tmp_path / "b.onnx")
        except ModelError:
            refused += 1
    assert refused


def command(path: Path, *more: str) -> int:
    """The exit status of the command line; its errors are raised."""
    parser = argparse.ArgumentParser()
    inspect_file.add(parser)
    return inspect_file.run(parser.parse_args([str(path), *more]))


def test_the_command_prints_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tiny_model(tmp_path / "a.onnx", kind="frames", frame=(64, 80), names=("a dog", "a cat"), spelling="ort")
    assert command(tmp_path / "a.onnx", "--providers", "cpu") == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in ("camera frames 64 x 80", "baked in: a dog, a cat", "CC0-1.0", manifest.model.weights, "blocks=6", "readout order=picture",
                  "1 com.microsoft.MultiHeadAttention", "similarity", "float32", "CPUExecutionProvider", "opset 18", "seed 7"):  # fmt: skip
        assert words in out, f"{words!r} is not in\n{out}"


def test_json_is_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_model(tmp_path / "a.onnx", external=True)
    assert command(tmp_path / "a.onnx", "--json", "--providers") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["manifest"]["recipe"]["name"] == "gem" and report["opsets"] == {"ai.onnx": 18}
    assert report["inputs"][0] == {"name": "pixels", "dtype": "float32", "shape": ["B", 3, 32, 40]}
    assert report["external"].keys() == {"a.onnx.data"} and report["manifest"]["golden"]["outputs"]["scores"] == [2, 3]
    assert {row["provider"] for row in report["placement"]} == {"CPUExecutionProvider"}


def test_a_text_tower_reports_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.text.onnx"
    tiny_model(path)
    _plain(path)
    words = tuple("abcdefgh")
    manifest = TextManifest("0.1.0", "tiny", "sha256:1", 77, 16, "lower", None, words, (), {"plain": ("{}",)}, "float32", 20)
    change_metadata(path, manifest.dumps(), TEXT_KEY)
    assert command(path) == 0
    out = capsys.readouterr().out
    assert "text tower" in out and "77" in out and "8 (a, b, c, d …)" in out
    with pytest.raises(ModelError, match="runs on the CPU"):
        command(path, "--providers", "cpu")
