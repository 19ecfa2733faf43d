"""The soak: growth is distinguished from noise, a process that keeps things is found, and all of its parts run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

import soak
from doc_tables.soak import soak_table
from soak_parts import record, run, tally
from soak_parts.growth import growth
from soak_parts.held import files_below, heap_in_use, held

HOUR = np.arange(0.0, 3600.0, 5.0)


def noise(seed: int, likeness: float) -> np.ndarray:
    """Values like those before them: an autoregressive series of variance 1."""
    random = np.random.default_rng(seed)
    steps = random.standard_normal(len(HOUR)) * np.sqrt(1 - likeness**2)
    found = np.zeros(len(HOUR))
    found[0] = random.standard_normal()
    for i in range(1, len(found)):
        found[i] = likeness * found[i - 1] + steps[i]
    return found


def test_a_slope_is_that_of_an_hour() -> None:
    row = growth(HOUR, 500 + 7 * HOUR / 3600, 1.0)
    assert row["slope"] == pytest.approx(7) and row["error"] == pytest.approx(0, abs=1e-9) and row["verdict"] == "grows"
    assert row["first"] == pytest.approx(500 + 7 * 0.5125, abs=0.01) and row["last"] == pytest.approx(500 + 7 * 0.9868, abs=0.02)
    assert growth(HOUR, np.full(len(HOUR), 12.0), 1.0)["verdict"] == "flat"
    assert growth(HOUR, 500 - 7 * HOUR / 3600, 1.0)["verdict"] == "falls"
    assert growth(HOUR[:4], HOUR[:4], 1.0)["verdict"] is None


def test_a_rise_at_the_beginning_is_no_growth_and_less_than_the_limit_is_none() -> None:
    assert growth(HOUR, np.minimum(HOUR, 900.0), 1.0)["verdict"] == "flat"
    assert growth(HOUR, 0.9 * HOUR / 3600, 1.0)["verdict"] == "flat"
    # one descriptor that is opened late and kept is none; one each ten minutes is
    assert growth(HOUR, np.where(HOUR > 3500, 11.0, 10.0), 1.0)["verdict"] == "flat"
    assert growth(HOUR, 10 + HOUR // 600, 1.0)["verdict"] == "grows"


@pytest.mark.parametrize("likeness", [0.0, 0.9, 0.99])
def test_values_like_their_neighbours_are_seldom_called_growth(likeness: float) -> None:
    """Of a series without a slope a twentieth is outside a 95 % interval; a few more where a hundred samples are like one."""
    outside = sum(not row["low"] <= 0 <= row["high"] for row in (growth(HOUR, noise(seed, likeness), 0.0) for seed in range(200)))
    assert outside <= {0.0: 20, 0.9: 20, 0.99: 50}[likeness]
    grown = [growth(HOUR, noise(seed, likeness) + 20 * HOUR / 3600, 1.0)["verdict"] for seed in range(20)]
    assert grown.count("grows") >= 18


LEAK = """
import sys, threading, time
kept, gone = [], threading.Event()
print("there", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[1])):
    kept.append(open("/dev/null")); kept.append(bytearray(b"x") * 10_000_000)
    kept.append(threading.Thread(target=gone.wait, daemon=True)); kept[-1].start()
