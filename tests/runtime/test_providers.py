"""The provider of a file and its settings; nothing runs anywhere else without a warning or an error."""

from __future__ import annotations

import ctypes
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from fake_onnxruntime import CPU, CUDA, TENSORRT, FakeOnnxruntime
from fastloc import OnnxLocalizer
from fastloc.errors import FastlocError, FastlocWarning, PlanError
from fastloc.onnx_file.manifest import Manifest
from fastloc.runtime import engine_cache, providers
from fastloc.runtime import session as onnx_session
from fastloc.runtime.placement import SHOWN, Node, Placement, listed
from fastloc.runtime.providers import PROVIDERS, Request, choose, session_settings
from fastloc.runtime.session import OnnxSession
from fastloc.runtime.shape_profiles import ranges
from fastloc.utils.hardware import Gpu, cuda_gpu
from fastloc.utils.heartbeat import waiting
from fastloc.utils.user_cache import user_cache
from onnx_files import EMBED, tiny_model

NOW = (1, 31)


def manifest(folder: Path, **kind: Any) -> Manifest:
    return tiny_model(folder / "tiny.onnx", golden=False, **kind)


def options(folder: Path, name: str, kind: dict[str, Any] | None = None, **request: Any) -> dict[str, str]:
    """The options that a provider gets for a file of this kind."""
    asked = Request(manifest(folder, **(kind or {})), **request)
    return session_settings([PROVIDERS[name]], asked, NOW).providers[0][1]


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_is_found_by_either_name_and_says_what_to_install(name: str):
    row = PROVIDERS[name]
    assert choose(name, [row.ort]) == choose(row.ort, [row.ort]) == (row,)
    with pytest.raises(PlanError, match=rf"{name}.*is not in onnxruntime 9.*none: pip install"):
        choose(name, [], "onnxruntime 9")


def test_auto_is_cuda_where_there_is_any_and_never_builds_an_engine():
    assert choose("auto", [TENSORRT, CUDA, CPU]) == (PROVIDERS["cuda"],)
    assert choose("auto", ["AzureExecutionProvider", CPU]) == (PROVIDERS["cpu"],)


def test_an_unknown_provider_lists_the_known_ones():
    with pytest.raises(PlanError, match=r"unknown provider 'tensort': did you mean 'tensorrt'"):
        choose("tensort", [CPU])
    with pytest.raises(PlanError, match=r"providers must be 'auto' or one or more of .*, got none"):
        choose([], [CPU])
    with pytest.raises(PlanError, match="unknown provider None"):
        choose(None, [CPU])  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_threads_are_a_count(tmp_path: Path, threads: Any):
    with pytest.raises(PlanError, match=f"threads must be 1 or more, .* got {threads!r}"):
        session_settings([PROVIDERS["cpu"]], Request(manifest(tmp_path), threads=threads), NOW)


def test_a_device_is_an_index(tmp_path: Path, fake: FakeOnnxruntime):
    tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(PlanError, match="device_id must be the index of a GPU, such as 0, got 'gpu'"):
        OnnxSession(tmp_path / "tiny.onnx", "cuda", options={"device_id": "gpu"})


def test_cuda_computes_in_float32_and_not_in_tf32(tmp_path: Path):
    found = options(tmp_path, "cuda", device=1, cuda_graph=True)
    assert found["use_tf32"] == "0" and found["device_id"] == "1" and found["enable_cuda_graph"] == "1"
    assert options(tmp_path, "cuda")["enable_cuda_graph"] == "0"


def test_tensorrt_keeps_its_engines_and_takes_precision_from_the_file(tmp_path: Path):
    found = options(tmp_path, "tensorrt", {"batch": 1, "count": 3}, cache=tmp_path)
    assert found["trt_engine_cache_path"] == found["trt_timing_cache_path"] == str(tmp_path)
    assert found["trt_engine_cache_enable"] == found["trt_timing_cache_enable"] == "1"
    assert found["trt_fp16_enable"] == found["trt_int8_enable"] == "0"
    assert not [key for key in found if "profile" in key], "a static file needs no profiles"
    assert options(tmp_path, "tensorrt", {"dtype": "float16"})["trt_fp16_enable"] == "1"


