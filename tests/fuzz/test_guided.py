"""libFuzzer's runs: what it keeps and what it stops at is judged as every other input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import guided
from forked import needs_fork
from fuzzing.campaign import Process
from fuzzing.target import Target
from repo import REPO

# in place of the package: it runs the files of the corpus once, and keeps one that it stops at
STAND_IN = """
import contextlib, pathlib, sys

def instrument_imports(include):
    return contextlib.nullcontext()

def Mutate(content, most):
    return content[:most]

def Setup(arguments, one, custom_mutator):
    global folder, run, mutate
    folder, run, mutate = pathlib.Path(arguments[1]), one, custom_mutator

def Fuzz():
    seeds = [path.read_bytes() for path in folder.iterdir() if path.name.startswith("seed-")]
    for number, content in enumerate(seeds):
        run(content)
        assert len(mutate(content, 100, number)) <= 100
    (folder / "crash-planted").write_bytes(b"{}")
    print(f"stat::number_of_executed_units: {len(seeds)}", file=sys.stderr)
"""


@needs_fork
@pytest.mark.slow("two processes with all parsers")
def test_a_run_from_seeds_to_verdict(tmp_path: Path) -> None:
    (tmp_path / "atheris.py").write_text(STAND_IN)
    command = [sys.executable, "-P", guided.__file__, "results", "--seconds", "1"]
    run = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=REPO, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith("results: ") and run.stdout.endswith(" kept, 0 faults\n")
    assert (REPO / "build" / "fuzz" / "guided" / "results" / "crash-planted").read_bytes() == b"{}"


def planted(content: bytes, folder: Path) -> object:
    return {}[content] if b"bad" in content else None


@needs_fork
def test_a_fault_among_what_it_kept_is_printed_with_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in {"seed-0": b"good", "crash-1": b"bad"}.items():
        (tmp_path / name).write_bytes(content)
    with Process(Target("planted", planted, lambda: [b"good"])) as process:
        assert guided.judged(process, tmp_path) == (2, 1)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("  raw KeyError") and second == f"  python tests/fuzz/run.py --only planted --repeat {tmp_path / 'crash-1'}"


def test_what_is_wrong_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(guided, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        guided.main(["results"])
    assert "atheris must be installed, and is not: pip install atheris" in capsys.readouterr().err
    monkeypatch.setattr(guided, "find_spec", lambda name: name)
    with pytest.raises(SystemExit):
        guided.main(["reslts"])
    assert "TARGET must be one of onnx-header, " in (said := capsys.readouterr().err) and "got 'reslts'" in said
