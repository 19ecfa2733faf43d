"""`python -m fastloc.eclip`: a training goes on bit by bit wherever it was stopped, and two processes train as one."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from eclip_pairs import write_folder
from fastloc import cli
from fastloc.checkpoints.projections import Projections
from fastloc.eclip import cli as trainer
from fastloc.eclip.steps import beginnings
from towers import error

SMALL = ("--size", "48", "--batch", "4", "--steps", "6", "--device", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pairs")


def trained(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = trainer.main([str(each) for each in argv])
    return status, *capsys.readouterr()


def test_resumed_is_the_same_bit_by_bit(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    straight, parted = tmp_path / "straight", tmp_path / "parted"
    assert trained(capsys, folder, "-o", straight, *SMALL)[0] == 0
    status, out, _ = trained(capsys, folder, "-o", parted, *SMALL, "--stop-at", 3)
    assert status == 0 and "stopped at step 3 of 6; go on with --resume" in out
    assert trained(capsys, folder, "-o", parted, *SMALL, "--resume", "--cache", "disk")[0] == 0
    for name in ("checkpoint.safetensors", "projections.safetensors"):
        ours, theirs = (load_file(home / name) for home in (parted, straight))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours), name
    assert (parted / "curve.csv").read_text() == (straight / "curve.csv").read_text()
    with (straight / "curve.csv").open() as lines:
        assert [row["step"] for row in csv.DictReader(lines)] == list("123456")
    assert not list(parted.glob("features*"))


def test_what_resumes_is_the_same_training(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "run"
    assert "there is nothing to resume" in trained(capsys, folder, "-o", home, *SMALL, "--resume")[2]
    assert trained(capsys, folder, "-o", home, *SMALL, "--stop-at", 1)[0] == 0
    status, _, err = trained(capsys, folder, "-o", home, *SMALL)
    assert status == 1 and "holds a checkpoint: go on with --resume, or begin in another folder" in err
    _, _, err = trained(capsys, folder, "-o", home, *SMALL, "--resume", "--rate", "0.1")
    assert "was written with rate 0.005, and it is 0.1 now" in err
    (folder / "captions.csv").write_text((folder / "captions.csv").read_text().replace("pizza", "pie"))
    assert "was written with another data" in trained(capsys, folder, "-o", home, *SMALL, "--resume")[2]
    (home / "checkpoint.safetensors").write_bytes(b"torn")
    assert "cannot be read as a checkpoint" in trained(capsys, folder, "-o", home, *SMALL, "--resume")[2]


def test_the_last_line_is_how_they_are_used(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "5.png").write_bytes(b"torn")
    status, out, err = trained(capsys, folder, "-o", tmp_path / "run", *SMALL, "--pool", "mean", "--no-reverse")
    assert status == 0 and "note: 1 left out, not a picture: 5.png" in err
    path = tmp_path / "run" / "projections.safetensors"
    assert out.splitlines()[-1] == f"use it: fastloc locate PICTURE -t TEXT --method eclip --projections {path}"
    made = Projections.load(path)
    assert made.settings["pool"] == "mean" and made.settings["reverse"] is False and made.settings["trained"] == 6
    assert (tmp_path / "run" / "left_out.csv").read_text() == "reason,name\nnot a picture,5.png\n"
    assert cli.main(["locate", str(folder / "0.png"), "-t", "cat", "--method", "eclip", "--projections", str(path), "--json"]) == 0
    status, _, err = trained(capsys, folder, "-o", tmp_path / "strict", *SMALL, "--strict")
    assert status == 1 and "5.png: not a picture" in err and not (tmp_path / "strict" / "projections.safetensors").exists()


@pytest.mark.slow("two processes of torch.distributed")
def test_two_processes_train_as_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Negatives of both, the gradient of the whole batch."""
    options = (*SMALL[:2], "--batch", "6", "--steps", "3", "--device", "cpu")
    assert trained(capsys, folder, "-o", tmp_path / "one", *options)[0] == 0
    command = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    logs = ["--log-dir", str(tmp_path / "logs"), "--redirects", "3"]
    done = subprocess.run(
        [*command, *logs, "-m", "fastloc.eclip", str(folder), "-o", str(tmp_path / "two"), *options],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
    )  # fmt: skip
    # the launcher names the process that failed, and each process's own file holds the reason
    tails = {path.parent.name: path.read_text()[-2000:] for path in (tmp_path / "logs").rglob("stderr.log")}
    assert done.returncode == 0, "\n".join([done.stderr[-2000:], *(f"rank {name}:\n{text}" for name, text in sorted(tails.items()))])
    assert sorted(tails) == ["0", "1"] and not any("destroy_process_group" in text for text in tails.values())
    ours, theirs = (Projections.load(tmp_path / name / "projections.safetensors") for name in ("two", "one"))
    assert error(ours.image, theirs.image) < 1e-3 and error(ours.text, theirs.text) < 1e-3
    start = beginnings("orthogonal", 192, torch.Generator().manual_seed(0))[0]
    assert error(theirs.image, start) > 1e-2, "nothing was trained, so nothing was compared"
    curves = [[float(row["loss"]) for row in csv.DictReader((tmp_path / name / "curve.csv").open())] for name in ("two", "one")]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
