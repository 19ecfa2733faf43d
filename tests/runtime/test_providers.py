"""The provider of a file and its settings; nothing runs anywhere else without a warning or an error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fake_onnxruntime import CPU, CUDA, TENSORRT
from fastloc import OnnxLocalizer
from fastloc.errors import FastlocError, PlanError
from fastloc.onnx_file.manifest import Manifest
from fastloc.runtime import providers
from fastloc.runtime.placement import SHOWN, Node, Placement, listed
from fastloc.runtime.providers import PROVIDERS, Request, choose, session_settings
from fastloc.runtime.shape_profiles import ranges
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


def test_a_missing_onnxruntime_names_both_extras(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(FastlocError, match=r"onnxruntime is not installed: pip install 'fastloc\[onnx-cpu\]', or 'fastloc\[onnx-gpu\]'"):
        providers.runtime()
