"""Exported files in OpenVINO's own runtime: the answers of onnxruntime, in float32 unless another precision is asked for."""

from __future__ import annotations

import gc
import pickle
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hierarchical_towers
from fastloc import OnnxLocalizer
from fastloc.diagnostics.inspect_file import inspect, loaded
from fastloc.diagnostics.verify import verify
from fastloc.embedded import GEM_ONNX, SAMPLES
from fastloc.errors import FastlocError, ModelError, PlanError
from fastloc.runtime import openvino_session, signal_stack
from fastloc.runtime.open_session import open_session
from fastloc.runtime.openvino_session import PRECISION, OpenvinoSession
from fastloc.runtime.session import OnnxSession
from forked import forked, needs_fork
from onnx_files import tiny_model

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'fastloc[openvino]'")

PICTURE = SAMPLES / "market.webp"
KINDS: dict[str, dict[str, Any]] = {
    "open sizes": {"size": None}, "one picture": {"batch": 1, "count": 3}, "float16": {"dtype": "float16"},
    "weights beside": {"external": True},
    "a camera's frames": {"kind": "frames", "layout": "NHWC", "frame": (64, 80), "names": ("a", "b")}, "bytes": {"kind": "bytes"},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_verifies_and_answers_as_onnxruntime_does(kind: str, tmp_path: Path) -> None:
    manifest = tiny_model(tmp_path / "a.onnx", **KINDS[kind])
    verdict = verify(tmp_path / "a.onnx", "openvino", threads=1)
    assert verdict.good and verdict.providers == ("openvino",) and verdict.nodes["OpenVINO"] and "openvino" in verdict.versions
    feeds = manifest.golden_inputs()
    ours, theirs = (open_session(tmp_path / "a.onnx", name, threads=1).run(feeds) for name in ("openvino", "cpu"))
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype and np.abs(ours[name] - array).max() < 1e-3 * np.abs(array).max()


@pytest.mark.slow("exports narrow towers", quick=1)
@pytest.mark.parametrize(("family", "method"), [("FastViT", "naclip"), ("ConvNeXt", "itsm")])
def test_towers_whose_grid_shrinks(family: str, method: str, tmp_path: Path) -> None:
    from fastloc import Localizer
    from fastloc.export.to_onnx import Options, export

    with hierarchical_towers.narrow_sizes(family):
        localizer = Localizer(str(hierarchical_towers.folder(tmp_path / "model", family)), method=method)
    manifest = export(localizer, tmp_path / "a.onnx", Options(size=(64, 96)))
    assert verify(tmp_path / "a.onnx", "openvino", threads=1).good
    feeds = manifest.golden_inputs()
    ours, theirs = (open_session(tmp_path / "a.onnx", name, threads=1).run(feeds) for name in ("openvino", "cpu"))
    for name, array in theirs.items():
        assert ours[name].shape == array.shape and np.abs(ours[name] - array).max() < 1e-3 * np.abs(array).max()


def test_the_embedded_model_answers_as_in_onnxruntime_and_pickles() -> None:
    ours, theirs = (OnnxLocalizer(providers=name, threads=1) for name in ("openvino", "cpu"))
    found, wanted = (each(PICTURE, ["cat", "pizza"]).similarity for each in (ours, theirs))
    assert 0 < np.abs(found - wanted).max() < 2e-6, "another runtime rounds in another order"
    assert np.array_equal(pickle.loads(pickle.dumps(ours))(PICTURE, ["cat", "pizza"]).similarity, found)


def test_it_computes_in_float32_unless_asked() -> None:
    kinds = {row.type for row in loaded(inspect(GEM_ONNX), "openvino").placement().rows}
    assert "FullyConnected f32" in kinds and not [kind for kind in kinds if "bf16" in kind or "f16" in kind]


def test_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    exact, asked = OnnxLocalizer(providers="openvino", threads=1), {PRECISION: "bf16"}
    assert isinstance(exact.session, OpenvinoSession)
    if "BF16" not in exact.session.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(PlanError, match=r"INFERENCE_PRECISION_HINT must be a precision that this processor computes in"):
            OnnxLocalizer(providers="openvino", options=asked)
        pytest.skip("this processor computes in no bfloat16")
    rough = OnnxLocalizer(providers="openvino", threads=1, options=asked)
    found, wanted = (each(PICTURE, ["cat", "pizza"]).similarity for each in (rough, exact))
    assert 1e-5 < np.abs(found - wanted).max() / np.abs(wanted).max() < 3e-2
    assert [row for row in rough.placement().rows if row.type == "FullyConnected bf16"]
    monkeypatch.setattr(openvino_session, "CAPABILITIES", {"bf16": "NO SUCH"})
    with pytest.raises(PlanError, match=r"this processor computes in \(.*FP32.*\), got 'bf16'; leave it out"):
        OnnxLocalizer(providers="openvino", options=asked)


def test_a_size_is_compiled_when_it_comes_and_the_last_ones_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_session, "MOST", 2)
    manifest = tiny_model(tmp_path / "a.onnx", size=None, golden=False)
    ours, theirs = OpenvinoSession(tmp_path / "a.onnx", threads=1), OnnxSession(tmp_path / "a.onnx", "cpu", threads=1)
    texts = np.eye(3, manifest.model.embed, dtype=np.float32)
    for height, width, batch in ((16, 24, 1), (32, 40, 2), (24, 24, 3), (16, 24, 2)):
        pixels = np.random.default_rng(height).standard_normal((batch, 3, height, width), np.float32)
        feeds = {"pixels": pixels, "text_embeddings": texts[:batch]}
        found, wanted = ours.run(feeds)["similarity"], theirs.run(feeds)["similarity"]
        assert found.shape == wanted.shape and np.abs(found - wanted).max() < 1e-5
    assert list(ours.compiled) == [(24, 24), (16, 24)]


