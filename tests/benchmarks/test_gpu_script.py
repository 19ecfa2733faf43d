"""The GPU script without a GPU: clocks, processes, records and the exit code; nothing that goes wrong stops it."""

import json
import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import gpu
from fastloc.bench import schema
from fastloc.bench.roofline.ceilings import rates
from gpu_parts import fleet, job, wheels
from repo import REPO

CPU = torch.device("cpu")
HEAD = {"device": "a CPU", "capability": None, "driver": None, "torch": "t", "triton": "t", "cuda": None, "python": "p", "commit": "c",
        "code": "x"}  # fmt: skip


# times and clocks


# processes


# the runner


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The runner with parts of the tests' own, by name; the machine's facts are made up."""
    parts: dict[str, Any] = {}
    monkeypatch.setattr(gpu, "PARTS", dict.fromkeys(("gate", "speed", "frames"), 1.0))

    def module(part: str) -> Any:
        return types.SimpleNamespace(run=parts[part], lines=lambda record: [f"{len(record['rows'])} rows"])

    monkeypatch.setattr(gpu, "_module", module)
    monkeypatch.setattr(gpu, "_facts", lambda device: {name: HEAD[name] for name in HEAD if name not in ("commit", "code")})
    monkeypatch.setattr(job, "code", lambda: "x")
    # set by the script, and not for the tests after this one
    monkeypatch.setenv("TRITON_INTERPRET", os.environ.get("TRITON_INTERPRET", "1"))
    return parts


def good(one: job.Job) -> None:
    one.good = True
    head = {"model": "tiny", "size": 32, "batch": 1, "config": "tiny 32 b1"}
    if one.part == "speed":
        one.row(**head, contender="default", dtype="float32", ms=1.0, working_mb=2.0, rounds=2, calls=6, error=1e-6)
        one.row(**head, contender="official float32", dtype="float32", ms=9.0, error=float("nan"))
    else:
        one.row(what="a number", frame="tiny", batch=1, ms=1.0)


def run(folder: Path, *more: str) -> int:
    return gpu.main(["--device", "cpu", "--one-process", "--commit", "c", "-o", str(folder), *more])


def test_records_and_summary(made_up: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up |= dict.fromkeys(("gate", "speed", "frames"), good)
    assert run(tmp_path) == 0
    record = json.loads((tmp_path / "gpu" / "speed.json").read_text(), parse_constant=pytest.fail)
    assert {name: record[name] for name in HEAD} == HEAD
    assert record["part"] == "speed" and record["finished"] and record["rows"][1]["error"] == "nan"
    output = capsys.readouterr().out
    assert "-- speed" in output and output.rstrip().splitlines()[-2] == "good" and str(tmp_path) in output.splitlines()[-1]


def test_a_part_that_fails_is_recorded_and_the_others_run(made_up: dict[str, Any], tmp_path: Path) -> None:
    def fails(one: job.Job) -> None:
        good(one)
        raise RuntimeError("no such thing\nat all")

    made_up |= {"gate": good, "speed": fails, "frames": good}
    assert run(tmp_path) == 1
    record = job.read(tmp_path / "gpu" / "speed.json")
    assert record is not None and record["error"].startswith("RuntimeError: no such thing\n") and "in fails" in record["error"]
    assert len(record["rows"]) == 2 and not record["finished"]
    assert (job.read(tmp_path / "gpu" / "frames.json") or {})["finished"]


def test_a_gate_that_finds_something_fails_the_run(made_up: dict[str, Any], tmp_path: Path) -> None:
    def bad(one: job.Job) -> None:
        one.good = False
        one.row(op="cosine", problems=["it is wrong"])

    made_up |= {"gate": bad, "speed": good, "frames": good}
    assert run(tmp_path) == 1
    # it is remembered when the part is not run again
    assert run(tmp_path) == 1
    made_up["gate"] = good
    assert run(tmp_path, "--again", "--parts", "gate") == 0


def test_what_is_done_is_not_done_again(made_up: dict[str, Any], tmp_path: Path) -> None:
    runs: list[str] = []

    def counted(one: job.Job) -> None:
        runs.append(one.part)
        good(one)
        if one.part == "speed" and len(one.rows) < 4:
            one.left_out.append("the second")

    made_up |= dict.fromkeys(("gate", "speed", "frames"), counted)
    assert run(tmp_path) == 0 and runs == ["gate", "speed", "frames"]
    # cut short, so it goes on with the rows that it has
    assert run(tmp_path) == 0 and runs[3:] == ["speed"]
    assert len((job.read(tmp_path / "gpu" / "speed.json") or {})["rows"]) == 4
    assert run(tmp_path) == 0 and len(runs) == 4
    assert run(tmp_path, "--again", "--parts", "frames") == 0 and runs[4:] == ["frames"]
    assert run(tmp_path, "--quick", "--parts", "gate") == 0 and runs[5:] == ["gate"]


def test_measurements_are_of_one_run(made_up: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    made_up |= dict.fromkeys(("gate", "speed", "frames"), good)
    file = tmp_path / "gpu.jsonl"
    assert run(tmp_path, "--parts", "gate") == 0 and not file.exists()
    moments = iter(("20300101-000000", "20300101-000500", "20300101-001000"))
    monkeypatch.setattr(gpu.time, "strftime", lambda *arguments: next(moments))
    run(tmp_path, "--parts", "speed")
    run(tmp_path, "--parts", "speed", "frames")
    rows = schema.read(tmp_path)
    assert [row["suite"] for row in rows] == ["gpu-speed", "gpu-speed", "gpu-frames"]
    # begun by the gate, before the clock was turned
    assert len({row["run"] for row in rows}) == 1 and rows[0]["run"] < "2030"
    assert rows[0]["device_working_mb"] == 2.0 and rows[0]["note"] == "percentiles are of means of 3 calls" and rows[0]["allowed"] == 1e-4
    # a wrong contender has no time
    assert rows[1]["contender"] == "official" and rows[1]["failed"] == "its error is nan" and "ms" not in rows[1]
    # tiny shapes are no part of it, nor is what cannot be read as a measurement
    made_up["speed"] = lambda one: one.row(contender="default", config="cut short")
    run(tmp_path, "--again", "--quick", "--parts", "speed")
    assert "not in gpu.jsonl: speed: KeyError: 'model'" in capsys.readouterr().out and schema.read(tmp_path) == rows


def test_a_module_of_the_checkout_as_a_command() -> None:
    code, output = fleet.module("fastloc", ["--version"], 60)
    assert code == 0 and output.startswith("fastloc ")
    # interrupted, it prints the results so far
    slow = ["-n", "1", "-r", "1", "-s", "print('begun', flush=True)", "import time; time.sleep(60)"]
    code, output = fleet.module("timeit", slow, 3)
    assert code == fleet.LATE and "begun" in output and "KeyboardInterrupt" in output


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    """A folder with a wheel in four parts and a whole one."""
    folder = tmp_path / "carried"
    folder.mkdir()
    with zipfile.ZipFile(folder / "other_package-1-py3-none-any.whl", "w") as archive:
        archive.writestr("other_package.py", "WHOLE = True")
    whole = tmp_path / "large.whl"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large_package/__init__.py", "from large_package.data import SIZE")
        archive.writestr("large_package/data.py", f"NOISE = {os.urandom(4000)!r}\nSIZE = len(NOISE)")
    content = whole.read_bytes()
    step = -(-len(content) // 4)
    for i in range(4):
        (folder / f"large-1.0-py3-none-any.whl.{i:02}").write_bytes(content[i * step : (i + 1) * step])
    return folder


def test_wheels_in_parts(carried: Path) -> None:
    import importlib

    before = list(sys.path)
    with wheels.on_path(carried) as names:
        assert names == ("large-1.0-py3-none-any.whl", "other_package-1-py3-none-any.whl") and sys.path[1:] == before
        importlib.invalidate_caches()
        assert importlib.import_module("large_package").SIZE == 4000 and importlib.import_module("other_package").WHOLE
    assert sys.path == before and not Path(sys.modules.pop("large_package").__file__ or "").exists()
    with wheels.on_path(None) as names:
        assert names == () and sys.path == before


@pytest.mark.parametrize("part", range(4))
def test_a_part_that_is_missing(carried: Path, part: int) -> None:
    (carried / f"large-1.0-py3-none-any.whl.{part:02}").unlink()
    with pytest.raises(ValueError, match=r"large-1.0-py3-none-any.whl of 3 part\(s\) is damaged"), wheels.on_path(carried):
        pass


def test_wheels_and_records(made_up: dict[str, Any], carried: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up |= dict.fromkeys(("gate", "speed", "frames"), good)
    assert run(tmp_path, "--parts", "gate") == 0 and run(tmp_path, "--parts", "gate") == 0
    assert "gate: done before" in capsys.readouterr().out
    # with other packages it is measured again
    assert run(tmp_path, "--parts", "gate", "--wheels", str(carried)) == 0
    assert "done before" not in capsys.readouterr().out
    assert (job.read(tmp_path / "gpu" / "gate.json") or {})["wheels"] == ["large-1.0-py3-none-any.whl", "other_package-1-py3-none-any.whl"]
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, "--wheels", str(tmp_path / "nowhere"))
    assert ended.value.code == 2 and f"{tmp_path / 'nowhere'} holds no wheels (.whl), nor parts of one" in capsys.readouterr().err


def test_parts_share_the_budget(made_up: dict[str, Any], tmp_path: Path) -> None:
    shares: dict[str, float] = {}

    def noted(one: job.Job) -> None:
        shares[one.part] = one.left()
        good(one)

    made_up |= dict.fromkeys(("gate", "speed", "frames"), noted)
    run(tmp_path, "--budget", "300")
    # what one does not use goes to those after it
    assert 80 < shares["gate"] <= 100 and 120 < shares["speed"] <= 150 and 250 < shares["frames"] <= 300
    assert run(tmp_path / "none", "--budget", "0.5") == 1, "nothing ran, which is not good"


def test_a_summary_fits_what_the_caller_sees(made_up: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    made_up |= dict.fromkeys(("gate", "speed", "frames"), good)
    monkeypatch.setattr(gpu, "_lines", lambda part, record: [f"{part} line {i} " + "x" * 90 for i in range(200)])
    run(tmp_path)
    output = capsys.readouterr().out.split("= summary\n")[1]
    assert 9_000 < len(output) < 12_000 and "-- verdict\ngood" in output


# the command


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-P", str(REPO / "benchmarks" / "gpu.py"), *arguments], capture_output=True, text=True,
                          timeout=300, env=environment)  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_an_error(tmp_path: Path) -> None:
    found = command("-o", str(tmp_path))
    assert found.returncode == 2 and found.stdout == "" and found.stderr.count("\n") == 1
    assert found.stderr.startswith("no CUDA GPU to run on: torch sees none") and not list(tmp_path.iterdir())


def test_the_command_runs_parts_in_processes_of_their_own(tmp_path: Path) -> None:
    found = command("--device", "cpu", "--quick", "--parts", "device", "variants", "--budget", "40", "--commit", "c", "-o", str(tmp_path))
    assert found.returncode == 0, found.stdout + found.stderr
    assert sorted(each.name for each in (tmp_path / "gpu").iterdir()) == ["device.json", "variants.json"]
    record = job.read(tmp_path / "gpu" / "variants.json")
    assert record is not None and record["commit"] == "c"
    (check,) = [row for row in record["rows"] if "case" in row]
    assert check["variant"] == "project_cosine" and check["problems"] == [] and 0 < check["error"] <= check["allowed"]
    assert {"default", "projection=joint"} <= {row["contender"] for row in record["rows"] if row is not check}
    assert "-- variants" in found.stdout and found.stdout.rstrip().splitlines()[-2] == "good"
    # what was measured is in the rows of the bench, and is compared with the ceilings that were measured before
    rows = schema.read(tmp_path)
    assert {row["suite"] for row in rows} == {"gpu-device", "gpu-variants"} and len({row["run"] for row in rows}) == 1
    assert rates(rows).keys() >= {"product float32", "copy", "cache copy"}
    default = next(row for row in rows if row["contender"] == "default")
    assert default["achieved"] == pytest.approx(default["floor_ms"] / default["ms"], rel=1e-3) and default["gflop"] > 0
    assert default["commit"] == "c" and default["method"] == "gem" and default["tokens"] == 17 and default["ms"] <= default["ms_p99"]


def test_it_needs_no_open_clip() -> None:
    names = ", ".join(f"gpu_parts.{part}" for part in gpu.PARTS)
    code = f"""
import sys
for name in ("open_clip", "av", "rich", "matplotlib", "sklearn", "cmap", "onnx", "onnxruntime", "tokenizers",
             "msgspec", "platformdirs", "huggingface_hub", "ftfy", "regex", "timm", "torchvision"):
    sys.modules[name] = None
import gpu
gpu._paths()
import {names}, gpu_parts.measured, fastloc.video.stream
assert not {{"fastloc.engine.localizer", "fastloc.checkpoints.loading", "fastloc.checkpoints.text_encoder"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO / "benchmarks", timeout=120)
