"""Atomic writing of ONNX files: under a temporary name, checked there, then renamed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from fastloc.errors import FastlocError, ModelError
from fastloc.utils.atomic_write import replacing_files
from fastloc.utils.schema import first_line
from fastloc.utils.system import files

__all__ = ["check", "check_target", "written"]

# one protobuf message holds at most 2 GB; larger weights go into a file beside it
MOST = 2_000_000_000


@contextmanager
def written(model: Any, path: Path) -> Iterator[Path]:
    """Write a model, yield its temporary path for checks, and rename it if the block raises nothing; otherwise remove it.

    Weights of more than 2 GB lie in `<name>.data` beside the file.

    Raises:
        FastlocError: the errors of `check_target`, or the folder cannot be written to.
    """
    check_target(path)
    try:
        with replacing_files(path) as folder:
            _save(model, folder / path.name)
            yield folder / path.name
    except OSError as error:
        raise FastlocError(f"{path}: cannot be written ({error.strerror or error})") from error


def check_target(path: Path) -> None:
    """Raise FastlocError for another extension than .onnx, a path that is a folder, or one in a folder that does not exist."""
    if path.suffix != ".onnx":
        raise FastlocError(f"{path}: must end in .onnx, got {path.suffix or 'no extension'!r}")
    if path.is_dir():
        raise FastlocError(f"{path}: must be a file, got a folder")
    if not path.parent.is_dir():
        raise FastlocError(f"{path}: must be in a folder that exists, got {str(path.parent)!r}")


def check(path: Path) -> None:
    """Raise ModelError unless onnx finds the file well formed."""
    try:
        onnx.checker.check_model(str(path), full_check=False)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"the exported file is not well formed: {first_line(error)}") from error


def _save(model: Any, path: Path) -> None:
    if sum(len(each.raw_data) for each in model.graph.initializer) < MOST:
        files.write_bytes(path, model.SerializeToString())
    else:
        # the library writes weights beside it, in the folder of an unfinished file
        onnx.save_model(model, str(path), save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
