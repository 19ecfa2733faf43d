"""The facts that the doctor asks of a machine: providers that load, libraries, GPUs."""

import sys
from pathlib import Path

import onnx
import pytest

from fastloc.diagnostics import probes
from fastloc.diagnostics.probes import ADD, Provider
from fastloc.utils import hardware
from fastloc.utils.hardware import Gpu

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
LOADS = Provider(True)


def test_the_file_with_one_add_is_valid() -> None:
    model = onnx.load_from_string(ADD)
    onnx.checker.check_model(model, full_check=True)
    (node,) = model.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("Add", ["x", "x"], ["y"])


LOGS = {
    "libcublasLt.so.13: cannot open shared object file: No such file or directory": [
        "\x1b[1;31m2026-11-21 15:32:50 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] /src/provider_bridge_ort.cc:2043 "
        "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /a/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot "
        "open shared object file: No such file or directory",
        "\x1b[m",
        "\x1b[0;93m[W:onnxruntime:Default] Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*.\x1b[m",
    ],
    'depends on "cublasLt64_13.dll" which is missing': [
        '[E:onnxruntime:Default] Error loading "C:\\providers_cuda.dll" which depends on "cublasLt64_13.dll" which is missing.'
    ],
    "CUDA failure 35: CUDA driver version is insufficient": [
        "Traceback (most recent call last):",
        "RuntimeError: cuda_call.cc:121 CUDA failure 35: CUDA driver version is insufficient",
    ],
    "ImportError: libgomp.so.1: cannot open": ["Traceback (most recent call last):", "ImportError: libgomp.so.1: cannot open", ""],
    "killed": ["", "killed"],
    "": [],
}


@pytest.mark.parametrize("expected", LOGS)
def test_the_line_of_a_log_that_says_why(expected: str) -> None:
    assert probes.telling(LOGS[expected]) == expected


STAND_IN = """
import sys
__version__, cuda_version = "1.31.1", "13.0"
def get_available_providers():
    return ["CUDAExecutionProvider", "OpenVINOExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"]
def register_execution_provider_library(name, path):
    raise RuntimeError(path + ": no such file")
def preload_dlls():
    print("Failed to load libcurand.so.10")
class InferenceSession:
    def __init__(self, model, providers):
        self.providers = providers
        if providers[0].startswith("OpenVINO"):
            import os
            os.abort()
        if providers[0].startswith("CUDA"):
            print("[E:onnxruntime] Failed to load library x.so with error: libcublas.so.13: cannot open", file=sys.stderr)
            self.providers = ["CPUExecutionProvider"]
    def get_providers(self):
        return self.providers
"""


def test_providers_that_do_not_load_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # a package that adds a provider to onnxruntime, whose library does not load
    (tmp_path / "onnxruntime_ep_webgpu.py").write_text("def get_ep_name(): return 'WebGPU'\ndef get_library_path(): return 'webgpu.so'")
    facts = probes.probe()
    assert facts.ort_version == "1.31.1" and facts.ort_cuda == "13.0" and not facts.ort_error
    assert facts.providers[CPU] == LOADS
    # it said nothing but in its log, and ran on the CPU
    assert facts.providers[CUDA] == Provider(False, "libcublas.so.13: cannot open")
    # a crash takes only its own process along
    crashed = facts.providers["OpenVINOExecutionProvider"]
    assert not crashed.loads and crashed.error
    plugin = facts.providers["WebGpuExecutionProvider"]
    assert not plugin.loads and "webgpu.so: no such file" in plugin.error
    assert "AzureExecutionProvider" not in facts.providers


def test_an_onnxruntime_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    facts = probes.probe()
    assert facts.ort_version == "" and facts.ort_error == "ImportError: libgomp.so.1: cannot open shared object file"


def test_a_library_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PATIENCE", 0.5)
    assert probes._ask("import time; time.sleep(60)") == ({}, "no answer within 0.5 seconds")


@pytest.mark.skipif(sys.platform != "linux", reason="ELF libraries are Linux's")
def test_linked_libraries_are_read_off_the_file(tmp_path: Path) -> None:
    import onnxruntime.capi.onnxruntime_pybind11_state as library

    path = Path(library.__file__)
    needed = hardware.linked_libraries(path)
    assert "libc.so.6" in needed and all(".so" in name for name in needed)
    (tmp_path / "short.so").write_bytes(path.read_bytes()[:100])
    (tmp_path / "text.so").write_text("no library at all")
    assert not any(hardware.linked_libraries(tmp_path / name) for name in ("short.so", "text.so", "missing.so"))


def test_gpus_by_nvidia_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    output = "NVIDIA GeForce RTX 4090, 580.65.06, 8.9, 24564\nOrin (nvgpu), N/A, 8.7, [N/A]\n"
    monkeypatch.setattr(hardware, "_output", lambda *command: output)
    assert hardware.gpus() == (Gpu("NVIDIA GeForce RTX 4090", "580.65.06", "8.9", 24564), Gpu("Orin (nvgpu)", "N/A", "8.7", 0))


def test_a_tool_that_is_missing_says_nothing() -> None:
    assert hardware._output("no-such-tool-anywhere") == "" == hardware._output(sys.executable, "-c", "raise SystemExit(1)")
    assert hardware.cpu().endswith("threads") and hardware.packages(("numpy", "no-such-package")).keys() == {"numpy"}