print("kept", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_what_a_process_and_its_children_keep_is_seen() -> None:
    # below a shell, as a server's workers are below it
    command = ["sh", "-c", f'"{sys.executable}" -c "$0" 5; true', LEAK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "there\n"
        before = held(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "kept\n"
        after = held(process.pid)
        process.stdin.write("\n")
        process.stdin.close()
    assert after["descriptors"] - before["descriptors"] == 5 and after["threads"] - before["threads"] == 5
    assert 49 < after["rss_mb"] - before["rss_mb"] < 60 and after["pss_mb"] <= after["rss_mb"]
    assert held(process.pid) == dict.fromkeys(before, 0.0)


@pytest.mark.skipif(heap_in_use() is None, reason="needs mallinfo2 of the C library")
def test_the_heap_in_use_is_what_is_kept_and_not_what_the_allocator_keeps() -> None:
    before = heap_in_use()
    # arrays between ones that stay: the allocator cannot give their pages back
    arrays = [np.ones(10_000, np.uint8) for _ in range(2000)]
    assert heap_in_use() - before == pytest.approx(20, abs=2)
    del arrays[::2]
    assert heap_in_use() - before == pytest.approx(10, abs=2)


def test_files_are_counted_in_all_folders(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("a/1", "a/b/2", "3"):
        (tmp_path / name).touch()
    assert files_below([tmp_path]) == 3 and files_below([tmp_path / "a", tmp_path / "none"]) == 2


def test_a_tally_is_whole_whenever_it_is_read(tmp_path: Path) -> None:
    assert tally.read(tmp_path / "t.json") == {"counts": {}, "problems": [], "heap_mb": None}
    with tally.Tally(tmp_path / "t.json") as counted:
        counted.add("calls", 3)
        counted.problem("x" * 1000)
    found = tally.read(tmp_path / "t.json")
    assert found["counts"] == {"calls": 3, "wrong": 1} and found["problems"] == ["x" * 400]


def test_a_log_with_a_fault_is_reported(tmp_path: Path) -> None:
    (tmp_path / "good.log").write_text("http://127.0.0.1:8020 (Ctrl-C ends)\n")
    (tmp_path / "bad.log").write_text("Task exception was never retrieved\nfuture: <Task finished ...>\n")
    assert run._of_logs(tmp_path) == ["bad says: never retrieved future: <Task finished ...>"]


def test_a_record_and_its_table_say_what_grew(tmp_path: Path) -> None:
    row = {"process": "serve", "kind": "rss_mb", "unit": "MB", **growth(HOUR, 500 + 7 * HOUR / 3600, 1.0)}
    found = {"seconds": 3600.0, "samples": 720, "every": 5.0, "pause": 0.0, "asked": 10, "rows": [row], "done": {"calls": {"calls": 10000}},
             "problems": ["serve: rss_mb grows"]}  # fmt: skip
    record.write({**record.facts(), **found}, tmp_path / "soak.json")
    table = soak_table(json.loads((tmp_path / "soak.json").read_text()))
    assert "| serve | resident memory, MB | 503.6 | 506.9 |" in table and "+7.00" in table and "| grows |" in table
    assert "calls: 10,000 calls" in table and "Wrong: serve: rss_mb grows." in table
    assert record.lines(found)[0] == "calls: 10000 calls"


def test_wrong_options_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in ((["--minutes", "0"], "above 0"), (["--quick", "--record"], "full run")):
        with pytest.raises(SystemExit):
            soak.main(arguments)
        assert message in capsys.readouterr().err


@pytest.mark.slow("half a minute of all processes")
def test_all_of_it_runs_and_ends(tmp_path: Path) -> None:
    pytest.importorskip("httpx2")
    before = dict(os.environ)
    plan = run.Plan(seconds=20.0, every=0.5, calls=300, pause=0.0, judged=False)
    found = run.soak(plan, tmp_path, Path(soak.__file__))
    assert found["problems"] == []
    done = found["done"]
    assert done["calls"]["calls"] >= 20
    for worker, kind in (("streams", "frames of files"), ("streams", "frames of the camera"), ("streams", "frames of pipelines"),
                         ("clients", "answers of serve"), ("clients", "answers of live"), ("clients", "visitors who hang up")):  # fmt: skip
        assert done[worker].get(kind, 0) > 0, (worker, kind)
    assert {row["process"] for row in found["rows"]} == {"serve", "live", "streams", "calls", "clients", "all"}
    # a library leaves one file of 51 bytes, however long it runs
    heaps = {row["process"] for row in found["rows"] if row["kind"] == "heap_mb"}
    assert heaps == ({"streams", "calls", "clients"} if heap_in_use() is not None else set())
    assert dict(os.environ) == before and files_below([tmp_path / "tmp"]) <= 1
