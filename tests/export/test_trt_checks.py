"""Engines: all that is refused before a build, and the calls of TensorRT, which a stand-in takes, because the real one needs a GPU."""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from engine_inputs import left, rtx, tiny
from fastloc.cli import build as cli_build
from fastloc.errors import ModelError, PlanError
from fastloc.export.trt import build as engines
from fastloc.export.trt import flavours
from fastloc.export.trt import report as engine_file
from fastloc.export.trt.build import Profiles, Progress, build
from fastloc.onnx_file.graph import Graph, Node, Value
from fastloc.utils.hardware import Gpu
from mutations import json_edits, raw
from onnx_files import change, change_metadata
from repo import SUPPORT

H200 = Gpu("NVIDIA H200", capability="9.0")
KNOWN = dict.fromkeys(("NONE", "CURRENT", "SM86", "SM120"))
RTX = SimpleNamespace(__version__="1.7.1", ComputeCapability=SimpleNamespace(__members__=KNOWN))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Callable[[], list[list[Any]]]]]:
    """Puts a stand-in for `tensorrt` in place, on a machine with a GPU; what it returns reads the calls that were made."""
    notes = tmp_path / "notes"

    def make(version: str = "10.16.1", ends: str = "") -> Callable[[], list[list[Any]]]:
        monkeypatch.setenv("FAKE_TENSORRT", json.dumps({"version": version, "ends": ends, "notes": str(notes)}))
        monkeypatch.syspath_prepend(SUPPORT / "fake_tensorrt")
        monkeypatch.setattr(engines, "cuda_gpu", lambda index=0: H200)
        return lambda: [json.loads(line) for line in notes.read_text().splitlines()]

    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    yield make
    sys.modules.pop("tensorrt", None)


# what is asked of a runtime


@pytest.mark.parametrize("asked", ["86", "8.6", "sm_86", "SM86", " sm86"])
def test_capability_names(asked: str) -> None:
    assert flavours.capabilities(flavours.FLAVOURS["tensorrt-rtx"], RTX, [asked, "12.0", "120"], None) == ("SM86", "SM120")


@pytest.mark.parametrize(
    ("runtime", "asked", "gpu", "message"),
    [
        ("tensorrt-rtx", ["90"], None, "compute capability must be one of 8.6, 12.0 for TensorRT-RTX 1.7.1, got 9.0; for other GPUs"),
        ("tensorrt-rtx", ["current"], None, "must be one of 8.6, 12.0 without an NVIDIA GPU here, got 'current'"),
        ("tensorrt-rtx", ["current"], H200, "got 9.0 (NVIDIA H200)"),
        ("tensorrt-rtx", ["current", "86"], None, "must be given alone, got current, 8.6"),
        ("tensorrt-rtx", ["ampere"], None, "or 'current', got 'ampere'"),
        ("tensorrt", [], None, "there is no NVIDIA GPU here: run this on the device, or build with runtime 'tensorrt-rtx'"),
        ("tensorrt", ["86"], H200, "must be 9.0 for TensorRT, as the GPU here, NVIDIA H200, has, got 8.6"),
    ],
)
def test_capabilities_that_are_refused(runtime: str, asked: list[str], gpu: Gpu | None, message: str) -> None:
    with pytest.raises(PlanError) as error:
        flavours.capabilities(flavours.FLAVOURS[runtime], RTX, asked, gpu)  # type: ignore[arg-type]
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_runtime_that_is_missing_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ModelError, match=r'TensorRT is not installed: pip install "tensorrt-cu13>=10\.14,<11"'):
        flavours.load(flavours.FLAVOURS["tensorrt"])
    with pytest.raises(PlanError, match="unknown runtime 'tensorrt-rtz': did you mean 'tensorrt-rtx'"):
        flavours.flavour("tensorrt-rtz")


def test_a_runtime_that_is_too_old(stand_in: Any, tmp_path: Path) -> None:
    stand_in("8.6.1")
    with pytest.raises(ModelError, match=r"TensorRT must be 10 or newer for strongly typed engines, got 8\.6\.1; pip install"):
        build(tiny(tmp_path), runtime="tensorrt")


