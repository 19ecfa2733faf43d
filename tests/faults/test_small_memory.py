"""Commands that run out of memory: one line, or a library that ends the process; no half file, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fastloc.embedded import GEM_ONNX
from fastloc.imaging import images

# in an interpreter of its own: a forked child has what its parent has freed, which after other tests is enough for a command
LIMITED = """
import resource, sys
from pathlib import Path

from fastloc import cli

pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + (int(sys.argv[1]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
sys.exit(cli.main(sys.argv[2:]))
"""
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how much memory a process has is read from /proc")


@LINUX
@pytest.mark.slow("starts a command again and again, with more memory each time")
def test_a_command_with_too_little_memory(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 3000), "grey").save(tmp_path / "a.png")
    command = ["locate", str(tmp_path / "a.png"), "-t", "cat", "--model", str(GEM_ONNX), "-o", str(tmp_path / "maps"), "--npz"]
    statuses = []
    for mebibytes in (1, 2, 4, 16, 64, 128, 256, 512, 1024, 8192):
        run = [sys.executable, "-P", "-c", LIMITED, str(mebibytes), *command]
        ended = subprocess.run(run, capture_output=True, text=True, errors="replace", timeout=300, check=False)
        statuses.append(ended.returncode)
        assert "Traceback" not in ended.stderr and "cannot be decoded" not in ended.stderr, (mebibytes, ended.stderr)
        assert ended.returncode <= 1, (mebibytes, ended)
        names = sorted(path.name for path in (tmp_path / "maps").glob("*")) if ended.returncode == 0 else []
        assert not list(tmp_path.rglob("*.part")) and (ended.returncode or len(names) == 2)
    assert statuses[-1] == 0 and statuses[0] != 0, statuses


def test_a_picture_that_does_not_fit_into_memory_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(*given: object, **more: object) -> Image.Image:
        raise MemoryError

    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(MemoryError):
        images.load(tmp_path / "a.png")
