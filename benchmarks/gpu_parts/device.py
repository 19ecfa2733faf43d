"""What this device is, and the two ceilings that everything is under: matrix products, and bytes to and from memory."""

from typing import Any

import torch

from gpu_parts import timing
from gpu_parts.job import Job, Row

# (name, matrix side, bytes copied); the copy is far larger than any cache
FULL, QUICK = (8192, 4 << 30), (256, 1 << 20)


def run(job: Job) -> None:
    job.rows.clear()
    side, count = QUICK if job.quick or not job.cuda else FULL
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        if not job.late(f"{dtype} matrix product"):
            what = f"matmul {side}^3 {str(dtype).removeprefix('torch.')}"
            _ceiling(job, what, _product(side, dtype, job.device), 2 * side**3 / 1e12, "TFLOP/s")
    for label, size in (("copy", count), ("copy within L2", min(16 << 20, count))):
        if not job.late(label):
            # read once and written once
            _ceiling(job, f"{label} {size >> 20} MiB", _copy(size, job.device), 2 * size / 1e12, "TB/s")


def _ceiling(job: Job, what: str, call: timing.Call, work: float, unit: str) -> None:
    contender = timing.warmed(call, job.device)
    timing.rounds({what: contender}, job.device, 0.2 if job.quick else 1.0, most=30, sample=20.0 if job.cuda else 1.0)
    told = timing.fields(contender)
    rate = work / (told["ms"] / 1000) if told["ms"] else None
    job.row(what=what, rate=rate, unit=unit, **told)
    print(f"{what}: {rate if rate is None else round(rate, 3)} {unit} {told.get('failed', '')}")


def _product(side: int, dtype: torch.dtype, device: torch.device) -> timing.Call:
    operands: list[Any] = []

    def call(index: int) -> Any:
        if not operands:
            # random: zeros run faster
            operands.extend(torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        return operands[0] @ operands[1]

    return call


def _copy(size: int, device: torch.device) -> timing.Call:
    buffers: list[Any] = []

    def call(index: int) -> Any:
        if not buffers:
            buffers.extend(torch.randint(0, 256, (size,), dtype=torch.uint8, device=device) for _ in range(2))
        return buffers[1].copy_(buffers[0])

    return call


def lines(record: Row) -> list[str]:
    head = f"{record['device']}, capability {record['capability']}, driver {record['driver']}, torch {record['torch']}, "
    head += f"triton {record['triton']}, CUDA {record['cuda']}, Python {record['python']}, commit {record['commit']}"
    return [head, "; ".join(f"{row['what']}: {row['rate']:.4g} {row['unit']}" for row in record["rows"] if row["rate"])]
