"""Runs over a set with judges of the tests' own: rows, failures, continued runs, and refusals."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloc.errors import FastlocError
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.rows import Row
from fastloc.evaluation.running import folder, progress
from fastloc.evaluation.running.pipeline import AHEAD
from fastloc.evaluation.running.row_file import RowFile
from fastloc.evaluation.running.run import run
from fastloc.evaluation.running.tally import Tally
from stub_evaluation import Counting, Numbers

CHUNK = 4
PLAIN = Protocol(paper="plain", data="numbers", source="")


def rows_of(path: Path, dataset: Numbers, judge: Counting, retry: bool = False) -> list[Row]:
    with RowFile(path, dataset.items(), CHUNK) as file:
        run(dataset, {"one": judge}, {"one": file}, threads=2, retry=retry)
        return list(file.read())


def test_rows_are_those_of_the_set_in_its_order(tmp_path: Path) -> None:
    dataset, judge = Numbers(10), Counting()
    kept = rows_of(tmp_path / "rows.jsonl", dataset, judge)
    assert [row.key for row in kept] == [f"{number:06d}" for number in range(10)]
    assert judge.chunks == [4, 4, 2]
    assert [each.name for each in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize("bytes_left", [0, 1, 150, 400, 10_000])
def test_a_file_that_was_cut_anywhere_ends_with_the_same_bytes(tmp_path: Path, bytes_left: int) -> None:
    path, dataset = tmp_path / "rows.jsonl", Numbers(10, broken=(5,))
    rows_of(path, dataset, Counting())
    whole = path.read_bytes()
    path.write_bytes(whole[:bytes_left])
    again = Counting()
    rows_of(path, dataset, again)
    assert path.read_bytes() == whole
    # only what was not there as whole chunks, of 4 pictures, 3 and one that is broken, and 2
    lines = whole[:bytes_left].count(b"\n")
    assert again.chunks == [4, 3, 2][3 if lines == 10 else lines // CHUNK :]


def test_what_cannot_be_read_prepared_or_judged_is_a_row_with_its_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    judge = Counting(unprepared=(2,), unjudged=(6,))
    rows = rows_of(tmp_path / "rows", Numbers(10, broken=(0, 5)), judge)
    assert {row.key: row.error for row in rows if row.error} == {
        "000000": "picture 0 is broken", "000002": "picture 2 is not prepared", "000005": "picture 5 is broken",
        "000006": "picture 6 is not judged",
    }  # fmt: skip
    # the chunk with 6 was tried as a whole, then each alone
    assert judge.chunks == [2, 3, 1, 1, 1, 2]
    assert [row.key for row in rows] == [f"{number:06d}" for number in range(10)]


def test_failed_pictures_are_tried_again_where_that_is_asked_and_the_file_is_as_if_they_never_failed(tmp_path: Path) -> None:
    path, good = tmp_path / "rows.jsonl", Numbers(10)
    rows_of(tmp_path / "good.jsonl", good, Counting())
    rows_of(path, Numbers(10, broken=(1, 9)), Counting())
    again = Counting()
    rows_of(path, good, again)
    assert again.chunks == []
    rows_of(path, good, again, retry=True)
    assert again.chunks == [4, 2]
    assert path.read_bytes() == (tmp_path / "good.jsonl").read_bytes()


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")], ids=str
)
def test_pictures_for_which_something_ran_out_are_judged_again_by_the_next_run_and_no_others(tmp_path: Path, error: Exception) -> None:
    """That says nothing about a picture, and a published table is to count it."""
    path, judge = tmp_path / "rows.jsonl", Counting()
    rows_of(tmp_path / "good.jsonl", Numbers(10, broken=(9,)), Counting())
    rows = rows_of(path, Numbers(10, broken=(9,), short={1: error}), Counting())
    assert [row.key for row in rows if row.error] == ["000001", "000009"] and [row.key for row in rows if row.short] == ["000001"]
    rows_of(path, Numbers(10, broken=(9,)), judge)
    assert judge.chunks == [4]
    assert path.read_bytes() == (tmp_path / "good.jsonl").read_bytes()


def test_several_judges_share_each_picture_s_decoding_and_go_on_alone(tmp_path: Path) -> None:
    dataset, judges = Numbers(10), {"one": Counting(), "two": Counting()}
    rows_of(tmp_path / "one", dataset, Counting())
    with (tmp_path / "one").open("r+b") as file:
        file.truncate(len(b"".join((tmp_path / "one").read_bytes().splitlines(keepends=True)[:4])))
    dataset.reads.clear()
    with RowFile(tmp_path / "one", dataset.items(), CHUNK) as one, RowFile(tmp_path / "two", dataset.items(), CHUNK) as two:
        run(dataset, judges, {"one": one, "two": two}, threads=2)
    assert sorted(dataset.reads) == list(range(10))
    assert (judges["one"].chunks, judges["two"].chunks) == ([4, 2], [4, 4, 2])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_few_pictures_are_in_memory_however_long_the_set_is(tmp_path: Path) -> None:
    dataset = Numbers(200)
    most = 0

    class Slow(Counting):
        def judge(self, prepared: Sequence[Any]) -> list[Row]:
            nonlocal most
            most = max(most, len(dataset.reads) - sum(self.chunks))
            return super().judge(prepared)

    rows_of(tmp_path / "rows", dataset, Slow())
    assert CHUNK <= most <= (AHEAD + 1) * CHUNK


def test_rows_of_other_pictures_and_damaged_ones_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows_of(path, Numbers(4), Counting())
    with pytest.raises(FastlocError, match=r"must hold the pictures of the set in its order"):
        RowFile(path, Numbers(8).items()[4:], CHUNK)
    with pytest.raises(FastlocError, match="must hold 0 rows at most"):
        RowFile(path, [], CHUNK)
    path.write_bytes(b"{]\n" + path.read_bytes())
    with pytest.raises(FastlocError, match=r"rows\.jsonl:1 is damaged"):
        RowFile(path, Numbers(4).items(), CHUNK)


def test_one_process_writes_to_a_folder(tmp_path: Path) -> None:
    with folder.locked(tmp_path / "run"):
        with pytest.raises(FastlocError, match="must have one writer"), folder.locked(tmp_path / "run"):
            pass
        assert (tmp_path / "run").is_dir()
    # it never began
    assert not (tmp_path / "run").exists()


def test_the_figure_so_far_is_that_of_what_is_counted() -> None:
    tally = Tally(("a", "b", "c"), PLAIN)
    assert str(tally) == ""
    tally.add(Row("a", counts=((0, 0, 6), (1, 1, 2), (1, 0, 2), (2, -1, 4))))
    tally.add(Row("b", error="broken"))
    assert (tally.rows, tally.failed) == (2, 1)
    assert str(tally) == f"mIoU {100 * np.mean([6 / 8, 2 / 4, 0]):.1f}"


def test_a_line_now_and_then_says_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    dataset = Numbers(10, broken=(9,))
    files = {name: RowFile(tmp_path / name, dataset.items(), CHUNK) for name in ("one", "two")}
    with files["one"], files["two"], progress.shown({name: Tally(dataset.classes, PLAIN) for name in files}, 10) as report:
        run(dataset, {name: Counting() for name in files}, files, threads=1, report=report)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6 and lines[0].startswith("fastloc: 4 of 20, ") and " s left, one mIoU 0.0" in lines[0]
    assert lines[-1].startswith("fastloc: 20 of 20, ") and ", 0 s left, 2 failed, one mIoU 0.0, two mIoU 0.0" in lines[-1]


@pytest.mark.slow("starts processes and kills them")
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    path, items = tmp_path / "rows.jsonl", 60
    rows_of(tmp_path / "whole", Numbers(items), Counting())
    for _ in killed(path, items):
        pass
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()


def killed(path: Path, items: int) -> Iterator[int]:
    """Run in processes that are killed as soon as more is in the file, until one comes to its end."""
    code = (
        "import sys, time; sys.path.insert(0, 'tests/support'); from pathlib import Path; from stub_evaluation import Counting, Numbers\n"
        "from fastloc.evaluation.running.row_file import RowFile; from fastloc.evaluation.running.run import run\n"
        f"dataset = Numbers({items}, pause=0.01)\n"
        f"with RowFile(Path({str(path)!r}), dataset.items(), {CHUNK}) as file:\n"
        "    run(dataset, {'one': Counting()}, {'one': file}, threads=2)"
    )
    for kills in range(3):
        before = path.stat().st_size if path.exists() else 0
        with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as process:
            while process.poll() is None and kills < 2 and (not path.exists() or path.stat().st_size <= before):
                time.sleep(0.005)
            if kills < 2:
                os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=60)
            assert process.returncode == (-signal.SIGKILL if kills < 2 else 0)
        yield kills
