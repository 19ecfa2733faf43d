"""One loaded file in OpenVINO's own runtime, on the CPU: compiled for the sizes that come, its requests, and calls into it."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError, ModelError, PlanError
from fastloc.imaging.geometry import both_sides
from fastloc.onnx_file.header import Header, read
from fastloc.runtime import engine_cache, signal_stack
from fastloc.runtime.choice import Choice
from fastloc.runtime.graph_check import check_graph
from fastloc.runtime.io_binding import host_array
from fastloc.runtime.placement import Node, Placement
from fastloc.runtime.providers import OPENVINO
from fastloc.runtime.shape_profiles import inputs_of
from fastloc.utils.fork_safety import FORKED, keep_for_ever, renewed_after_fork
from fastloc.utils.hardware import cpu
from fastloc.utils.schema import first_line
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["DEVICE", "EXACT", "PRECISION", "OpenvinoSession"]

Array = NDArray[Any]
Pair = tuple[int, int]
DEVICE = "CPU"
PRECISION = "INFERENCE_PRECISION_HINT"
# the capability that a processor must have for a precision other than float32
CAPABILITIES = {"bf16": "BF16", "f16": "FP16"}
# left alone it computes in bfloat16 where the processor has it, and binds threads to cores that others may be busy on
EXACT = {PRECISION: "f32", "EXECUTION_MODE_HINT": "ACCURACY", "ENABLE_CPU_PINNING": False}
# numpy's names of OpenVINO's types
TYPES = {"f32": "float32", "u8": "uint8"}
# sizes whose compiled models are kept; the one not used for longest goes first
MOST = 8
# the process in which OpenVINO was first used
_PROCESS: dict[str, int] = {}


class OpenvinoSession:
    """A file in OpenVINO on the CPU, in float32 where `options` names no other precision.

    A graph is compiled for one size of picture, when such a picture first comes, and takes any number of pictures and texts that the file
    takes. The sizes last used are kept.

    Args:
        threads: of the CPU; by default OpenVINO's choice. cache: folder for compiled models; by default none is kept.
        options: of OpenVINO, in its own words, such as {"INFERENCE_PRECISION_HINT": "bf16"}.

    Raises:
        ModelError: the file cannot be used. PlanError: threads, or options that OpenVINO or this processor does not have.
        FastlocError: OpenVINO is not installed.
    """

    names = (OPENVINO,)
    recorded = True
    choice: Choice | None = None

    @signal_stack.kept()
    def __init__(
        self, path: str | os.PathLike[str], *, threads: int | None = None, cache: str | os.PathLike[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.header: Header = read(path)
        self.manifest = self.header.manifest()
        self.openvino = _runtime(str(self.header.path))
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise PlanError(f"threads must be 1 or more, or None for OpenVINO's own choice, got {threads!r}")
        self.core = self.openvino.Core()
        self.options: dict[str, Any] = dict(EXACT)
        self.options |= {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
        self.options |= {} if cache is None else {"CACHE_DIR": str(engine_cache.prepared(Path(cache)))}
        self.options |= {key: value for key, value in (options or {}).items() if value is not None}
        self._check_precision()
        self._lock = threading.Lock()
        try:
            self.model: Any = self.core.read_model(str(self.header.path))
        except Exception as error:
            pass_on(error)
            raise self._refused(error) from error
        self._check_graph()
        self.compiled: dict[Pair, Any] = {}
        self._request(self._usual())
        renewed_after_fork(self)

    def __del__(self) -> None:
        # at the end of the process they stay
        if not sys.is_finalizing():
            with signal_stack.kept():
                self.__dict__.clear()

    def _at_fork_reinit(self) -> None:
        # its threads are gone, and its destructor waits for them
        keep_for_ever((self.core, self.model, self.compiled))
        self.compiled = {}
        self._lock = threading.Lock()

    def _check_precision(self) -> None:
        asked = str(self.options[PRECISION])
        there = self.core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        if asked in CAPABILITIES and CAPABILITIES[asked] not in there:
            known = ", ".join(there)
            raise PlanError(f"{PRECISION} must be a precision that this processor computes in ({known}), got {asked!r}; leave it out")

    def _check_graph(self) -> None:
        # a value may have several names
        wanted = {*inputs_of(self.manifest), *self.manifest.outputs}
        inputs, outputs = (
            {name: (_dtype(value), _sides(value)) for value in values for name in value.get_names() & wanted or [value.get_any_name()]}
            for values in (self.model.inputs, self.model.outputs)
        )
        check_graph(self.header.path, self.manifest, inputs, outputs)

    def _usual(self) -> Pair:
        given = self.manifest.input
        return given.frame or given.size or both_sides(given.usual)

    def _request(self, size: Pair) -> Any:
        """The request of the model for pictures of a size, compiled where it has not been."""
        # taken out and put back, so that the order of the dictionary is the order of use
        request = self.compiled.pop(size, None) or self._compile(size)
        self.compiled[size] = request
        if len(self.compiled) > MOST:
            self.compiled.pop(next(iter(self.compiled)))
        return request

    def _compile(self, size: Pair) -> Any:
        try:
            model = self.model.clone()
            # with an open size it refuses the graph
            model.reshape({name: self._shape(shape, size) for name, (_, shape) in inputs_of(self.manifest).items()})
            return self.core.compile_model(model, DEVICE, self.options).create_infer_request()
        except Exception as error:
            pass_on(error)
            raise self._refused(error) from error

    @staticmethod
    def _shape(shape: tuple[int | str, ...], size: Pair) -> list[int]:
        sides = {"height": size[0], "width": size[1]}
        return [side if isinstance(side, int) else sides.get(side, -1) for side in shape]

    def _refused(self, error: Exception) -> ModelError | PlanError:
        said = _reason(error)
        message = f"OpenVINO {self.versions()['openvino']} cannot load it: {said}"
        # of an option alone it says this, and names the file's fault otherwise
        return PlanError(message) if "property" in said.lower() else ModelError(f"{self.header.path}: {message}")

    def device(self) -> str:
        """The processor."""
        return f"{OPENVINO} on {cpu()}"

    def versions(self) -> dict[str, str]:
        """OpenVINO's version."""
        return {"openvino": str(self.openvino.__version__).partition("-")[0]}

    def placement(self) -> Placement:
        """Each node of the graph as OpenVINO runs it, after its fusions, with the precision that it computes in."""
        with self._lock:
            model = next(reversed(self.compiled.values())).get_compiled_model().get_runtime_model()
        nodes = []
        for node in model.get_ops():
            facts = node.get_rt_info()
            kind, precision = (facts[key].value if key in facts else "" for key in ("layerType", "runtimePrecision"))
            nodes.append(Node("OpenVINO", f"{kind} {precision}".strip(), node.get_friendly_name()))
        return Placement(tuple(nodes))

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """Run one call: inputs by name, numpy arrays or objects with `__dlpack__` on the CPU, to outputs by name, the caller's own arrays.

        Calls from several threads take turns. Raises PlanError in a forked process, for another shape, and where OpenVINO fails.
        """
        arrays = {name: np.ascontiguousarray(host_array(array)) for name, array in feeds.items()}
        _check_process(str(self.header.path))
        with self._lock, signal_stack.kept():
            request = self._request(self._size(arrays))
            try:
                request.infer(arrays, share_inputs=True)
                return {name: np.array(request.get_tensor(name).data) for name in self.manifest.outputs}
            except Exception as error:
                pass_on(error)
                raise PlanError(f"{self.header.path}: OpenVINO failed: {_reason(error)}") from error

    def _size(self, arrays: Mapping[str, Array]) -> Pair:
        """The size of the pictures, (height, width). Raises PlanError for inputs of another shape, which OpenVINO need not refuse."""
        sizes: dict[str, int] = {}
        for name, (dtype, shape) in inputs_of(self.manifest).items():
            array = arrays[name]
            if array.dtype != dtype or array.ndim != len(shape) or any(
                isinstance(side, int) and side != given for side, given in zip(shape, array.shape, strict=True)
            ):
                raise PlanError(f"{self.header.path}: {name!r} must be {dtype} {list(shape)}, got {array.dtype} {list(array.shape)}")
            sizes |= {str(side): given for side, given in zip(shape, array.shape, strict=True)}
        height, width = self._usual()
        return sizes.get("height", height), sizes.get("width", width)

    def compile(self, path: str | os.PathLike[str]) -> Path:
        """Raise PlanError: OpenVINO's compiled models are no ONNX files; with `cache` it keeps them."""
        raise PlanError(f"provider {OPENVINO!r} writes no compiled ONNX file, got {str(path)!r}; cache='folder' keeps its compiled models")


