"""Fuzz one parser with libFuzzer, guided by coverage: `python tests/fuzz/guided.py manifest --seconds 600` (needs `pip install atheris`).

Inputs that reach new code are kept in build/fuzz/guided/ and go on from there the next time. Each of them, and each that libFuzzer stopped
at, is judged as `run.py` judges its own, by memory, time and messages too. The exit status is 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuzzing.campaign import Process

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("RUST_BACKTRACE", None)
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
# bytes of an input; seconds and MiB at which libFuzzer stops
LARGEST, HANG, MEMORY = 1 << 16, 5, 4096


def main(arguments: list[str] | None = None) -> int:
    """Run libFuzzer in a child, then judge what it kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", metavar="TARGET", help="of `run.py --only`")
    parser.add_argument("--seconds", type=int, default=60, help="default: 60")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if find_spec("atheris") is None:
        parser.error("atheris must be installed, and is not: pip install atheris")
    if given.inside:
        return _inside(given.target, given.seconds)
    from fuzzing.targets import TARGETS

    if given.target not in TARGETS:
        parser.error(f"TARGET must be one of {', '.join(TARGETS)}, got {given.target!r}")
    target = TARGETS[given.target]
    folder = _folder(target.name)
    folder.mkdir(parents=True, exist_ok=True)
    for name in target.imports:
        importlib.import_module(name)
    from fuzzing.campaign import Process

    with Process(target) as process:
        for number, seed in enumerate(process.seeds):
            (folder / f"seed-{number}").write_bytes(seed)
        command = [sys.executable, "-P", __file__, target.name, "--seconds", str(given.seconds), "--inside"]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, errors="replace", timeout=given.seconds + 600, check=False)
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        if runs is None:
            print(done.stdout + done.stderr, file=sys.stderr)
            return 2
        kept, faults = judged(process, folder)
    print(f"{target.name}: {int(runs[1]):,} inputs, {kept:,} kept, {faults} faults")
    return 1 if faults else 0


def judged(process: Process, folder: Path) -> tuple[int, int]:
    """Run every file of a folder in the child of a target and print its faults. Returns the numbers of files and faults."""
    kept, faults = sorted(each for each in folder.iterdir() if each.is_file()), 0
    for path in kept:
        outcome = process.run(path.read_bytes())
        if outcome.fault is not None:
            faults += 1
            print(f"  {outcome.kind} {outcome.place}: {outcome.what[:200]!r} ({path.stat().st_size} bytes)")
            print(f"  python tests/fuzz/run.py --only {process.target.name} --repeat {path}")
    return len(kept), faults


def _folder(name: str) -> Path:
    return REPO / "build" / "fuzz" / "guided" / name


def _inside(name: str, seconds: int) -> int:
    """libFuzzer on one target, in this process; it does not return."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["fastloc"]):
        from fastloc.errors import FastlocError
        from fuzzing.targets import TARGETS

        target = TARGETS[name]
        for each in (*target.imports, *target.covers):
            importlib.import_module(each)
    corpus, files = target.seeds(), Path(tempfile.mkdtemp())

    def one(content: bytes) -> None:
        try:
            target.run(content, files)
        except FastlocError:
            return

    def mutated(content: bytes, most: int, seed: int) -> bytes:
        # half of them by the format's own rules
        draw = random.Random(seed)
        made = target.mutate(draw, content, corpus) if seed % 2 else atheris.Mutate(content, most)
        return bytes(made[:most])

    folder = _folder(name)
    limits = [f"-max_total_time={seconds}", f"-max_len={LARGEST}", f"-timeout={HANG}", f"-rss_limit_mb={MEMORY}"]
    atheris.Setup([sys.argv[0], str(folder), f"-artifact_prefix={folder}/", "-print_final_stats=1", *limits], one, custom_mutator=mutated)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
