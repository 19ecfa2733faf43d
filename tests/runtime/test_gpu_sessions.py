"""Sessions on a stand-in for a GPU: buffers, CUDA graphs, tensors that lie there, nodes that run elsewhere, and compiled files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from fake_onnxruntime import CPU, FakeOnnxruntime
from fastloc.errors import FastlocWarning, PlanError
from fastloc.runtime import providers
from fastloc.runtime import session as onnx_session
from fastloc.runtime.providers import PROVIDERS
from fastloc.runtime.session import OnnxSession
from fastloc.utils.hardware import Gpu
from onnx_files import EMBED, tiny_model


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeOnnxruntime:
    made = FakeOnnxruntime()
    monkeypatch.setattr(onnx_session, "runtime", lambda: made)
    monkeypatch.setattr("fastloc.runtime.session.cuda_gpu", lambda index=0: Gpu("NVIDIA H200", capability="9.0"))
    return made


def feeds(batch: int = 2, size: tuple[int, int] = (32, 40), seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    texts = np.eye(3, EMBED, dtype=np.float32)
    return {"pixels": draw.normal(size=(batch, 3, *size)).astype(np.float32), "text_embeddings": texts}


def test_a_device_is_an_index(tmp_path: Path, fake: FakeOnnxruntime):
    tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(PlanError, match="device_id must be the index of a GPU, such as 0, got 'gpu'"):
        OnnxSession(tmp_path / "tiny.onnx", "cuda", options={"device_id": "gpu"})


def test_on_a_gpu_buffers_are_made_once_and_outputs_are_the_caller_s(tmp_path: Path, fake: FakeOnnxruntime):
    tiny_model(tmp_path / "tiny.onnx")
    session, cpu = OnnxSession(tmp_path / "tiny.onnx", "cuda"), real_session(tmp_path / "tiny.onnx")
    first = session.run(feeds())
    again = session.run(feeds(seed=1))
    for found, seed in ((first, 0), (again, 1)):
        for name, expected in cpu.run(feeds(seed=seed)).items():
            np.testing.assert_array_equal(found[name], expected)
    (buffers,) = session.bindings.sets.values()
    assert len(fake.copies) == 4, "two inputs, two calls"
    assert len(buffers.outputs) == 2 and fake.runs == [None, None]
    session.run(feeds(batch=1))
    assert len(session.bindings.sets) == 2


def real_session(path: Path) -> OnnxSession:
    """A session on the CPU that is really there, whatever the tests pretend."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_session, "runtime", providers.runtime)
        return OnnxSession(path, "cpu")


def test_a_cuda_graph_is_captured_after_the_first_call_for_one_set_of_shapes(tmp_path: Path, fake: FakeOnnxruntime):
    tiny_model(tmp_path / "tiny.onnx")
    session = OnnxSession(tmp_path / "tiny.onnx", "cuda", cuda_graph=True)
    assert fake.sessions[0].providers[0][1]["enable_cuda_graph"] == "1"
    session.run(feeds())
    session.run(feeds())
    assert fake.runs == ["-1", None], "the first call finds out where outputs go, the second is captured"
    with pytest.raises(PlanError, match=r"shapes must be pixels \[2, 3, 32, 40\].* got pixels \[1, 3, 32, 40\]"):
        session.run(feeds(batch=1))


def test_a_tensor_on_another_device_is_refused(tmp_path: Path):
    tiny_model(tmp_path / "tiny.onnx")

    class OnGpu:
        shape, dtype = (2, 3, 32, 40), np.dtype(np.float32)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 1

    with pytest.raises(PlanError, match="the array must be on the CPU, where the inputs are taken, got GPU 1"):
        OnnxSession(tmp_path / "tiny.onnx", "cpu").run({**feeds(), "pixels": OnGpu()})


def test_a_tensor_on_the_gpu_is_bound_where_it_is_and_its_producer_waited_for(tmp_path: Path, fake: FakeOnnxruntime):
    tiny_model(tmp_path / "tiny.onnx")
    array, streams = feeds()["pixels"], []

    class OnGpu:
        shape, dtype = array.shape, array.dtype

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        def __dlpack__(self, stream: int) -> Any:
            streams.append(stream)
            return array.__dlpack__()

    session = OnnxSession(tmp_path / "tiny.onnx", "cuda")
    found = session.run({**feeds(), "pixels": OnGpu()})
    np.testing.assert_array_equal(found["similarity"], real_session(tmp_path / "tiny.onnx").run(feeds())["similarity"])
    assert streams == [1], "without a stream torch waits for nothing"
    assert ("float32", array.shape) not in fake.copies and ("float32", (1,)) in fake.copies


