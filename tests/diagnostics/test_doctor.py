"""`fastloc doctor`: every finding on made-up facts, and the probing itself on this machine and on a stand-in for onnxruntime."""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from fastloc.cli import doctor
from fastloc.diagnostics import probes
from fastloc.diagnostics.doctor import CHECKS, GOOD, NOTE, PROBLEM, Line, diagnose, version
from fastloc.diagnostics.probes import ADD, Facts, Provider
from fastloc.utils import hardware
from fastloc.utils.hardware import Gpu

BASE = {"fastloc": "0.1.0", "numpy": "2.4.6", "pillow": "13.0.0", "scipy": "1.17.1", "cmap": "0.8.0", "rich": "15.0.0"}
EXTRAS = {"open_clip_torch": "3.3.0", "safetensors": "0.8.0", "onnx": "1.23.2", "onnxscript": "0.7.2", "tokenizers": "0.23.3"}
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
RTX = "NvTensorRTRTXExecutionProvider"
FULL = {**BASE, **EXTRAS, "torch": "2.15.0", "torchvision": "0.29.2"}
GPU = (Gpu("NVIDIA RTX 4090", "580.65", "8.9", 24564),)
# what the providers of onnxruntime-gpu 1.31.1 are linked to
LINKED = {
    TENSORRT: ("libcublas.so.13", "libnvinfer.so.10", "libnvonnxparser.so.10", "libcudart.so.13", "libcudnn.so.9"),
    CUDA: ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13", "libcuda.so.1"),
}
LOADS, FAILS = Provider(True), Provider(False, "libcublasLt.so.13: cannot open shared object file: No such file or directory")

ON_CPU = Facts(packages=FULL | {"onnxruntime": "1.31.1"}, torch_cuda="13.2", torch_required=">=2.14.0", ort_version="1.31.1",
               providers={CPU: LOADS}, cpu="A CPU, 2 threads")  # fmt: skip
ON_GPU = Facts(
    packages=FULL | {"onnxruntime-gpu": "1.31.1", "tensorrt-cu13": "10.14.1.48"}, gpus=GPU, driver_cuda=(13, 0), torch_cuda="13.2",
    torch_required=">=2.14.0", ort_version="1.31.1", ort_cuda="13.0", providers={TENSORRT: LOADS, CUDA: LOADS, CPU: LOADS}, linked=LINKED,
)  # fmt: skip


def changed(facts: Facts, *, without: tuple[str, ...] = (), packages: dict[str, str] | None = None, **fields: Any) -> Facts:
    """Facts with packages left out and added, and with other fields."""
    kept = {name: each for name, each in facts.packages.items() if name not in without}
    return replace(facts, packages=kept | (packages or {}), **fields)


NO_CUDA_FILES = dict.fromkeys(("libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10"), "cannot open")
NO_TENSORRT = dict.fromkeys(("libnvinfer.so.10", "libnvonnxparser.so.10"), "cannot open")
NO_CUDNN = {"libcudnn.so.9": "cannot open"}
CUDA_ALONE = {TENSORRT: FAILS, CUDA: LOADS, CPU: LOADS}
GPU_WITHOUT_TENSORRT = changed(ON_GPU, without=("tensorrt-cu13",), providers=CUDA_ALONE, missing=NO_TENSORRT)

