"""A GPU as far as Python can tell: its tensors lie on "cuda:0", are refused beside the host's, and are computed by the CPU.

Streams run in order, a captured graph is the list of calls that were made within it, and a Triton kernel is its op's reference after its
launcher has run with `recording()`. What a GPU refuses is refused: host tensors beside the device's, `numpy()` of a device tensor, copies
to the host, waits and pinned allocations within a capture. Numbers of time and memory mean nothing.
"""

import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

NAME = "a pretended GPU"
GPU, HOST = torch.device("cuda", 0), torch.device("cpu")
_DEVICE, _IS_CUDA, _IS_CPU = torch.Tensor.device, torch.Tensor.is_cuda, torch.Tensor.is_cpu
# what takes tensors of both places
_BOTH = ("copy_", "__getitem__", "__setitem__", "index_put_")
# what makes the host wait for the device
_WAITS = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "equal", "nonzero", "allclose")
_LOCAL = threading.local()


def on_gpu(value: Any) -> bool:
    return isinstance(value, Tensor) and getattr(value, "_pretended", False)


def _marked(value: Any) -> Any:
    for each in _tensors(value):
        each._pretended = True
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _is_gpu(value: Any) -> bool:
    return (isinstance(value, torch.device) and value.type == "cuda") or (isinstance(value, str) and value.split(":")[0] == "cuda")


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value.split(":")[0] in ("cuda", "cpu", "meta"))


def _capturing() -> "Graph | None":
    return getattr(_LOCAL, "graph", None)


def _refused_in_capture(doing: str) -> None:
    if _capturing() is not None:
        raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({doing})")


class Pretended(TorchFunctionMode):
    """Every call of PyTorch's: devices are read, places are compared, and results say where they lie."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        owner, name = getattr(func, "__self__", None), getattr(func, "__name__", "")
        if owner is _DEVICE:
            return GPU if on_gpu(args[0]) else func(*args)
        if owner in (_IS_CUDA, _IS_CPU):
            return on_gpu(args[0]) == (owner is _IS_CUDA) if not args[0].is_meta else func(*args)
        given = list(_tensors([*args, kwargs]))
        here = [each for each in given if on_gpu(each)]
        if name in ("numpy", "__array__", "data_ptr_of") and here:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
        if name == "pin_memory":
            assert not here, "cannot pin 'torch.cuda.FloatTensor': only dense CPU tensors can be pinned"
            return args[0].clone()
        if kwargs.pop("pin_memory", False):
            _refused_in_capture("pinned memory")
        if name in _WAITS and here:
            _refused_in_capture(name)
        named = [each for each in (*args, *kwargs.values()) if _is_device(each)]
        moves = name in ("to", "cpu", "cuda", "type_as") or bool(named)
        if moves:
            return self._placed(func, name, args, kwargs, named, here)
        hosts = [each for each in given if not on_gpu(each) and each.ndim and not each.is_meta]
        if here and hosts and name not in _BOTH and not name.startswith("__get__"):
            raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({name})")
        if name == "copy_" and here and hosts and _capturing() is not None and not kwargs.get("non_blocking"):
            _refused_in_capture("a copy that waits")
        return self._run(func, args, kwargs, bool(here) and not (name in _BOTH and not on_gpu(args[0])))

    def _placed(self, func: Any, name: str, args: Any, kwargs: Any, named: list[Any], here: list[Tensor]) -> Any:
        """A call that says where its result lies."""
        if named:
            there = _is_gpu(named[0])
        elif name == "type_as" or (len(args) > 1 and isinstance(args[1], Tensor)):
            there = on_gpu(args[1])
        else:
            there = name == "cuda" or (name != "cpu" and bool(here))
        swap = lambda each: HOST if _is_gpu(each) else each  # noqa: E731
        args, kwargs = tuple(map(swap, args)), {key: swap(each) for key, each in kwargs.items()}
        source = args[0] if args and isinstance(args[0], Tensor) else None
        moved = source is not None and on_gpu(source) != there
        if moved and not there:
            _refused_in_capture("a copy to the host")
        if moved:
            # another place is another memory, also where nothing else changes
            args = (self._run(torch.clone, (source,), {}, False), *args[1:])
        result = self._run(func, args, kwargs, there)
        if isinstance(result, Tensor) and not there:
            result._pretended = False
        return result

    def _run(self, func: Any, args: Any, kwargs: Any, there: bool) -> Any:
        result = func(*args, **kwargs)
        if there:
            _marked(result)
        graph = _capturing()
        if graph is not None and (any(True for _ in _tensors(result)) or getattr(func, "__name__", "") == "__setitem__"):
            graph.calls.append((func, args, kwargs, result))
        return result


class Graph:
    """A CUDA graph: its calls, made again in the same tensors."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def replay(self) -> None:
        # what was captured may be tensors of inference mode
        with torch._C.DisableTorchFunction(), torch.inference_mode():
            for func, args, kwargs, result in self.calls:
                again = func(*args, **kwargs)
                for old, new in zip(_tensors(result), _tensors(again), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)

    def reset(self) -> None:
        self.calls.clear()


