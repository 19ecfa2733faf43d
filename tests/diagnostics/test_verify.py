"""`fastloc verify`: right files of every kind pass, and every planted fault is found."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fastloc.cli import verify as cli_verify
from fastloc.diagnostics import verify
from fastloc.errors import ModelError, PlanError
from fastloc.onnx_file.golden import TOLERANCES, Golden, Sample
from fastloc.runtime import open_session
from onnx_files import change, change_metadata, change_weight, tiny_model

EVERY = ("similarity", "scores", "heatmaps", "labels")
KINDS: dict[str, dict[str, Any]] = {
    "pixels": {},
    "bytes": {"kind": "bytes"},
    "frames NHWC BGR": {"kind": "frames", "layout": "NHWC", "bgr": True, "frame": (64, 80), "outputs": EVERY},
    "frames NCHW": {"kind": "frames", "frame": (32, 40)},
    "one picture, baked": {"batch": 1, "names": ("a dog", "a cat"), "outputs": EVERY},
    "two pictures, four texts": {"batch": 2, "count": 4},
    "any size": {"size": None},
    "ort": {"spelling": "ort"},
    "onnx": {"spelling": "onnx"},
    "float16": {"dtype": "float16"},
    "labels alone": {"outputs": ("labels",)},
    "weights beside it": {"external": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_file_passes(kind: str, tmp_path: Path) -> None:
    manifest = tiny_model(tmp_path / "good.onnx", **KINDS[kind])
    verdict = verify.verify(tmp_path / "good.onnx", "cpu", repeat=2)
    assert verdict.good and not verdict.wrong, verdict.wrong
    assert [row.output for row in verdict.rows] == list(manifest.outputs)
    assert verdict.nodes.keys() == {"CPUExecutionProvider"} and len(verdict.later_ms) == 2
    assert {check.passed for check in verdict.checks} == ({True, None} if manifest.input.batch == 1 else {True})


def _edited(kind: dict[str, Any], edit: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    def plant(path: Path) -> None:
        tiny_model(path, **kind)
        change(path, edit)

    return plant


def _transpose(model: onnx.ModelProto) -> None:
    """Heights and widths of the similarity exchanged."""
    nodes = model.graph.node
    (last,) = (node for node in nodes if node.output[0] == "similarity")
    last.output[0] = "upright"
    nodes.append(helper.make_node("Transpose", ["upright"], ["similarity"], perm=[0, 1, 3, 2]))
    for value in model.graph.output:
        if value.name == "similarity":
            del value.type.tensor_type.shape.dim[2:]
            for side in "wh":
                value.type.tensor_type.shape.dim.add(dim_param=side)


def _worst_label(model: onnx.ModelProto) -> None:
    (node,) = (node for node in model.graph.node if node.op_type == "ArgMax")
    node.op_type = "ArgMin"


def _softer(model: onnx.ModelProto) -> None:
    """Heatmaps squared, still within [0, 1]."""
    nodes = model.graph.node
    (last,) = (node for node in nodes if node.output[0] == "heatmaps")
    last.output[0] = "linear"
    nodes.append(helper.make_node("Mul", ["linear", "linear"], ["heatmaps"]))


def _not_a_number(model: onnx.ModelProto) -> None:
    (bias,) = (each for each in model.graph.initializer if each.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(16, np.nan, np.float32), "bias"))


def _weight(path: Path) -> None:
    tiny_model(path)
    change_weight(path, by=0.05)


def _golden(path: Path) -> None:
    manifest = tiny_model(path)
    assert manifest.golden is not None
    sample = manifest.golden.outputs["similarity"]
    wrong = Sample.take(sample.numbers().reshape(sample.shape) + np.float32(0.001))
    golden = Golden(**{**vars(manifest.golden), "outputs": {**manifest.golden.outputs, "similarity": wrong}})
    change_metadata(path, replace(manifest, golden=golden).dumps())


def _other_order(path: Path) -> None:
    """A file that takes RGB and says BGR."""
    manifest = tiny_model(path, kind="frames", layout="NHWC", frame=(32, 40))
    change_metadata(path, replace(manifest, input=replace(manifest.input, bgr=True)).dumps())


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "one weight": (_weight, "similarity is off"),
    "the golden": (_golden, "similarity is off"),
    "another order of channels": (_other_order, "similarity is off"),
    "transposed": (_edited({}, _transpose), "shape"),
    "transposed, square": (_edited({"size": (32, 32)}, _transpose), "similarity is off"),
    "labels": (_edited({"outputs": ("labels",)}, _worst_label), "labels: "),
    "heatmaps": (_edited({"outputs": ("heatmaps",)}, _softer), "heatmaps are off"),
    "NaN": (_edited({}, _not_a_number), "NaN"),
    "pictures mixed": (lambda path: tiny_model(path, mixed=True), "a picture alone and in a batch: similarity"),
    "pictures mixed, always two": (lambda path: tiny_model(path, mixed=True, batch=2), "a picture alone and in a batch: similarity"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant, words = FAULTS[fault]
    plant(tmp_path / "bad.onnx")
    verdict = verify.verify(tmp_path / "bad.onnx", "cpu")
    assert not verdict.good and any(words in wrong for wrong in verdict.wrong), verdict.wrong
    assert command(tmp_path / "bad.onnx") == 1
    out = capsys.readouterr().out
    assert "wrong: " in out and out.rstrip().endswith("does not compute on this device what it should.")


def test_an_answer_that_changes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wavering(open_session.OnnxSession):
        calls = 0

        def run(self, feeds: Any) -> dict[str, Any]:
            self.calls += 1
            found = super().run(feeds)
            return {name: array + np.float32(2e-3 * (self.calls == 3)) for name, array in found.items()}

    # within float16's tolerance of the golden, and not the same
    tiny_model(tmp_path / "a.onnx", dtype="float16")
    monkeypatch.setattr(open_session, "OnnxSession", Wavering)
    verdict = verify.verify(tmp_path / "a.onnx", "cpu", repeat=2)
    assert [wrong.partition(":")[0] for wrong in verdict.wrong] == ["2 more calls"]


def test_a_provider_that_needs_other_shapes_leaves_the_check_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed(open_session.OnnxSession):
        def run(self, feeds: Any) -> dict[str, Any]:
            if len(feeds["pixels"]) == 1:
                raise PlanError("the engine takes 2 pictures")
            return super().run(feeds)

    tiny_model(tmp_path / "a.onnx")
    monkeypatch.setattr(open_session, "OnnxSession", Fixed)
    verdict = verify.verify(tmp_path / "a.onnx", "cpu")
    assert verdict.good and verdict.checks[1].passed is None and "takes 2 pictures" in verdict.checks[1].found


def _cut(path: Path) -> None:
    tiny_model(path)
    path.write_bytes(path.read_bytes()[:-5000])


def _plain(path: Path) -> None:
    tiny_model(path)
    change_metadata(path, "{}", "another")
    model = onnx.load(path)
    helper.set_model_props(model, {"another": "{}"})
    onnx.save_model(model, path)


def _newer(path: Path) -> None:
    content = json.loads(tiny_model(path).dumps())
    change_metadata(path, json.dumps(content | {"format": 99, "version": "9.0"}))


def _without_weights(path: Path) -> None:
    tiny_model(path, external=True)
    path.with_name(f"{path.name}.data").unlink()


def _text_tower(path: Path) -> None:
    tiny_model(path)
    model = onnx.load(path)
    helper.set_model_props(model, {"fastloc_text": "{}"})
    onnx.save_model(model, path)


def _manifest_with(**changes: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        change_metadata(path, json.dumps({**json.loads(tiny_model(path).dumps()), **changes}))

    return write


def _other_batch(path: Path) -> None:
    manifest = tiny_model(path)
    change_metadata(path, replace(manifest, input=replace(manifest.input, batch=3)).dumps())


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "a folder": (lambda path: path.mkdir(), "folder"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "not an ONNX file"),
    "text": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "not an ONNX file"),
    "cut off": (_cut, "truncated"),
    "another's": (_plain, "was not exported by fastloc"),
    "newer": (_newer, "format 99"),
    "damaged": (lambda path: (tiny_model(path), change_metadata(path, "{")), "metadata is damaged"),
    "weights missing": (_without_weights, "model.onnx.data"),
    "no golden": (lambda path: tiny_model(path, golden=False), "must have a golden to compare with, got none"),
    "text tower": (_text_tower, "text tower"),
    "another dtype": (_manifest_with(dtype="float4"), "float4"),
    "another batch": (_other_batch, "takes 3"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_one_line(bad: str, tmp_path: Path) -> None:
    write, words = BAD[bad]
    path = tmp_path / "model.onnx"
    write(path)
    with pytest.raises(ModelError) as caught:
        command(path)
    message = str(caught.value)
    assert words in message and "\n" not in message and "model.onnx" in message, message


def test_a_provider_that_is_not_there_is_refused(tmp_path: Path) -> None:
    tiny_model(tmp_path / "a.onnx")
    with pytest.raises(PlanError, match="unknown provider 'cuad': did you mean 'cuda'"):
        command(tmp_path / "a.onnx", "--providers", "cuad")


def test_at_least_one_more_call(tmp_path: Path) -> None:
    tiny_model(tmp_path / "a.onnx")
    with pytest.raises(PlanError, match="repeat must be 1 or more, got 0"):
        verify.verify(tmp_path / "a.onnx", repeat=0)


def command(path: Path, *more: str) -> int:
    """The exit status of the command line; its errors are raised."""
    parser = argparse.ArgumentParser()
    cli_verify.add(parser)
    return cli_verify.run(parser.parse_args([str(path), *(more or ("--providers", "cpu"))]))


def test_the_command_prints_what_ran_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    tiny_model(tmp_path / "a.onnx", dtype="float16", spelling="ort")
    assert command(tmp_path / "a.onnx", "--repeat", "3") == 0
    out = capsys.readouterr().out
    for words in ("tiny, method gem, float16, spelling ort", "nodes on CPU", f"onnxruntime {onnxruntime.__version__}", "not a benchmark",
                  "similarity", "3 more calls: the same bits", "a picture alone and in a batch"):  # fmt: skip
        assert words in out, f"{words!r} is not in\n{out}"


def test_json_holds_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_model(tmp_path / "a.onnx")
    change_weight(tmp_path / "a.onnx")
    assert command(tmp_path / "a.onnx", "--json", "--providers", "cpu") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["good"] is False and len(report["wrong"]) == 2 and report["providers"] == ["cpu"]
    assert [row["output"] for row in report["outputs"]] == ["similarity", "scores"]
    assert report["outputs"][0]["max_error"] > report["tolerance"] == TOLERANCES["float32"]
    assert set(report["versions"]) == {"fastloc", "file", "onnxruntime", "numpy", "python"}


def test_it_needs_no_torch(tmp_path: Path) -> None:
    tiny_model(tmp_path / "a.onnx")
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'open_clip', 'onnx', 'triton'));"
        f"from fastloc.diagnostics.verify import verify; print(verify({str(tmp_path / 'a.onnx')!r}, 'cpu').good)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "True", done.stderr