def test_compiled_models_are_kept_in_a_folder_of_yours(tmp_path: Path) -> None:
    tiny_model(tmp_path / "a.onnx")
    OpenvinoSession(tmp_path / "a.onnx", threads=1, cache=tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threads": 0}, PlanError, "threads must be 1 or more, or None for OpenVINO's own choice, got 0"),
        ({"options": {"NO_SUCH": 1}}, PlanError, "Unsupported property NO_SUCH"),
        ({"options": {PRECISION: "f8"}}, PlanError, "Wrong value f8 for property key INFERENCE_PRECISION_HINT"),
        ({"cuda_graph": True}, PlanError, "cuda_graph must be False for provider 'openvino', got True"),
        ({"providers": ["openvino", "cpu"]}, PlanError, "provider 'openvino' is a runtime of its own"),
    ],
)
def test_what_it_does_not_take(options: dict[str, Any], error: type[FastlocError], message: str) -> None:
    with pytest.raises(error, match=message):
        OnnxLocalizer(**{"providers": "openvino", **options})


def test_inputs_of_another_shape_are_refused(tmp_path: Path) -> None:
    manifest = tiny_model(tmp_path / "a.onnx")
    session, feeds = OpenvinoSession(tmp_path / "a.onnx", threads=1), manifest.golden_inputs()
    for wrong in (feeds["pixels"][:, :, :16], feeds["pixels"].astype(np.float64), feeds["pixels"][0]):
        with pytest.raises(PlanError, match=r"'pixels' must be float32 \['batch', 3, 32, 40\], got float"):
            session.run({**feeds, "pixels": wrong})
    with pytest.raises(PlanError, match="writes no compiled ONNX file"):
        session.compile(tmp_path / "b.onnx")


def test_a_damaged_graph_is_the_files_fault(tmp_path: Path) -> None:
    import onnx

    tiny_model(tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    next(node for node in model.graph.node if node.op_type == "MatMul").op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ModelError, match=r"a\.onnx: OpenVINO .* cannot load it: .*wasn't fully converted"):
        OpenvinoSession(tmp_path / "a.onnx", threads=1)


@needs_fork
def test_a_forked_child_is_refused_in_place_of_waiting_for_ever() -> None:
    localizer = OnnxLocalizer(providers="openvino", threads=1)

    def there() -> list[str]:
        said = []
        for work in (lambda: localizer(PICTURE, "cat"), lambda: OnnxLocalizer(providers="openvino")):
            with pytest.raises(PlanError) as caught:
                work()
            said.append(str(caught.value))
        return said

    assert all("which a forked process cannot use; start the process by 'spawn'" in each for each in forked(there))


def test_signals_are_handled_after_models_went_in_any_order_and_thread() -> None:
    """OpenVINO gives a thread another stack for signals, and puts an earlier one back, which may be gone."""
    before = signal_stack.current()
    sessions = [OnnxLocalizer(providers="openvino", threads=1) for _ in range(3)]
    for localizer in sessions:
        localizer(PICTURE, "cat")
        assert signal_stack.current() == before
    thread = threading.Thread(target=lambda: sessions.append(OnnxLocalizer(providers="openvino", threads=1)))
    thread.start()
    thread.join()
    while sessions:
        sessions.pop(0)
        gc.collect()
        assert signal_stack.current() == before
    caught: list[int] = []
    usual = signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))
    signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, usual)
    assert caught == [signal.SIGUSR1]
