"""Speed and memory against the official GEM package, side by side on this machine's CPU.

    python benchmarks/against_gem.py                                  224 and 448 px, 20 rounds, all cores: for the record
    python benchmarks/against_gem.py --sizes 224 --rounds 3           a look whether it works

What is timed: ViT-B/16 with seeded weights, batch 1, from a normalised tensor in memory to min-maxed heatmaps at input size. The
official side is its wrapper's own forward in float32; the others are fastloc's engine (by its plan, in float32 or bfloat16) and the
exported file in onnxruntime (float32, and int8). Texts are encoded beforehand on every side, and all have the same number of threads.
Each side is a process of its own, in its own environment; they take turns (A B C A B C …), and while one works the others sleep, so
drifts of the machine fall on all. Run it on an otherwise idle machine: the record keeps the load average from before the start.

No speed is reported unless a side's heatmaps agree with the official ones (max abs error / max abs) to what its dtype can hold.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
# python -P leaves a script's folder out
sys.path.insert(0, str(HERE))

from peers.environment import peer_python  # noqa: E402

OFFICIAL = "official"


@dataclass(frozen=True)
class Side:
    """One side: its worker, what it is told besides threads and texts, and how far its heatmaps may be from the official ones (a
    min-maxed map magnifies rounding by about the features' length over their spread)."""

    script: str
    dtype: str
    tolerance: float = 1e-4


SIDES = {
    OFFICIAL: Side("gem_worker.py", ""),
    "fastloc": Side("fastloc_worker.py", "float32"),
    "fastloc bfloat16": Side("fastloc_worker.py", "bfloat16", 0.2),
    "onnxruntime": Side("onnx_worker.py", "float32"),
    "onnxruntime int8": Side("onnx_worker.py", "int8-dynamic", 0.5),
}
USUAL = (OFFICIAL, "fastloc", "onnxruntime", "onnxruntime int8")
# an idle side's thread pool spins for a moment after its pass; the other side waits this long
REST = 0.1


class Worker:
    """A process that speaks the protocol of peers/line_worker.py."""

    def __init__(self, python: str | Path, script: str, threads: int, *more: object) -> None:
        self.script = script
        command = [str(python), str(HERE / "peers" / script), str(threads), *map(str, more)]
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, command: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        reply = self.process.stdout.readline().strip()
        if not reply:
            raise SystemExit(f"{self.script} ended at {command!r}: its message is above")
        return reply

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


Workers = dict[str, Worker]


def agreement(workers: Workers) -> dict[str, float]:
    """Max abs difference of each side's heatmaps from the official ones, over the official maximum."""
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for side, worker in workers.items():
            worker.ask(f"answer {folder}/answer.npy")
            found[side] = np.load(f"{folder}/answer.npy")
    official = found.pop(OFFICIAL)
    for side, maps in found.items():
        if maps.shape != official.shape:
            raise SystemExit(f"no speed is reported: heatmaps of {side} are {maps.shape}, the official ones {official.shape}")
    return {side: float(np.abs(maps - official).max() / np.abs(official).max()) for side, maps in found.items()}


def rounds(workers: Workers, count: int, warm_up: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds per pass of each side, in turns, and each side's peak memory in bytes."""
    seconds: dict[str, list[float]] = {side: [] for side in workers}
    peaks: dict[str, int] = {}
    for i in range(warm_up + count):
        for side in workers:
            time.sleep(REST)
            _, spent, peak = workers[side].ask("go").split()
            peaks[side] = int(peak)
            if i >= warm_up:
                seconds[side].append(float(spent))
    return seconds, peaks


def ratio_interval(ratios: np.ndarray) -> tuple[float, float, float]:
    """The median ratio and its 95 % interval, by bootstrap over rounds."""
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.quantile(np.median(draws, 1), (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


def compare(workers: Workers, size: int, count: int, warm_up: int) -> list[dict[str, Any]]:
    """Rows of the record, one a side: agreement first, then times and memory."""
    loaded = {side: int(worker.ask(f"prepare {size}").split()[1]) for side, worker in workers.items()}
    errors = agreement(workers)
    for side, error in errors.items():
        if not error <= SIDES[side].tolerance:
            allowed = f"{SIDES[side].tolerance:.0e} is allowed"
            raise SystemExit(f"no speed is reported: heatmaps of {side} at {size} px differ by {error:.1e}, {allowed}")
    seconds, peaks = rounds(workers, count, warm_up)
    rows = []
    for side in workers:
        p20, p50, p80 = np.quantile(seconds[side], (0.2, 0.5, 0.8)) * 1000
        row: dict[str, Any] = {
            "size": size, "side": side, "error": errors.get(side), "ms": float(p50), "ms_p20": float(p20), "ms_p80": float(p80),
            "peak_mb": peaks[side] / 1e6, "loaded_mb": loaded[side] / 1e6, "working_mb": (peaks[side] - loaded[side]) / 1e6,
        }  # fmt: skip
        if side != OFFICIAL:
            row["speedup"], row["speedup_low"], row["speedup_high"] = ratio_interval(np.divide(seconds[OFFICIAL], seconds[side]))
        rows.append({**row, "seconds": seconds[side]})
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'px':>4} {'side':18}{'ms':>9}{'p20':>9}{'p80':>9}{'peak MB':>10}{'working MB':>12}   speed-up (95 %)        error")
    for row in rows:
        line = f"{row['size']:4} {row['side']:18}{row['ms']:9.1f}{row['ms_p20']:9.1f}{row['ms_p80']:9.1f}"
        line += f"{row['peak_mb']:10.0f}{row['working_mb']:12.0f}"
        if "speedup" in row:
            line += f"   {row['speedup']:.2f} ({row['speedup_low']:.2f} … {row['speedup_high']:.2f})     {row['error']:.1e}"
        print(line)
    print("peak MB counts the libraries a side imports; working MB is the peak above what was resident once the weights were loaded")


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the code that ran, with `+` if the working tree differs from it; "unknown" outside a repository."""
    run = [subprocess.run(["git", "-C", HERE, *command], capture_output=True, text=True, check=False)
           for command in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain"))]
    return run[0].stdout.strip() + ("+" if run[1].stdout.strip() else "") if run[0].returncode == 0 else "unknown"


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """What the times depend on, as it goes into the record."""
    return {
        "benchmark": "against_gem", "device": processor(), "cores": os.cpu_count(), "threads": given.threads, "commit": commit(),
        "load_before": os.getloadavg()[0], "model": "ViT-B-16, seeded weights", "method": "gem", "batch": 1,
        "texts": given.texts, "rounds": given.rounds, "warm_up": given.warm_up,
    }


def worker(side: str, given: argparse.Namespace) -> Worker:
    python = peer_python() if side == OFFICIAL else sys.executable
    return Worker(python, SIDES[side].script, given.threads, given.texts, *([SIDES[side].dtype] if SIDES[side].dtype else []))


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole record: settings, versions of both sides, one row a size."""
    record = settings(given)
    if record["load_before"] > 0.5:
        print(f"load average is {record['load_before']:.1f}: something else is running, so these times are no record", file=sys.stderr)
    workers = {side: worker(side, given) for side in SIDES if side in {OFFICIAL, *given.sides}}
    try:
        record["versions"] = {side: json.loads(worker.ask("versions")) for side, worker in workers.items()}
        record["rows"] = [row for size in given.sizes for row in compare(workers, size, given.rounds, given.warm_up)]
    finally:
        for each in workers.values():
            each.close()
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 448], help="square input sizes, multiples of 16")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=3, help="rounds before the measured ones")
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--sides", nargs="+", default=USUAL, choices=list(SIDES), metavar="SIDE", help=f"of {', '.join(SIDES)}")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("-o", "--out", type=Path, help="JSON file of the record")
    given = parser.parse_args()
    record = measure(given)
    show(record["rows"])
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
