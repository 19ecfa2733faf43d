"""Files for GStreamer, DeepStream and Triton: read as they read them, compared with the ONNX file, and their pictures emulated."""

from __future__ import annotations

import configparser
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from fastloc import Localizer, OnnxLocalizer, cli
from fastloc.adapters import result_of
from fastloc.errors import FastlocError, ModelError
from fastloc.export.pipelines.table import PIPELINES, write
from fastloc.onnx_file import header
from onnx_files import STD, change_metadata, tiny_model

NAMES = ("cat", "a red car", "dog")
SIZE = (32, 40)
TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def sections(path: Path) -> configparser.ConfigParser:
    """Sections of a file as GKeyFile reads it: "=" alone, "#" at a line's begin, keys as they stand."""
    parser = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text())
    return parser


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def answers(path: Path, array: np.ndarray) -> dict[str, np.ndarray]:
    """The file's outputs by name, by onnxruntime alone."""
    found = session(path)
    return dict(zip([each.name for each in found.get_outputs()], found.run(None, {found.get_inputs()[0].name: array}), strict=True))


def nvinfer(config: configparser.SectionProxy, frame: np.ndarray) -> np.ndarray:
    """nvinfer's input for a frame, red first, of the network's size: y = scale * (x - offset), planar floats [B, C, H, W]."""
    channels, height, width = map(int, config["infer-dims"].split(";"))
    assert frame.shape == (height, width, channels) and config["network-input-order"] == "0"
    ordered = frame[..., ::-1] if config["model-color-format"] == "1" else frame
    offsets = np.array(config["offsets"].split(";"), np.float32)
    planes = np.float32(config["net-scale-factor"]) * (ordered.astype(np.float32) - offsets)
    return np.repeat(planes.transpose(2, 0, 1)[None], int(config["batch-size"]), 0)


def onnxinference(section: configparser.SectionProxy, frame: np.ndarray) -> np.ndarray:
    """onnxinference's input for a frame, red first: each channel's 0 … 255 mapped to its range, in the layout of the dimensions."""
    low, high = np.array([pair.split(",") for pair in section["ranges"].split(";")], np.float64).T
    values = (frame * ((high - low) / 255) + low).astype(section["type"])
    planar = section["dims"].split(",")[1] == "3"
    return np.ascontiguousarray((values.transpose(2, 0, 1) if planar else values)[None])


@pytest.mark.parametrize("dynamic", [False, True], ids=["one picture", "any batch"])
@pytest.mark.parametrize("kind", ["pixels", "bytes", "frames"])
def test_modelinfo_describes_the_file_and_its_ranges_give_its_answer(kind: str, dynamic: bool, tmp_path: Path) -> None:
    file, frame = tmp_path / "tiny.onnx", picture(size=(64, 80) if kind == "frames" else SIZE)
    more: dict[str, Any] = {"layout": "NHWC", "frame": (64, 80)} if kind == "frames" else {}
    outputs = ("similarity", "scores", "heatmaps", "labels")
    tiny_model(file, kind=kind, names=NAMES, batch=None if dynamic else 1, outputs=outputs, **more)
    (made,) = write(file, ["gstreamer"])
    assert made == tmp_path / "tiny.onnx.modelinfo"
    info, real = sections(made), session(file)
    assert info["modelinfo"]["version"] == "1.0" and info["modelinfo"]["group-id"]
    assert len(info.sections()) == 1 + len(real.get_inputs()) + len(real.get_outputs())
    for way, values in (("input", real.get_inputs()), ("output", real.get_outputs())):
        for value in values:
            section = info[value.name]
            # a number where the model has one, and -1 for nothing else: the element refuses the file otherwise
            assert section["dims"] == ",".join(str(side) if isinstance(side, int) else "-1" for side in value.shape), value.name
            assert (section["type"], section["dir"]) == (TYPES[value.type], way), value.name
    assert len({info[each.name]["id"] for each in real.get_outputs()}) == len(outputs)
    found = answers(file, onnxinference(info[real.get_inputs()[0].name], frame))["similarity"][0]
    assert np.abs(found - OnnxLocalizer(file, providers="cpu")(frame).similarity).max() < 1e-5