# facts, and of what is found: the check, its severity, words of it and of what to do
CASES: dict[str, tuple[Facts, str, str, str, str]] = {
    "old Python": (changed(ON_CPU, python=(3, 10, 4)), "Python", PROBLEM, "Python 3.10.4", "3.11 or newer"),
    "no numpy": (changed(ON_CPU, without=("numpy", "rich")), "base packages", PROBLEM, "numpy, rich", "pip install numpy rich"),
    "nothing to run with": (
        changed(ON_CPU, without=("torch", "onnxruntime"), ort_version="", providers={}),
        "a runtime",
        PROBLEM,
        "neither",
        "fastloc[onnx-cpu]",
    ),
    "both onnxruntimes, no GPU": (
        changed(ON_CPU, packages={"onnxruntime-gpu": "1.31.1"}),
        "onnxruntime packages",
        PROBLEM,
        "same folder",
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime",
    ),
    "both onnxruntimes, a GPU": (
        changed(ON_GPU, packages={"onnxruntime": "1.31.1"}),
        "onnxruntime packages",
        PROBLEM,
        "same folder",
        "pip install onnxruntime-gpu",
    ),
    "onnxruntime does not load": (
        changed(ON_CPU, ort_version="", ort_error="ImportError: no libgomp", providers={}),
        "onnxruntime loads",
        PROBLEM,
        "no libgomp",
        "--force-reinstall onnxruntime",
    ),
    "another folder than installed": (
        changed(ON_CPU, ort_version="1.30.0"),
        "onnxruntime version",
        PROBLEM,
        "holds onnxruntime 1.30.0",
        "--force-reinstall",
    ),
    "old onnxruntime": (
        changed(ON_CPU, packages={"onnxruntime": "1.16.3"}, ort_version="1.16.3"),
        "onnxruntime version",
        PROBLEM,
        "older",
        "pip install -U onnxruntime",
    ),
    "Attention on the CPU": (
        changed(ON_GPU, packages={"onnxruntime-gpu": "1.24.4"}, ort_version="1.24.4"),
        "onnxruntime version",
        NOTE,
        "Attention on the CPU",
        "--spelling ort",
    ),
    "no driver": (changed(ON_GPU, gpus=(), driver_cuda=None), "GPU", PROBLEM, "no NVIDIA driver", "--gpus all"),
    "old driver, onnxruntime": (
        changed(ON_GPU, driver_cuda=(12, 4)),
        "driver and CUDA",
        PROBLEM,
        "onnxruntime is built for CUDA 13.0, and the driver runs CUDA up to 12.4",
        "branch 580",
    ),
    "old driver, torch": (
        changed(ON_CPU, gpus=GPU, driver_cuda=(12, 4)),
        "driver and CUDA",
        PROBLEM,
        "torch is built for CUDA 13.2",
        "a torch built for CUDA 12",
    ),
    "GPU, onnxruntime for the CPU": (
        changed(ON_CPU, gpus=GPU, driver_cuda=(13, 0)),
        "GPU in use",
        NOTE,
        "no provider for the GPU",
        "pip uninstall -y onnxruntime && pip install onnxruntime-gpu",
    ),
    "GPU, torch for the CPU": (changed(ON_GPU, torch_cuda=None), "GPU in use", NOTE, "CPU build", "pytorch.org"),
    "CUDA libraries missing": (
        changed(ON_GPU, providers={CUDA: FAILS, CPU: LOADS}, missing=NO_CUDA_FILES),
        "provider",
        PROBLEM,
        "CUDA does not load, and work asked of it would go to the CPU: not found: libcublasLt.so.13, libcublas.so.13",
        'pip install "onnxruntime-gpu[cuda,cudnn]"',
    ),
    "driver's library missing": (
        changed(ON_GPU, providers={CUDA: FAILS}, missing={"libcuda.so.1": "cannot open"}),
        "provider",
        PROBLEM,
        "not found: libcuda.so.1",
        "NVIDIA driver",
    ),
    "for another reason": (
        changed(ON_GPU, providers={CUDA: Provider(False, "CUDA failure 35: driver too old")}),
        "provider",
        PROBLEM,
        "CUDA failure 35",
        "onnxruntime.ai",
    ),
    "a plugin without a driver": (
        changed(ON_CPU, providers={RTX: Provider(False, "libcuda.so.1: cannot open shared object file: No such file or directory")}),
        "provider",
        PROBLEM,
        "NvTensorRTRTX does not load, and work asked of it would go to the CPU: not found: libcuda.so.1",
        "install the NVIDIA driver",
    ),
    "TensorRT not installed": (
        GPU_WITHOUT_TENSORRT,
        "provider",
        NOTE,
        "Tensorrt does not load, and is not needed",
        'pip install "tensorrt-cu13>=10.14,<11"',
    ),
    "TensorRT 11": (
        changed(GPU_WITHOUT_TENSORRT, packages={"tensorrt": "11.3.0.8", "tensorrt-cu13": "11.3.0.8"}),
        "TensorRT version",
        PROBLEM,
        "tensorrt 11.3.0.8, tensorrt-cu13 11.3.0.8, and onnxruntime's TensorRT provider is linked to libnvinfer.so.10",
        'pip uninstall -y tensorrt tensorrt-cu13 && pip install "tensorrt-cu13>=10.14,<11"',
    ),
    "TensorRT 11, the provider": (
        changed(GPU_WITHOUT_TENSORRT, packages={"tensorrt": "11.3.0.8"}),
        "provider",
        PROBLEM,
        "libnvinfer.so.10",
        "tensorrt-cu13>=10.14,<11",
    ),
    "TensorRT out of the loader's sight": (
        changed(ON_GPU, providers=CUDA_ALONE, missing=NO_TENSORRT),
        "provider",
        PROBLEM,
        "Tensorrt does not load",
        "export LD_LIBRARY_PATH",
    ),
    "TensorRT before Attention": (
        changed(ON_GPU, packages={"tensorrt-cu13": "10.9.0"}),
        "TensorRT version",
        NOTE,
        "refuses the op Attention",
        "--spelling decomposed",
    ),
    "an onnxruntime of tomorrow": (
        changed(ON_GPU, ort_cuda="14.1", linked={TENSORRT: ("libnvinfer.so.11",)}),
        "TensorRT version",
        PROBLEM,
        "libnvinfer.so.11",
        '"tensorrt-cu14>=11,<12"',
    ),
    "no cuDNN": (
        changed(ON_GPU, providers=CUDA_ALONE, missing=NO_CUDNN),
        "cuDNN",
        PROBLEM,
        "libcudnn.so.9",
        'pip install "onnxruntime-gpu[cudnn]"',
    ),
    "RTX plugin and onnxruntime-gpu": (
        changed(ON_GPU, packages={"onnxruntime-ep-nv-tensorrt-rtx": "0.2"}),
        "TensorRT-RTX plugin",
        PROBLEM,
        "not with onnxruntime-gpu",
        "pip uninstall -y onnxruntime-gpu",
    ),
    "RTX plugin, old onnxruntime": (
        changed(ON_CPU, packages={"onnxruntime-ep-nv-tensorrt-rtx": "0.2", "onnxruntime": "1.23.0"}, ort_version="1.23.0"),
        "TensorRT-RTX plugin",
        PROBLEM,
        "1.24 or newer",
        "pip install -U",
    ),
    "torch for the CPU, torchvision not": (
        changed(ON_CPU, packages={"torch": "2.15.0+cpu"}, torch_cuda=None),
        "torch and torchvision",
        PROBLEM,
        "torchvision::nms",
        "--force-reinstall torch torchvision",
    ),
    "torchvision of another torch": (
        changed(ON_CPU, torch_required="==2.14.1"),
        "torch and torchvision",
        PROBLEM,
        "must be ==2.14.1 for torchvision",
        "--force-reinstall",
    ),
    "torchvision of a newer torch": (
        changed(ON_CPU, torch_required=">=2.16"),
        "torch and torchvision",
        PROBLEM,
        "must be >=2.16 for torchvision",
        "one index",
    ),
    "two CUDAs": (changed(ON_GPU, torch_cuda="12.8"), "CUDA of both", NOTE, "torch is built for CUDA 12.8", "different processes"),
    "no export": (changed(ON_CPU, without=("onnx",)), "extras", NOTE, "not installed: onnx", "fastloc[export]"),
}


