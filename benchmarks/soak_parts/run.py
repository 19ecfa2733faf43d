"""The whole tree of processes: started, watched for the time, ended, and looked at for what went wrong."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from scale_parts.processes import FASTLOC, CommandError, checked, started
from scale_parts.service import Server, served
from soak_parts import tally
from soak_parts.growth import GROWS, growth
from soak_parts.held import KINDS, files_below, held
from soak_parts.workers import WORKERS

__all__ = ["Plan", "soak"]

Row = dict[str, Any]
SERVERS = (
    Server("serve", "serve", (*FASTLOC, "serve", "--port", 0, "--size", 64, "--methods", "naclip")),
    Server("live", "live", (*FASTLOC, "live", "--port", 0, "--size", 64, "--methods", "naclip", "itsm", "--max-clients", 8)),
)
# seconds that workers may take to begin and to end, beside their time, and servers to end: a service may
# take 30 for the requests that it has
SPARE, PATIENCE = 180.0, 90.0
# one file that onnxruntime keeps among temporary files
FOREIGN = (".ses",)
# what no log may hold
FAULTS = re.compile(r"Traceback \(most recent call last\)|never retrieved|was destroyed but it is pending|never awaited|ResourceWarning")


@dataclass(frozen=True)
class Plan:
    """seconds: for the workers. every: seconds between samples. calls, pause: of the workers. judged: say what grows."""

    seconds: float
    every: float
    calls: int
    pause: float
    judged: bool = True


def soak(plan: Plan, folder: Path, script: Path) -> Row:
    """Run it all. Returns {"rows": one a process and quantity, "done": counts by worker, "problems": in words, …}."""
    spaces = {name: folder / name for name in ("tmp", "cache", "work", "logs", "jobs")}
    for each in spaces.values():
        each.mkdir(parents=True)
    environment = {**os.environ, "TMPDIR": str(spaces["tmp"]), "XDG_CACHE_HOME": str(spaces["cache"]), "OMP_NUM_THREADS": "1",
                   "PYTHONWARNINGS": "default::ResourceWarning", "PYTHONUNBUFFERED": "1"}  # fmt: skip
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with ExitStack() as stack:
            return _run(plan, spaces, script, stack)
    except CommandError as error:
        return {"seconds": plan.seconds, "rows": [], "done": {}, "problems": [str(error)]}
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(plan: Plan, spaces: dict[str, Path], script: Path, stack: ExitStack) -> Row:
    addresses, processes, problems = {}, {}, []
    servers = ExitStack()
    stack.push(servers)
    for server in SERVERS:
        url, number = servers.enter_context(served(server, spaces["logs"] / f"{server.name}.log"))
        addresses[server.name], processes[server.name] = url, number
    workers: dict[str, Popen[bytes]] = {}
    tallies = {name: spaces["jobs"] / f"{name}.tally.json" for name in WORKERS}
    for name in WORKERS:
        job = {"seconds": plan.seconds, "pause": plan.pause, "calls": plan.calls, "folder": str(spaces["work"]), "judged": plan.judged,
               "tally": str(tallies[name]), **addresses}  # fmt: skip
        (spaces["jobs"] / f"{name}.json").write_text(json.dumps(job), encoding="utf-8")
        command = (sys.executable, "-P", script, "--worker", name, "--job", spaces["jobs"] / f"{name}.json")
        workers[name] = stack.enter_context(started(command, spaces["logs"] / f"{name}.log"))
        processes[name] = workers[name].pid
    began = time.monotonic()
    samples = list(_sampled(plan, processes, workers, tallies, [spaces["tmp"], spaces["cache"]]))
    for name, worker in workers.items():
        try:
            checked(worker, spaces["logs"] / f"{name}.log", max(began + plan.seconds + SPARE - time.monotonic(), 1.0))
        except CommandError as error:
            problems.append(f"{name}: {error}")
    problems += [f"{name} did not end within {PATIENCE:g} s of SIGTERM" for name in addresses if not _ended(processes[name])]
    servers.close()
    done = {name: tally.read(path) for name, path in tallies.items()}
    problems += [f"{name}: {text}" for name, each in done.items() for text in each["problems"]]
    problems += _of_logs(spaces["logs"])
    rows = list(_rows(samples, plan.judged))
    problems += [f"{row['process']}: {row['kind']} grows by {row['slope']:.3g} an hour, {row['low']:.3g} to {row['high']:.3g}"
                 for row in rows if row["verdict"] == GROWS]  # fmt: skip
    left = sorted(str(each.relative_to(spaces["tmp"])) for each in spaces["tmp"].rglob("*") if each.is_file() and each.name not in FOREIGN)
    if left:
        problems.append(f"{len(left)} temporary files are left behind: {', '.join(left[:5])}")
    return {"seconds": plan.seconds, "samples": len(samples), "every": plan.every, "pause": plan.pause, "asked": plan.calls, "rows": rows,
            "done": {name: each["counts"] for name, each in done.items()}, "problems": problems}  # fmt: skip


def _ended(process: int) -> bool:
    """Ask a server to end, and wait; nobody has asked for its status yet, so it is a zombie then."""
    os.kill(process, signal.SIGTERM)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def _sampled(
    plan: Plan, processes: dict[str, int], workers: dict[str, Any], tallies: dict[str, Path], folders: list[Path]
) -> Iterator[Row]:
    """{"seconds", "files", process: what it holds}, until a worker ends."""
    began = time.monotonic()
    while time.monotonic() - began < plan.seconds + SPARE and all(each.poll() is None for each in workers.values()):
        now: Row = {name: held(pid) for name, pid in processes.items()}
        for name, path in tallies.items():
            now[name]["heap_mb"] = tally.read(path)["heap_mb"]
        yield {"seconds": time.monotonic() - began, "files": files_below(folders), **now}
        time.sleep(plan.every)


def _rows(samples: list[Row], judged: bool) -> Iterator[Row]:
    """A row a process and quantity. Samples of the last seconds are left out: a worker that ends lets go of what it had."""
    kept = samples[:-1]
    for name in (*(server.name for server in SERVERS), *WORKERS):
        for kind in KINDS:
            if known := [(each["seconds"], each[name][kind]) for each in kept if each[name].get(kind) is not None]:
                yield _row(name, kind, *zip(*known, strict=True), judged)
    yield _row("all", "files", [each["seconds"] for each in kept], [each["files"] for each in kept], judged)


def _row(process: str, kind: str, seconds: Sequence[float], values: Sequence[float], judged: bool) -> Row:
    row = {"process": process, "kind": kind, "unit": KINDS[kind][0], **growth(seconds, values, KINDS[kind][1])}
    return row if judged else {**row, "verdict": None}


def _of_logs(folder: Path) -> list[str]:
    problems = []
    for log in sorted(folder.iterdir()):
        text = log.read_text(encoding="utf-8", errors="replace")
        if found := FAULTS.search(text):
            problems.append(f"{log.stem} says: {' '.join(text[found.start() : found.start() + 1500].split())[-700:]}")
    return problems
