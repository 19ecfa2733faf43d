"""Checks of this installation: a table over `Facts`, each check with its finding and the remedy.

Most faults of a deployment are silent: a provider that does not load leaves the work to the CPU, two packages write one folder, a plain
`pip install tensorrt` brings a version that onnxruntime is not linked to.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from fastloc.diagnostics.probes import Facts

__all__ = ["CHECKS", "GOOD", "NOTE", "PROBLEM", "Check", "Finding", "Line", "diagnose"]

GOOD, NOTE, PROBLEM = "good", "note", "problem"
OLDEST_PYTHON, OLDEST_ORT = (3, 11), (1, 20)
# the first onnxruntime whose CUDA provider, and the first TensorRT whose parser, have the op ai.onnx Attention
ATTENTION_ORT, ATTENTION_TENSORRT = (1, 25), (10, 14)
# providers that come with onnxruntime-gpu but are optional
OPTIONAL = ("TensorrtExecutionProvider",)
# the first NVIDIA driver for a CUDA major version
DRIVERS = {13: "580", 12: "525"}

# the package that brings a missing library; the first matching pattern counts
_LIBRARIES: tuple[tuple[str, str], ...] = (
    (r"libcuda\.", "install the NVIDIA driver; in a container, start it with --gpus all"),
    (r"libnvinfer|libnvonnxparser", "pip install {tensorrt}"),
    (r"libcudnn", 'pip install "onnxruntime-gpu[cuda,cudnn]"'),
    # the extra "cuda" leaves out cuBLAS, which comes with "cudnn"
    (r"libcu|libnv", 'pip install "onnxruntime-gpu[cuda,cudnn]"'),
)


@dataclass(frozen=True)
class Finding:
    """The result of a check. `severity` is GOOD, NOTE (works, but not at its best) or PROBLEM; `remedy` is "" if there is nothing to do."""

    severity: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """One check of the installation. `probe` describes the look-up; `judge` returns zero, one or several findings from the facts."""

    name: str
    probe: str
    judge: Callable[[Facts], list[Finding]]


@dataclass(frozen=True)
class Line:
    """A finding, and the check that found it."""

    check: Check
    finding: Finding


def diagnose(facts: Facts) -> list[Line]:
    """Every finding, in the table's order. A pure function."""
    return [Line(check, finding) for check in CHECKS for finding in check.judge(facts)]