def found(facts: Facts, severity: str) -> list[str]:
    return [f"{line.check.name}: {line.finding.found}" for line in diagnose(facts) if line.finding.severity == severity]


@pytest.mark.parametrize("facts", [ON_CPU, ON_GPU], ids=["CPU", "GPU"])
def test_a_sound_installation_has_no_findings(facts: Facts) -> None:
    assert not found(facts, PROBLEM) and not found(facts, NOTE)
    assert len(found(facts, GOOD)) >= 6


@pytest.mark.parametrize("case", CASES)
def test_each_finding(case: str) -> None:
    facts, check, severity, words, remedy = CASES[case]
    lines = [line for line in diagnose(facts) if (line.check.name, line.finding.severity) == (check, severity)]
    assert any(words in line.finding.found and remedy in line.finding.remedy for line in lines), [line.finding for line in diagnose(facts)]


def test_every_check_has_a_case() -> None:
    assert {check.name for check in CHECKS} == {case[1] for case in CASES.values()}


def test_whatever_is_wrong_has_a_remedy_in_one_line() -> None:
    lines: list[Line] = [line for case in CASES.values() for line in diagnose(case[0])]
    for line in lines:
        assert bool(line.finding.remedy) == (line.finding.severity != GOOD), line
        assert "\n" not in line.finding.found + line.finding.remedy


