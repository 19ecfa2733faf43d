"""`records.py`, with small steps in a repository of its own: what is stale, what is kept, and what is refused."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import records
from fastloc.errors import FastlocError
from record_parts.runner import LEDGER, Runner
from record_parts.staleness import Repository, stale
from record_parts.step import Step
from record_parts.table import ELSEWHERE, STEPS
from repo import REPO

# writes the row of a run of fastloc.bench, or a record, and says which step it is
WRITE = """
import json, pathlib, sys
pathlib.Path("order").open("a").write(sys.argv[1])
target = pathlib.Path(sys.argv[2])
target.parent.mkdir(parents=True, exist_ok=True)
target.write_text(json.dumps({"suite": "s", "run": "2"}) + "\\n")
"""
FIRST = Step("first", ("write.py", "1", "{out}/m/2.jsonl"), ("benchmarks/results",), ("code",), ("s",))
SECOND = Step("second", ("write.py", "2", "second.json"), ("second.json",), ("code",), timed=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with code and a script, and a stand-in for docs.py."""
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    (tmp_path / "benchmarks/docs.py").write_text("import pathlib; pathlib.Path('order').open('a').write('d')\n")
    (tmp_path / "write.py").write_text(WRITE)
    (tmp_path / "code").write_text("one")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", root, "-c", "user.name=n", "-c", "user.email=e", *arguments], check=True)


def commit(root: Path) -> None:
    git(root, "add", "code", "write.py", "benchmarks")
    git(root, "commit", "-q", "-m", "m")


def runner(root: Path, *steps: Step, load: Callable[[], float] = lambda: 0.0, wait: float = 0.0) -> tuple[Runner, list[str]]:
    said: list[str] = []
    return Runner(root, steps, "m", {}, 0.5, wait, load, said.append), said


def test_steps_run_in_order_once_and_the_tables_last(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "slug", lambda name: "m")
    arguments = ["--load", "1e9"]
    assert records.main(arguments, root, (FIRST, SECOND)) == 0
    assert (root / "order").read_text() == "12d"
    assert json.loads((root / "benchmarks/results/m/2.jsonl").read_text())["run"] == "2"
    assert not (root / "build/records/first").exists()
    kept = json.loads((root / LEDGER).read_text())
    assert sorted(kept) == ["first", "second"] and kept["first"]["commit"] == Repository(root).head() and kept["first"]["seconds"] >= 0
    assert records.main(arguments, root, (FIRST, SECOND)) == 0
    assert (root / "order").read_text() == "12dd"


def test_a_record_is_stale_when_missing_or_when_its_code_or_command_changed(root: Path) -> None:
    repository = Repository(root)

    def why(step: Step = SECOND) -> str:
        return stale(step, repository, {}, "m")

    assert why() == "there is no second.json"
    made = repository.head()
    (root / "second.json").write_text(json.dumps({"parts": {"a": {"commit": made}}}))
    assert why() == "" and why(replace(SECOND, part="b")) == "second.json has none of it"
    (root / "second.json").write_text(json.dumps({"commit": made + "+"}))
    assert why() == f"made with files that differ from {made}"
    (root / "second.json").write_text(json.dumps({"commit": "0123abc"}))
    assert why() == "commit 0123abc is not in this repository"
    (root / "second.json").write_text(json.dumps({"rows": [{"commit": made}]}))
    (root / "code").write_text("two")
    commit(root)
    assert why() == f"1 commit since {made}, the newest {repository.head()}" and why(replace(SECOND, code=("write.py",))) == ""
    # what records.py has written about a step goes before what the record says
    finished = {"commit": repository.head(), "command": list(SECOND.command)}
    assert stale(SECOND, repository, finished, "m") == ""
    assert stale(SECOND, repository, {**finished, "command": ["other.py"]}, "m") == "its command changed"


