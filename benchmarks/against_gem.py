"""Speed and memory against the official GEM package, side by side on this machine's CPU.

    python benchmarks/against_gem.py                                  224 and 448 px, 20 rounds, all cores: for the record
    python benchmarks/against_gem.py --sizes 224 --rounds 3           a look whether it works

What is timed: ViT-B/16 with seeded weights, batch 1, from a normalised tensor in memory to min-maxed heatmaps at input size;
the official side in float32, fastloc by its plan in --dtype. Texts are encoded beforehand on both sides. Both run the same torch
threads under inference_mode; the official side is its wrapper's own forward. Each side is a process of its own, in its own
environment; they take turns (A B A B …), and while one works the other sleeps, so drifts of the machine fall on both. Run it on
an otherwise idle machine: the record keeps the load average from before the start.

No speed is reported unless the two sides' heatmaps agree (max abs error / max abs) to what the dtype can hold: 1e-4 in float32.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
# python -P leaves a script's folder out
sys.path.insert(0, str(HERE))

from peers.environment import peer_python  # noqa: E402

SIDES = ("official", "fastloc")
# a min-maxed map magnifies rounding by about the features' length over their spread
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.2}
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


def agreement(workers: Workers) -> float:
    """Max abs difference of the two sides' heatmaps over the official maximum."""
    with tempfile.TemporaryDirectory() as folder:
        for side, worker in workers.items():
            worker.ask(f"answer {folder}/{side}.npy")
        official, ours = (np.load(f"{folder}/{side}.npy") for side in SIDES)
    if official.shape != ours.shape:
        raise SystemExit(f"no speed is reported: heatmaps are {ours.shape}, the official ones {official.shape}")
    return float(np.abs(ours - official).max() / np.abs(official).max())


def rounds(workers: Workers, count: int, warm_up: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds per pass of each side, in turns, and each side's peak memory in bytes."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    peaks: dict[str, int] = {}
    for i in range(warm_up + count):
        for side in SIDES:
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


def compare(workers: Workers, size: int, count: int, warm_up: int, tolerance: float) -> dict[str, Any]:
    """One row of the record: agreement first, then times and memory."""
    loaded = {side: int(worker.ask(f"prepare {size}").split()[1]) for side, worker in workers.items()}
    error = agreement(workers)
    if not error <= tolerance:
        raise SystemExit(f"no speed is reported: heatmaps at {size} px differ by {error:.1e}, allowed is {tolerance:.0e}")
    seconds, peaks = rounds(workers, count, warm_up)
    median, low, high = ratio_interval(np.divide(seconds["official"], seconds["fastloc"]))
    row: dict[str, Any] = {"size": size, "error": error, "speedup": median, "speedup_low": low, "speedup_high": high}
    for side in SIDES:
        p20, p50, p80 = np.quantile(seconds[side], (0.2, 0.5, 0.8)) * 1000
        row[side] = {
            "ms": float(p50), "ms_p20": float(p20), "ms_p80": float(p80), "peak_mb": peaks[side] / 1e6,
            "loaded_mb": loaded[side] / 1e6, "working_mb": (peaks[side] - loaded[side]) / 1e6,
            "seconds": seconds[side],
        }
    return row


def show(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'px':>4} {'side':9}{'ms':>9}{'p20':>9}{'p80':>9}{'peak MB':>10}{'working MB':>12}   speed-up (95 %)        error")
    for row in rows:
        for side in SIDES:
            each = row[side]
            line = f"{row['size']:4} {side:9}{each['ms']:9.1f}{each['ms_p20']:9.1f}{each['ms_p80']:9.1f}"
            line += f"{each['peak_mb']:10.0f}{each['working_mb']:12.0f}"
            if side == "fastloc":
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
        "load_before": os.getloadavg()[0], "model": "ViT-B-16, seeded weights", "method": "gem", "precision": given.dtype, "batch": 1,
        "texts": given.texts, "rounds": given.rounds, "warm_up": given.warm_up,
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole record: settings, versions of both sides, one row a size."""
    record = settings(given)
    if record["load_before"] > 0.5:
        print(f"load average is {record['load_before']:.1f}: something else is running, so these times are no record", file=sys.stderr)
    workers = {
        "official": Worker(peer_python(), "gem_worker.py", given.threads, given.texts),
        "fastloc": Worker(sys.executable, "fastloc_worker.py", given.threads, given.texts, given.dtype),
    }
    try:
        record["versions"] = {side: json.loads(worker.ask("versions")) for side, worker in workers.items()}
        record["rows"] = [compare(workers, size, given.rounds, given.warm_up, TOLERANCE[given.dtype]) for size in given.sizes]
    finally:
        for worker in workers.values():
            worker.close()
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 448], help="square input sizes, multiples of 16")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=3, help="rounds before the measured ones")
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--dtype", default="float32", choices=list(TOLERANCE), help="of fastloc's side")
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
