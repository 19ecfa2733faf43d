"""A stand-in for the package `tensorrt`, which needs a GPU: it takes the calls that a build makes, notes them, and ends as set.

It has no name that the bindings of TensorRT 10.16 and 11.4 do not both have. The environment variable FAKE_TENSORRT holds JSON: `version`,
`notes` (a file, one line a call) and `ends` (how a build ends; nothing for well).
"""

import enum
import json
import os
import time
from pathlib import Path
from typing import Any

_SETTINGS = json.loads(os.environ["FAKE_TENSORRT"])
_ENDS = _SETTINGS.get("ends", "")
__version__ = _SETTINGS["version"]


def _note(call: str, *values: object) -> None:
    with Path(_SETTINGS["notes"]).open("a") as file:
        print(json.dumps([call, *values]), file=file)


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.IntEnum):
    TF32 = 6


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1


class LayerType(enum.IntEnum):
    MATRIX_MULTIPLY = 14
    ASSERTION = 39


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None: ...


class IProgressMonitor:
    def __init__(self) -> None: ...


class _Tensor:
    def __init__(self, name: str, dtype: DataType = DataType.FLOAT) -> None:
        self.name, self.dtype, self.shape = name, dtype, (-1, 3)


class _Layer:
    def __init__(self, kind: LayerType, outputs: int) -> None:
        self.type, self.num_outputs = kind, outputs

    def get_output(self, index: int) -> _Tensor:
        return _Tensor("", DataType.HALF if _ENDS == "half" else DataType.FLOAT)


class _Network:
    num_layers, num_inputs, num_outputs = 2, 1, 1

    def __init__(self, flags: int) -> None:
        # from version 11 on every network is typed strongly, whatever is asked
        self.typed = bool(flags & 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED) or int(__version__.split(".")[0]) > 10

    def get_flag(self, flag: NetworkDefinitionCreationFlag) -> bool:
        return self.typed

    def get_layer(self, index: int) -> _Layer:
        return (_Layer(LayerType.MATRIX_MULTIPLY, 1), _Layer(LayerType.ASSERTION, 0))[index]

    def get_input(self, index: int) -> _Tensor:
        return _Tensor("pixels")

    def get_output(self, index: int) -> _Tensor:
        return _Tensor("similarity")


class _Error:
    def node_operator(self) -> str:
        return "Resize"

    def node_name(self) -> str:
        return "node_7"

    def desc(self) -> str:
        return "no such\n  thing"


class OnnxParser:
    def __init__(self, network: _Network, logger: ILogger) -> None:
        self.num_errors = 3 if _ENDS == "parser" else 0

    def parse_from_file(self, path: str) -> bool:
        _note("parse_from_file", path)
        return not self.num_errors

    def get_error(self, index: int) -> _Error:
        return _Error()


class _Profile:
    def set_shape(self, name: str, low: tuple[int, ...], usual: tuple[int, ...], high: tuple[int, ...]) -> None:
        _note("set_shape", name, low, usual, high)


class _Cache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"!"


class _Config:
    builder_optimization_level = 3
    progress_monitor: Any = None
    cache: _Cache | None = None

    def clear_flag(self, flag: BuilderFlag) -> None:
        _note("clear_flag", flag.name)

    def set_flag(self, flag: BuilderFlag) -> None:
        _note("set_flag", flag.name)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        _note("set_memory_pool_limit", pool.name, size)

    def add_optimization_profile(self, profile: _Profile) -> int:
        return 0

    def create_timing_cache(self, content: bytes) -> _Cache:
        _note("create_timing_cache", content.decode())
        return _Cache(content)

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return True

    def get_timing_cache(self) -> _Cache | None:
        return self.cache


class Builder:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def create_network(self, flags: int = 0) -> _Network:
        _note("create_network", flags)
        return _Network(flags)

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        config.progress_monitor.phase_start("Timing kernels", None, 2)
        if _ENDS == "crash":
            os.abort()
        if _ENDS == "refuse":
            self.logger.log(ILogger.ERROR, "no kernel\nfor this")
            self.logger.log(ILogger.ERROR, "another error")
            return None
        if _ENDS == "silence":
            time.sleep(60)
        # what libraries print is not the worker's word
        os.write(1, b"printed by a library\n")
        self.logger.log(ILogger.WARNING, "a warning")
        _note("level", config.builder_optimization_level)
        return b"an engine" if config.progress_monitor.step_complete("Timing kernels", 0) else None


class Runtime:
    def __init__(self, logger: ILogger) -> None: ...

    def deserialize_cuda_engine(self, plan: bytes) -> object | None:
        _note("deserialize_cuda_engine", plan.decode())
        return None if _ENDS == "unloadable" else object()