def test_profiles_cover_every_input_of_a_dynamic_file(tmp_path: Path):
    found = options(tmp_path, "tensorrt", {"size": None}, profiles={"batch": (1, 2, 4), "size": (16, (32, 40), 64)})
    assert found["trt_profile_min_shapes"] == f"pixels:1x3x16x16,text_embeddings:1x{EMBED}"
    assert found["trt_profile_opt_shapes"] == f"pixels:2x3x32x40,text_embeddings:8x{EMBED}"
    assert found["trt_profile_max_shapes"] == f"pixels:4x3x64x64,text_embeddings:64x{EMBED}"
    rtx = options(tmp_path, "tensorrt-rtx", {"size": None, "count": 3, "batch": 1})
    assert rtx["nv_profile_opt_shapes"] == f"pixels:1x3x32x40,text_embeddings:3x{EMBED}"
    frames = options(tmp_path, "tensorrt", {"kind": "frames", "layout": "NHWC", "frame": (64, 80), "names": ("a", "b")})
    assert frames["trt_profile_max_shapes"] == "frames:8x64x80x3"


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"bach": (1, 1, 1)}, "unknown profile 'bach'.*'batch'"),
        ({"texts": (1, 2, 3)}, "because texts is fixed in the file"),
        ({"batch": (1, 2)}, "three values"),
        ({"batch": 4}, "three values"),
        ({"batch": (2, 1, 4)}, "must not fall"),
        ({"batch": (0, 1, 4)}, "positive whole numbers"),
        ({"size": (30, 32, 64)}, r"multiples of the patch \(8, 8\)"),
    ],
)
def test_a_profile_that_makes_no_sense_is_reported(tmp_path: Path, profile: dict[str, Any], message: str):
    with pytest.raises(PlanError, match=message):
        ranges(manifest(tmp_path, size=None, count=3), profile)


def test_options_of_the_caller_win_and_none_removes(tmp_path: Path):
    asked = Request(manifest(tmp_path))
    found = session_settings([PROVIDERS["cuda"]], asked, NOW, override={"use_tf32": 1, "cudnn_conv_algo_search": None})
    assert found.providers[0][1]["use_tf32"] == "1" and "cudnn_conv_algo_search" not in found.providers[0][1]
    with pytest.raises(PlanError, match="for provider 'cpu', got use_tf32"):
        session_settings([PROVIDERS["cpu"]], asked, NOW, override={"use_tf32": 1})


def test_threads_that_wait_sleep_unless_the_session_is_asked_to_spin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked, key = Request(manifest(tmp_path)), "session.intra_op.allow_spinning"
    assert session_settings([PROVIDERS["cpu"]], asked, NOW).config[key] == "0"
    assert session_settings([PROVIDERS["cpu"]], asked, NOW, override={key: 1}).config[key] == "1"
    assert key not in session_settings([PROVIDERS["cuda"]], asked, NOW, override={key: None}).config
    assert key not in session_settings([PROVIDERS["cuda"]], asked, NOW, override={key: None}).providers[0][1]


def test_sums_of_products_of_8_bits_are_exact_on_every_processor(tmp_path: Path):
    asked, key = Request(manifest(tmp_path)), "session.x64quantprecision"
    assert all(session_settings([row], asked, NOW).config[key] == "1" for row in PROVIDERS.values())
    assert key not in session_settings([PROVIDERS["cpu"]], asked, NOW, override={key: None}).config


def test_openvino_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(FastlocError, match=r"provider 'openvino' needs OpenVINO, which is not installed: .*fastloc\[openvino\]'"):
        OnnxLocalizer(providers="openvino")


def test_cuda_stands_behind_tensorrt_only_where_falling_back_is_allowed(tmp_path: Path):
    asked = Request(manifest(tmp_path))
    assert [name for name, _ in session_settings([PROVIDERS["tensorrt"]], asked, NOW).providers] == [TENSORRT]
    allowed = session_settings([PROVIDERS["tensorrt"]], asked, NOW, allow_fallback=True)
    assert [name for name, _ in allowed.providers] == [TENSORRT, CUDA]


def test_an_onnxruntime_that_does_not_report_where_nodes_run_is_asked_to_refuse(tmp_path: Path):
    asked, key = Request(manifest(tmp_path)), "session.disable_cpu_ep_fallback"
    old = session_settings([PROVIDERS["cuda"]], asked, (1, 20))
    assert old.config[key] == "1" and not old.recorded
    assert key not in session_settings([PROVIDERS["cuda"]], asked, NOW).config
    # onnxruntime calls it a contradiction there
    assert key not in session_settings([PROVIDERS["cpu"]], asked, (1, 20)).config


def test_a_cuda_graph_needs_cuda(tmp_path: Path):
    with pytest.raises(PlanError, match="provider must be cuda, tensorrt for cuda_graph, got 'cpu'"):
        session_settings([PROVIDERS["cpu"]], Request(manifest(tmp_path), cuda_graph=True), NOW)


def test_shapes_may_stay_on_the_cpu_and_work_may_not():
    placed = ((CUDA, "Conv"), (CPU, "Shape"), (CPU, "Gather"), (CPU, "Softmax"), (TENSORRT, "Add"))
    nodes = [Node(provider, kind, "") for provider, kind in placed]
    found = Placement(tuple(nodes))
    assert found.misplaced({CUDA}) == (nodes[3], nodes[4])
    assert found.misplaced({CUDA}, PROVIDERS["coreml"].host) == (nodes[2], nodes[3], nodes[4])
    assert found.misplaced({CUDA, CPU, TENSORRT}) == ()
    assert found.rows[0].count == 1 and "Softmax" in str(found)