def version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: "1.31.1" and "2.15.0+cu132" as (1, 31, 1) and (2, 15, 0)."""
    return tuple(int(each) for each in re.findall(r"\d+", re.split(r"[^\d.]", text, maxsplit=1)[0]))


def _python(facts: Facts) -> list[Finding]:
    shown = f"Python {'.'.join(map(str, facts.python))}, {facts.system} {facts.machine}"
    if facts.python < OLDEST_PYTHON:
        return [Finding(PROBLEM, shown, "fastloc and onnxruntime need Python 3.11 or newer: make an environment with one")]
    return [Finding(GOOD, shown)]


def _base(facts: Facts) -> list[Finding]:
    missing = [name for name in ("numpy", "pillow", "scipy", "cmap", "rich") if name not in facts.packages]
    if missing:
        return [Finding(PROBLEM, f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")]
    return [Finding(GOOD, f"numpy {facts.packages['numpy']}, Pillow {facts.packages['pillow']}")]


def _runtime(facts: Facts) -> list[Finding]:
    here = [name for name in ("torch", *facts.flavours) if name in facts.packages]
    if here or facts.ort_version:
        return [Finding(GOOD, ", ".join(f"{name} {facts.packages[name]}" for name in here) or f"onnxruntime {facts.ort_version}")]
    remedy = 'pip install "fastloc[engine]" for models by name, or "fastloc[onnx-cpu]" or "fastloc[onnx-gpu]" for exported files'
    return [Finding(PROBLEM, "neither torch nor onnxruntime is installed: nothing can run a model", remedy)]


def _flavours(facts: Facts) -> list[Finding]:
    if len(facts.flavours) < 2:
        return []
    names = [f"{name} {facts.packages[name]}" for name in facts.flavours]
    one = "onnxruntime-gpu" if "onnxruntime-gpu" in facts.flavours and facts.gpus else facts.flavours[0]
    return [
        Finding(
            PROBLEM,
            f"{' and '.join(names)} are both installed; they write the same folder, and the last one installed is what runs",
            f"pip uninstall -y {' '.join(facts.flavours)} && pip install {one}",
        )
    ]


def _import(facts: Facts) -> list[Finding]:
    if facts.ort_version or not (facts.flavours or facts.ort_error):
        return []
    names = " ".join(facts.flavours) or "onnxruntime"
    return [Finding(PROBLEM, f"onnxruntime cannot be imported: {facts.ort_error}", f"pip install --force-reinstall {names}")]


def _ort_version(facts: Facts) -> list[Finding]:
    if not facts.ort_version:
        return []
    known = [facts.packages[name] for name in facts.flavours]
    if known and facts.ort_version not in known:
        found = f"the folder holds onnxruntime {facts.ort_version}, and what is installed is {', '.join(known)}"
        return [Finding(PROBLEM, found, f"pip install --force-reinstall {' '.join(facts.flavours)}")]
    if version(facts.ort_version) < OLDEST_ORT:
        return [Finding(PROBLEM, f"onnxruntime {facts.ort_version} is older than 1.20", f"pip install -U {' '.join(facts.flavours)}")]
    if facts.ort_cuda and version(facts.ort_version) < ATTENTION_ORT:
        found = f"onnxruntime {facts.ort_version} runs the op Attention on the CPU, whatever the provider"
        return [Finding(NOTE, found, "pip install -U onnxruntime-gpu, or export with --spelling ort")]
    built = f", built for CUDA {facts.ort_cuda}" if facts.ort_cuda else ""
    return [Finding(GOOD, f"onnxruntime {facts.ort_version}{built}")]


def _gpu(facts: Facts) -> list[Finding]:
    if facts.gpus:
        knows = f"; it runs CUDA up to {_dotted(facts.driver_cuda)}" if facts.driver_cuda else ""
        return [Finding(GOOD, ", ".join(f"{each.name}, driver {each.driver or '?'}" for each in facts.gpus) + knows)]
    if facts.ort_cuda or "onnxruntime-gpu" in facts.packages:
        found = "onnxruntime-gpu is installed, and there is no NVIDIA driver or GPU: everything would run on the CPU"
        remedy = (
            "install the NVIDIA driver (a container: --gpus all); or, without a GPU: "
            "pip uninstall -y onnxruntime-gpu && pip install onnxruntime"
        )
        return [Finding(PROBLEM, found, remedy)]
    return [Finding(GOOD, f"{facts.cpu or 'CPU'}; no NVIDIA GPU")]


def _driver(facts: Facts) -> list[Finding]:
    """The packages built for a newer CUDA than the driver can run."""
    if not facts.driver_cuda:
        return []
    built = {"onnxruntime": facts.ort_cuda, "torch": facts.torch_cuda or ""}
    found = []
    for name, cuda in built.items():
        # within a major version an older driver will do
        if cuda and version(cuda)[0] > facts.driver_cuda[0]:
            driver = DRIVERS.get(version(cuda)[0])
            newer = f"a driver of branch {driver} or newer" if driver else "a newer driver"
            words = f"{name} is built for CUDA {cuda}, and the driver runs CUDA up to {_dotted(facts.driver_cuda)}"
            found.append(Finding(PROBLEM, words, f"install {newer}, or a {name} built for CUDA {facts.driver_cuda[0]}"))
    return found


def _unused(facts: Facts) -> list[Finding]:
    """A GPU that no installed package uses."""
    found = []
    if facts.gpus and facts.ort_version and not facts.ort_cuda and not _other_gpu_providers(facts):
        remedy = f"pip uninstall -y {' '.join(facts.flavours) or 'onnxruntime'} && pip install onnxruntime-gpu"
        found.append(Finding(NOTE, "this onnxruntime has no provider for the GPU", remedy))
    if facts.gpus and "torch" in facts.packages and not facts.torch_cuda:
        found.append(Finding(NOTE, "this torch is a CPU build", "install a CUDA build: https://pytorch.org/get-started/locally"))
    return found


def _other_gpu_providers(facts: Facts) -> bool:
    plugin = "onnxruntime-ep-nv-tensorrt-rtx" in facts.packages
    return plugin or any(name not in ("CPUExecutionProvider",) and each.loads for name, each in facts.providers.items())


def _providers(facts: Facts) -> list[Finding]:
    return [_provider(facts, name) for name in facts.providers]


def _provider(facts: Facts, name: str) -> Finding:
    provider = facts.providers[name]
    short = name.removesuffix("ExecutionProvider")
    if provider.loads:
        return Finding(GOOD, f"{short} loads")
    needed = name not in OPTIONAL or bool(_tensorrts(facts))
    missing = [each for each in facts.linked.get(name, ()) if each in facts.missing]
    # a plugin's library cannot be inspected, but its error names the first missing library
    missing = missing or re.findall(r"^(lib\S+\.so[.\d]*): cannot open", provider.error)
    why = f"not found: {', '.join(missing)}" if missing else provider.error or "no reason given"
    remedy = "; ".join(dict.fromkeys(_remedy(facts, each) for each in missing)) or "see onnxruntime.ai/docs/execution-providers"
    if not needed:
        return Finding(NOTE, f"{short} does not load, and is not needed: {why}", f"to use it: {remedy}")
    return Finding(PROBLEM, f"{short} does not load, and work asked of it would go to the CPU: {why}", remedy)


def _remedy(facts: Facts, library: str) -> str:
    if "libnv" in library and any(version(each)[0] == _linked_tensorrt(facts) for each in _tensorrts(facts).values()):
        # the package puts them into a folder of its own, which the loader does not know
        return "export LD_LIBRARY_PATH=$(python -c 'import tensorrt_libs; print(tensorrt_libs.__path__[0])')"
    for pattern, remedy in _LIBRARIES:
        if re.search(pattern, library):
            return remedy.format(tensorrt=_tensorrt_pin(facts))
    return f"find {library}"


def _linked_tensorrt(facts: Facts) -> int | None:
    """The major version of TensorRT that onnxruntime's provider is linked to."""
    for library in facts.linked.get("TensorrtExecutionProvider", ()):
        if found := re.fullmatch(r"libnvinfer\.so\.(\d+)", library):
            return int(found.group(1))
    return None


