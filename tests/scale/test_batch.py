"""A batch: rows are what Result says, the same bytes however they are made, and a run that is ended anywhere loses and doubles nothing."""

import copy
import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco

import command_line
from fastloc import Localizer
from fastloc.embedded import GEM_ONNX
from fastloc.errors import FastlocError
from fastloc.results.batch_choice import BatchChoice
from fastloc.scale import Locate
from fastloc.scale.batch import batch
from fastloc.scale.locate import Found
from fastloc.scale.manifest import read
from fastloc.scale.one_process import run as in_this_process
from fastloc.scale.rows import COLUMNS
from fastloc.scale.shards import Counts, Shard, commit, shards
from fastloc.scale.sources.listing import items
from repo import REPO

run = command_line.run_fixture

TEXTS = ["a cat", "a pizza"]
COUNT = 11


@pytest.fixture(name="photos", scope="module")
def photos_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three sizes, and one that is none."""
    folder = tmp_path_factory.mktemp("batch") / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for index in range(COUNT):
        size = [(48, 64), (64, 48), (80, 80)][index % 3]
        coarse = Image.fromarray(noise.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize(size).save(folder / f"{index:03d}.png")
    (folder / "005.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(name="locate", scope="module")
def locate_fixture() -> Locate:
    return Locate(TEXTS, batch=2, threads=2, grids=True)


def rows(folder: Path) -> dict[str, bytes]:
    """Every file of rows and errors, byte for byte."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.glob("*/*")) if path.suffix == ".parquet"}


def table(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "rows").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(name="made", scope="module")
def made_fixture(photos: Path, locate: Locate) -> Path:
    """The rows of an undisturbed run."""
    folder = photos.parent / "undisturbed"
    assert batch([str(photos)], locate, folder, shard=4) == Counts(COUNT, COUNT - 1, 1)
    return folder


def test_rows_are_what_the_result_says(photos: Path, made: Path) -> None:
    found = table(made)
    names = [f"{index:03d}.png" for index in range(COUNT) if index != 5]
    assert [(row["key"], row["text_index"]) for row in found] == [(name, index) for name in names for index in (0, 1)]
    localizer = Localizer()
    for name, pair in zip(names[:4], zip(found[::2], found[1::2], strict=True), strict=False):
        result = localizer(photos / name, TEXTS)
        masks = result.masks(0.5)
        for index, (row, entry) in enumerate(zip(pair, result.to_dict(0.5)["texts"], strict=True)):
            assert (row["width"], row["height"]) == result.picture.size
            assert (row["text"], row["peak_x"], row["peak_y"]) == (TEXTS[index], entry["peak"]["x"], entry["peak"]["y"])
            assert row["similarity"] == pytest.approx(entry["peak"]["similarity"], abs=1e-5)
            assert row["score"] == pytest.approx(entry["score"], abs=1e-5)
            assert [(box["x0"], box["y0"], box["x1"], box["y1"]) for box in row["boxes"]] == [
                (box["x0"], box["y0"], box["x1"], box["y1"]) for box in entry["boxes"]
            ]
            mask = coco.decode({"size": [row["height"], row["width"]], "counts": row["mask"].encode()})
            assert (mask != masks[index]).mean() < 1e-3
            grid = np.array(row["grid"], np.float32).reshape(row["grid_height"], row["grid_width"])
            np.testing.assert_allclose(grid, result.similarity[index], atol=1e-3)


def test_what_failed_has_a_row_with_the_reason_and_the_manifest_counts(made: Path) -> None:
    (error,) = pq.read_table(made / "errors.parquet").to_pylist()
    assert error["key"] == "005.png"
    assert "not a picture" in error["reason"]
    rows = read(made)
    assert rows is not None
    assert (rows.counts, rows.shards, rows.shard) == (Counts(COUNT, COUNT - 1, 1), 3, 4)


def test_rows_have_the_same_bytes_on_any_number_of_threads_and_in_pickled_copies(photos: Path, locate: Locate, made: Path) -> None:
    other = pickle.loads(pickle.dumps(locate))
    other.threads = 1
    assert "_engine" not in vars(other)
    batch([str(photos)], other, photos.parent / "one_thread", shard=4)
    assert rows(photos.parent / "one_thread") == rows(made)


def test_a_batch_that_was_measured_is_kept_by_the_folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastloc.scale.locate.find_batch", lambda work: BatchChoice(work(3) // threads, {}, "as the test says"))
    threads, said = 2, []
    automatic = Locate(TEXTS, batch="auto", threads=threads, size=64)
    assert automatic.localizer.batch == 8
    # with the same model
    again = copy.copy(automatic)
    for missing in (lambda: automatic.settings, lambda: next(automatic.windows([]))):
        with pytest.raises(FastlocError, match=r"batch must be a number before .*, got 'auto'"):
            missing()
    assert batch([str(photos)], automatic, tmp_path / "auto", shard=4, chosen=said.append) == Counts(COUNT, COUNT - 1, 1)
    begun = read(tmp_path / "auto")
    assert begun is not None and begun.settings.batch == 3 == pickle.loads(pickle.dumps(automatic)).batch
    batch([str(photos)], automatic, tmp_path / "three", shard=4)
    assert rows(tmp_path / "auto") == rows(tmp_path / "three")
    # a run that goes on measures nothing
    monkeypatch.setattr("fastloc.scale.locate.find_batch", lambda work: BatchChoice(5, {}, "never"))
    (tmp_path / "auto" / "rows" / "part-000001.parquet").unlink()
    batch([str(photos)], again, tmp_path / "auto", shard=4, chosen=said.append)
    assert rows(tmp_path / "auto") == rows(tmp_path / "three")
    assert said == ["batch 3: as the test says", f"batch 3: {tmp_path / 'auto'} holds rows made with it"]


def test_settings_are_the_same_in_a_copy_that_runs_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GEM_ONNX.parent)
    here = Locate(TEXTS, model=GEM_ONNX.name)
    copy = pickle.dumps(here)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(copy).settings == here.settings


def test_called_with_arrays_it_gives_the_same_rows_as_arrays(photos: Path, locate: Locate, made: Path) -> None:
    names = np.array(sorted(path.name for path in photos.iterdir()), object)
    contents = np.array([(photos / name).read_bytes() for name in names], object)
    found = locate({"key": names, "bytes": contents, "something": contents})
    assert set(found) == {*COLUMNS, "error"}
    assert {len(column) for column in found.values()} == {2 * (COUNT - 1) + 1}
    by_row = table(made)
    assert found["key"][:-1].tolist() == [row["key"] for row in by_row]
    np.testing.assert_array_equal(found["value"][:-1], np.array([row["value"] for row in by_row], np.float32))
    assert found["mask"][:-1].tolist() == [row["mask"] for row in by_row]
    assert (found["key"][-1], bool(found["error"][-1])) == ("005.png", True)
    with pytest.raises(FastlocError, match="a batch must have the columns 'key' and one of image, bytes, path"):
        locate({"key": names})


def test_a_score_or_no_masks_leave_columns_empty(photos: Path) -> None:
    picture = {"key": np.array(["x"], object), "path": np.array([str(photos / "000.png")], object)}
    plain = Locate(TEXTS, masks=False)(picture)
    assert (plain["mask"].tolist(), plain["grid"].tolist()) == ([None, None], [None, None])
    assert all(plain["boxes"])
    strict = Locate(TEXTS, score=1.0)(picture)
    assert (strict["mask"].tolist(), strict["boxes"].tolist()) == ([None, None], [[], []])


def stopping(locate: Locate, folder: Path, after: int) -> Any:
    """A maker that fails before shard `after` is committed."""

    def make(todo: Iterator[Shard]) -> Iterator[tuple[int, Counts]]:
        for number, counts in in_this_process(locate, todo, folder):
            yield number, counts
            if number + 1 == after:
                raise KeyboardInterrupt

    return make


def test_an_ended_run_goes_on_behind_what_is_finished(photos: Path, locate: Locate, made: Path) -> None:
    folder = photos.parent / "ended"
    with pytest.raises(KeyboardInterrupt):
        batch([str(photos)], locate, folder, shard=4, maker=stopping(locate, folder, 2))
    kept = {name: (folder / name).stat().st_mtime_ns for name in rows(folder)}
    assert len(kept) == 3
    # half a shard under its name, of a disk that lied, and half of one under a random name
    (folder / "rows" / "part-000000.parquet").write_bytes(rows(folder)["rows/part-000000.parquet"][:-20])
    (folder / "rows" / ".part-000002.parquet.0123456789abcdef.part").write_bytes(b"PAR1")
    assert batch([str(photos)], locate, folder, shard=4) == Counts(COUNT, COUNT - 1, 1)
    assert rows(folder) == rows(made)
    assert (folder / "rows" / "part-000001.parquet").stat().st_mtime_ns == kept["rows/part-000001.parquet"]
    assert not list(folder.rglob("*.part"))


def test_pictures_that_come_and_go_are_made_and_unmade(photos: Path, locate: Locate, made: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("000.png", "001.png", "002.png"):
        (few / name).write_bytes((photos / name).read_bytes())
    out = tmp_path / "out"
    batch([str(few)], locate, out, shard=1)
    (few / "001.png").write_bytes(b"")
    (few / "002.png").unlink()
    assert batch([str(few)], locate, out, shard=1) == Counts(2, 2, 0)
    assert [row["key"] for row in table(out)] == ["000.png"] * 2 + ["001.png"] * 2
    # of failed ones another try
    (few / "003.png").write_bytes(b"")
    assert batch([str(few)], locate, out, shard=1).failed == 1
    (few / "003.png").write_bytes((photos / "003.png").read_bytes())
    assert batch([str(few)], locate, out, shard=1).failed == 1
    assert batch([str(few)], locate, out, shard=1, retry=True) == Counts(3, 3, 0)
    assert pq.read_table(out / "errors.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("file", OSError(errno.EMFILE, "Too many open files")), ("file", MemoryError()),
        ("model", MemoryError()), ("model", RuntimeError("DefaultCPUAllocator: can't allocate memory: planted")),
    ],
    ids=["files", "memory of a picture", "memory of a pass", "memory of a tensor"],
)  # fmt: skip
def test_pictures_for_which_something_ran_out_are_tried_again(
    place: str, error: Exception, photos: Path, locate: Locate, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same command, and they end as if nothing had been; the others stay as they are."""
    owner, name = (os, "open") if place == "file" else (locate.localizer, "locate")
    usual = getattr(owner, name)

    def short(*given: Any, **more: Any) -> Any:
        if place == "model" or str(given[0]).endswith("002.png"):
            raise error
        return usual(*given, **more)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, short)
        assert batch([str(photos)], locate, out, shard=4).failed == (2 if place == "file" else COUNT)
    before = {path.name: path.stat().st_mtime_ns for path in (out / "rows").iterdir()}
    assert batch([str(photos)], locate, out, shard=4) == Counts(COUNT, COUNT - 1, 1)
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")} == {
        path.relative_to(made): path.read_bytes() for path in made.rglob("*.*")
    }
    again = {path.name for path in (out / "rows").iterdir() if before[path.name] != path.stat().st_mtime_ns}
    assert again == ({"part-000000.parquet"} if place == "file" else set(before))


def test_rows_that_do_not_add_up_are_an_error(photos: Path, locate: Locate, tmp_path: Path) -> None:
    def losing(todo: Iterator[Shard]) -> Iterator[tuple[int, Counts]]:
        for number, counts in in_this_process(locate, todo, tmp_path / "out"):
            (tmp_path / "out" / "rows" / "part-000001.parquet").unlink(missing_ok=True)
            yield number, counts

    with pytest.raises(FastlocError, match=r"11 pictures came in, 7 came out and 1 failed, which does not add up"):
        batch([str(photos)], locate, tmp_path / "out", shard=4, maker=losing)
    with pytest.raises(FastlocError, match="4 pictures came in and 0 came out"):
        commit(tmp_path, next(shards(items([str(photos)]), 4)), Found([], []), locate.settings)


def test_a_full_disk_is_one_line_and_loses_nothing(
    photos: Path, locate: Locate, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pq.write_table

    def full(found: Any, file: Any, **options: Any) -> None:
        if "part-000001" in str(file.name):
            file.write(b"PAR1")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(found, file, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full)
        with pytest.raises(FastlocError, match=r"part-000001\.parquet: cannot be written \(No space left on device\)"):
            batch([str(photos)], locate, tmp_path / "out", shard=4)
    assert list(rows(tmp_path / "out")) == ["rows/part-000000.parquet"]
    assert not list(tmp_path.rglob("*.part"))
    batch([str(photos)], locate, tmp_path / "out", shard=4)
    assert rows(tmp_path / "out") == rows(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.7}, "threshold must be 0.5, as for the rows in "),
        ({"texts": ["a dog"]}, "texts must be "),
        ({"method": "clip_surgery"}, "method must be 'gem', as for the rows in "),
        ({"decode": "reduced"}, "decode must be 'full', as for the rows in "),
    ],
)
def test_settings_that_change_rows_may_not_change(photos: Path, made: Path, change: dict[str, Any], message: str) -> None:
    other = Locate(**{"texts": TEXTS, "batch": 2, "grids": True, **change})
    with pytest.raises(FastlocError) as raised:
        batch([str(photos)], other, made, shard=4)
    assert message in str(raised.value)


def test_pictures_are_decoded_at_a_reduced_scale_where_a_folder_says_so(photos: Path, locate: Locate, tmp_path: Path) -> None:
    """Rows are those of the same call of a localizer; a manifest of an earlier version, which names no scale, goes on as "full"."""
    Image.open(photos / "000.png").convert("RGB").resize((1000, 750), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg")
    source, reduced = [str(tmp_path / "large.jpg")], Locate(TEXTS, decode="reduced")
    batch(source, reduced, tmp_path / "reduced")
    peaks = [(row["peak_x"], row["peak_y"], row["similarity"]) for row in table(tmp_path / "reduced")]
    for scale, same in (("reduced", True), ("full", False)):
        points = Localizer()(tmp_path / "large.jpg", TEXTS, decode=scale).points()
        expected = [value for point in points for value in (point.x, point.y, point.similarity)]
        assert ([value for peak in peaks for value in peak] == pytest.approx(expected, abs=1e-6)) == same, scale
    assert pickle.loads(pickle.dumps(reduced)).settings == reduced.settings and reduced.settings.hash() != Locate(TEXTS).settings.hash()

    batch(source, locate, tmp_path / "older")
    path, before = tmp_path / "older" / "manifest.json", rows(tmp_path / "older")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    assert manifest["settings"].pop("decode") == "full"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert batch(source, locate, tmp_path / "older").located == 1 and rows(tmp_path / "older") == before
    named = [pq.read_schema(part).metadata[b"fastloc"] for part in (tmp_path / "older" / "rows").glob("*.parquet")]
    assert named and not any(b'"decode"' in each for each in named)
    with pytest.raises(FastlocError, match="decode 'half'"):
        Locate(TEXTS, decode="half")


def test_the_command_counts_and_fails_where_a_picture_did(run: command_line.Run, photos: Path) -> None:
    ended = run("batch", photos, "-t", *TEXTS, "-o", "out", "--no-heatmaps", "--shard", 6)
    assert (ended.status, ended.out) == (1, "out: 11 pictures in, 10 out, 1 failed\n")
    assert "1 of 11 pictures could not be used: see out" in ended.err
    assert {row["mask"] for row in table(Path("out"))} == {None}
    assert run("batch", photos / "000.png", "-t", "a cat", "-o", "one").status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere://bucket", "-o", "new"], "nowhere://bucket: cannot be listed"),
        (["nothing", "-o", "new"], "nothing: no such file or folder"),
        (["{photos}", "-o", "file"], "--output must be a folder, got the file file"),
        (["{photos}", "-o", "file/new"], "cannot be made"),
        (["{photos}", "-o", "full"], "full must be a new folder or a batch's"),
        (["{photos}", "-o", "s3://bucket/rows"], "-o must be a folder, got the address s3://bucket/rows"),
        (["{photos}", "-o", "new", "--grids", "--no-heatmaps"], "--no-heatmaps must stand without --grids"),
        (["{photos}", "-o", "new", "--actors", "2"], "--actors must come with --ray"),
        (["{photos}", "-o", "older"], "must be of format 1, got 0 of fastloc '0.1.0'; give another folder with -o"),
        (["{photos}", "-o", "damaged"], "manifest.json"),
        (["{photos}", "-o", "new", "--min-score", "2"], "score must be a number from 0 to 1, got 2.0"),
    ],
)
def test_bad_input_is_one_line(run: command_line.Run, photos: Path, arguments: list[str], message: str) -> None:
    for folder, name in (("full", "mine.txt"), ("older", "manifest.json"), ("damaged", "manifest.json")):
        Path(folder).mkdir()
        Path(folder, name).write_text('{"format": 0, "fastloc": "0.1.0"}' if folder == "older" else "{", encoding="utf-8")
    Path("file").touch()
    ended = run("batch", *(each.format(photos=photos) for each in arguments), "-t", "a cat")
    line = [each for each in ended.err.splitlines() if not each.startswith("fastloc: note")]
    assert ended.status == 1
    assert len(line) == 1
    assert message in line[0]


def test_a_package_that_is_missing_is_named_with_its_extra(run: command_line.Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ended = run("batch", photos, "-t", "a cat", "-o", "out")
    assert ended.status == 1
    assert 'pip install "fastloc[scale]"' in ended.err
    assert not Path("out").exists()


# kills itself in the middle of writing a shard
HALF = """
import os, pyarrow.parquet as pq, sys
from fastloc.cli import main
write = pq.write_table
def half(table, file, **options):
    if "part-000001" in str(file.name) and "rows" in str(file.name):
        file.write(b"PAR1" + bytes(100)); file.flush(); os.kill(os.getpid(), 9)
    write(table, file, **options)
pq.write_table = half
main(sys.argv[1:])
"""


@pytest.mark.slow("processes that import torch, killed")
def test_killed_at_any_moment_it_ends_with_the_same_rows(photos: Path, locate: Locate, made: Path) -> None:
    out = photos.parent / "killed"
    arguments = ["batch", photos, "-t", *TEXTS, "-o", out, "--grids", "--batch", 2, "--shard", 4]
    command = [sys.executable, "-P", "-m", "fastloc", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    killed = subprocess.run([sys.executable, "-P", "-c", HALF, *command[4:]], cwd=REPO, env=environment, capture_output=True, timeout=100)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((out / "rows").glob(".*.part"))) == 1
    for _ in range(2):
        process = subprocess.Popen(command, cwd=REPO, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before, end = rows(out), time.monotonic() + 60
        while process.poll() is None and rows(out) == before and time.monotonic() < end:
            time.sleep(0.002)
        process.kill()
        process.wait()
    assert subprocess.run(command, cwd=REPO, env=environment, capture_output=True, timeout=100).returncode == 1
    assert rows(out) == rows(made)
    assert not list(out.rglob("*.part"))


def test_a_source_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FastlocError, match="no such file or folder"):
        batch([str(tmp_path / "nowhere")], Locate(["cat"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()
