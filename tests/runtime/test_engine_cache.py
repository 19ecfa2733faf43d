"""The cache of compiled engines, the GPU that they are for, and the sign of life while one is built."""

from __future__ import annotations

import ctypes
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from fastloc.errors import PlanError
from fastloc.runtime import engine_cache
from fastloc.utils.hardware import Gpu, cuda_gpu
from fastloc.utils.heartbeat import waiting
from fastloc.utils.user_cache import user_cache


def test_engines_of_another_device_version_or_file_are_kept_apart(tmp_path: Path):
    one = Gpu("NVIDIA H200", capability="9.0")
    found = engine_cache.folder(tmp_path, one, "10.14.1", "1.31.1", "c0ffee" * 10)
    assert found == tmp_path / "NVIDIA-H200-sm90" / "tensorrt10.14.1-onnxruntime1.31.1" / "c0ffeec0ffeec0ff"
    others = [
        engine_cache.folder(tmp_path, Gpu("NVIDIA H200", capability="10.0"), "10.14.1", "1.31.1", "c0ffee" * 10),
        engine_cache.folder(tmp_path, one, "10.15.0", "1.31.1", "c0ffee" * 10),
        engine_cache.folder(tmp_path, one, "10.14.1", "1.32.0", "c0ffee" * 10),
        engine_cache.folder(tmp_path, one, "10.14.1", "1.31.1", "facade" * 10),
    ]
    assert len({found, *others}) == 5


def test_the_cache_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache().name == "fastloc" and (sys.platform != "linux" or user_cache() == tmp_path / "fastloc")


def test_a_cache_folder_that_cannot_be_written_to_is_reported_before_a_build(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PlanError, match=r"cache folder .*engines cannot be written to .*cache='folder'"):
        engine_cache.prepared(tmp_path / "file" / "engines")
    assert list(engine_cache.prepared(tmp_path / "engines").iterdir()) == []


def test_engines_that_a_killed_process_was_writing_are_built_anew(tmp_path: Path):
    """They have their final names from the first byte on; those of a process that is still at work are left alone."""
    (tmp_path / "a.engine").write_text("whole")
    with engine_cache.building(tmp_path):
        (tmp_path / "b.engine").write_text("half")
        (mark,) = tmp_path.glob(".building.*.part")
        engine_cache.prepared(tmp_path)
        assert sorted(path.name for path in tmp_path.glob("*.engine")) == ["a.engine", "b.engine"]
    assert engine_cache.prepared(tmp_path) == tmp_path and len(list(tmp_path.iterdir())) == 2
    # as a process that is gone left it
    mark.touch()
    engine_cache.prepared(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with engine_cache.building(None):
        pass


def test_the_gpu_is_known_by_its_driver(monkeypatch: pytest.MonkeyPatch):
    def driver(name: str) -> Any:
        def device_name(buffer: Any, _: int, __: Any) -> int:
            buffer.value = b"NVIDIA H200"
            return 0

        def attribute(number: Any, which: int, _: Any) -> int:
            number._obj.value = {75: 9, 76: 0}[which]
            return 0

        return type("Driver", (), {
            "cuInit": staticmethod(lambda _: 0), "cuDeviceGet": staticmethod(lambda _, index: 0 if index == 0 else 101),
            "cuDeviceGetName": staticmethod(device_name), "cuDeviceGetAttribute": staticmethod(attribute),
        })  # fmt: skip

    monkeypatch.setattr(ctypes, "CDLL", driver)
    assert cuda_gpu() == Gpu("NVIDIA H200", capability="9.0")
    with pytest.raises(PlanError, match="no GPU 3 for this process"):
        cuda_gpu(3)


def test_a_machine_without_an_nvidia_driver_is_reported(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(PlanError, match="no NVIDIA driver"):
        cuda_gpu()


def test_a_heartbeat_says_how_long_and_how_far_and_is_silent_for_what_is_quick():
    output = io.StringIO()
    with waiting("building", patience=0, apart=0.01, stream=output):
        while output.getvalue().count("\n") < 2:
            pass
    lines = output.getvalue().splitlines()
    assert lines[0] == "building: 0 s" and lines[-1].startswith("building: done in")
    with waiting("building", patience=0, apart=0.01, stream=output) as say:
        say("layer 3/10")
        while "layer" not in output.getvalue():
            pass
    assert "building: layer 3/10, 0 s" in output.getvalue().splitlines()
    quick = io.StringIO()
    with waiting("building", patience=60, stream=quick):
        pass
    assert quick.getvalue() == ""
