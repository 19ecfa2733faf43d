"""An onnxruntime that claims to have a GPU: it computes on the CPU, and notes what it was asked for.

Only the calls depend on a GPU: a provider's options, and the buffers that are made, bound and used again. Those are real here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as real

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class FakeOnnxruntime:
    """`loads`: the providers that start when they are asked for. `elsewhere`: nodes, as (type, name), that the CPU runs after all."""

    __version__ = "1.31.1"

    def __init__(self, there: tuple[str, ...] = (TENSORRT, CUDA, CPU), loads: tuple[str, ...] = (TENSORRT, CUDA, CPU),
                 elsewhere: tuple[tuple[str, str], ...] = ()) -> None:  # fmt: skip
        self.there, self.loads, self.elsewhere = list(there), loads, elsewhere
        self.sessions: list[FakeSession] = []
        self.runs: list[Any] = []
        self.copies: list[tuple[str, tuple[int, ...]]] = []
        self.compiled: onnx.ModelProto | None = None
        self.OrtValue = self._values()
        self.RunOptions, self.SessionOptions = real.RunOptions, FakeOptions

    def get_available_providers(self) -> list[str]:
        return self.there

    def get_ep_devices(self) -> list[Any]:
        return []

    def InferenceSession(self, path: str, options: Any, providers: list[tuple[str, dict[str, str]]], enable_fallback: int) -> FakeSession:
        assert enable_fallback == 0
        made = FakeSession(self, path, options, providers)
        self.sessions.append(made)
        return made

    def ModelCompiler(self, options: Any, path: str, embed_compiled_data_into_model: bool) -> Any:
        assert embed_compiled_data_into_model and options.added
        return type("Compiler", (), {"compile_to_file": lambda _, target: onnx.save(self.compiled, target)})()

    def _values(fake) -> type:
        class OrtValue:
            """A value that claims to be on a GPU."""

            def __init__(self, value: Any) -> None:
                self.value = value

            @staticmethod
            def ortvalue_from_numpy(array: np.ndarray) -> OrtValue:
                raise AssertionError("inputs on a GPU are copied into its buffers")

            @staticmethod
            def ortvalue_from_shape_and_type(shape: list[int], dtype: Any, memory: str, device: int) -> OrtValue:
                assert (memory, device) == ("cuda", 0)
                return OrtValue(real.OrtValue.ortvalue_from_shape_and_type(shape, dtype, "cpu", 0))

            @staticmethod
            def from_dlpack(capsule: Any) -> OrtValue:
                return OrtValue(real.OrtValue.from_dlpack(capsule))

            def update_inplace(self, array: Any) -> None:
                array = array.numpy() if isinstance(array, OrtValue) else array
                fake.copies.append((str(array.dtype), array.shape))
                self.value.update_inplace(np.ascontiguousarray(array))

            def numpy(self) -> np.ndarray:
                return self.value.numpy()

            def shape(self) -> list[int]:
                return list(self.value.shape())

            def data_type(self) -> str:
                return self.value.data_type()

        return OrtValue


class FakeOptions:
    def __init__(self) -> None:
        self.config: dict[str, str] = {}
        self.added: list[Any] = []

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.config[key] = value

    def add_provider(self, name: str, options: dict[str, str]) -> None:
        self.added.append((name, options))


class FakeSession:
    def __init__(self, fake: FakeOnnxruntime, path: str, options: FakeOptions, providers: list[tuple[str, dict[str, str]]]) -> None:
        self.fake, self.options, self.providers = fake, options, providers
        self.real = real.InferenceSession(str(Path(path)), providers=[CPU])

    def get_providers(self) -> list[str]:
        started = [name for name, _ in self.providers if name in self.fake.loads]
        return started if CPU in started else [*started, CPU]

    def get_inputs(self) -> Any:
        return self.real.get_inputs()

    def get_outputs(self) -> Any:
        return self.real.get_outputs()

    def get_provider_graph_assignment_info(self) -> list[Any]:
        first = self.providers[0][0]
        placed = [(first, (("Conv", "patches"), ("MatMul", "cosines"))), (CPU, (("Shape", "shape"), *self.fake.elsewhere))]
        return [Part(name, nodes) for name, nodes in placed]

    def io_binding(self) -> FakeBinding:
        return FakeBinding(self)

    def run_with_iobinding(self, binding: FakeBinding, options: Any) -> None:
        self.fake.runs.append(options and options.get_run_config_entry("gpu_graph_id"))
        self.real.run_with_iobinding(binding.real)


class FakeBinding:
    def __init__(self, session: FakeSession) -> None:
        self.fake, self.real = session.fake, session.real.io_binding()

    def bind_output(self, name: str, memory: str, device: int) -> None:
        self.real.bind_output(name, "cpu", 0)

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.real.bind_ortvalue_input(name, value.value)

    def bind_ortvalue_output(self, name: str, value: Any) -> None:
        self.real.bind_ortvalue_output(name, value.value)

    def get_outputs(self) -> list[Any]:
        return [self.fake.OrtValue(value) for value in self.real.get_outputs()]


class Part:
    def __init__(self, name: str, nodes: tuple[tuple[str, str], ...]) -> None:
        self.ep_name, self.nodes = name, nodes

    def get_nodes(self) -> list[Any]:
        return [type("Node", (), {"op_type": kind, "name": name, "domain": ""})() for kind, name in self.nodes]
