"""The engine of an exported file: the same answers as its golden and as `fastloc.Localizer`, and one clear error for what is wrong."""

from __future__ import annotations

import json
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError, ImageError, ModelError, PlanError
from fastloc.export.text.export import export_text
from fastloc.export.to_onnx import Options, export
from fastloc.onnx_file.golden import picture
from fastloc.onnx_file.manifest import Manifest
from fastloc.runtime.localizer import OnnxLocalizer
from fastloc.runtime.placement import CPU
from onnx_files import change_metadata, tiny_model
from repo import SAMPLES
from tiny_localizer import NAMES, tiny, vectors

PICTURES = sorted(SAMPLES.glob("*.webp"))


def golden_error(found: OnnxLocalizer, results: list[Any]) -> float:
    """Error of the similarity, against the golden's."""
    assert found.manifest.golden is not None
    sample = found.manifest.golden.outputs["similarity"]
    assert sample.whole
    return float(np.abs(np.stack([each.similarity for each in results]) - sample.numbers().reshape(sample.shape)).max())


@pytest.mark.parametrize("batch", [None, 1, 2, 3])
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"size": None},
        {"names": NAMES},
        {"kind": "bytes"},
        {"kind": "frames", "layout": "NHWC", "frame": (64, 80)},
        {"kind": "frames", "layout": "NHWC", "frame": (64, 80), "bgr": True},
        {"kind": "frames", "layout": "NCHW", "frame": (32, 40), "bgr": True},
        {"spelling": "ort"},
        {"spelling": "onnx"},
    ],
    ids=lambda kind: " ".join(map(str, kind.values())) or "pixels",
)
def test_pictures_give_what_the_golden_says(tmp_path: Path, kind: dict[str, Any], batch: int | None):
    localizer = tiny(tmp_path, **kind, batch=batch)
    golden = localizer.manifest.golden
    assert golden is not None
    assert golden_error(localizer, localizer(list(golden.pictures()))) < 1e-5
    alone = localizer(golden.pictures()[0])
    assert alone.texts == NAMES and alone.method == "gem" and alone.model == "tiny" and alone.heatmaps.shape == (3, *golden.size)


@pytest.mark.parametrize("way", ["aspect", "own-up"])
def test_a_list_of_mixed_sizes_is_answered_in_order_and_as_if_alone(tmp_path: Path, way: str):
    made = tiny_model(tmp_path / "tiny.onnx", size=None)
    change_metadata(tmp_path / "tiny.onnx", replace(made, input=replace(made.input, fit=way, usual=40)).dumps())
    localizer = OnnxLocalizer(tmp_path / "tiny.onnx", embeddings=(NAMES, vectors()))
    pictures = [Image.fromarray(picture(i, size)) for i, size in enumerate(((50, 70), (80, 60), (100, 140), (41, 40)))]
    together = localizer(pictures)
    assert len({result.geometry.input for result in together}) == 3
    for source, result in zip(pictures, together, strict=True):
        assert result.picture.size == source.size
        np.testing.assert_allclose(result.similarity, localizer(source).similarity, atol=1e-6)
    assert localizer([]) == []


def test_pictures_of_every_kind_agree(tmp_path: Path):
    localizer, array = tiny(tmp_path), picture(3, (60, 90))
    Image.fromarray(array).save(tmp_path / "upright.png")
    turned = Image.fromarray(np.rot90(array))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    expected = localizer(array).similarity
    for source in (tmp_path / "upright.png", str(tmp_path / "turned.png"), Image.fromarray(array), array / 255.0, torch.from_numpy(array)):
        np.testing.assert_allclose(localizer(source).similarity, expected, atol=1e-5, err_msg=str(type(source)))
    assert localizer(tmp_path / "upright.png").name == str(tmp_path / "upright.png")


