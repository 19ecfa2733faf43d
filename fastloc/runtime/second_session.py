"""Another plan for the self-check of an exported file: onnxruntime on the CPU, the graph as it was written, without optimisations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastloc.errors import PlanError
from fastloc.onnx_file.manifest import Manifest
from fastloc.onnx_file.self_check import Outputs, SelfCheck
from fastloc.runtime.session import OnnxSession

__all__ = ["SecondSession", "on_host", "plain_session"]

# DLPack's number of the CPU
CPU = 1


def plain_session(path: str | os.PathLike[str], threads: int | None = None) -> OnnxSession:
    """The file on onnxruntime's CPU provider, node by node as it was exported.

    Raises:
        ModelError: a compiled engine, or another file that the CPU cannot run. FastlocError: onnxruntime is not installed.
    """
    return OnnxSession(path, "cpu", threads=threads, optimise=False)


class SecondSession:
    """Answers a random picture of some calls of a file again, and hands both answers to a `SelfCheck`.

    A call that is drawn waits for one more pass on the CPU: of one picture, or of the batch where the file fixes it. The file's weights are
    in memory once more.

    Args: path, threads: see `plain_session`, and its errors.
    """

    def __init__(self, path: str | os.PathLike[str], manifest: Manifest, check: SelfCheck, threads: int | None = None) -> None:
        self.manifest, self.check, self.session = manifest, check, plain_session(path, threads)

    def __call__(self, feeds: Mapping[str, Any], found: Outputs) -> None:
        """Check one call: its inputs and its outputs by name."""
        if not self.check.drawn():
            return
        name = self.manifest.input.name
        rows = slice(None)
        if self.manifest.input.batch is None:
            i = self.check.index(int(feeds[name].shape[0]))
            rows = slice(i, i + 1)

        def other() -> Outputs:
            inputs = {each: on_host(array) for each, array in feeds.items()}
            return self.session.run({**inputs, name: np.ascontiguousarray(inputs[name][rows])})

        self.check.again(lambda: {each: array[rows] for each, array in found.items()}, other)


def on_host(array: Any) -> np.ndarray[Any, Any]:
    """A numpy array of the same numbers. Raises PlanError for an array of a device that has no copy of its own."""
    if isinstance(array, np.ndarray):
        return array
    if array.__dlpack_device__()[0] == CPU:
        return np.from_dlpack(array)
    # torch's and cupy's
    for copy in ("cpu", "get"):
        if callable(getattr(array, copy, None)):
            return np.asarray(getattr(array, copy)())
    raise PlanError(f"an input on a device must have a method cpu() or get() to be checked again, got a {type(array).__name__}")
