"""`fastloc doctor`: every finding on made-up facts, and the command on this machine."""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from fastloc.cli import doctor
from fastloc.diagnostics import probes
from fastloc.diagnostics.doctor import CHECKS, GOOD, NOTE, PROBLEM, Line, diagnose, version
from fastloc.diagnostics.probes import Facts, Provider
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
    "OpenVINO": (
        changed(ON_CPU, packages={"openvino": "2026.4.1"}, openvino=("BF16", "FP32")), "OpenVINO", GOOD, "computes in BF16, FP32 here", "",
    ),
    "OpenVINO does not load": (
        changed(ON_CPU, packages={"openvino": "2026.4.1"}, openvino_error="ImportError: no libtbb"),
        "OpenVINO",
        PROBLEM,
        "no libtbb",
        "--force-reinstall openvino",
    ),
    "a measured choice": (changed(ON_CPU, choices=("gem: cpu, 2 threads",)), "fastest ways", GOOD, "gem: cpu, 2 threads", ""),
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


def test_this_machine() -> None:
    facts = probes.probe()
    assert facts.python == sys.version_info[:3] and facts.packages["numpy"] and facts.cpu
    assert facts.providers[CPU] == LOADS and facts.ort_version == facts.packages[facts.flavours[0]]


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
