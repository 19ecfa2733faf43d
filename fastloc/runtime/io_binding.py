"""Buffers of a session, one set for each set of input shapes: made once, on the device, and reused by every call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import ImageError, PlanError
from fastloc.utils.schema import first_line
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["Bindings", "host_array"]

Array = NDArray[Any]
Key = tuple[tuple[str, tuple[int, ...]], ...]
# sets of shapes whose buffers are kept; the one not used for longest goes first
MOST = 8
# DLPack's numbers of the devices that are distinguished here
DLPACK_CPU, DLPACK_CUDA = 1, 2
# in DLPack, the stream that every other waits for: without naming it a producer need not wait at all
LEGACY_STREAM = 1


@dataclass
class _Buffers:
    """onnxruntime's IOBinding, the inputs it reads (kept alive here) and, from the second call on, the outputs it writes."""

    binding: Any
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)


class Bindings:
    """Calls into a session through buffers at fixed addresses.

    On a CPU inputs are read where the caller has them. On a GPU they are copied into buffers made once, unless they are on that GPU
    already. Outputs are written into the buffers of the first call, and copied out for the caller.

    Args:
        memory, device: where buffers are, "cpu" or "cuda", and which GPU.
        fixed: a CUDA graph replays one set of addresses: one set of shapes, and inputs are always copied into the same buffers.
    """

    def __init__(self, ort: Any, session: Any, memory: str, device: int, *, fixed: bool = False) -> None:
        self.ort, self.session, self.memory, self.device, self.fixed = ort, session, memory, device, fixed
        self.names = [each.name for each in session.get_outputs()]
        self.sets: dict[Key, _Buffers] = {}

    def known(self, feeds: Mapping[str, Any]) -> bool:
        """True where these shapes have been run before."""
        return _key(feeds) in self.sets

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """Outputs by name, in arrays of the caller's own.

        Raises:
            PlanError: other shapes than a CUDA graph was captured for, or an array on a device where the session is not.
            ImageError: an array that numpy cannot read.
        """
        key = _key(feeds)
        buffers = self._buffers(key)
        for name, array in feeds.items():
            self._bind(buffers, name, array)
        first = not buffers.outputs
        if first:
            for name in self.names:
                buffers.binding.bind_output(name, self.memory, self.device)
        self.session.run_with_iobinding(buffers.binding, self._run_options(first))
        if first:
            # their shapes are known now, and their memory is theirs from here on
            buffers.outputs = buffers.binding.get_outputs()
            for name, output in zip(self.names, buffers.outputs, strict=True):
                buffers.binding.bind_ortvalue_output(name, output)
        # numpy() of a buffer on the CPU is a view, which the next call would change
        return {name: np.array(output.numpy()) for name, output in zip(self.names, buffers.outputs, strict=True)}

    def _buffers(self, key: Key) -> _Buffers:
        if self.fixed and self.sets and key not in self.sets:
            known = next(iter(self.sets))
            raise PlanError(
                f"shapes must be {_shapes_text(known)}, for which the CUDA graph was captured, got {_shapes_text(key)}; make another "
                "OnnxLocalizer for others, or leave cuda_graph out"
            )
        # taken out and put back, so that the order of the dictionary is the order of use
        buffers = self.sets.pop(key, None) or _Buffers(self.session.io_binding())
        self.sets[key] = buffers
        if len(self.sets) > MOST:
            self.sets.pop(next(iter(self.sets)))
        return buffers

    def _bind(self, buffers: _Buffers, name: str, array: Any) -> None:
        given = array if isinstance(array, np.ndarray) else self._foreign(array)
        if not isinstance(given, np.ndarray):
            buffer = given if not self.fixed else self._filled(buffers, name, given, _shape(given), _numpy_dtype(given))
        elif self.memory == "cpu":
            buffer = self.ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(given))
        else:
            buffer = self._filled(buffers, name, np.ascontiguousarray(given), given.shape, given.dtype)
        if buffers.inputs.get(name) is not buffer:
            buffers.inputs[name] = buffer
            buffers.binding.bind_ortvalue_input(name, buffer)

    def _filled(self, buffers: _Buffers, name: str, given: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        """This set's own buffer for the input, filled with a copy of the given array."""
        own = buffers.inputs.get(name)
        if own is None:
            own = self.ort.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype, self.memory, self.device)
        own.update_inplace(given)
        return own

    def _foreign(self, array: Any) -> Any:
        """An object with `__dlpack__` as an input: a numpy array from the CPU, onnxruntime's view of it from the session's GPU."""
        kind, index = array.__dlpack_device__()
        if kind == DLPACK_CPU:
            return host_array(array)
        if kind != DLPACK_CUDA or self.memory != "cuda" or index != self.device:
            raise _elsewhere(kind, index, "the CPU" if self.memory == "cpu" else f"GPU {self.device}")
        capsule = array.__dlpack__(stream=LEGACY_STREAM)
        value = self.ort.OrtValue.from_dlpack(capsule)
        # onnxruntime works on a stream that waits for no other. A copy from pageable memory ends only when the default stream, which the
        # line above made wait for the producer's, has come to it
        self._settle()
        return value

    def _settle(self) -> None:
        mark = self.ort.OrtValue.ortvalue_from_shape_and_type([1], np.float32, self.memory, self.device)
        mark.update_inplace(np.zeros(1, np.float32))

    def _run_options(self, first: bool) -> Any:
        if not (self.fixed and first):
            return None
        options = self.ort.RunOptions()
        # not captured yet: this run finds out where its outputs go
        options.add_run_config_entry("gpu_graph_id", "-1")
        return options


def host_array(array: Any) -> Array:
    """An array, or an object with `__dlpack__` on the CPU, as a numpy array without a copy.

    Raises:
        PlanError: it is on another device. ImageError: numpy cannot read it.
    """
    if isinstance(array, np.ndarray):
        return array
    kind, index = array.__dlpack_device__()
    if kind != DLPACK_CPU:
        raise _elsewhere(kind, index, "the CPU")
    try:
        return np.from_dlpack(array)
    except (BufferError, RuntimeError, TypeError) as error:
        pass_on(error)
        raise ImageError(f"the array cannot be read through DLPack ({first_line(error)})") from error


def _elsewhere(kind: int, index: int, here: str) -> PlanError:
    where = f"GPU {index}" if kind == DLPACK_CUDA else f"DLPack device ({kind}, {index})"
    return PlanError(f"the array must be on {here}, where the inputs are taken, got {where}; copy it there first")


def _key(feeds: Mapping[str, Any]) -> Key:
    return tuple((name, tuple(int(side) for side in array.shape)) for name, array in feeds.items())


def _shapes_text(key: Key) -> str:
    return " and ".join(f"{name} {list(shape)}" for name, shape in key)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape())


def _numpy_dtype(value: Any) -> Any:
    """numpy's dtype of an input: files take float32 and uint8 alone."""
    return np.uint8 if value.data_type() == "tensor(uint8)" else np.float32