def _tensorrts(facts: Facts) -> dict[str, str]:
    """The packages of TensorRT that are installed; TensorRT-RTX is another."""
    return {name: facts.packages[name] for name in ("tensorrt", "tensorrt-cu13", "tensorrt-cu12") if name in facts.packages}


def _tensorrt_pin(facts: Facts) -> str:
    major = _linked_tensorrt(facts) or 10
    oldest = _dotted(ATTENTION_TENSORRT) if major == ATTENTION_TENSORRT[0] else str(major)
    cuda = version(facts.ort_cuda)[0] if facts.ort_cuda else 13
    return f'"tensorrt-cu{cuda}>={oldest},<{major + 1}"'


def _tensorrt(facts: Facts) -> list[Finding]:
    here = _tensorrts(facts)
    linked = _linked_tensorrt(facts)
    if not here:
        return []
    shown = ", ".join(f"{name} {each}" for name, each in here.items())
    if linked and all(version(each)[0] != linked for each in here.values()):
        found = f"{shown}, and onnxruntime's TensorRT provider is linked to libnvinfer.so.{linked}: it cannot load"
        return [Finding(PROBLEM, found, f"pip uninstall -y {' '.join(here)} && pip install {_tensorrt_pin(facts)}")]
    if all(version(each) < ATTENTION_TENSORRT for each in here.values()):
        return [
            Finding(NOTE, f"{shown} refuses the op Attention", f"pip install {_tensorrt_pin(facts)}, or export with --spelling decomposed")
        ]
    return [Finding(GOOD, shown)]


def _cudnn(facts: Facts) -> list[Finding]:
    """cuDNN alone: CUDA's provider works without it, TensorRT's is linked to it."""
    linked = [name for name in facts.linked.get("TensorrtExecutionProvider", ()) if "cudnn" in name]
    if not linked or not _tensorrts(facts):
        return []
    if linked[0] not in facts.missing:
        return [Finding(GOOD, f"{linked[0]} is there")]
    return [
        Finding(PROBLEM, f"onnxruntime's TensorRT provider needs {linked[0]}, which is missing", 'pip install "onnxruntime-gpu[cudnn]"')
    ]


