"""Which way of executing GEM is quickest on this machine's CPU: the figures behind the plan's choices there.

    python benchmarks/cpu_forms.py                                             float32, 224 and 448 px, 12 rounds
    python benchmarks/cpu_forms.py --dtype bfloat16 -o benchmarks/records/cpu_forms_bfloat16.json

ViT-B/16 with random weights, batch 1, from a normalised tensor to similarity grids. The ways take turns (A B C A B C …) in one
process, so drifts of the machine fall on all; each is checked against the first before it is timed. Run it on an idle machine.
"""

import argparse
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastloc.engine import Engine, Tower
from fastloc.recipes import RECIPES
from fastloc.sources import load

# python -P leaves a script's folder out
sys.path.insert(0, str(Path(__file__).parent))

from against_gem import commit, processor, ratio_interval

# largest difference from the first way, relative to its largest score
TOLERANCE = {"float32": 1e-5, "float16": 2e-2, "bfloat16": 1e-1}
FIELDS = ("attention", "projection", "schedule")
# the first is what the others are compared with
WAYS = list(itertools.product(("sdpa", "bmm"), ("per-block", "joint"), ("per-block", "deferred")))


def engines(dtype: str) -> dict[tuple[str, ...], Engine]:
    tower = Tower(load("ViT-B-16", "random").weights, torch.device("cpu"), dtype)
    return {way: Engine(tower, RECIPES["gem"], {"dtype": dtype, **dict(zip(FIELDS, way, strict=True))}) for way in WAYS}


def measure(ways: dict[tuple[str, ...], Engine], size: int, rounds: int, dtype: str) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, size, size, generator=generator)
    texts = torch.nn.functional.normalize(torch.randn(4, 512, generator=generator), dim=-1)
    answers = {way: engine(pixels, texts)[0] for way, engine in ways.items()}
    first = answers[WAYS[0]]
    errors = {way: float((grids - first).abs().max() / first.abs().max()) for way, grids in answers.items()}
    wrong = {way: error for way, error in errors.items() if not error <= TOLERANCE[dtype]}
    if wrong:
        raise SystemExit(f"no time is reported: {wrong} differ by more than {TOLERANCE[dtype]} from {WAYS[0]}")
    seconds: dict[tuple[str, ...], list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, engine in ways.items():
            began = time.perf_counter()
            engine(pixels, texts)
            seconds[way].append(time.perf_counter() - began)
    base = np.array(seconds[WAYS[0]])
    return [_row(way, size, np.array(spent), base, errors[way]) for way, spent in seconds.items()]


def _row(way: tuple[str, ...], size: int, spent: np.ndarray, base: np.ndarray, error: float) -> dict[str, Any]:
    p20, p50, p80 = np.quantile(spent, (0.2, 0.5, 0.8)) * 1000
    ratio, low, high = ratio_interval(spent / base)
    return {
        **dict(zip(FIELDS, way, strict=True)), "size": size, "ms": p50, "ms_p20": p20, "ms_p80": p80,
        "to_first": ratio, "to_first_low": low, "to_first_high": high, "error": error,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 448])
    parser.add_argument("--dtype", default="float32", choices=list(TOLERANCE))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("-o", "--out", type=Path, help="JSON file of the record")
    given = parser.parse_args()
    load_before = os.getloadavg()[0]
    ways = engines(given.dtype)
    rows = [row for size in given.sizes for row in measure(ways, size, given.rounds, given.dtype)]
    for row in rows:
        name = " ".join(f"{row[field]:10}" for field in FIELDS)
        interval = f"({row['to_first_low']:.2f} … {row['to_first_high']:.2f})"
        print(f"{row['size']:4} {name}{row['ms']:8.0f} ms   x{row['to_first']:.2f} {interval}   {row['error']:.0e}")
    if given.out:
        record = {
            "benchmark": "cpu_forms", "device": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
            "torch": torch.__version__, "commit": commit(), "load_before": load_before, "model": "ViT-B-16, random weights",
            "method": "gem", "dtype": given.dtype, "batch": 1, "rounds": given.rounds, "rows": rows,
        }  # fmt: skip
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