def test_a_letterbox_is_padded_with_the_mean_colour_in_bytes_too(tmp_path: Path):
    image, found = Image.fromarray(picture(3, (30, 90))), {}
    for kind in ("pixels", "bytes"):
        made = tiny_model(tmp_path / f"{kind}.onnx", kind=kind)
        change_metadata(tmp_path / f"{kind}.onnx", replace(made, input=replace(made.input, fit="letterbox")).dumps())
        found[kind] = OnnxLocalizer(tmp_path / f"{kind}.onnx", embeddings=(NAMES, vectors()))(image).similarity
    np.testing.assert_allclose(found["bytes"], found["pixels"], atol=1e-5)


def test_frames_of_another_size_are_refused(tmp_path: Path):
    localizer = tiny(tmp_path, kind="frames", layout="NHWC", frame=(64, 80))
    with pytest.raises(ImageError, match=r"the picture must be 64 x 80, as frames of .*tiny.onnx, got 60 x 80"):
        localizer(picture(0, (60, 80)))


def test_outputs_can_be_had_raw_and_are_cut_to_what_was_asked(tmp_path: Path):
    localizer = tiny(tmp_path, kind="frames", layout="NHWC", frame=(64, 80), batch=4, outputs=("labels", "heatmaps", "scores"))
    found = localizer.run(np.stack([picture(i, (64, 80)) for i in range(3)]))
    assert {name: each.shape for name, each in found.items()} == {"labels": (3, 64, 80), "heatmaps": (3, 3, 64, 80), "scores": (3, 3)}
    assert found["labels"].dtype == np.uint8 and found["heatmaps"].dtype == np.float32
    with pytest.raises(ModelError, match=r"must have the output 'similarity'.*use \.run\(array\), which gives labels, heatmaps, scores"):
        localizer(picture(0, (64, 80)))


def test_arrays_go_in_by_numpy_and_dlpack_and_come_out_as_the_caller_s_own(tmp_path: Path):
    localizer = tiny(tmp_path)
    array = np.random.default_rng(0).normal(size=(2, 3, 32, 40)).astype(np.float32)
    expected = localizer.similarity(array).copy()
    first = localizer.similarity(array)
    other = localizer.similarity(torch.from_numpy(-array))
    assert not np.array_equal(other, expected)
    np.testing.assert_array_equal(first, expected, "the next call wrote over an answer")
    np.testing.assert_array_equal(localizer.similarity(torch.from_numpy(array)), expected)
    np.testing.assert_array_equal(localizer.similarity(np.ascontiguousarray(array.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)), expected)
    np.testing.assert_array_equal(localizer.similarity(array, vectors()[1:]), expected[:, 1:])
    for texts in ("dog", ["dog"], np.array(["dog"])):
        np.testing.assert_allclose(localizer.similarity(array, texts), expected[:, 1:2], atol=1e-6)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 3, 32, 40)), r"pixels must be float32 \[2, 3, 32, 40\], as .*tiny.onnx takes it, got float64 \[1, 3, 32, 40\]"),
        (np.zeros((1, 3, 32, 48), np.float32), r"got float32 \[1, 3, 32, 48\]"),
        (np.zeros((3, 3, 32, 40), np.float32), r"must be float32 \[2, 3.*got float32 \[3, 3, 32, 40\]"),
        (np.zeros((3, 32, 40), np.float32), r"got float32 \[3, 32, 40\]"),
        (np.zeros((0, 3, 32, 40), np.float32), r"got float32 \[0, 3"),
        (torch.zeros(1, 3, 32, 40, dtype=torch.float16), "got float16"),
        ([[0.0]], "got a list"),
    ],
    ids=lambda each: getattr(each, "__class__", type(each)).__name__,
)
def test_an_array_that_does_not_fit_is_reported(tmp_path: Path, array: Any, message: str):
    localizer = tiny(tmp_path, batch=2)
    with pytest.raises(ImageError, match=message):
        localizer.similarity(array)


def test_a_size_that_the_patch_does_not_divide_is_reported(tmp_path: Path):
    with pytest.raises(ImageError, match=r"height and width in multiples of the patch, 8 x 8, got \[1, 3, 33, 40\]"):
        tiny(tmp_path, size=None).similarity(np.zeros((1, 3, 33, 40), np.float32))


