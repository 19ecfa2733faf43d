"""The facts behind `fastloc doctor`: packages, drivers, and the onnxruntime providers that really load.

onnxruntime lists every provider it was built with as available, and a session that cannot load the requested one runs on the CPU with a
line in the log. So each provider gets a session with one Add, in a process of its own: a library that crashes while it loads ends only
that process.
"""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastloc.runtime.choice import kept_choices
from fastloc.utils.hardware import Gpu, cpu, cuda_driver, gpus, linked_libraries, packages

__all__ = ["ADD", "FLAVOURS", "PACKAGES", "REMOTE", "Facts", "Provider", "probe"]

# packages that all write the folder `onnxruntime`
FLAVOURS = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-migraphx", "onnxruntime-rocm",
    "onnxruntime-qnn", "onnxruntime-silicon", "onnxruntime-training",
)  # fmt: skip
PACKAGES = (
    "fastloc", "numpy", "pillow", "scipy", "cmap", "rich", "torch", "torchvision", "open_clip_torch", "safetensors", "tokenizers",
    "openvino", "av", "starlette", "uvicorn", "websockets", "onnx", "onnxscript", *FLAVOURS, "onnxruntime-ep-nv-tensorrt-rtx", "tensorrt",
    "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13", "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13", "nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "nvidia-cublas", "nvidia-cublas-cu12",
)  # fmt: skip
# providers that send the work elsewhere: nothing to load here
REMOTE = ("AzureExecutionProvider",)
# seconds; TensorRT builds an engine even for one Add
PATIENCE = 180

# an ONNX file by hand: ir_version 8; a graph with y = Add(x, x), x and y float32 [1]; opset 13
ADD = (
    b"\x08\x08"
    b":5\n\x0e\n\x01x\n\x01x\x12\x01y\"\x03Add\x12\x01g"
    b"Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"B\x04\n\x00\x10\r"
)  # fmt: skip

# the child's last line of output is JSON after this mark; libraries may print anything before it
_MARK = "fastloc-doctor:"
_IMPORT = f"""
import base64, ctypes, json, sys
import onnxruntime as ort
# the child finds the package that asks
sys.path.append({str(Path(__file__).parents[2])!r})
from fastloc.runtime.providers import PROVIDERS, available, register
def tell(**found):
    sys.stdout.flush()
    print("{_MARK}" + json.dumps(found), flush=True)
def preload():
    # what a runtime with CUDA from pip does: those libraries are not where the loader looks
    if sys.argv[1] == "gpu" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
"""
# patterns to find in a log, the most informative first
_TELLING = (
    r"with error: (.+)",
    r'(depends on "[^"]+" which is missing)',
    r"(CUDA failure .+)",
    r"^([\w.]*(?:Error|Fail\w*|Exception)\b.*)",
)
_VERSION = f"""{_IMPORT}
cuda = getattr(ort, "cuda_version", "")
tell(version=ort.__version__, providers=available(ort), cuda=cuda, folder=list(ort.__path__)[0])
"""
_SESSION = f"""{_IMPORT}
preload()
name, model = sys.argv[2], base64.b64decode(sys.argv[3])
row = next((row for row in PROVIDERS.values() if row.ort == name), None)
devices = register(row, ort) if row else []
if devices:
    # a plugin's provider is not known by name
    options, name = ort.SessionOptions(), devices[0].ep_name
    options.add_provider_for_devices(devices[:1], {{}})
    session = ort.InferenceSession(model, options)
else:
    session = ort.InferenceSession(model, providers=[name])
tell(loaded=name in session.get_providers())
"""
_OPENVINO = f"""
import json, openvino
core = openvino.Core()
print("{_MARK}" + json.dumps({{"precisions": core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")}}), flush=True)
"""
_LIBRARIES = f"""{_IMPORT}
preload()
found = {{}}
for name in sys.argv[2:]:
    try:
        ctypes.CDLL(name)
        found[name] = ""
    except OSError as error:
        found[name] = str(error)
tell(**found)
"""


@dataclass(frozen=True)
class Provider:
    """The result of one provider's probe: True if a session really got it, else the error that was logged."""

    loads: bool
    error: str = ""