# what is refused of a file


def _resize(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Resize", ["pixels"], ["small"], antialias=1, mode="cubic"))


def _zero_point(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("zero", TensorProto.UINT8, [], [128]))
    model.graph.node.append(helper.make_node("QuantizeLinear", ["pixels", "scale", "zero"], ["quantised"]))


def _dynamic(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["pixels"], ["a", "b", "c"]))


@rtx
@pytest.mark.parametrize(
    ("kind", "edit", "message"),
    [
        ({"spelling": "ort"}, None, "does not have com.microsoft.MultiHeadAttention: export with spelling 'onnx' in float16, or"),
        ({"spelling": "onnx"}, None, "has Attention only in half precision: export with spelling 'decomposed', or in float16"),
        ({}, _resize, "no antialiasing Resize (Resize): export with resize 'matmul'"),
        ({}, _dynamic, "DynamicQuantizeLinear find ranges while they run (dtype int8-dynamic)"),
        ({}, _zero_point, "only symmetric int8, and QuantizeLinear have unsigned zero points"),
    ],
)
def test_graphs_that_are_refused(tmp_path: Path, kind: dict[str, Any], edit: Any, message: str) -> None:
    path = tiny(tmp_path, **kind)
    if edit is not None:
        change(path, edit)
    with pytest.raises(ModelError) as error:
        build(path)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert left(tmp_path) == []


def test_attention_is_refused_where_it_is_too_new(stand_in: Any, tmp_path: Path) -> None:
    stand_in("10.9.0")
    with pytest.raises(ModelError, match=r"does not read Attention: export with spelling 'decomposed', or install 10\.14 or newer"):
        build(tiny(tmp_path, spelling="onnx"), runtime="tensorrt")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"not an ONNX file at all"), "is not an ONNX file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "truncated"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: change_metadata(path, "{}"), "metadata is damaged"),
        (lambda path: change(path, lambda model: model.ClearField("metadata_props")), "was not exported by fastloc"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    path = tiny(tmp_path)
    spoil(path)
    with pytest.raises(ModelError, match=message):
        build(path)
    assert left(tmp_path) == []


@rtx
@pytest.mark.parametrize(
    ("kind", "profiles", "message"),
    [
        ({"batch": None}, Profiles(), "for input 'pixels', whose batch sizes are open, got none; give one such as --batch 1:1:8"),
        ({"size": None}, Profiles(), "--size 32x40:32x40:32x40"),
        ({"count": None}, Profiles(), "whose text counts are open, got none; give one such as --texts 1:4:16"),
        ({}, Profiles(batch=(1, 2, 4)), "--batch must be left out for a file with fixed batch sizes, got 1:2:4"),
        ({"batch": None}, Profiles(batch=(2, 1, 4)), "--batch must be SMALLEST:USUAL:LARGEST, each 1 or more, got batch sizes 2:1:4"),
        ({"size": None}, Profiles(size=((30, 40), (32, 40), (32, 40))), "size must be a multiple of the patch 8x8, got 30x40; use 24x40"),
    ],
)
def test_ranges_that_are_refused(tmp_path: Path, kind: dict[str, Any], profiles: Profiles, message: str) -> None:
    with pytest.raises(PlanError) as error:
        build(tiny(tmp_path, **kind), profiles=profiles)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_options_that_a_runtime_does_not_have(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    for option in ({"timing_cache": tmp_path}, {"optimization_level": 5}):
        with pytest.raises(PlanError, match=r"TensorRT-RTX has no .*: it times no kernels while building"):
            build(path, **option)
    with pytest.raises(PlanError, match="optimization level must be from 0 to 5, got 6"):
        build(path, runtime="tensorrt", optimization_level=6)


# TensorRT's calls, by a stand-in


@pytest.mark.parametrize(("version", "flags"), [("10.16.1", 2), ("11.4.0", 0)])
def test_typed_strongly_in_both_versions(stand_in: Any, tmp_path: Path, version: str, flags: int) -> None:
    calls = stand_in(version)
    how = {"profiles": Profiles(batch=(1, 2, 4)), "workspace": 1 << 30, "optimization_level": 4}
    report = build(tiny(tmp_path, batch=None), runtime="tensorrt", **how)
    assert calls() == [
        ["create_network", flags],
        ["parse_from_file", str(tmp_path / "tiny.onnx")],
        ["clear_flag", "TF32"],
        ["set_memory_pool_limit", "WORKSPACE", 1 << 30],
        ["set_shape", "pixels", [1, 3, 32, 40], [2, 3, 32, 40], [4, 3, 32, 40]],
        ["level", 4],
        ["deserialize_cuda_engine", "an engine"],
    ]
    assert (tmp_path / "tiny.engine").read_bytes() == b"an engine"
    assert (report.runtime_version, report.gpu, report.loaded) == (version, "NVIDIA-H200-sm90", True)
    assert report.warnings == ("a warning",) and report.layers == {"assertion": {"none": 1}, "matrix_multiply": {"float32": 1}}
    assert left(tmp_path) == ["tiny.engine", "tiny.engine.json"]


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ("crash", "TensorRT 10.16.1 crashed (SIGABRT) while building it"),
        ("parser", "TensorRT 10.16.1 does not build it: node Resize node_7: no such thing (and 2 more)"),
        ("refuse", "does not build it: no kernel for this (and 1 more)"),
        ("unloadable", "the engine was built, but cannot be loaded again"),
        ("half", "must multiply in float32, its metadata's dtype, got layers of 1 in float16"),
    ],
)
def test_a_build_that_fails_is_one_line_and_leaves_nothing(stand_in: Any, tmp_path: Path, ends: str, message: str) -> None:
    stand_in(ends=ends)
    with pytest.raises(ModelError) as error:
        build(tiny(tmp_path), runtime="tensorrt")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert left(tmp_path) == []


