"""Facts of this device, and its ceilings, which bound everything: matrix products, and bytes to and from memory."""

from typing import Any

import torch

from fastloc.bench.roofline import ceilings
from gpu_parts import timing
from gpu_parts.job import Job, Row


def run(job: Job) -> None:
    job.rows.clear()
    for case in ceilings.cases(str(job.device), torch.get_num_threads(), quick=job.quick or not job.cuda):
        label = f"{ceilings.contender(case)} {ceilings.shape(case)}"
        if not job.late(label):
            _ceiling(job, label, case)


def _ceiling(job: Job, label: str, case: dict[str, Any]) -> None:
    made: list[timing.Call] = []
    problem = timing.attempt(lambda: made.append(ceilings.build(case).call("model")), job.device)
    contender = timing.warmed(made[0], job.device) if made else timing.Contender(lambda index: None, [], error=problem)
    timing.rounds({label: contender}, job.device, 0.2 if job.quick else 1.0, most=30, sample=20.0 if job.cuda else 1.0)
    fields = timing.fields(contender)
    # a ceiling is what was reached once
    rate, unit = ceilings.rate(case, min(contender.ms)) if contender.ms else (None, None)
    job.row(what=label, contender=ceilings.contender(case), case=ceilings.shape(case), dtype=case["dtype"], rate=rate, unit=unit, **fields)
    print(f"{label}: {fields.get('failed') or f'{rate:.4g} {unit}'}")


def lines(record: Row) -> list[str]:
    head = f"{record['device']}, capability {record['capability']}, driver {record['driver']}, torch {record['torch']}, "
    head += f"triton {record['triton']}, CUDA {record['cuda']}, Python {record['python']}, commit {record['commit']}"
    return [head, "; ".join(f"{row['what']}: {row['rate']:.4g} {row['unit']}" for row in record["rows"] if row["rate"])]