def _rtx(facts: Facts) -> list[Finding]:
    plugin = facts.packages.get("onnxruntime-ep-nv-tensorrt-rtx")
    if plugin is None:
        return []
    if "onnxruntime-gpu" in facts.packages:
        remedy = "pip uninstall -y onnxruntime-gpu && pip install --force-reinstall onnxruntime"
        return [Finding(PROBLEM, f"the TensorRT-RTX plugin {plugin} works with onnxruntime, not with onnxruntime-gpu", remedy)]
    if facts.ort_version and version(facts.ort_version) < (1, 24):
        return [Finding(PROBLEM, f"the TensorRT-RTX plugin {plugin} needs onnxruntime 1.24 or newer", "pip install -U onnxruntime")]
    return [Finding(GOOD, f"onnxruntime-ep-nv-tensorrt-rtx {plugin}")]


def _torchvision(facts: Facts) -> list[Finding]:
    torch, vision = facts.packages.get("torch"), facts.packages.get("torchvision")
    if torch is None or vision is None:
        return []
    remedy = "install both at once from one index: pip install --force-reinstall torch torchvision [--index-url …/whl/cpu]"
    if ("+cpu" in torch) != ("+cpu" in vision):
        found = f"torch {torch} and torchvision {vision} are of different builds: importing open_clip fails at torchvision::nms"
        return [Finding(PROBLEM, found, remedy)]
    if facts.torch_required and not _satisfies(version(torch), facts.torch_required):
        return [Finding(PROBLEM, f"torch must be {facts.torch_required} for torchvision {vision}, got {torch}", remedy)]
    return [Finding(GOOD, f"torch {torch}, torchvision {vision}")]


def _satisfies(installed: tuple[int, ...], required: str) -> bool:
    limit = version(required[2:].strip())
    return installed == limit if required.startswith("==") else installed >= limit


def _two_cudas(facts: Facts) -> list[Finding]:
    if not (facts.torch_cuda and facts.ort_cuda and facts.gpus) or version(facts.torch_cuda)[0] == version(facts.ort_cuda)[0]:
        return []
    found = (
        f"torch is built for CUDA {facts.torch_cuda} and onnxruntime for CUDA {facts.ort_cuda}: in one process, the first one loaded wins"
    )
    return [Finding(NOTE, found, "use them in different processes, or builds for the same CUDA")]


def _extras(facts: Facts) -> list[Finding]:
    """The optional packages that only some commands need."""
    extras = (
        (("torch", "open_clip_torch", "safetensors"), 'models by name: pip install "fastloc[engine]"'),
        (("onnx", "onnxscript"), 'fastloc export: pip install "fastloc[export]"'),
        (("tokenizers",), "texts on an exported file without torch: pip install tokenizers"),
    )
    found = []
    for names, remedy in extras:
        missing = [name for name in names if name not in facts.packages]
        if missing:
            found.append(Finding(NOTE, f"not installed: {', '.join(missing)}", f"for {remedy}"))
    return found


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


CHECKS: tuple[Check, ...] = (
    Check("Python", "this interpreter", _python),
    Check("base packages", "package metadata", _base),
    Check("a runtime", "package metadata", _runtime),
    Check("onnxruntime packages", "package metadata: how many write the folder onnxruntime", _flavours),
    Check("onnxruntime loads", "imported in a process of its own", _import),
    Check("onnxruntime version", "its own word, against package metadata", _ort_version),
    Check("GPU", "nvidia-smi, or the driver's library", _gpu),
    Check("driver and CUDA", "cuDriverGetVersion, against what the packages were built for", _driver),
    Check("GPU in use", "providers and builds, against the GPUs there are", _unused),
    Check("provider", "a session with one Add, in a process of its own", _providers),
    Check("TensorRT version", "package metadata, against what the provider's library is linked to", _tensorrt),
    Check("cuDNN", "loaded, if the TensorRT provider is linked to it", _cudnn),
    Check("TensorRT-RTX plugin", "package metadata", _rtx),
    Check("torch and torchvision", "package metadata", _torchvision),
    Check("CUDA of both", "torch's version.py, against onnxruntime's own word", _two_cudas),
    Check("extras", "package metadata", _extras),
)
