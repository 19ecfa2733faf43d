"""torch.compile of GEM's official form, with the options that make it quickest, beside the default plan: what a compiler alone reaches.

"max-autotune" times the compiler's own choices and captures a CUDA graph; compiling takes most of a minute, so that few configurations are
tried, and each only while there is time for it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fastloc.bench.backends import official_gem
from gpu_parts import models, speed
from gpu_parts.job import Job, Row

CONFIGS: tuple[speed.Config, ...] = (("B/16", 448, 1), ("B/16", 448, 8), ("L/14", 336, 1), ("L/14", 336, 8), ("B/16", 448, 32))
QUICK: tuple[speed.Config, ...] = (("tiny", 32, 1),)
MODE = "max-autotune"
NAME = f"compiled {MODE} bfloat16"
# that a configuration may take
SECONDS = 45.0


def run(job: Job) -> None:
    # nothing says what a compiler for CPUs reaches on a GPU
    if not job.cuda:
        return
    models.strict()
    for config in QUICK if job.quick else CONFIGS:
        if job.has(config=speed.title(config), contender=NAME) or job.late(f"{NAME} at {speed.title(config)}", need=SECONDS):
            continue
        both = {NAME: made(job, config), "default": speed.contenders(job, config)["default"]}
        speed.measure(job, config, 0.1 if job.quick else 2.0, both)
        # its graphs' memory is not to stay
        torch.compiler.reset()


def made(job: Job, config: speed.Config) -> Callable[[], speed.Made]:
    def make() -> tuple[Callable[[Tensor], Tensor], Row]:
        weights, words = models.tower(config[0], job.device, "bfloat16").weights, models.texts(config[0], job.device)
        torch.compiler.reset()
        fast = torch.compile(lambda pixels: official_gem.gem(weights, pixels, words), mode=MODE, dynamic=False)

        def call(pixels: Tensor) -> Tensor:
            # its outputs lie in the graph's memory, and are given up by the next call
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            return fast(pixels).clone()

        return call, {"dtype": "bfloat16", "mode": MODE}

    return make


def lines(record: Row) -> list[str]:
    """A configuration a line: milliseconds of both, and their ratio."""
    found = []
    for config in dict.fromkeys(row["config"] for row in record["rows"]):
        rows = {row["contender"]: row for row in record["rows"] if row["config"] == config}
        ours, theirs = rows.get("default", {}).get("ms"), rows.get(NAME, {}).get("ms")
        failed = "; ".join(f"{name}: {row['failed'][:120]}" for name, row in rows.items() if row.get("failed"))
        ratio = speed.number(speed.ratio(theirs, ours), ".2f")
        found.append(f"{config:14}{NAME} {speed.number(theirs, '.3f')} ms, default {speed.number(ours, '.3f')} ms, {ratio} x  {failed}")
    return found
