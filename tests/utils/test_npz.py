"""Arrays of .npz files: what numpy saves comes back, and nothing is made that the file does not hold."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fastloc.utils import npz


def archive(path: Path, parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression, compresslevel=9 if compression else None) as file:
        for name, content in parts.items():
            file.writestr(f"{name}.npy", content)
    return path


def saved(array: np.ndarray) -> bytes:  # type: ignore[type-arg]  # of any dtype
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_saves_comes_back(write: object, tmp_path: Path) -> None:
    turned = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    arrays = {"a": turned, "text": np.array("日本語 cat"), "none": np.zeros((0, 3)), "big": np.arange(3, dtype=">i4")}
    write(tmp_path / "a.npz", **arrays)  # type: ignore[operator]
    found = npz.read(tmp_path / "a.npz", ("a", "text", "none", "big", "missing"))
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert found["a"].flags.writeable


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "bomb.npz", {"vectors": saved(np.zeros((256, 1 << 17), np.uint8))}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(ValueError, match="unpack to at most 16,777,216 bytes"):
        npz.read(path, ("vectors",))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("shape", ["(1099511627776,)", "(1048576, 1048576, 1048576)", "(-1, -4)", "(3,)", "(2, 2**3)"])
def test_a_head_that_promises_other_than_there_is(shape: str, tmp_path: Path) -> None:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
    path = archive(tmp_path / "a.npz", {"vectors": b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(16)})
    with pytest.raises(ValueError, match=r"an array says|Cannot parse header|malformed node"):
        npz.read(path, ("vectors",))


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, vectors=np.array([object], dtype=object))
    with pytest.raises(ValueError, match="can run code"):
        npz.read(path, ("vectors",))


def test_too_many_arrays(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {str(i): b"" for i in range(npz.ARRAYS + 1)})
    with pytest.raises(ValueError, match="at most 64 arrays"):
        npz.read(path, ("0",))
