"""Batches on a Ray of this machine: the rows of one process, byte for byte, whichever process is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deadly import Deadly
from fastloc.embedded import SAMPLES
from fastloc.errors import FastlocError
from fastloc.scale import on_ray
from fastloc.scale.batch import batch
from fastloc.scale.locate import Locate
from fastloc.scale.shards import Counts
from repo import REPO

PICTURES, SHARD = 14, 2
# a file that is no picture is one of them
COUNTS = Counts(PICTURES, PICTURES - 1, 1)
SLOW = "starts a Ray of this machine"


@pytest.fixture(scope="module", name="pictures")
def pictures_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures of two sizes, one of which is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(PICTURES - 1):
        sample = Image.open(SAMPLES / ("market.png", "street.png")[number % 2])
        sample.rotate(number).resize((320, 240 + 32 * (number % 3))).save(folder / f"{number:02}.png")
    (folder / "05b.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module", name="locate")
def locate_fixture() -> Locate:
    return Locate(["cat", "pizza"], batch=2, grids=True)


@pytest.fixture(scope="module", name="alone")
def alone_fixture(pictures: Path, locate: Locate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one process makes."""
    folder = tmp_path_factory.mktemp("alone") / "out"
    assert batch([str(pictures)], locate, folder, shard=SHARD) == COUNTS
    return folder


@pytest.fixture(scope="module", name="store")
def store_fixture() -> Iterator[Path]:
    """Ray's folder: the names of its sockets must be short."""
    folder = Path("/tmp") / f"fastloc-{os.getpid()}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", name="ray")
def ray_fixture(store: Path) -> Iterator[object]:
    """One connection for all tests in this process."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(store))
        patch.delenv("RAY_ADDRESS", raising=False)
        # where actors find `deadly`
        patch.setenv("PYTHONPATH", str(REPO / "tests" / "support"))
        with on_ray.connected("local") as ray:
            yield ray


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a batch by their names."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def processes(command: str, parent: int) -> list[int]:
    """Processes below another one whose command begins so."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, encoding="utf-8", check=True).stdout.splitlines()
    rows = [(int(pid), int(above), args) for pid, above, args in (line.split(None, 2) for line in listed)]
    above = {pid: parent_of for pid, parent_of, _ in rows}

    def below(pid: int) -> bool:
        return pid == parent or (pid in above and below(above[pid]))

    return [pid for pid, _, args in rows if args.startswith(command) and below(pid)]


@pytest.mark.slow(SLOW)
def test_actors_make_the_bytes_of_one_process(ray: object, pictures: Path, alone: Path, locate: Locate, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    counts = batch([str(pictures)], locate, folder, shard=SHARD, maker=lambda shards: on_ray.run(locate, shards, folder, actors=2))
    assert counts == COUNTS and contents(folder) == contents(alone)


@pytest.mark.slow(SLOW)
def test_an_actor_that_is_killed_loses_and_doubles_nothing(
    ray: object, pictures: Path, alone: Path, locate: Locate, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    killed: list[int] = []

    def kill(counts: Counts) -> None:
        if not killed:
            killed.extend(processes("ray::MapWorker", os.getpid())[:1])
            os.kill(killed[0], signal.SIGKILL)

    counts = batch(
        [str(pictures)], locate, folder, shard=SHARD, report=kill, maker=lambda shards: on_ray.run(locate, shards, folder, actors=2)
    )
    assert killed and counts == COUNTS and contents(folder) == contents(alone)


@pytest.mark.slow(SLOW)
def test_pictures_that_kill_every_actor_hold_up_no_others(
    ray: object, pictures: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "RETRIES", 1)
    folder, locate = tmp_path / "out", Deadly(["cat", "pizza"], batch=2, grids=True)
    with pytest.raises(FastlocError, match=r"^1 shards are not finished \(2\): their actors died 2 times; the same command tries"):
        batch([str(pictures)], locate, folder, shard=SHARD, maker=lambda shards: on_ray.run(locate, shards, folder, actors=1))
    missing = {"rows/part-000002.parquet", "errors.parquet", "manifest.json"}
    assert {name: content for name, content in contents(alone).items() if name not in missing}.items() <= contents(folder).items()
    assert batch([str(pictures)], locate, folder, shard=SHARD) == COUNTS
    assert contents(folder) == contents(alone)


@pytest.mark.slow(SLOW)
def test_locate_is_a_stage_of_anybodys_pipeline(ray: object, pictures: Path, locate: Locate) -> None:
    import ray.data
    from ray.data import ActorPoolStrategy

    def named(row):  # type: ignore[no-untyped-def]
        return {"key": Path(row["path"]).name, "bytes": row["bytes"]}

    files = ray.data.read_binary_files(str(pictures), include_paths=True).map(named)
    found = files.map_batches(
        Locate, fn_constructor_args=(["cat", "pizza"],), fn_constructor_kwargs={"threads": 1}, batch_size=4,
        compute=ActorPoolStrategy(size=1), num_cpus=1,
    )  # fmt: skip
    rows = sorted(found.take_all(), key=lambda row: (row["key"], row["text_index"]))
    good = [row for row in rows if not row["error"]]
    assert [row["key"] for row in rows if row["error"]] == ["05b.png"]
    assert [row["text"] for row in good] == ["cat", "pizza"] * (PICTURES - 1)
    first = locate({"key": ["00.png"], "path": [str(pictures / "00.png")]})
    assert [(row["peak_x"], row["peak_y"], row["mask"]) for row in good[:2]] == list(
        zip(first["peak_x"], first["peak_y"], first["mask"], strict=True)
    )


@pytest.mark.slow(SLOW)
def test_a_driver_that_is_killed_goes_on_where_it_was(ray: Any, pictures: Path, alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = [
        sys.executable, "-P", "-m", "fastloc", "batch", str(pictures), "-t", "cat", "pizza", "-o", str(folder), "--shard", str(SHARD),
        "--batch", "2", "--grids", "--ray", ray.get_runtime_context().gcs_address, "--actors", "1",
    ]  # fmt: skip
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(folder.glob("rows/part-*")) and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("rows/part-*")}
    assert 0 < len(before) < PICTURES // SHARD
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert ended.returncode == 1 and ended.stdout == f"{folder}: {PICTURES} pictures in, {PICTURES - 1} out, 1 failed\n"
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("rows/part-*")}
    assert before.items() <= after.items() and contents(folder) == contents(alone)