def test_products_that_a_file_keeps_in_float32() -> None:
    """An engine may have as many of them as its file, in which a method keeps some; half as many of the others is a silent conversion."""

    def checked(kept: int, **products: int) -> None:
        dtypes = ["float32"] * kept + ["float16"] * (100 - kept)
        nodes = [Node("MatMul", "", "", (), (f"{i}",), {}) for i in range(100)]
        graph = Graph(tuple(nodes), (), (), (), tuple(Value(f"{i}", dtype, ()) for i, dtype in enumerate(dtypes)))
        report: Any = SimpleNamespace(manifest=SimpleNamespace(dtype="float16"), products=products, onnx="a.onnx")
        engines._check_precision(report, graph)

    checked(53, float32=61, float16=54)
    checked(0, float16=50, float32=50)
    for kept, products in ((53, {"float32": 90, "float16": 25}), (0, {"float32": 61, "float16": 54}), (53, {"float32": 115})):
        with pytest.raises(ModelError, match=r"a.onnx must multiply in float16, its metadata's dtype, got layers of \d+ in float32"):
            checked(kept, **products)


def test_a_silent_builder_is_heard_of_and_ends_with_who_asked(stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(ends="silence")
    monkeypatch.setattr(engines, "BEAT", 0.05)
    workers: list[subprocess.Popen[str]] = []
    started = subprocess.Popen.__init__

    def start(self: Any, *args: Any, **options: Any) -> None:
        workers.append(self)
        started(self, *args, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", start)
    heard: list[Progress] = []

    def progress(at: Progress) -> None:
        heard.append(at)
        if sum(each.phase == "Timing kernels" for each in heard) > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tiny(tmp_path), runtime="tensorrt", progress=progress)
    assert heard[-1].total == 2 and heard[-1].seconds > heard[-3].seconds
    assert [worker.returncode for worker in workers] == [-signal.SIGKILL]
    assert left(tmp_path) == []


def test_timing_cache_is_kept_by_device_and_version(stand_in: Any, tmp_path: Path) -> None:
    calls = stand_in()
    for _ in range(2):
        build(tiny(tmp_path), runtime="tensorrt", timing_cache=tmp_path / "times")
    assert [call[1] for call in calls() if call[0] == "create_timing_cache"] == ["", "!"]
    assert [each.name for each in (tmp_path / "times").iterdir()] == ["tensorrt-10.16.1-NVIDIA-H200-sm90.timing"]


def test_folders_that_cannot_be_written_are_reported_before_the_build(stand_in: Any, tmp_path: Path) -> None:
    stand_in()
    path = tiny(tmp_path)
    # a file in the folder's place cannot be written into, whoever runs this
    with pytest.raises(PlanError, match="cannot be written to"):
        build(path, runtime="tensorrt", timing_cache=path / "times")
    with pytest.raises(ModelError, match="cannot be written"):
        build(path, path / "tiny.engine", runtime="tensorrt")
    with pytest.raises(ModelError, match="must be a file, got a folder"):
        build(path, tmp_path, runtime="tensorrt")
    assert left(tmp_path) == []


# the engine's file


def test_what_is_known_of_an_engine_is_read_back_and_bound_to_it(stand_in: Any, tmp_path: Path) -> None:
    stand_in()
    engine = tmp_path / "tiny.engine"
    report = build(tiny(tmp_path), engine, runtime="tensorrt")
    assert engine_file.read(engine) == report
    known = engine_file.beside(engine)
    text = known.read_text()
    for spoilt, message in (
        (text.replace('"format": 1', '"format": 2'), "format must be 1, got 2"),
        ("{}", "damaged"),
        (text.replace('"bytes"', '"bites"'), "damaged"),
        ("[" * 100_000, "damaged"),
        (text.replace('"loaded": true', '"loaded": 3'), "loaded must be bool, got int"),
    ):
        known.write_text(spoilt)
        with pytest.raises(ModelError, match=message):
            engine_file.read(engine)
    edits = json_edits(json.loads(text), 5, 100)
    assert raw(edits, lambda made: (known.write_text(json.dumps(made)), engine_file.read(engine))) == []
    known.write_text(text)
    engine.write_bytes(b"another engine")
    with pytest.raises(ModelError, match=r"must be the engine that tiny\.engine\.json describes"):
        engine_file.read(engine)
    known.unlink()
    with pytest.raises(ModelError, match="no such report"):
        engine_file.read(engine)


# the command


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    cli_build.add(parser)
    return cli_build.run(parser.parse_args(words))


def test_command(stand_in: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = stand_in()
    path = tiny(tmp_path, batch=None, size=None)
    options = "--runtime tensorrt --batch 1:2:4 --size 32:40x48:64 --workspace 512 --tf32".split()
    assert command(str(path), "-o", str(tmp_path / "out.engine"), *options) == 0
    assert ["set_shape", "pixels", [1, 3, 32, 32], [2, 3, 40, 48], [4, 3, 64, 64]] in calls()
    assert ["set_flag", "TF32"] in calls() and ["set_memory_pool_limit", "WORKSPACE", 512 << 20] in calls()
    shown, output = capsys.readouterr()
    assert "strongly typed, 2 layers; of those that multiply 1 in float32" in shown and f"written: {tmp_path / 'out.engine'}" in shown
    assert "warns: a warning" in output
    assert command(str(path), "--json", *options) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["model"]["name"] == "tiny"


@pytest.mark.parametrize("words", [["--batch", "1:2"], ["--batch", "0"], ["--size", "ax3"], ["--texts", "1:2:x"]])
def test_command_that_cannot_be_understood(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("tiny.onnx", *words)
    error = capsys.readouterr().err
    assert "must be" in error and "got" in error


def test_how_far_a_build_is_in_words() -> None:
    assert cli_build.progress_line(Progress("Timing kernels", 3, 10, 61.2)) == "Timing kernels 3/10"
    assert cli_build.progress_line(Progress("Loading", 0, 1, 0.5)) == "Loading"