def test_the_size_can_be_chosen_where_the_file_leaves_it_open(tmp_path: Path):
    tiny_model(tmp_path / "tiny.onnx", size=None)
    chosen = OnnxLocalizer(tmp_path / "tiny.onnx", embeddings=(NAMES, vectors()), size=(48, 64))
    assert chosen(picture(0, (60, 80))).similarity.shape == (3, 6, 8)
    with pytest.raises(FastlocError, match="30"):
        OnnxLocalizer(tmp_path / "tiny.onnx", size=30)
    tiny_model(tmp_path / "fixed.onnx")
    with pytest.raises(FastlocError, match=r"size must be 32 x 40, the fixed input of .*fixed.onnx, got 48"):
        OnnxLocalizer(tmp_path / "fixed.onnx", size=48)


def test_a_fit_that_misses_a_fixed_size_is_reported(tmp_path: Path):
    made = tiny_model(tmp_path / "tiny.onnx", size=(32, 32))
    change_metadata(tmp_path / "tiny.onnx", replace(made, input=replace(made.input, fit="aspect")).dumps())
    localizer = OnnxLocalizer(tmp_path / "tiny.onnx", embeddings=(NAMES, vectors()))
    assert localizer(picture(0, (50, 50))).similarity.shape == (3, 4, 4)
    with pytest.raises(ImageError, match=r"must become 32 x 32, as .*tiny.onnx takes it, got 32 x 48 from 50 x 80 with fit 'aspect'"):
        localizer(picture(0, (50, 80)))


def broken(folder: Path, how: str) -> Path:
    """A file that is wrong in one way."""
    path = folder / "tiny.onnx"
    made = tiny_model(path, external=how in ("weights missing", "weights truncated"))
    whole = path.read_bytes()
    if how == "not onnx":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    elif how == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "cut at the end":
        path.write_bytes(whole[:-1])
    elif how == "not fastloc":
        model = onnx.load(path)
        del model.metadata_props[:]
        onnx.save(model, path)
    elif how == "newer":
        change_metadata(path, json.dumps({**json.loads(made.dumps()), "format": 99, "version": "7.0"}))
    elif how == "damaged metadata":
        change_metadata(path, made.dumps()[:100])
    elif how == "weights missing":
        (folder / "tiny.onnx.data").unlink()
    elif how == "weights truncated":
        (folder / "tiny.onnx.data").write_bytes(b"short")
    elif how == "other inputs":
        change_metadata(path, replace(made, input=replace(made.input, kind="frames", frame=(32, 40))).dumps())
    elif how == "a folder":
        path = folder
    elif how == "missing":
        path.unlink()
    elif how == "unknown node":
        model = onnx.load(path)
        model.graph.node[0].op_type = "Unheard"
        onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("not onnx", "is not an ONNX file"),
        ("text", "is not an ONNX file"),
        ("empty", r"is empty \(0 bytes\)"),
        ("truncated", r"is truncated: it has \d+ bytes, and would have at least \d+"),
        ("cut at the end", "is truncated"),
        ("not fastloc", "was not exported by fastloc"),
        ("newer", "exported by fastloc 7.0 with 'fastloc' metadata of format 99"),
        ("damaged metadata", "its 'fastloc' metadata is damaged"),
        ("weights missing", r"its weights are in .*tiny.onnx.data, which is missing: copy both files together"),
        ("weights truncated", r"tiny.onnx.data: is truncated: it has 5 bytes, and .*tiny.onnx needs \d+"),
        ("other inputs", r"must have the inputs \['frames', 'text_embeddings'\] of its metadata, got \['pixels', 'text_embeddings'\]"),
        ("a folder", "must be an ONNX file, got a folder"),
        ("missing", "no such file"),
        ("unknown node", "cannot load it on provider 'cpu'.*Unheard"),
    ],
)
def test_a_file_that_cannot_be_used_is_reported_in_one_line(tmp_path: Path, how: str, message: str):
    with pytest.raises(ModelError, match=message) as caught:
        OnnxLocalizer(broken(tmp_path, how), providers="cpu")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_external_weights_are_read(tmp_path: Path):
    localizer = tiny(tmp_path, external=True)
    assert localizer.manifest.golden is not None
    assert localizer.session.header.external.keys() == {"tiny.onnx.data"}
    assert golden_error(localizer, localizer(list(localizer.manifest.golden.pictures()))) < 1e-5