def test_a_busy_machine_keeps_timed_steps_waiting_and_no_others(root: Path) -> None:
    busy, said = runner(root, SECOND, FIRST, load=lambda: 3.0)
    with pytest.raises(FastlocError, match=r"at most 0.5 for first, got 3.0"):
        busy.run(60)
    assert (root / "order").read_text() == "2" and said == ["second: there is no second.json"]
    loads = iter((3.0, 0.1, 0.1))
    quiet, _ = runner(root, FIRST, load=lambda: next(loads), wait=0.01)
    assert quiet.run(60) == [] and (root / "order").read_text() == "21"


def test_code_that_no_commit_holds_is_refused(root: Path) -> None:
    (root / "code").write_text("two")
    with pytest.raises(FastlocError, match="got changes in code; commit them first"):
        runner(root, FIRST)[0].run(60)
    assert not (root / "order").exists()


def test_a_step_that_fails_leaves_nothing_and_the_next_one_runs(root: Path) -> None:
    failing = replace(FIRST, command=("-c", "open(r'{out}/2.jsonl', 'w'); raise SystemExit('no')"))
    run, said = runner(root, failing, SECOND)
    assert run.run(60) == ["first"] and "failed with exit status 1: no" in said[1]
    assert not list((root / "benchmarks/results").iterdir()) and list(json.loads((root / LEDGER).read_text())) == ["second"]


def test_a_budget_starts_nothing_longer_and_ends_what_has_no_time_left(root: Path) -> None:
    endless = replace(SECOND, name="endless", command=("-c", "import time; time.sleep(60)"), writes=("none",))
    run, said = runner(root, replace(FIRST, seconds=100), endless)
    assert run.run(0.2) == ["endless"]
    assert "left for the next call" in said[0] and "its time is over" in said[-1] and not (root / LEDGER).exists()


def test_what_a_step_lacks_is_said(root: Path) -> None:
    run, said = runner(root, replace(FIRST, needs=("no_such_package", "real")))
    assert run.run(60) == [] and said == ["first: left out, it needs the package no_such_package, --with real=FOLDER"]


@pytest.mark.slow("waits for a step that outlives its call", quick=1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_call_keeps_what_finished_and_goes_on(root: Path, number: int) -> None:
    """SIGTERM ends the step too; after SIGKILL it keeps the next call out until it has ended."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            slow = replace(SECOND, command=("-c", "import time; open('started', 'w').close(); time.sleep(1)"))
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            runner(root, FIRST, slow)[0].run(60)
        finally:
            os._exit(0)
    ends = time.monotonic() + 20
    while not (root / "started").exists() and time.monotonic() < ends:
        time.sleep(0.01)
    os.kill(child, number)
    os.waitpid(child, 0)
    again, said = runner(root, FIRST, SECOND)
    if number == signal.SIGKILL:
        with pytest.raises(FastlocError, match="once at a time"):
            again.run(60)
        while again.finished.keys() != {"first", "second"} and time.monotonic() < ends:
            try:
                again.run(60)
            except FastlocError:
                time.sleep(0.05)
    else:
        assert again.run(60) == []
    assert (root / "order").read_text() == "12" and said == ["second: there is no second.json"]


def test_every_record_has_a_step_and_every_step_its_files() -> None:
    written = {Path(each).name for step in STEPS for each in step.writes}
    assert {each.name for each in (REPO / "benchmarks/records").iterdir()} <= written | set(ELSEWHERE)
    assert len({step.name for step in STEPS}) == len(STEPS)
    for step in STEPS:
        script = step.command[0]
        assert script == "-m" or (REPO / script).is_file(), script
        assert [each for each in step.code if not (REPO / each).exists()] == [], step.name


@pytest.mark.parametrize("step", [step for step in STEPS if step.command[0] == "-m"], ids=lambda step: step.name)
def test_the_benchmark_takes_the_options_of_its_steps(step: Step) -> None:
    from fastloc.bench import request
    from fastloc.bench.cli import SUITES, USUAL, parser

    args = parser().parse_args(step.command[2:])
    assert request.methods_of(args.methods) and request.suites_of(args.suites, args.vs, SUITES, USUAL) == step.suites
    assert set(args.vs or ()) <= set(request.PEERS)