def _dtype(value: Any) -> str:
    name = value.get_element_type().get_type_name()
    return str(TYPES.get(name, name))


def _sides(value: Any) -> tuple[int | str, ...]:
    """The sides of an input or output, "?" where one is open; () where the number of axes is."""
    shape = value.get_partial_shape()
    return tuple(side.get_length() if side.is_static else "?" for side in shape) if shape.rank.is_static else ()


def _reason(error: Exception) -> str:
    """An exception of OpenVINO's in one line: after lines that name its source files comes the reason."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Exception from")]
    return " ".join(said)[:300] or first_line(error)


def _runtime(path: str) -> ModuleType:
    try:
        found = importlib.import_module("openvino")
    except ModuleNotFoundError:
        raise FastlocError(f"provider {OPENVINO!r} needs OpenVINO, which is not installed: pip install 'fastloc[openvino]'") from None
    except ImportError as error:
        raise FastlocError(f"OpenVINO cannot be loaded: {first_line(error)}") from error
    _PROCESS.setdefault(OPENVINO, os.getpid())
    _check_process(path)
    return found


def _check_process(path: str) -> None:
    """Raise PlanError in a child of the process whose threads OpenVINO made: it would wait for them for ever."""
    if _PROCESS[OPENVINO] != os.getpid():
        raise PlanError(f"{path} runs on {OPENVINO!r}, which a forked process cannot use; {FORKED}")
