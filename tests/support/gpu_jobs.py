"""Jobs of the GPU script's parts, on the CPU and with tiny shapes."""

import time
from pathlib import Path
from typing import Any

import torch

from gpu_parts import job, measured

__all__ = ["CPU", "HEAD", "a_job", "done"]

CPU = torch.device("cpu")
HEAD = {"run": "20261121-184005", "device": "a CPU", "capability": None, "driver": None, "torch": "t", "triton": "t", "cuda": None,
        "python": "p", "commit": "c", "code": "x"}  # fmt: skip


def a_job(part: str, folder: Path, seconds: float = 60.0, **more: Any) -> job.Job:
    return job.Job(part, CPU, folder, HEAD, deadline=time.monotonic() + seconds, quick=True, **more)


def done(part: Any, one: job.Job) -> dict[str, Any]:
    """The record of a part that ran to its end."""
    part.run(one)
    one.save(finished=True)
    record = job.read(one.file)
    assert record is not None and all(isinstance(line, str) for line in part.lines(record))
    for row in measured.measurements(record):
        assert row["suite"] == f"gpu-{one.part}" and row["versions"]["triton"] == "t"
        assert ("ms" in row) != ("failed" in row), row
    return record