def test_a_tensorrt_for_rtx_is_not_tensorrt() -> None:
    facts = changed(GPU_WITHOUT_TENSORRT, packages={"tensorrt-rtx": "1.7.1", "tensorrt-rtx-cu13": "1.7.1"})
    assert not found(facts, PROBLEM)


def test_a_plugin_s_provider_uses_the_gpu() -> None:
    facts = changed(ON_CPU, gpus=GPU, driver_cuda=(13, 0), packages={"onnxruntime-ep-nv-tensorrt-rtx": "0.2"})
    assert not found(facts, NOTE) and not found(facts, PROBLEM)


@pytest.mark.parametrize(("text", "numbers"), [("1.31.1", (1, 31, 1)), ("2.15.0+cu132", (2, 15, 0)), ("2.1.0rc1", (2, 1, 0)), ("", ())])
def test_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert version(text) == numbers


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


def test_this_machine() -> None:
    facts = probes.probe()
    assert facts.python == sys.version_info[:3] and facts.packages["numpy"] and facts.cpu
    assert facts.providers[CPU] == LOADS and facts.ort_version == facts.packages[facts.flavours[0]]


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


def command(*arguments: str) -> int:
    """The exit status of the command line."""
    parser = argparse.ArgumentParser()
    doctor.add(parser)
    return doctor.run(parser.parse_args(list(arguments)))


@pytest.mark.parametrize(("facts", "status"), [(ON_CPU, 0), (GPU_WITHOUT_TENSORRT, 0), (CASES["both onnxruntimes, a GPU"][0], 1)])
def test_the_exit_status_reports_problems(
    facts: Facts, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probes, "probe", lambda: facts)
    assert command() == status
    out = " ".join(capsys.readouterr().out.split())
    for line in diagnose(facts):
        assert line.finding.found in out and line.finding.remedy in out
    assert command("--json") == status
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == len(found(facts, PROBLEM)) and report["facts"]["packages"] == dict(facts.packages)
    assert [row["found"] for row in report["findings"]] == [line.finding.found for line in diagnose(facts)]


def test_it_imports_neither_torch_nor_onnxruntime() -> None:
    code = (
        "import sys; from fastloc.diagnostics.probes import probe; from fastloc.diagnostics.doctor import diagnose; diagnose(probe());"
        "print(*[name for name in ('torch', 'onnxruntime', 'onnx', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and not done.stdout.split(), done.stdout + done.stderr
