"""Providers in which onnxruntime can run a file: one row for each, the choice among them, and the settings of a session."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from fastloc.errors import FastlocError, PlanError, unknown
from fastloc.onnx_file.manifest import Manifest
from fastloc.runtime.placement import CPU, HOST
from fastloc.runtime.shape_profiles import Profiles, shapes
from fastloc.utils.schema import first_line
from fastloc.utils.system.exhaustion import pass_on

__all__ = [
    "OPENVINO", "PROVIDERS", "SHARED", "Provider", "Request", "Settings", "available", "choose", "memory_of", "register", "runtime",
    "session_settings",
]  # fmt: skip

# entries of a session's configuration, in onnxruntime's words, begin so in `options`
ENTRY = "session."
# threads that wait for work sleep: those that spin take the cores from decoders, encoders and other processes, and gain little alone
SHARED = {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}
# from this version on onnxruntime reports each node's provider
RECORDS = (1, 24)
# shape arithmetic that is about shapes by its very type; a provider that lacks the others in floating point may leave work to the CPU
NARROW = frozenset(("Constant", "ConstantOfShape", "Range", "Shape", "Size"))


@dataclass(frozen=True)
class Request:
    """All that a provider's options depend on. `device`: its index. `cache`: the folder of this file's compiled engines on this device."""

    manifest: Manifest
    device: int = 0
    threads: int | None = None
    cuda_graph: bool = False
    cache: Path | None = None
    profiles: Profiles = field(default_factory=dict)


Options = dict[str, str]


@dataclass(frozen=True)
class Provider:
    """One way to run a file.

    Attributes:
        name: its name in the option `providers`
        ort: onnxruntime's name of it
        install: the package that brings it
        memory: the device of its buffers, in onnxruntime's words
        options: its options for a request
        plugin: the module of a package that adds it to onnxruntime, where it is not part of it
        compiles: True where it makes an engine of the whole graph, which takes long at first and can be kept
        keeps: True where engines are kept in a cache folder
        host: node types that it may leave to the CPU
        pattern: True where onnxruntime may plan its memory ahead
    """

    name: str
    ort: str
    install: str
    memory: str = "cpu"
    options: Callable[[Request], Options] = lambda request: {}
    plugin: str = ""
    compiles: bool = False
    keeps: bool = False
    host: frozenset[str] = HOST
    pattern: bool = True


def _cuda(request: Request) -> Options:
    return {
        "device_id": str(request.device),
        # TF32 keeps ten bits of a float32: the file's dtype is what is computed in
        "use_tf32": "0",
        # the default tries every algorithm anew for each shape, for the sake of one convolution
        "cudnn_conv_algo_search": "HEURISTIC",
        "enable_cuda_graph": _flag(request.cuda_graph),
    }


def _tensorrt(request: Request) -> Options:
    dtype = request.manifest.dtype
    return {
        "device_id": str(request.device),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(request.cache),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(request.cache),
        "trt_cuda_graph_enable": _flag(request.cuda_graph),
        # a network with float16 or quantised tensors in it is refused unless the builder gets this flag
        "trt_fp16_enable": _flag(dtype == "float16"),
        "trt_layer_norm_fp32_fallback": _flag(dtype == "float16"),
        "trt_int8_enable": _flag(dtype == "int8-static"),
        **shapes("trt_profile", request.manifest, request.profiles),
    }


def _tensorrt_rtx(request: Request) -> Options:
    return {
        "device_id": str(request.device),
        "nv_runtime_cache_path": str(request.cache),
        **shapes("nv_profile", request.manifest, request.profiles),
    }


def _openvino(request: Request) -> Options:
    # left alone it computes in bfloat16 where the processor has it
    return {"precision": "ACCURACY", **({} if request.threads is None else {"num_of_threads": str(request.threads)})}


def _flag(value: bool) -> str:
    return "1" if value else "0"


_RTX_PLUGIN, _WEBGPU_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx", "onnxruntime_ep_webgpu"
_ROWS = (
    Provider("cpu", CPU, "pip install 'fastloc[onnx-cpu]'"),
    Provider("cuda", "CUDAExecutionProvider", "pip install 'fastloc[onnx-gpu]', in place of onnxruntime", "cuda", _cuda),
    Provider("tensorrt", "TensorrtExecutionProvider", "pip install 'fastloc[onnx-gpu]' and TensorRT 10 (tensorrt-cu13>=10.14,<11)", "cuda",
             _tensorrt, compiles=True, keeps=True),
    # a plugin goes with an onnxruntime that cannot make buffers on a GPU by itself
    Provider("tensorrt-rtx", "NvTensorRTRTXExecutionProvider", "pip install onnxruntime onnxruntime-ep-nv-tensorrt-rtx",
             options=_tensorrt_rtx, plugin=_RTX_PLUGIN, compiles=True, keeps=True),
    Provider("directml", "DmlExecutionProvider", "pip install onnxruntime-directml, in place of onnxruntime (Windows)", pattern=False),
    Provider("coreml", "CoreMLExecutionProvider", "pip install 'fastloc[onnx-cpu]' (macOS)",
             options=lambda request: {"ModelFormat": "MLProgram"}, host=NARROW),
    Provider("onnxruntime-openvino", "OpenVINOExecutionProvider", "pip install onnxruntime-openvino, in place of onnxruntime",
             options=_openvino, compiles=True, host=NARROW),
    Provider("webgpu", "WebGpuExecutionProvider", "pip install onnxruntime onnxruntime-ep-webgpu", plugin=_WEBGPU_PLUGIN),
)  # fmt: skip
PROVIDERS: dict[str, Provider] = {row.name: row for row in _ROWS}
# OpenVINO's own runtime, which onnxruntime knows nothing of, see `fastloc.runtime.openvino_session`
OPENVINO = "openvino"
# what "auto" takes, the best first: TensorRT builds engines, for minutes, and is chosen by name alone
AUTO = ("cuda", "cpu")


@dataclass(frozen=True)
class Settings:
    """The settings of a session: providers by onnxruntime's names in order of preference, each with its options, and the session's
    configuration entries. `recorded`: True where the session records each node's provider."""

    providers: tuple[tuple[str, Options], ...]
    config: dict[str, str]
    pattern: bool
    recorded: bool