@pytest.mark.parametrize("bgr", [False, True], ids=["rgb", "bgr"])
@pytest.mark.parametrize("kind", ["bytes", "pixels"])
def test_nvinfer_feeds_what_the_file_takes(kind: str, bgr: bool, tmp_path: Path) -> None:
    file, frame = tmp_path / "tiny.onnx", picture(1)
    # a graph that takes floats in its own order of channels; only for three equal deviations can nvinfer normalise
    manifest = tiny_model(file, kind=kind, names=NAMES, batch=2, outputs=("similarity",))
    assert len(set(STD)) == 3
    model = replace(manifest.model, std=(0.3, 0.3, 0.3)) if kind == "pixels" else manifest.model
    change_metadata(file, replace(manifest, model=model, input=replace(manifest.input, bgr=bgr)).dumps())
    (made,) = write(file, ["deepstream"])
    config = sections(made)["property"]
    assert made.name == "config_infer_tiny.txt" and config["onnx-file"] == "tiny.onnx"
    assert (config["network-type"], config["output-tensor-meta"], config["network-mode"]) == ("100", "1", "0")
    assert config["model-engine-file"] == "tiny.onnx_b2_gpu0_fp32.engine"
    assert config["output-blob-names"].split(";") == [each.name for each in session(file).get_outputs()]
    found = answers(file, nvinfer(config, frame))["similarity"]
    expected = OnnxLocalizer(file, providers="cpu")(frame).similarity
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.slow("exports for a pipeline")
def test_an_export_for_deepstream_gives_the_engine_s_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real exporter from the command line, nvinfer emulated, one call in the probe: what PyTorch says of the same frame."""
    file, frame = tmp_path / "street.onnx", picture(2, (64, 64))
    command = f"export -o {file} --for deepstream gstreamer --input bytes --spelling decomposed --size 64 --texts cat 'a red car' dog"
    assert cli.main(shlex.split(command)) == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config_infer_street.txt", "street.onnx", "street.onnx.modelinfo"]
    assert "config_infer_street.txt" in capsys.readouterr().out
    outputs = answers(file, nvinfer(sections(tmp_path / "config_infer_street.txt")["property"], frame))
    found = result_of({name: each[0] for name, each in outputs.items()}, header.read(file).manifest(), frame)
    expected = Localizer(size=(64, 64), device="cpu")(frame, list(NAMES))
    # as in docs/design/tolerances.md: an exported file's similarity, float32
    assert np.abs(found.similarity - expected.similarity).max() < 1e-4
    assert found.texts == expected.texts and [(a.x, a.y) for a in found.points()] == [(b.x, b.y) for b in expected.points()]


# SigLIP's and PE's pixels, and TIPSv2's
@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), (0.0, 1.0)])
def test_normalisation_is_the_model_s(mean: float, std: float, tmp_path: Path) -> None:
    file, frame = tmp_path / "tiny.onnx", picture()
    manifest = tiny_model(file, kind="pixels", names=NAMES, batch=1)
    manifest = replace(manifest, model=replace(manifest.model, mean=(mean,) * 3, std=(std,) * 3))
    change_metadata(file, manifest.dumps())
    write(file, ["deepstream", "gstreamer"])
    expected = (frame / 255 - mean) / std
    fed = nvinfer(sections(tmp_path / "config_infer_tiny.txt")["property"], frame)
    assert np.abs(fed[0].transpose(1, 2, 0) - expected).max() < 1e-6
    section = sections(tmp_path / "tiny.onnx.modelinfo")["pixels"]
    assert np.abs(onnxinference(section, frame)[0].transpose(1, 2, 0) - expected).max() < 1e-6
    assert "-0" not in section["ranges"].replace(",", ";").split(";")


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("gstreamer", {"bgr": True, "kind": "frames", "frame": (64, 80), "layout": "NHWC"}, "without --bgr"),
    ("gstreamer", {"names": ()}, "--texts"),
    ("gstreamer", {"size": None}, "--size N"),
    ("gstreamer", {"batch": 4}, "--batch 1"),
    ("deepstream", {"kind": "frames", "frame": (64, 80), "layout": "NHWC"}, "--input bytes"),
    ("deepstream", {"kind": "pixels"}, "deviations differ: export with --input bytes"),
    ("deepstream", {"names": ()}, "--texts"),
    ("deepstream", {"size": None}, "--size N"),
    ("deepstream", {"spelling": "ort"}, "--spelling decomposed"),
    ("deepstream", {"outputs": ("similarity", "labels")}, "leave labels out"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED, ids=lambda each: str(each)[:40])
def test_what_a_pipeline_cannot_take_is_refused_with_the_option_that_helps(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.onnx"
    tiny_model(file, **{"kind": "bytes", "names": NAMES, "batch": 1, **changes})
    # the other, which could be written, is not written either
    assert cli.main(["pipeline", str(file), "--for", "triton", name]) == 1
    output = capsys.readouterr().err
    assert output.count("\n") == 1 and f"is not for {name}" in output and message in output
    assert [each.name for each in tmp_path.iterdir()] == ["tiny.onnx"]


@pytest.mark.parametrize("changes", [{"fit": "crop"}, {"dtype": "int8-static"}], ids=str)
def test_what_nvinfer_cannot_do_that_another_may(changes: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "tiny.onnx"
    manifest = tiny_model(file, kind="bytes", names=NAMES, batch=1)
    declared = replace(manifest.input, fit=changes.get("fit", "stretch"))
    change_metadata(file, replace(manifest, input=declared, dtype=changes.get("dtype", "float32")).dumps())
    with pytest.raises(FastlocError, match=next(iter(changes.values()))):
        write(file, ["deepstream"])
    assert write(file, ["gstreamer"])


@pytest.mark.parametrize(("fit", "keep", "element"), [
    ("stretch", "0", "videoconvertscale add-borders=false !"), ("letterbox", "1", "videoconvertscale add-borders=true !"),
])  # fmt: skip
def test_the_fit_is_the_pipeline_s(fit: str, keep: str, element: str, tmp_path: Path) -> None:
    file = tmp_path / "tiny.onnx"
    manifest = tiny_model(file, kind="bytes", names=NAMES, batch=1)
    change_metadata(file, replace(manifest, input=replace(manifest.input, fit=fit), dtype="float16").dumps())
    info, config = write(file, ["gstreamer", "deepstream"])
    keys = sections(config)["property"]
    assert (keys["maintain-aspect-ratio"], keys["symmetric-padding"], keys["network-mode"]) == (keep, keep, "2")
    assert element in info.read_text()


def test_an_export_that_cannot_be_used_there_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "-o", str(tmp_path / "x.onnx"), "--size", "64", "--for", "deepstream"]) == 1
    output = capsys.readouterr().err
    assert "--input bytes" in output and "--texts" in output and "--spelling decomposed" in output
    assert not list(tmp_path.iterdir())


def test_no_exported_file(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        write(tmp_path / "broken.onnx", ["triton"])
    with pytest.raises(FastlocError, match=r"no such file|does not exist|No such file"):
        write(tmp_path / "absent.onnx", ["triton"])
    tiny_model(tmp_path / "tiny.onnx", names=NAMES)
    with pytest.raises(FastlocError, match="unknown pipeline 'gstraemer': did you mean 'gstreamer'"):
        write(tmp_path / "tiny.onnx", ["gstraemer"])


def model_config() -> Any:
    """The part of Triton's model_config.proto that is used, under its names and numbers: text format knows fields by name."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    data_type = file.enum_type.add(name="DataType")
    for number, name in {0: "TYPE_INVALID", 2: "TYPE_UINT8", 11: "TYPE_FP32"}.items():
        data_type.value.add(name=name, number=number)
    text, number, message, enum = 9, 5, 11, 14

    def field(of: Any, name: str, place: int, kind: int, label: int = 1, type_name: str = "") -> None:
        of.field.add(name=name, number=place, type=kind, label=label, type_name=type_name or None)

    for each in ("ModelInput", "ModelOutput"):
        tensor = file.message_type.add(name=each)
        field(tensor, "name", 1, text)
        field(tensor, "data_type", 2, enum, type_name=".inference.DataType")
        field(tensor, "dims", 4, 3, label=3)
    file.message_type.add(name="ModelDynamicBatching")
    config = file.message_type.add(name="ModelConfig")
    for name, place in {"name": 1, "backend": 17, "default_model_filename": 8}.items():
        field(config, name, place, text)
    field(config, "max_batch_size", 4, number)
    field(config, "input", 5, message, 3, ".inference.ModelInput")
    field(config, "output", 6, message, 3, ".inference.ModelOutput")
    field(config, "dynamic_batching", 11, message, 1, ".inference.ModelDynamicBatching")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()