def test_an_error_names_the_first_misplaced_nodes_and_counts_the_others():
    text = listed([Node(CPU, "Softmax", f"block {i}") for i in range(SHOWN + 3)])
    assert text.startswith("Softmax 'block 0' on CPU, ") and text.endswith("and 3 more") and f"block {SHOWN}" not in text


def test_engines_of_another_device_version_or_file_are_kept_apart(tmp_path: Path):
    one = Gpu("NVIDIA H200", capability="9.0")
    found = engine_cache.folder(tmp_path, one, "10.14.1", "1.31.1", "c0ffee" * 10)
    assert found == tmp_path / "NVIDIA-H200-sm90" / "tensorrt10.14.1-onnxruntime1.31.1" / "c0ffeec0ffeec0ff"
    others = [
        engine_cache.folder(tmp_path, Gpu("NVIDIA H200", capability="10.0"), "10.14.1", "1.31.1", "c0ffee" * 10),
        engine_cache.folder(tmp_path, one, "10.15.0", "1.31.1", "c0ffee" * 10),
        engine_cache.folder(tmp_path, one, "10.14.1", "1.32.0", "c0ffee" * 10),
        engine_cache.folder(tmp_path, one, "10.14.1", "1.31.1", "facade" * 10),
    ]
    assert len({found, *others}) == 5


def test_the_cache_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache().name == "fastloc" and (sys.platform != "linux" or user_cache() == tmp_path / "fastloc")


def test_a_cache_folder_that_cannot_be_written_to_is_reported_before_a_build(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PlanError, match=r"cache folder .*engines cannot be written to .*cache='folder'"):
        engine_cache.prepared(tmp_path / "file" / "engines")
    assert list(engine_cache.prepared(tmp_path / "engines").iterdir()) == []


def test_engines_that_a_killed_process_was_writing_are_built_anew(tmp_path: Path):
    """They have their final names from the first byte on; those of a process that is still at work are left alone."""
    (tmp_path / "a.engine").write_text("whole")
    with engine_cache.building(tmp_path):
        (tmp_path / "b.engine").write_text("half")
        (mark,) = tmp_path.glob(".building.*.part")
        engine_cache.prepared(tmp_path)
        assert sorted(path.name for path in tmp_path.glob("*.engine")) == ["a.engine", "b.engine"]
    assert engine_cache.prepared(tmp_path) == tmp_path and len(list(tmp_path.iterdir())) == 2
    # as a process that is gone left it
    mark.touch()
    engine_cache.prepared(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with engine_cache.building(None):
        pass


def test_the_gpu_is_known_by_its_driver(monkeypatch: pytest.MonkeyPatch):
    def driver(name: str) -> Any:
        def device_name(buffer: Any, _: int, __: Any) -> int:
            buffer.value = b"NVIDIA H200"
            return 0

        def attribute(number: Any, which: int, _: Any) -> int:
            number._obj.value = {75: 9, 76: 0}[which]
            return 0

        return type("Driver", (), {
            "cuInit": staticmethod(lambda _: 0), "cuDeviceGet": staticmethod(lambda _, index: 0 if index == 0 else 101),
            "cuDeviceGetName": staticmethod(device_name), "cuDeviceGetAttribute": staticmethod(attribute),
        })  # fmt: skip

    monkeypatch.setattr(ctypes, "CDLL", driver)
    assert cuda_gpu() == Gpu("NVIDIA H200", capability="9.0")
    with pytest.raises(PlanError, match="no GPU 3 for this process"):
        cuda_gpu(3)


def test_a_machine_without_an_nvidia_driver_is_reported(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(PlanError, match="no NVIDIA driver"):
        cuda_gpu()


def test_a_heartbeat_says_how_long_and_how_far_and_is_silent_for_what_is_quick():
    output = io.StringIO()
    with waiting("building", patience=0, apart=0.01, stream=output):
        while output.getvalue().count("\n") < 2:
            pass
    lines = output.getvalue().splitlines()
    assert lines[0] == "building: 0 s" and lines[-1].startswith("building: done in")
    with waiting("building", patience=0, apart=0.01, stream=output) as say:
        say("layer 3/10")
        while "layer" not in output.getvalue():
            pass
    assert "building: layer 3/10, 0 s" in output.getvalue().splitlines()
    quick = io.StringIO()
    with waiting("building", patience=60, stream=quick):
        pass
    assert quick.getvalue() == ""


def test_a_missing_onnxruntime_names_both_extras(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(FastlocError, match=r"onnxruntime is not installed: pip install 'fastloc\[onnx-cpu\]', or 'fastloc\[onnx-gpu\]'"):
        providers.runtime()


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
