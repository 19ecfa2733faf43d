"""Readers of weight files: tensors by name, from open_clip, its trainer and any program that saves a state dict."""

import argparse
import io
import os
import pickle
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints.foreign import torchscript
from fastloc.checkpoints.foreign.wrappers import unwrapped
from fastloc.errors import ModelError
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["content", "faults", "read", "silenced"]

# the first bytes of a zip file
_ZIP = b"PK\x03\x04"
# the most names of the same numbers: tied weights have two
SHARED = 4

# filters are the whole process's: two threads that change and restore them at once would leave them changed
_filters = renewed_after_fork(threading.RLock())


@contextmanager
def silenced() -> Iterator[None]:
    """Show no warnings of the libraries that are called within; one thread at a time."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read(path: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, big_vision's .npz or a torch file, including TorchScript archives, without running their code.

    Raises:
        ModelError: the file is missing, of another kind, damaged, or holds anything but tensors by name.
    """
    if not os.path.isfile(path):
        raise ModelError(f"weights file {str(path)!r} does not exist" if not os.path.exists(path) else f"{str(path)!r} is not a file")
    try:
        # torch warns of the pickle's protocol before it refuses it
        with silenced():
            state = content(path)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{str(path)!r} is not a plain state dict (a pickle with code), and is not run; save its state_dict() as .safetensors"
        ) from error
    except ModelError:
        raise
    except Exception as error:
        pass_on(error)
        # damaged files raise a different exception in each format
        raise ModelError(f"{str(path)!r} is not a .safetensors or torch file, or is damaged ({type(error).__name__})") from error
    reason = faults(state, path.stat().st_size) if isinstance(state, dict) else "holds no tensors by name"
    if reason:
        raise ModelError(f"{str(path)!r} must hold a state dict, but it {reason}")
    return state  # type: ignore[no-any-return]  # its values have been looked at


def content(path: Path) -> Any:
    """The content of a file on the CPU, without a trainer's other state and its prefixes of names.

    No code of a pickle is run. Raises the readers' exceptions, ModelError for weights that are not one set, and ValueError for a torch file
    that would unpack to more bytes than it has; content that is no state dict is returned unchanged.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        found: Any = load_file(path)
    elif path.suffix == ".npz":
        from fastloc.checkpoints.foreign import big_vision

        found = big_vision.read(path)
    elif torchscript.is_archive(path):
        found = torchscript.tensors(path)
    else:
        _check_archive(path)
        # a trainer's command line: numbers and strings by name
        with torch.serialization.safe_globals([argparse.Namespace]), _opened(path) as file:
            found = torch.load(file, map_location="cpu", weights_only=True)
    return unwrapped(found, str(path))


def faults(state: Mapping[Any, Any], size: int) -> str | None:
    """The reason why the content of a file of `size` bytes cannot be used as tensors by name, or None if it can."""
    if not state or not all(isinstance(name, str) for name in state):
        return "holds no tensors by name"
    total = 0
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            return f"holds no tensors by name: {name[:60]!r} is a {type(tensor).__name__}"
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
            return f"holds {name[:60]!r}, which is no plain tensor of real numbers"
        total += tensor.numel() * tensor.element_size()
    if total > SHARED * size:
        return f"holds tensors of {total:,} bytes in {size:,}: views that repeat a few numbers"
    return None


class _Within(io.BufferedReader):
    """A file whose reads ask for no more than it has: a damaged length in a pickle would reserve its gigabytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def _opened(path: Path) -> Iterator[Path | _Within]:
    """The argument for `torch.load`: the path of an archive, whose parts say their sizes, and else the open file."""
    with _Within(io.FileIO(path)) as file:
        # torch looks at the beginning alone, and zipfile at the end
        archive = file.read(len(_ZIP)) == _ZIP
        file.seek(0)
        yield path if archive else file


def _check_archive(path: Path) -> None:
    """Raise ValueError for a torch file whose parts are compressed, which torch itself never does."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if sum(each.file_size for each in archive.infolist()) > path.stat().st_size:
            raise ValueError("its parts are compressed")