def test_a_provider_that_is_not_there_is_reported(tmp_path: Path):
    tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(PlanError, match=r"provider 'coreml' is not in onnxruntime \d.*cpu.*pip install"):
        OnnxLocalizer(tmp_path / "tiny.onnx", providers="coreml")


def test_the_cpu_runs_every_node_and_it_reports_which(tmp_path: Path):
    localizer = tiny(tmp_path, spelling="ort")
    localizer.warm_up()
    placed = localizer.placement()
    assert {node.provider for node in placed.nodes} == {CPU}
    assert sum(row.count for row in placed.rows) == len(placed.nodes)
    assert "com.microsoft.MultiHeadAttention" in str(placed)
    with pytest.raises(PlanError, match="'cpu' runs the graph as it is and compiles nothing"):
        localizer.compile(tmp_path / "compiled.onnx")


def test_calls_from_several_threads_take_turns_and_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    localizer = tiny(tmp_path, size=None)
    pictures = [picture(i, (32 + 8 * (i % 3), 40)) for i in range(12)]
    expected = [localizer(each).similarity for each in pictures]
    run, inside, most = localizer.session.bindings.run, [], []

    def watched(feeds: Any) -> Any:
        inside.append(1)
        most.append(len(inside))
        # the others get every chance to come in
        time.sleep(0.002)
        found = run(feeds)
        inside.pop()
        return found

    monkeypatch.setattr(localizer.session.bindings, "run", watched)
    with ThreadPoolExecutor(4) as pool:
        for found, right in zip(pool.map(localizer, pictures), expected, strict=True):
            np.testing.assert_array_equal(found.similarity, right)
    assert max(most) == 1, f"{max(most)} calls were in the session at once"


@cache
def engine() -> Localizer:
    return Localizer(size=64)


PARITY: dict[str, tuple[str, dict[str, Any]]] = {
    "any batch, size and texts": ("gem", {"batch": None, "spelling": "ort"}),
    "one text or several": ("clip_surgery", {"batch": None, "size": (64, 64), "spelling": "decomposed"}),
    "frames and a softmax": ("sclip", {"kind": "frames", "frame": (90, 120), "layout": "NHWC", "texts": NAMES, "bgr": True}),
}


@pytest.mark.slow("exports of three inputs")
@pytest.mark.parametrize("case", PARITY)
def test_an_exported_file_answers_as_the_engine_does(tmp_path: Path, case: str):
    method, options = PARITY[case]
    fit = "stretch" if "size" in options else None
    localizer = engine().with_method(method, fit=fit)
    made: Manifest = export(localizer, tmp_path / "model.onnx", Options(**options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        texts = None if made.texts.baked else (NAMES, localizer.source.text(NAMES, localizer.template).numpy())
    if options.get("spelling") == "ort":
        # with the texts encoded by an exported tower as well
        export_text(localizer.source, tmp_path / "model.text.onnx")
        texts = None
    exported = OnnxLocalizer(tmp_path / "model.onnx", embeddings=texts)
    pictures = [Image.open(PICTURES[0]).convert("RGB"), Image.open(PICTURES[1]).convert("RGB").resize((90, 150))]
    pictures = [each.resize((120, 90)) for each in pictures] if made.input.kind == "frames" else pictures
    for asked in ([*NAMES], ["dog"])[: 1 if made.texts.baked else 2]:
        for right, found in zip(localizer(pictures, asked), exported(pictures, asked), strict=True):
            assert found.geometry == right.geometry and found.texts == right.texts
            error = float(np.abs(found.similarity - right.similarity).max())
            assert error <= 1e-4, f"similarity of {method} is off by {error:.1e}"
            np.testing.assert_allclose(found.heatmaps, right.heatmaps, atol=2e-3)
            assert (found.scores is None) == (right.scores is None)
            if right.scores is not None and found.scores is not None:
                np.testing.assert_allclose(found.scores, right.scores, atol=1e-4)
