"""The rooms that need no torch, on every Python from 3.11 to the newest: `python tests/matrix.py`, or `make matrix`.

    python tests/matrix.py                                     # those that uv finds or gets
    python tests/matrix.py --python /opt/python3.14/bin/python3.14 3.12
    python tests/matrix.py --record                            # and write benchmarks/records/pythons.json

Each Python gets an environment of its own in build/matrix, with the packages that have wheels for it and without torch. There the quick
tests of `ROOMS` run; what needs a package that is not there is left out, and says which. A Python for which numpy or the like has no wheel
is named and not run. Exit code 1 if a test failed, or none ran.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
RECORD = REPO / "benchmarks" / "records" / "pythons.json"
# folders of tests that need no torch, or say so, and those on asyncio and threads
ROOMS = ("utils", "text", "recipes", "imaging", "results", "onnx_file", "runtime", "client", "video", "live", "serve", "races")
OLDEST = (3, 11)
# extras without torch; one that has no wheel for a Python is left out there
EXTRAS = ("onnx-cpu", "video", "live", "serve", "client", "heif")
TOOLS = ("pytest>=8,<10", "pyyaml")
# seconds for the tests of one Python, and for one package
LIMIT, PATIENCE = 1800.0, 600.0
Row = dict[str, Any]


@dataclass(frozen=True)
class Python:
    """An interpreter: "3.12", and its path, or why there is none."""

    minor: str
    path: str = ""
    why: str = ""


def pythons(uv: str, asked: list[str]) -> list[Python]:
    """The interpreters that are asked for, or one of each minor version; uv finds them on this machine or downloads them."""
    if not asked:
        asked = minors(json.loads(_said([uv, "python", "list", "--output-format", "json", "--no-config"])))
    found = []
    for name in asked:
        if "/" in name:
            version = _said([name, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
            found.append(Python(version, name))
        else:
            found.append(_found(uv, name))
    return found


def minors(listed: list[Row]) -> list[str]:
    """The minor versions of CPython from `OLDEST` on that have a release, of the rows of `uv python list`."""
    released = {(row["version_parts"]["major"], row["version_parts"]["minor"]) for row in listed
                if row["implementation"] == "cpython" and row["version"].replace(".", "").isdecimal()}  # fmt: skip
    return [f"{major}.{minor}" for major, minor in sorted(released) if (major, minor) >= OLDEST]


def _found(uv: str, minor: str) -> Python:
    for command in (["find", minor], ["install", minor], ["find", minor]):
        done = subprocess.run([uv, "python", *command, "--no-config"], capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode == 0 and command[0] == "find":
            return Python(minor, done.stdout.strip())
        if done.returncode and command[0] == "install":
            return Python(minor, why=_first(done.stderr) or "cannot be downloaded")
    return Python(minor, why="cannot be found")


def requirements(project: Row) -> dict[str, list[str]]:
    """The base packages and those of each extra without torch, as pyproject.toml has them, without fastloc's own extras."""
    extras = project["optional-dependencies"]

    def plain(names: list[str]) -> list[str]:
        found: list[str] = []
        for each in names:
            inner = re.fullmatch(r"fastloc\[(.+)\]", each)
            found += [package for extra in inner[1].split(",") for package in plain(extras[extra])] if inner else [each]
        return found

    return {"fastloc": plain(project["dependencies"]), "tests": list(TOOLS), **{extra: plain(extras[extra]) for extra in EXTRAS}}


def prepared(uv: str, python: Python, folder: Path) -> tuple[Path, list[str]]:
    """An environment's interpreter, and what could not be installed. Raises RuntimeError where fastloc itself cannot."""
    _said([uv, "venv", "--quiet", "--clear", "--no-config", "--python", python.path, str(folder)])
    inside = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = [uv, "pip", "install", "--quiet", "--no-config", "--python", str(inside)]
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lacks = []
    for extra, packages in requirements(project).items():
        wheels = [*install, "--only-binary", ":all:"]
        if extra in ("fastloc", "tests"):
            _said([*wheels, *packages])
        elif _refused([*wheels, *packages]) is not None:
            # of several packages, those that there are
            lacks += [each for each in packages if _refused([*wheels, each]) is not None]
    _said([*install, "--no-deps", "--editable", str(REPO)])
    return inside, [re.split(r"[<>=\[ ]", each)[0] for each in lacks]


def tested(inside: Path, rooms: tuple[str, ...], report: Path) -> Row:
    """Run the quick tests of the rooms. Returns counts, the reasons of what was left out, and the names of what failed."""
    environment = {**os.environ, "PYTHONPATH": str(REPO / "tests" / "support"), "OMP_NUM_THREADS": "1"}
    command = [str(inside), "-P", "-m", "pytest", "-q", "-p", "absent_packages", "-m", "not slow", "--color", "no",
               "-p", "no:cacheprovider", f"--junitxml={report}", *(f"tests/{room}" for room in rooms)]  # fmt: skip
    report.unlink(missing_ok=True)
    begun = time.monotonic()
    try:
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=LIMIT, env=environment, check=False,
                              preexec_fn=_usual_signals if os.name == "posix" else None)  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"passed": 0, "failed": 1, "skipped": 0, "why": {}, "failures": [f"not done after {LIMIT:.0f} s"], "seconds": LIMIT}
    row = counted(report) if report.exists() else {"passed": 0, "failed": 1, "skipped": 0, "why": {},
                                                   "failures": [_first(done.stdout + done.stderr) or "no test ran"]}  # fmt: skip
    if done.returncode > 1 and not row["failed"]:
        row |= {"failed": 1, "failures": [f"pytest ended with status {done.returncode}: {_first(done.stdout + done.stderr)}"]}
    return {**row, "seconds": round(time.monotonic() - begun, 1)}