@pytest.mark.parametrize(
    "changes", [{}, {"batch": 3, "names": NAMES}, {"names": NAMES}, {"size": None, "count": 2, "external": True}], ids=str
)
def test_triton_s_config_has_the_file_s_tensors(changes: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "tiny.onnx"
    tiny_model(file, **changes)
    (made,) = write(file, ["triton"])
    config, real = text_format.Parse(made.read_text(), model_config()), session(file)
    assert (config.name, config.backend, config.default_model_filename) == ("tiny", "onnxruntime", "tiny.onnx")
    # requests are joined along the batch, which embeddings as an input do not have
    joined = "names" in changes and "batch" not in changes
    assert (config.max_batch_size > 0) == joined == config.HasField("dynamic_batching")
    for declared, values in ((config.input, real.get_inputs()), (config.output, real.get_outputs())):
        assert [each.name for each in declared] == [value.name for value in values]
        for each, value in zip(declared, values, strict=True):
            assert list(each.dims) == [side if isinstance(side, int) else -1 for side in value.shape][joined:], value.name
            assert each.data_type == {"float32": 11, "uint8": 2}[TYPES[value.type]], value.name
    assert ("tiny.onnx.data" in made.read_text()) == ("external" in changes)


def test_the_command_line_writes_all_and_its_help_knows_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tiny.onnx"
    tiny_model(file, kind="bytes", names=NAMES, batch=1)
    assert cli.main(["pipeline", str(file), "--for", *PIPELINES]) == 0
    assert capsys.readouterr().out.split() == [str(row.target(file)) for row in PIPELINES.values()]
    for command in ("pipeline", "export"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        output = capsys.readouterr().out
        assert all(row.what in output for row in PIPELINES.values()), command


def test_nothing_but_numpy_and_pillow_is_needed(tmp_path: Path) -> None:
    tiny_model(tmp_path / "tiny.onnx", kind="bytes", names=NAMES, batch=1)
    refused = ("torch", "onnx", "onnxruntime", "onnx_ir", "scipy")
    code = f"""
import sys
for name in {refused!r}: sys.modules[name] = None
from fastloc.export.pipelines.table import *
print(len(write("tiny.onnx", list(PIPELINES))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "3", done.stderr
