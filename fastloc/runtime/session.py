"""One loaded file: a session on the chosen providers, its buffers, and calls into it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fastloc.errors import ModelError, PlanError, warn
from fastloc.onnx_file.header import Header, read
from fastloc.runtime import engine_cache
from fastloc.runtime.choice import Choice
from fastloc.runtime.graph_check import check_graph
from fastloc.runtime.io_binding import Bindings
from fastloc.runtime.placement import CPU, Placement, listed, placement
from fastloc.runtime.providers import (
    PROVIDERS,
    Provider,
    Request,
    Settings,
    available,
    choose,
    memory_of,
    register,
    runtime,
    session_settings,
)
from fastloc.runtime.shape_profiles import Profiles
from fastloc.utils.atomic_write import is_stream, replacing
from fastloc.utils.fork_safety import FORKED, keep_for_ever, renewed_after_fork
from fastloc.utils.hardware import cpu, cuda_gpu
from fastloc.utils.heartbeat import waiting
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["OnnxSession"]

Array = NDArray[Any]
# the level of onnxruntime's own log: fatal errors alone, since it raises the others and they are reported here
QUIET = 4
# the type of node that holds a compiled engine
COMPILED = "EPContext"
# numpy's names of onnxruntime's types
TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
# characters of its messages that are passed on
SAID = 300


class OnnxSession:
    """A file in onnxruntime, on the chosen providers and on no other.

    Args: see `fastloc.OnnxLocalizer`. optimise: False runs the graph as it was written, node by node.

    Attributes: `manifest`; `chosen`, the rows of `PROVIDERS` that are used; `settings`, those of the session.

    Raises:
        ModelError: the file cannot be used. PlanError: a provider is missing, does not load, or does not take every node; a cache folder
        that cannot be written to. FastlocError: onnxruntime is not installed.
    """

    choice: Choice | None = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        providers: str | Sequence[str] = "auto",
        *,
        allow_fallback: bool = False,
        threads: int | None = None,
        cuda_graph: bool = False,
        cache: str | os.PathLike[str] | None = None,
        profiles: Profiles | None = None,
        options: Mapping[str, Any] | None = None,
        optimise: bool = True,
    ) -> None:
        self.header: Header = read(path)
        self.manifest = self.header.manifest()
        self.ort = runtime()
        self.allow_fallback, self.threads, self.cuda_graph = allow_fallback, threads, cuda_graph
        self._cache, self._profiles, self._options, self._optimise = cache, profiles or {}, dict(options or {}), optimise
        self._lock = threading.Lock()
        # where engines are kept
        self._kept: Path | None = None
        self.chosen = choose(providers, available(self.ort), f"onnxruntime {self.ort.__version__}")
        try:
            self._load()
        except PlanError as error:
            # a GPU build on a machine without a usable GPU: "auto" leaves the choice to us, so it is made again, and said
            if providers != "auto" or self.chosen[0].name == "cpu":
                raise
            warn(f"running on the CPU: {error}", stacklevel=3)
            self.chosen = (PROVIDERS["cpu"],)
            self._load()
        except UnicodeDecodeError as error:
            # onnxruntime takes any bytes for a name
            raise ModelError(f"{path}: a name in its graph must be text ({error.reason})") from error
        self._stale = False
        renewed_after_fork(self)

    def _load(self) -> None:
        self.settings: Settings = session_settings(
            self.chosen, self._request(), _version(self.ort), allow_fallback=self.allow_fallback, override=self._options
        )
        if memory_of(self.chosen) == "cuda" and hasattr(self.ort, "preload_dlls"):
            # it prints what it does not find, and results have stdout to themselves
            with contextlib.redirect_stdout(sys.stderr):
                self.ort.preload_dlls()
        with self._building():
            self.session = self._session(self.header.path)
        self._check_loaded()
        self._check_graph()
        self._placement = placement(self.session)
        self._check_placement()
        self._bind()

    def _bind(self) -> None:
        device = _index(self.settings.providers[0][1].get("device_id", 0))
        self.bindings = Bindings(self.ort, self.session, memory_of(self.chosen), device, fixed=self.cuda_graph)

    def _at_fork_reinit(self) -> None:
        # the session's threads are gone and its allocator may be locked: not even its destructor ends
        keep_for_ever(self.session)
        keep_for_ever(self.bindings)
        self._lock, self._stale = threading.Lock(), True

    def _renew(self) -> None:
        """Load the file again, in a forked child. Raises PlanError on a GPU, ModelError where the file is gone."""
        if any(row.ort != CPU for row in self.chosen):
            raise PlanError(f"{self.header.path} runs on {self.chosen[0].name!r}, which a forked process cannot use; {FORKED}")
        self.session = self._session(self.header.path)
        self._bind()
        self._stale = False

    def _request(self) -> Request:
        device = _index(self._options.get("device_id") or 0)
        keeps = next((row for row in self.chosen if row.keeps), None)
        self._kept = kept = None if keeps is None else engine_cache.prepared(self._folder(keeps, device))
        return Request(self.manifest, device, self.threads, self.cuda_graph, kept, self._profiles)

    def _folder(self, row: Provider, device: int) -> Path:
        # the plugin brings a TensorRT of its own, and onnxruntime knows only the other
        version = engine_cache.tensorrt_version() if not row.plugin else engine_cache.package_version(row.plugin)
        return engine_cache.folder(self._cache, cuda_gpu(device), version, self.ort.__version__, self.header.digest())

    def _session(self, path: Path) -> Any:
        options, devices = self._session_options(), register(self.chosen[0], self.ort)
        try:
            if devices:
                # a plugin's provider is not known by name
                options.add_provider_for_devices(devices[:1], self.settings.providers[0][1])
                return self.ort.InferenceSession(str(path), options, enable_fallback=0)
            return self.ort.InferenceSession(str(path), options, providers=list(self.settings.providers), enable_fallback=0)
        # onnxruntime's own exceptions share no base but this one
        except Exception as error:
            pass_on(error)
            raise self._refused(error, path) from error

    def _session_options(self) -> Any:
        options = self.ort.SessionOptions()
        options.log_severity_level = QUIET
        options.enable_mem_pattern = self.settings.pattern
        if not self._optimise:
            options.graph_optimization_level = self.ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        for key, value in self.settings.config.items():
            options.add_session_config_entry(key, value)
        return options

    def _refused(self, error: Exception, path: Path) -> ModelError | PlanError:
        """The error for a message of onnxruntime, in one line. A refusal by a provider other than the CPU may be its own fault."""
        name, version = self.chosen[0].name, self.ort.__version__
        kind = ModelError if name == "cpu" else PlanError
        return kind(f"{path}: onnxruntime {version} cannot load it on provider {name!r}: {_error_line(error)}")

    def _check_loaded(self) -> None:
        there = set(self.session.get_providers())
        for row in self.chosen:
            if not there & _names(row):
                raise PlanError(
                    f"provider {row.name!r} is in onnxruntime {self.ort.__version__} and did not load: a library that it needs is missing "
                    f"or does not fit, and onnxruntime's log above names it; `fastloc doctor` says what to do"
                )

    def _check_placement(self) -> None:
        asked = set().union(*(_names(row) for row in self.chosen))
        host = frozenset.intersection(*(row.host for row in self.chosen))
        wrong = self._placement.misplaced(asked, host)
        if not wrong:
            return
        names = ", ".join(row.name for row in self.chosen)
        message = f"{self.header.path}: {len(wrong)} of {len(self._placement.nodes)} nodes do not run on {names}: {listed(wrong)}"
        if not self.allow_fallback:
            raise PlanError(f"{message}; allow_fallback=True runs them there, or export with another spelling or dtype")
        warn(message, stacklevel=4)

    def _check_graph(self) -> None:
        inputs, outputs = (
            {each.name: (TYPES.get(each.type, each.type), tuple(each.shape)) for each in values}
            for values in (self.session.get_inputs(), self.session.get_outputs())
        )
        check_graph(self.header.path, self.manifest, inputs, outputs)

    @contextlib.contextmanager
    def _building(self) -> Iterator[None]:
        """A line on stderr while an engine is built, for providers that build them, and a mark in the folder that keeps it."""
        row = next((row for row in self.chosen if row.compiles), None)
        if row is None:
            yield
            return
        with engine_cache.building(self._kept), waiting(f"fastloc: {row.name} builds an engine of {self.header.path.name}"):
            yield

    @property
    def names(self) -> tuple[str, ...]:
        """The providers that loaded, by fastloc's names, the first choice first."""
        return tuple(row.name for row in self.chosen)

    @property
    def recorded(self) -> bool:
        """True where this onnxruntime reports each node's provider."""
        return self.settings.recorded

    def device(self) -> str:
        """The processor or GPU. A GPU's name comes from the driver for this process: other processes may number GPUs in another order."""
        if self.chosen[0].memory == "cuda":
            try:
                gpu = cuda_gpu(_index(self.settings.providers[0][1].get("device_id", 0)))
                return f"{gpu.name}, compute capability {gpu.capability}"
            except PlanError:
                return "a GPU that the driver does not name"
        return cpu() if self.chosen[0].name == "cpu" else f"{self.chosen[0].name} on {cpu()}"

    def versions(self) -> dict[str, str]:
        """The versions of the runtime, and of TensorRT where that computes."""
        found = {"onnxruntime": self.ort.__version__}
        return found | ({"tensorrt": engine_cache.tensorrt_version()} if self.chosen[0].name == "tensorrt" else {})

    def placement(self) -> Placement:
        """The provider of each node.

        Raises:
            PlanError: this onnxruntime is too old to report it.
        """
        if not self.recorded:
            raise PlanError(f"onnxruntime must be 1.24 or newer to report where nodes run, got {self.ort.__version__}")
        return self._placement

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """Run one call: inputs by name, numpy arrays or objects with `__dlpack__`, to outputs by name, arrays of the caller's own.

        Calls from several threads take turns. Raises PlanError for shapes that a captured CUDA graph, or an engine, does not take, and in
        a forked process whose parent loaded the file on a GPU.
        """
        with self._lock:
            if self._stale:
                self._renew()
            first = not self.bindings.known(feeds)
            with self._building() if first else contextlib.nullcontext():
                try:
                    return self.bindings.run(feeds)
                except PlanError:
                    raise
                except Exception as error:
                    pass_on(error)
                    name = self.chosen[0].name
                    raise PlanError(f"{self.header.path}: onnxruntime failed on provider {name!r}: {_error_line(error)}") from error

    def compile(self, path: str | os.PathLike[str]) -> Path:
        """Write a file that holds the compiled engine inside an ONNX file (EPContext), with this one's metadata, whole or not at all.

        It starts without a build, on this device and these versions. Returns the path.

        Raises:
            PlanError: the provider compiles nothing, or this onnxruntime cannot write it. ModelError: the path cannot be written.
        """
        target, row = Path(path), self.chosen[0]
        if not row.compiles:
            able = ", ".join(each.name for each in PROVIDERS.values() if each.compiles)
            raise PlanError(f"provider {row.name!r} runs the graph as it is and compiles nothing that could be written: {able} do")
        if not hasattr(self.ort, "ModelCompiler"):
            raise PlanError(f"onnxruntime must be 1.23 or newer to write compiled files, got {self.ort.__version__}")
        if not target.parent.is_dir():
            raise ModelError(f"{target}: the folder {target.parent} does not exist")
        if is_stream(target):
            raise ModelError(f"{target}: must be a regular file, which is read back once, got a pipe or a device")
        try:
            with replacing(target) as part:
                with self._building():
                    self._compile_to(part)
                if not read(part).operators[COMPILED]:
                    raise PlanError(f"provider {row.name!r} compiled nothing of {self.header.path}")
                # a file that its own provider does not take again is of no use, and this is the time to find out
                self._session(part)
        except OSError as error:
            raise ModelError(f"{target}: cannot be written ({error.strerror or error})") from error
        return target

    def _compile_to(self, part: Path) -> None:
        options = self._session_options()
        devices = register(self.chosen[0], self.ort)
        try:
            if devices:
                options.add_provider_for_devices(devices[:1], self.settings.providers[0][1])
            else:
                options.add_provider(*self.settings.providers[0])
            self.ort.ModelCompiler(options, str(self.header.path), embed_compiled_data_into_model=True).compile_to_file(str(part))
        except Exception as error:
            pass_on(error)
            raise self._refused(error, self.header.path) from error


def _names(row: Provider) -> set[str]:
    """Every name that onnxruntime may have for a provider: a plugin's package decides on its own name."""
    plugin = sys.modules.get(row.plugin) if row.plugin else None
    return {row.ort} if plugin is None else {row.ort, plugin.get_ep_name()}


def _index(device: object) -> int:
    if not str(device).isdigit():
        raise PlanError(f"device_id must be the index of a GPU, such as 0, got {device!r}")
    return int(str(device))


def _error_line(error: Exception) -> str:
    """An exception of onnxruntime's in one line. A long message begins with C++ signatures and has its reason at the end."""
    said = " ".join(str(error).split()).rpartition("[ONNXRuntimeError] : ")[2]
    return said if len(said) <= SAID else f"… {said[-SAID:]}"


def _version(ort: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in ort.__version__.split("+")[0].split(".")[:2] if part.isdigit())
