"""The embedded model as ONNX: current, small, and enough for the main job where there is no torch."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fastloc import embedded
from fastloc.checkpoints.vit_weights import named_tensors
from fastloc.engine.localizer import Localizer
from fastloc.errors import ModelError
from fastloc.export.text.share_weights import share
from fastloc.imaging import images
from fastloc.onnx_file import header as onnx_header
from fastloc.onnx_file.manifest import Manifest
from fastloc.runtime.text_encoder import OnnxTextEncoder
from fastloc.utils.hashing import tower_digest

GEM, TEXT, WEIGHTS = embedded.GEM_ONNX, embedded.GEM_TEXT_ONNX, embedded.MODEL
AGAIN = "make them again: python benchmarks/embedded_model/pack_onnx.py"


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer(device="cpu", dtype="float32")


def test_the_files_are_of_the_weights_beside_them(localizer: Localizer):
    manifest = Manifest.of(onnx_header.read(GEM).metadata, str(GEM))
    tower = {name: tensor.numpy() for name, tensor in named_tensors(localizer.source.weights).items()}
    assert manifest.model.weights == tower_digest(tower), AGAIN
    assert manifest.recipe == localizer.recipe, AGAIN
    assert (manifest.input.usual, manifest.input.fit) == (localizer.input_size, localizer.fit), AGAIN
    assert (manifest.input.batch, manifest.input.size, manifest.texts.count) == (None, None, None)
    text = OnnxTextEncoder(TEXT).manifest
    assert text.digest == manifest.model.text == localizer.source.text.digest, AGAIN
    assert text.names == localizer.source.text.names and set(text.words) == localizer.source.text.words, AGAIN


def test_all_weights_are_shared_and_the_package_stays_small():
    for path in (GEM, TEXT):
        assert set(onnx_header.read(path).external) == {WEIGHTS.name}
        own = [tensor for tensor in onnx.load(path, load_external_data=False).graph.initializer if not tensor.external_data]
        assert sum(len(tensor.raw_data) for tensor in own) < 40e3, path
    assert sum(path.stat().st_size for path in embedded.FOLDER.iterdir() if path.is_file()) < 10e6


@pytest.mark.filterwarnings("ignore::fastloc.errors.FastlocWarning")
@pytest.mark.parametrize("texts", [["cat"], ["red car", "a cat", "pizza", "unseen words, too"]])
def test_texts_are_encoded_as_the_engine_does(localizer: Localizer, texts: list[str]):
    made = OnnxTextEncoder(TEXT)
    for template in ("gem", "surgery85"):
        expected = localizer.source.text(texts, template).numpy()
        np.testing.assert_allclose(made(texts, template), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(96, 96), (64, 128)])
def test_pictures_give_what_the_engine_gives(localizer: Localizer, size: tuple[int, int]):
    session = ort.InferenceSession(GEM, providers=["CPUExecutionProvider"])
    scenes = json.loads((embedded.SAMPLES / "samples.json").read_text())
    pictures = [images.load(embedded.SAMPLES / row["file"]) for row in scenes.values()]
    chosen = Localizer(device="cpu", dtype="float32", size=size)
    pixels = torch.stack([chosen.pixels(picture, chosen.geometry(picture.size[::-1])) for picture in pictures])
    for texts in (["cat"], ["cat", "pizza", "red car"]):
        expected = chosen.similarity(pixels, texts)[0].numpy()
        vectors = localizer.source.text(texts, localizer.template).numpy()
        (found,) = session.run(["similarity"], {"pixels": pixels.numpy(), "text_embeddings": vectors})
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-4, AGAIN


def test_it_finds_things_where_there_is_no_torch(localizer: Localizer, tmp_path: Path):
    """In a fresh interpreter that can import nothing but numpy, Pillow, onnxruntime and tokenizers, from a copied folder."""
    shutil.copytree(embedded.FOLDER, tmp_path / "embedded")
    row = next(iter(json.loads((embedded.SAMPLES / "samples.json").read_text()).values()))
    picture = embedded.SAMPLES / row["file"]
    missing = ("torch", "open_clip", "onnx", "onnx_ir", "onnxscript", "safetensors", "ftfy", "regex", "scipy", "cmap", "rich")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
        "from fastloc.runtime.localizer import OnnxLocalizer\n"
        f"result = OnnxLocalizer({str(tmp_path / 'embedded' / 'gem.onnx')!r}, providers='cpu')({str(picture)!r}, {row['texts']!r})\n"
        "print(result.similarity.tolist())"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    expected = localizer(picture, row["texts"]).similarity
    assert np.abs(np.array(json.loads(done.stdout)) - expected).max() <= 1e-4


# what shares a file's weights


def stored(path: Path, **tensors: np.ndarray[Any, Any]) -> Path:
    """A .safetensors file, written by hand."""
    names = {"float16": "F16", "float32": "F32", "int32": "I32"}
    rows, data = {}, b""
    for name, array in tensors.items():
        rows[name] = {"dtype": names[array.dtype.name], "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    header = json.dumps({"__metadata__": {"format": "pt"}, **rows}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_shared_weights_are_the_numbers_that_were_there(tmp_path: Path):
    rng = np.random.default_rng(0)
    half = {name: rng.normal(size=shape).astype(np.float16) for name, shape in {"a": (32, 24), "b": (16, 24), "c": (8, 8, 8)}.items()}
    whole = {"d": rng.normal(size=(20, 20)).astype(np.float32), "ids": rng.integers(0, 99, 300).astype(np.int32)}
    weights = stored(tmp_path / "weights.safetensors", **half, **whole)
    expected = {
        "as it is": half["a"].astype(np.float32),
        "turned": half["a"].T.astype(np.float32),
        "in another shape": half["c"].reshape(8, 64).astype(np.float32),
        "on top of one another": np.concatenate([half["b"], half["a"], half["b"]]).astype(np.float32),
        "turned and on top": np.concatenate([half["a"].T, np.ascontiguousarray(half["a"].T)]).astype(np.float32),
        "float32": whole["d"],
        "wider integers": whole["ids"].astype(np.int64),
        "small": np.ones(3, np.float32),
        "of its own": rng.normal(size=(30, 30)).astype(np.float32),
        "nearly": half["a"].astype(np.float32) + np.float32(1e-6),
    }
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    outputs = [helper.make_tensor_value_info(f"{name} out", kinds[array.dtype.name], array.shape) for name, array in expected.items()]
    nodes = [helper.make_node("Identity", [name], [f"{name} out"]) for name in expected]
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in expected.items()]
    graph = helper.make_graph(nodes, "g", [], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    done = share(model, weights)
    assert done.count == 7
    assert set(done.kept) == {"of its own", "nearly"}
    onnx.save(model, tmp_path / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    found = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"]).run(None, {})
    for (name, array), got in zip(expected.items(), found, strict=True):
        assert got.dtype == array.dtype, name
        np.testing.assert_array_equal(got, array, err_msg=name)


@pytest.mark.parametrize("content", [b"", b"hello, this is no tensor", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 8) + b'{"a":{}}'])
def test_what_is_no_safetensors_file(content: bytes, tmp_path: Path):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"w\.safetensors: is not a \.safetensors file"):
        share(onnx.ModelProto(), tmp_path / "w.safetensors")