def _record_stream(tensor: Tensor, stream: Any) -> None:
    assert on_gpu(tensor), "record_stream is of a device tensor"
    assert isinstance(stream, Stream), stream


class Event:
    def __init__(self, enable_timing: bool = False, **more: Any) -> None:
        self.timed, self.at = enable_timing, None

    def record(self, stream: Any = None) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        _refused_in_capture("a wait for an event")

    def wait(self, stream: Any = None) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: "Event") -> float:
        assert self.timed and other.timed and self.at is not None and other.at is not None, "events that keep time, both recorded"
        return 1000 * (other.at - self.at)


class Stream:
    def __init__(self, device: Any = None, priority: int = 0) -> None:
        assert device is None or _is_gpu(device), device

    def wait_stream(self, other: "Stream") -> None:
        assert isinstance(other, Stream)

    def wait_event(self, event: Event) -> None:
        assert isinstance(event, Event)

    def record_event(self, event: Event | None = None) -> Event:
        made = event or Event()
        made.record(self)
        return made

    def synchronize(self) -> None:
        _refused_in_capture("a wait for a stream")

    def query(self) -> bool:
        return True


_CURRENT = Stream()


@contextmanager
def _capture(graph: Graph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global") -> Iterator[None]:
    assert _capturing() is None, "a capture within a capture"
    graph.calls.clear()
    _LOCAL.graph = graph
    try:
        yield
    finally:
        _LOCAL.graph = None


@contextmanager
def _on_stream(stream: Any) -> Iterator[None]:
    assert stream is None or isinstance(stream, Stream), stream
    yield


def _synchronize(device: Any = None) -> None:
    assert device is None or _is_gpu(device) or isinstance(device, int), device
    _refused_in_capture("synchronize")


def _of_gpu(value: Any) -> Callable[..., Any]:
    def call(device: Any = None) -> Any:
        assert device is None or _is_gpu(device) or isinstance(device, int), device
        return value

    return call


_PROPERTIES = types.SimpleNamespace(name=NAME, major=9, minor=0, multi_processor_count=4, total_memory=8_000_000_000, L2_cache_size=1 << 20)
_CUDA: dict[str, Any] = {
    "is_available": lambda: True, "is_initialized": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
    "get_device_name": _of_gpu(NAME), "get_device_capability": _of_gpu((9, 0)), "get_device_properties": _of_gpu(_PROPERTIES),
    "mem_get_info": _of_gpu((6_000_000_000, 8_000_000_000)), "memory_allocated": _of_gpu(1_000_000), "empty_cache": lambda: None,
    "max_memory_allocated": _of_gpu(3_000_000), "reset_peak_memory_stats": _of_gpu(None), "synchronize": _synchronize,
    "set_device": _of_gpu(None), "device": lambda device: nullcontext(), "Stream": Stream, "Event": Event, "CUDAGraph": Graph,
    "current_stream": _of_gpu(_CURRENT), "default_stream": _of_gpu(_CURRENT), "stream": _on_stream, "graph": _capture,
    "graph_pool_handle": lambda: (0, 1), "is_current_stream_capturing": lambda: _capturing() is not None,
}  # fmt: skip


def _kernel(module: Any, launcher: Callable[..., Any]) -> Callable[..., Any]:
    """An op's launcher that starts nothing: its refusals, allocations and arguments are its own, its numbers the reference's."""
    from fastloc.kernels.launch import recording

    def computed(*args: Any, **kwargs: Any) -> Any:
        with recording() as builds:
            found = launcher(*args, **kwargs)
        assert builds or not any(each.numel() for each in _tensors(found)), module.__name__
        expected = module.reference(*args, **kwargs)
        for one, other in zip(_tensors([found]), _tensors([expected]), strict=True):
            one.copy_(other)
        return found

    def call(*args: Any, **kwargs: Any) -> Any:
        given = list(_tensors([args, kwargs]))
        assert all(map(on_gpu, given)), f"{module.__name__} got a tensor of the host"
        graph = _capturing()
        _LOCAL.graph = None
        try:
            found = _marked(computed(*args, **kwargs))
        finally:
            _LOCAL.graph = graph
        if graph is not None:
            graph.calls.append((computed, args, kwargs, found))
        return found

    return call


class Generator(torch.Generator):
    """A generator of the host's, whatever device it is made for."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        return super().__new__(cls, "cpu")


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """A GPU for as long as this is open, in this thread and in those that are started within."""
    from fastloc.kernels.table import OPS

    mode, run = Pretended(), threading.Thread.run

    def with_mode(thread: threading.Thread) -> None:
        with mode:
            run(thread)

    with pytest.MonkeyPatch.context() as patch:
        for name, one in _CUDA.items():
            patch.setattr(torch.cuda, name, one)
        patch.setattr(torch, "Generator", Generator)
        # its arguments are read before a mode is asked
        patch.setattr(torch.Tensor, "record_stream", _record_stream)
        patch.setattr(torch, "compile", lambda function, **how: function)
        patch.setattr(torch.version, "cuda", torch.version.cuda or "13.0")
        patch.setattr(threading.Thread, "run", with_mode)
        for op in OPS.values():
            patch.setattr(op.module, op.name, _kernel(op.module, getattr(op.module, op.name)))
        with mode:
            yield GPU
