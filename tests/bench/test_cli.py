"""`python -m fastloc.bench` from outside: bad input before anything starts, a run from command line to record, the regression watch."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastloc.bench import cli, peer_environments, request, run, schema
from fastloc.bench.backends.table import BACKENDS, why_not
from fastloc.recipes import RECIPES
from repo import REPO


@pytest.mark.parametrize(("arguments", "message"), [
    ("--methods gme", "unknown method 'gme': did you mean 'gem'? known methods: itsm, rclip, eclip, gem"),
    ("--models ViT-B-17", "unknown model 'ViT-B-17': did you mean 'ViT-B-16'"),
    ("--models RN50 --methods gem", "method 'gem' is one of transformers, and RN50 is a ResNet; on ResNets there are: itsm, rclip, "),
    ("--models RN50 --suites waterfall", "suite 'waterfall' must have a model that runs gem, got RN50; add one, or use methods and cold"),
    ("--models RN50,ViT-B-16 --methods gem", "method 'gem' is one of transformers, and RN50 is a ResNet"),
    ("--models RN50 --sizes 230", "size must be a multiple of the patch of RN50, 32, got 230; use 224 or 256"),
    ("--sizes 100", "size must be a multiple of the patch of embedded, 8, got 100; use 96 or 104"),
    ("--models ViT-B-16 --sizes 230", "size must be a multiple of the patch of ViT-B-16, 16, got 230; use 224 or 240"),
    ("--backends torhc", "unknown backend 'torhc': did you mean 'torch'?"),
    ("--backends triton --device cpu", "backend 'triton' cannot be measured here: it runs on cuda, not on cpu"),
    ("--backends int8 --dtype float16", "backend 'int8' cannot be measured here: on cpu it computes in float32, not in float16"),
    ("--device tpu", "device must be 'cpu', 'cuda' or one such as 'cuda:1', got 'tpu'"),
    ("--device cuda:7", "device must exist, got 'cuda:7', and there "),
    ("--suites speed", "unknown suite 'speed': "),
    ("--suites peers", "--vs must name the packages that suite 'peers' measures, got none; give --vs peers for all"),
    ("--models ViT-B-16@x", "model 'ViT-B-16@x': its size must be in pixels, such as ViT-B-16@448, got 'x'"),
    ("--models ViT-B-16@450", "size must be a multiple of the patch of ViT-B-16, 16, got 450; use 448 or 464"),
    ("--vs gem_torhc", "unknown peer 'gem_torhc': did you mean 'gem_torch'"),
    ("-o {file}", "--out must be a folder for the records, got the file"),
    ("-o {file}/below", "--out must be a folder for the records, got the file"),
    ("--against nothing", "--against must be a file of records or a commit of "),
    ("--against {empty}", "which holds no records; `python -m fastloc.bench` writes them"),
    ("--against {file}", "line 1, is not a record: "),
])  # fmt: skip
def test_bad_input_is_reported_before_anything_starts(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*arguments: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr("fastloc.bench.worker_pool.WorkerProcess.__init__", started)
    monkeypatch.setattr(run, "run", started)
    file, empty = tmp_path / "a file", tmp_path / "empty"
    file.write_text("no record\n")
    empty.mkdir()
    argv = [each.format(file=file, empty=empty) for each in arguments.split(" ")]
    assert cli.main(argv) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("fastloc.bench: error: ") and message in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    "arguments", ["--batch 0", "--sizes 224,x", "--seconds 0", "--methods ,", "--texts -1", "--dtype float8", "picture.jpg"]
)
def test_a_command_that_cannot_be_understood(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments.split())
    assert stopped.value.code == 2 and "error: " in capsys.readouterr().err


def test_a_peer_without_its_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr(peer_environments, "home", lambda: tmp_path)
    assert cli.main(["--vs", "peers"]) == 1
    assert "make peers" in capsys.readouterr().err


def test_what_is_asked_for_by_default() -> None:
    asked = cli.request(cli.parser().parse_args(["--device", "cpu"]))
    assert asked.methods == tuple(RECIPES) and [one.name for one in asked.models] == ["embedded", "ViT-B-16"]
    assert asked.backends == ("torch", "ort") and asked.dtype == "float32" and asked.peers == () and asked.sizes == ()
    assert asked.suites == ("methods", "waterfall", "cold") and [asked.sizes_of(one) for one in asked.models] == [(96,), (224,)]
    every = cli.request(cli.parser().parse_args(["--device", "cpu", "--backends", "all", "--suites", "all", "--methods", "gem,gem"]))
    here = tuple(name for name, row in BACKENDS.items() if not why_not(row, "cpu", "float32"))
    assert every.backends == here and {"torch", "compile", "ort", "int8-static"} < set(here) and every.methods == ("gem",)
    assert {*every.suites, "peers"} == set(run.names()) == set(cli.SUITES)
    assert [one.size for one in cli.request(cli.parser().parse_args(["--models", "ViT-B-16@448"])).models] == [448]
    assert request.DTYPES[0] == "float32"


@pytest.mark.slow("a whole run of the benchmark")
def test_a_run_leaves_a_record(tmp_path: Path) -> None:
    """One method in the fewest rounds, in a process as a user starts it."""
    command = [sys.executable, "-P", "-m", "fastloc.bench", "--device", "cpu", "--models", "embedded", "--methods", "itsm",
               "--sizes", "48", "--backends", "ort", "--suites", "methods", "--seconds", "0.1", "--threads", "1", "--plot",
               "-o", str(tmp_path)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    rows = schema.read(tmp_path)
    by_name = {row["contender"]: row for row in rows}
    for row in (by_name["encoder"], by_name["ort"]):
        assert row["method"] == "itsm" and 0 < row["ms_p20"] <= row["ms"] <= row["ms_p80"] <= row["ms_p99"] and row["rounds"] >= 5
        assert row["end_ms"] > row["ms"] and row["error"] <= row["allowed"] == 1e-4
        assert row["gflop"] > 0 and row["floor_ms"] > 0 and row["achieved"] == pytest.approx(row["floor_ms"] / row["ms"], rel=1e-3)
        assert row["tokens"] == 37 and row["threads"] == 1 and row["weights"] == "trained" and row["loaded_mb"] > 10
    assert by_name["encoder"]["plan"]["attention"] == "sdpa" and by_name["ort"]["provider"] == "cpu"
    assert list(by_name["ort"]["ratios"]) == ["encoder"] and by_name["encoder"]["ratios"] == {}
    assert {row["contender"] for row in rows if row["suite"] == "ceilings"} == {"product float32", "copy", "cache copy"}
    assert not [row for row in rows if "failed" in row]
    assert "ort" in done.stdout and list(tmp_path.rglob("*.png")) and list(tmp_path.rglob("*.svg"))


@pytest.mark.slow("a run of the benchmark")
def test_an_interrupt_keeps_the_record(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "fastloc.bench", "--device", "cpu", "--models", "embedded", "--methods", "itsm",
               "--backends", "torch", "--suites", "methods", "--seconds", "600", "--threads", "1", "--json",
               "-o", str(tmp_path)]  # fmt: skip
    # as in a terminal: where the tests run in the background, a shell may have made them ignore the signal
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    assert process.stderr
    for line in process.stderr:
        if "round 1" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and "interrupted; " in err
    rows = schema.read(tmp_path)
    assert [json.loads(line) for line in out.splitlines()] == rows
    assert {row["contender"] for row in rows if row["suite"] == "methods"} == {"encoder", "torch"}


@pytest.mark.slow("runs two checkouts")
@pytest.mark.skipif(shutil.which("git") is None or not (REPO / ".git").exists(), reason="not a checkout")
def test_the_regression_watch_finds_a_planted_slow_down(tmp_path: Path) -> None:
    """Two checkouts: a clone of this one as it is, and then with a sleep in the torch backend."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(REPO), str(clone)], check=True)
    # what is not committed yet is watched too
    for folder in ("fastloc", "kernels", "export"):
        shutil.rmtree(clone / folder)
        shutil.copytree(REPO / folder, clone / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", str(clone), "-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "as it is"], check=True)
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "fastloc").symlink_to(clone / "fastloc")
    row = {"run": "20260101-000000", "suite": "methods", "contender": "torch", "device": "a CPU", "commit": "HEAD", "versions": {},
           "model": "embedded", "method": "itsm", "height": 96, "batch": 1, "texts": 4, "dtype": "float32"}  # fmt: skip
    schema.Log(tmp_path / "record.jsonl").add(row)

    def watched() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "fastloc.bench", "--against", str(tmp_path / "record.jsonl"), "--seconds", "0.1",
                   "--threads", "1", "--threshold", "100"]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
                              env=os.environ | {"PYTHONPATH": str(tmp_path / "path")})  # fmt: skip

    planted = clone / "fastloc" / "bench" / "backends" / "torch_backend.py"
    text = planted.read_text()
    slow = "    def model(index: int) -> Tensor:\n        __import__('time').sleep(0.5)\n        return run("
    assert text.count("    def model(index: int) -> Tensor:\n        return run(") == 1
    planted.write_text(text.replace("    def model(index: int) -> Tensor:\n        return run(", slow))
    bad = watched()
    assert bad.returncode == 1 and "SLOWER embedded 96 px, itsm, torch float32" in bad.stdout, bad.stdout + bad.stderr
    # nothing is left behind in the repository
    trees = subprocess.run([*git, "worktree", "list"], capture_output=True, text=True, check=True).stdout
    assert len(trees.splitlines()) == 1