@dataclass(frozen=True)
class Facts:
    """The probed facts. Everything is plain data, so that conclusions can be tested with made-up facts.

    Attributes:
        packages: version by name, of those installed
        driver_cuda: the newest CUDA that the NVIDIA driver can run, or None without a driver
        torch_cuda: the CUDA that torch was built for, or None (also without torch)
        torch_required: the torch that torchvision requires, as in "==2.7.1" or ">=2.14.0"
        ort_version: the version that `import onnxruntime` reports; "" where it cannot be imported, with the reason in ort_error
        ort_cuda: the CUDA that onnxruntime was built for; "" for a CPU build
        providers: each provider of this onnxruntime
        linked: NVIDIA libraries that a provider's own library is linked to
        missing: those of `linked` that cannot be loaded, with the loader's message
        openvino: what OpenVINO computes in on this processor; empty where it is not installed or cannot be loaded, with openvino_error
        choices: the fastest ways to run files that were measured on this machine, each in words
    """

    python: tuple[int, int, int] = (3, 11, 0)
    system: str = "Linux"
    machine: str = "x86_64"
    cpu: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] = ()
    driver_cuda: tuple[int, int] | None = None
    torch_cuda: str | None = None
    torch_required: str | None = None
    ort_version: str = ""
    ort_error: str = ""
    ort_cuda: str = ""
    providers: Mapping[str, Provider] = field(default_factory=dict)
    linked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    openvino: tuple[str, ...] = ()
    openvino_error: str = ""
    choices: tuple[str, ...] = ()

    @property
    def flavours(self) -> list[str]:
        """The onnxruntime packages that are installed."""
        return [name for name in FLAVOURS if name in self.packages]


def probe() -> Facts:
    """Probe this machine and this Python. It takes some seconds for each provider and raises nothing."""
    installed = packages(PACKAGES)
    runtime = _onnxruntime() if any(name in installed for name in FLAVOURS) or importlib.util.find_spec("onnxruntime") else {}
    return Facts(
        python=sys.version_info[:3],
        system=platform.system(),
        machine=platform.machine(),
        cpu=cpu(),
        packages=installed,
        gpus=gpus(),
        driver_cuda=cuda_driver(),
        torch_cuda=_torch_cuda(),
        torch_required=_torch_required(),
        choices=tuple(f"{each.model}: {each}" for each in kept_choices()),
        **runtime,
        **(_openvino() if "openvino" in installed else {}),
    )


def _onnxruntime() -> dict[str, Any]:
    """The facts about onnxruntime, read in other processes."""
    found, error = _ask(_VERSION, "cpu")
    if not found:
        return {"ort_error": error}
    linked = {name: _linked(Path(found["folder"]), name) for name in found["providers"]}
    kind = "gpu" if found["cuda"] else "cpu"
    libraries_needed = sorted({library for each in linked.values() for library in each})
    libraries, _ = _ask(_LIBRARIES, kind, *libraries_needed) if libraries_needed else ({}, "")
    return {
        "ort_version": found["version"],
        "ort_cuda": found["cuda"] or "",
        "providers": {name: _provider(name, kind) for name in found["providers"] if name not in REMOTE},
        "linked": {name: each for name, each in linked.items() if each},
        "missing": {name: words for name, words in libraries.items() if words},
    }


def _openvino() -> dict[str, Any]:
    found, error = _ask(_OPENVINO)
    return {"openvino": tuple(found["precisions"])} if found else {"openvino_error": error}


def _provider(name: str, kind: str) -> Provider:
    found, error = _ask(_SESSION, kind, name, base64.b64encode(ADD).decode())
    return Provider(True) if found.get("loaded") else Provider(False, error)


def _ask(code: str, *arguments: str) -> tuple[dict[str, Any], str]:
    """The data that the code prints, and the most informative line of its standard error."""
    command = [sys.executable, "-P", "-c", code, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, errors="replace", encoding="utf-8")
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {PATIENCE} seconds"
    except OSError as error:
        return {}, str(error)
    answers = [line.removeprefix(_MARK) for line in done.stdout.splitlines() if line.startswith(_MARK)]
    reason = telling(done.stderr.splitlines() + done.stdout.splitlines())
    if not answers:
        # a negative status is a signal: it crashed
        return {}, reason or f"the process ended with status {done.returncode}"
    return json.loads(answers[-1]), reason


def telling(lines: Iterable[str]) -> str:
    """The line of a log with the reason: the text after "with error:" in onnxruntime's, the exception's line in a traceback."""
    plain = [re.sub(r"\x1b?\[[\d;]*m", "", line).strip() for line in lines if _MARK not in line]
    for pattern in _TELLING:
        for line in plain:
            if found := re.search(pattern, line):
                return found.group(1)[:300]
    return next((line[:300] for line in reversed(plain) if line), "")


def _linked(folder: Path, provider: str) -> tuple[str, ...]:
    """NVIDIA libraries that the provider's own library is linked to."""
    short = provider.removesuffix("ExecutionProvider").lower()
    needed = linked_libraries(folder / "capi" / f"libonnxruntime_providers_{short}.so")
    return tuple(name for name in needed if name.startswith(("libcu", "libnv")))


def _torch_cuda() -> str | None:
    """The CUDA that torch was built for, from its version.py: importing torch takes seconds and may fail."""
    spec = importlib.util.find_spec("torch")
    version = Path(spec.origin).parent / "version.py" if spec and spec.origin else None
    if version is None or not version.is_file():
        return None
    found = re.search(r"^cuda\b.*=\s*'([\d.]+)'", version.read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else None


def _torch_required() -> str | None:
    try:
        needed = importlib.metadata.requires("torchvision") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((found.group(1) for each in needed if (found := re.match(r"torch\s*\(?([=>]=\s*[\d.]+)", each))), None)
