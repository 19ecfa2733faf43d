"""Files of a batch that was interrupted or damaged: a shard that cannot be trusted is made again."""

import errno
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fastloc.errors import FastlocError
from fastloc.scale.rows import Settings
from fastloc.scale.shards import Shard, done

SETTINGS = Settings("m", "", "gem", "sha256:0", ("cat",), 0.5, None, False, False, 1, "cpu", 100, {})
SHARD = Shard(0, ())
# a length of the footer that is right, and a footer that is none
NOISE = b"PAR1" + b"\xff" * 20 + (20).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize("content", [NOISE, b"", b"PAR1", b"no table", b"PAR1" + bytes(20) + (20).to_bytes(4, "little") + b"PAR1"])
def test_a_damaged_shard_is_made_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / SHARD.name).write_bytes(content)
    assert done(tmp_path, SHARD, SETTINGS) is None


def test_a_shard_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be whole, and is not written over."""

    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(pq, "read_schema", refused)
    with pytest.raises(FastlocError, match=r"part-000000\.parquet: cannot be read \(Permission denied\)"):
        done(tmp_path, SHARD, SETTINGS)