def test_work_on_another_provider_is_an_error_node_by_node_unless_it_is_allowed(tmp_path: Path, fake: FakeOnnxruntime):
    tiny_model(tmp_path / "tiny.onnx")
    OnnxSession(tmp_path / "tiny.onnx", "cuda")
    fake.elsewhere = (("Softmax", "block 3"), ("Resize", ""))
    with pytest.raises(PlanError, match=r"2 of 5 nodes do not run on cuda: Softmax 'block 3' on CPU, Resize on CPU; allow_fallback"):
        OnnxSession(tmp_path / "tiny.onnx", "cuda")
    with pytest.warns(FastlocWarning, match="2 of 5 nodes do not run on cuda"):
        OnnxSession(tmp_path / "tiny.onnx", "cuda", allow_fallback=True)
    OnnxSession(tmp_path / "tiny.onnx", ["cuda", "cpu"])


def test_a_provider_that_does_not_load_is_an_error_and_auto_says_that_it_takes_the_cpu(tmp_path: Path, fake: FakeOnnxruntime):
    tiny_model(tmp_path / "tiny.onnx")
    fake.loads = (CPU,)
    with pytest.raises(PlanError, match=r"'cuda' is in onnxruntime 1\.31\.1 and did not load.*fastloc doctor"):
        OnnxSession(tmp_path / "tiny.onnx", "cuda")
    with pytest.warns(FastlocWarning, match="running on the CPU: provider 'cuda'"):
        assert OnnxSession(tmp_path / "tiny.onnx").chosen == (PROVIDERS["cpu"],)


def test_tensorrt_is_given_a_folder_of_this_device_these_versions_and_this_file(tmp_path: Path, fake: FakeOnnxruntime):
    tiny_model(tmp_path / "tiny.onnx")
    session = OnnxSession(tmp_path / "tiny.onnx", "tensorrt", cache=tmp_path / "engines")
    folder = Path(fake.sessions[0].providers[0][1]["trt_engine_cache_path"])
    assert folder.is_dir() and folder.relative_to(tmp_path / "engines").parts[0] == "NVIDIA-H200-sm90"
    assert folder.name == session.header.digest()[:16]
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PlanError, match="cannot be written to"):
        OnnxSession(tmp_path / "tiny.onnx", "tensorrt", cache=tmp_path / "file")


def compiled(folder: Path, kind: str) -> onnx.ModelProto:
    """The tiny file with its first node called `kind`."""
    model = onnx.load(folder / "tiny.onnx")
    model.graph.node[0].op_type = kind
    return model


def test_what_compiles_nothing_is_reported_and_leaves_no_file(tmp_path: Path, fake: FakeOnnxruntime):
    tiny_model(tmp_path / "tiny.onnx")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PlanError, match="'cuda' runs the graph as it is and compiles nothing"):
        OnnxSession(tmp_path / "tiny.onnx", "cuda").compile(tmp_path / "context.onnx")
    session = OnnxSession(tmp_path / "tiny.onnx", "tensorrt", cache=tmp_path.parent / "engines")
    fake.compiled = onnx.load(tmp_path / "tiny.onnx")
    with pytest.raises(PlanError, match="'tensorrt' compiled nothing of"):
        session.compile(tmp_path / "context.onnx")
    # one that cannot be loaded: this onnxruntime has no provider for such a node
    fake.compiled = compiled(tmp_path, "EPContext")
    with pytest.raises(PlanError, match="cannot load it on provider 'tensorrt'"):
        session.compile(tmp_path / "context.onnx")
    assert sorted(tmp_path.iterdir()) == before


def test_a_compiled_file_is_written_whole(tmp_path: Path, fake: FakeOnnxruntime, monkeypatch: pytest.MonkeyPatch):
    tiny_model(tmp_path / "tiny.onnx")
    session = OnnxSession(tmp_path / "tiny.onnx", "tensorrt", cache=tmp_path / "engines")
    fake.compiled = onnx.load(tmp_path / "tiny.onnx")
    # behind the outputs, where it does no harm
    fake.compiled.graph.node.append(helper.make_node("Identity", ["similarity"], ["copy"], name="context"))
    monkeypatch.setattr(onnx_session, "COMPILED", "Identity")
    written = session.compile(tmp_path / "context.onnx")
    assert OnnxSession(written, "cuda").manifest.model == session.manifest.model
    assert not list(tmp_path.glob(".*.part"))