def session_settings(
    chosen: Sequence[Provider],
    request: Request,
    version: tuple[int, ...],
    *,
    allow_fallback: bool = False,
    override: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings for providers that were chosen. A pure function: nothing is loaded or looked up.

    Args:
        version: onnxruntime's, such as (1, 31, 1).
        allow_fallback: let CUDA, then the CPU run the nodes that a compiling NVIDIA provider does not take.
        override: options of the first provider in place of those chosen here, and entries "session.…" of the configuration; None removes
            one.

    Raises:
        PlanError: a CUDA graph on a provider other than CUDA, options of a provider that has none, or threads that are not a count.
    """
    if request.cuda_graph and memory_of(chosen) != "cuda":
        able = ", ".join(row.name for row in _ROWS if row.memory == "cuda")
        raise PlanError(f"provider must be {able} for cuda_graph, got {chosen[0].name!r}")
    given = dict(override or {})
    entries = {key: given.pop(key) for key in tuple(given) if key.startswith(ENTRY)}
    if given and chosen[0].ort == CPU:
        # onnxruntime would take them, and do nothing with them
        raise PlanError(f"options must be left out for provider 'cpu', got {', '.join(given)}; threads is an argument of its own")
    if request.threads is not None and (not isinstance(request.threads, int) or request.threads < 1):
        raise PlanError(f"threads must be 1 or more, or None for onnxruntime's own choice, got {request.threads!r}")
    rows = list(chosen)
    if allow_fallback and rows[-1].name == "tensorrt":
        rows.append(PROVIDERS["cuda"])
    options = [row.options(request) for row in rows]
    options[0] = _overridden(options[0], given)
    recorded = version >= RECORDS
    config = _overridden({"session.record_ep_graph_assignment_info": "1", **SHARED}, entries)
    if not recorded and not allow_fallback and all(row.ort != CPU for row in rows):
        # the blunt form: an older onnxruntime refuses for any node on the CPU, of shapes or not
        config["session.disable_cpu_ep_fallback"] = "1"
    providers = tuple((row.ort, each) for row, each in zip(rows, options, strict=True))
    return Settings(providers, config, all(row.pattern for row in rows), recorded)


def _overridden(options: Options, given: Mapping[str, Any]) -> Options:
    changed = options | {key: str(value) for key, value in given.items()}
    return {key: value for key, value in changed.items() if given.get(key, "") is not None}


def memory_of(chosen: Sequence[Provider]) -> str:
    """The best memory for the inputs and outputs of a session with these providers."""
    return chosen[0].memory


def choose(asked: str | Sequence[str], there: Sequence[str], installed: str = "onnxruntime") -> tuple[Provider, ...]:
    """The rows that you ask for: "auto", a name, or several names in order of preference; onnxruntime's own names count too.

    Args:
        there: onnxruntime's names of its providers, see `available`. installed: the name of this onnxruntime in messages.

    Raises:
        PlanError: an unknown name, none at all, or one that is not there; the message lists those that are, and the package to install.
    """
    if asked == "auto":
        return (next(PROVIDERS[name] for name in AUTO if PROVIDERS[name].ort in there or name == "cpu"),)
    names = list(asked) if isinstance(asked, (list, tuple)) else [asked]
    if not names:
        raise PlanError(f"providers must be 'auto' or one or more of {', '.join(PROVIDERS)}, got none")
    rows = tuple(_row(name) for name in names)
    for row in rows:
        if row.ort not in there:
            known = ", ".join(_name(each) for each in there)
            raise PlanError(f"provider {row.name!r} is not in {installed}, which has {known or 'none'}: {row.install}")
    return rows


def _row(name: object) -> Provider:
    for row in _ROWS:
        if name in (row.name, row.ort):
            return row
    if name == OPENVINO:
        raise PlanError(f"provider {OPENVINO!r} is a runtime of its own, which takes whole image towers: give no other one with it")
    raise PlanError(unknown("provider", name, ("auto", OPENVINO, *PROVIDERS)))


def _name(ort: str) -> str:
    """fastloc's name of a provider, else onnxruntime's without its ending."""
    return next((row.name for row in _ROWS if row.ort == ort), ort.removesuffix("ExecutionProvider").lower())


def runtime() -> ModuleType:
    """Import onnxruntime. Raises FastlocError, with the package to install, where it is missing or cannot be loaded."""
    try:
        return importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise FastlocError(f"onnxruntime cannot be loaded: it needs the package {error.name!r}, which is not installed") from error
        raise FastlocError(
            "onnxruntime is not installed: pip install 'fastloc[onnx-cpu]', or 'fastloc[onnx-gpu]' for an NVIDIA GPU; not both"
        ) from None
    except ImportError as error:
        raise FastlocError(f"onnxruntime cannot be loaded: {first_line(error)}") from error


def available(ort: Any) -> list[str]:
    """onnxruntime's names of the providers that it has built in, and of those that an installed plugin package adds."""
    found: list[str] = list(ort.get_available_providers())
    plugins = [row.ort for row in _ROWS if row.plugin and importlib.util.find_spec(row.plugin) is not None]
    return found + [name for name in plugins if name not in found]


def register(row: Provider, ort: Any) -> list[Any]:
    """The devices of a provider that a plugin package brings, its library registered once a process; [] for a built-in provider.

    Raises:
        PlanError: the library does not load, or finds no device.
    """
    if row.ort in ort.get_available_providers() or not row.plugin:
        return []
    plugin = importlib.import_module(row.plugin)
    name = plugin.get_ep_name()
    try:
        ort.register_execution_provider_library(name, plugin.get_library_path())
    except Exception as error:
        pass_on(error)
        if "already registered" not in str(error):
            raise PlanError(f"provider {row.name!r}: its library does not load ({first_line(error)})") from error
    devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise PlanError(f"provider {row.name!r} is installed, and finds no device that it can use on this machine")
    return devices