def _usual_signals() -> None:
    # a program in the background ignores some, and its children would too
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def counted(report: Path) -> Row:
    """The counts of a JUnit report. A file that was left out as a whole counts as one."""
    row: Row = {"passed": 0, "failed": 0, "skipped": 0, "failures": []}
    why: Counter[str] = Counter()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        if (skipped := case.find("skipped")) is not None:
            row["skipped"] += 1
            why[_reason(skipped.get("message") or "", skipped.text or "")] += 1
        elif (failed := next((each for each in case if each.tag in ("failure", "error")), None)) is not None:
            row["failed"] += 1
            row["failures"].append(f"{name}: {(failed.get('message') or '').splitlines()[0][:200] if failed.get('message') else ''}")
        else:
            row["passed"] += 1
    return {**row, "why": dict(why.most_common())}


def _reason(message: str, more: str) -> str:
    # of a file that is left out as a whole the reason stands below
    if message == "collection skipped" and (found := re.search(r"Skipped: (.+?)['\")]*$", more.strip())):
        message = found[1]
    text = message.removeprefix("Skipped: ").strip()
    if found := re.search(r"could not import '([\w.]+)'", text):
        return f"needs {found[1].partition('.')[0]}"
    return text.splitlines()[0][:80] if text else "no reason given"


def versions(inside: Path, names: tuple[str, ...] = ("numpy", "pillow", "onnxruntime", "tokenizers", "av", "starlette", "uvicorn")) -> Row:
    """The versions of packages in an environment; None for one that is not there."""
    code = ("import importlib.metadata as m, json, platform, sys\n"
            "def v(n):\n    try: return m.version(n)\n    except m.PackageNotFoundError: return None\n"
            "print(json.dumps({'python': platform.python_version(), **{n: v(n) for n in sys.argv[1:]}}))")  # fmt: skip
    found: Row = json.loads(_said([str(inside), "-c", code, *names]))
    return found


def run(uv: str, chosen: list[Python], rooms: tuple[str, ...], folder: Path, jobs: int = 1) -> list[Row]:
    """A row a Python; `jobs` of them side by side."""

    def one(python: Python) -> Row:
        row = _of_one(uv, python, rooms, folder)
        print(line(row), flush=True)
        return row

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, chosen))


def _of_one(uv: str, python: Python, rooms: tuple[str, ...], folder: Path) -> Row:
    row: Row = {"python": python.minor, "passed": 0, "failed": 0, "skipped": 0, "failures": []}
    if not python.path:
        return {**row, "why": {python.why: 1}}
    try:
        inside, lacks = prepared(uv, python, folder / python.minor)
    except RuntimeError as error:
        return {**row, "why": {str(error): 1}}
    return {**row, **tested(inside, rooms, folder / f"{python.minor}.xml"), "lacks": lacks, "versions": versions(inside)}


def line(row: Row) -> str:
    """A row for the eye."""
    if not row.get("versions"):
        return f"{row['python']}: not run: {next(iter(row['why']))}"
    lacks = f"; no wheels of {', '.join(row['lacks'])}" if row["lacks"] else ""
    why = ", ".join(f"{count} {reason}" for reason, count in list(row["why"].items())[:6])
    counts = f"{row['versions']['python']}: {row['passed']} passed, {row['failed']} failed, {row['skipped']} skipped ({why}){lacks}"
    return "\n    ".join([counts, *row["failures"][:40]])


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=[], metavar="NAME", help="versions such as 3.12, or paths (default: every version)")
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS), metavar="ROOM", help=", ".join(ROOMS))
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="Pythons side by side (default: 1)")
    parser.add_argument("--uv", default=str(Path(sys.executable).parents[1] / "tools" / "bin" / "uv"), metavar="FILE", help="uv's program")
    parser.add_argument("--folder", type=Path, default=REPO / "build" / "matrix", help="of the environments (default: build/matrix)")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.relative_to(REPO)}, for docs/tested.md")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = run(given.uv, pythons(given.uv, given.python), tuple(given.rooms), given.folder.resolve(), given.jobs)
    if given.record:
        from fastloc.bench.run_facts import commit

        head = {"day": time.strftime("%Y-%m-%d", time.gmtime()), "commit": commit(REPO), "rooms": given.rooms,
                "system": f"{platform.system()} {platform.machine()}"}  # fmt: skip
        body = ",\n".join("  " + json.dumps(row) for row in rows)
        RECORD.write_text(json.dumps(head)[:-1] + f', "rows": [\n{body}\n]}}\n', encoding="utf-8")
    ran = [row for row in rows if row.get("versions")]
    return int(not ran or any(row["failed"] for row in rows))


def _said(command: list[str]) -> str:
    """Run a command and return its output. Raises RuntimeError, in one line, where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} {' '.join(command[1:4])}: {_first(done.stderr) or done.returncode}")
    return done.stdout.strip()


def _refused(command: list[str]) -> str | None:
    try:
        _said(command)
    except RuntimeError as error:
        return str(error)
    return None


def _first(text: str) -> str:
    lines = [each.strip() for each in text.splitlines() if each.strip()]
    return next((each for each in lines if "rror" in each or "×" in each), lines[-1] if lines else "")[:200]


if __name__ == "__main__":
    sys.exit(main())
