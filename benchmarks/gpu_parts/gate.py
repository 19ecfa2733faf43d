"""The correctness gate of every kernel on this device, its large cases too; see `fastloc.kernels.gate`.

Groups of cases are checked side by side in processes of their own, because most of the time goes into compiling, and because a
kernel that writes where it must not takes its process with it.
"""

import time
from dataclasses import asdict
from typing import Any

import torch

from gpu_parts import fleet
from gpu_parts.job import Job, Row

# an op's name, the place of a case among its CASES, the dtype
Item = tuple[str, int, torch.dtype]


def run(job: Job) -> None:
    from fastloc.kernels import device as kernels
    from fastloc.kernels import gate
    from fastloc.kernels.table import OPS

    job.rows.clear()
    job.good = False
    # not asked of a GPU, which this process must not touch before it forks
    if not job.cuda and (reasons := kernels.why_not(job.device)):
        raise RuntimeError("; ".join(reasons))
    groups = _groups(job)

    def work(item: Item) -> dict[str, Any]:
        op, place, dtype = item
        case = OPS[op].module.CASES[place]
        began = time.perf_counter()
        verdict = gate.check(OPS[op], case, dtype, job.device)
        return {**asdict(verdict), "large": case.large, "seconds": time.perf_counter() - began}

    count = 0
    for (op, place, dtype), result in fleet.spread(groups, work, job.device, job.deadline, job.clock):
        if isinstance(result, fleet.Failure):
            case = OPS[op].module.CASES[place]
            result = {"op": op, "case": case.label, "dtype": _short(dtype), "problems": [f"raised {result.message}"], "large": case.large}
        count += 1
        job.row(**result)
        if result["problems"]:
            print(f"BAD {result['op']} · {result['case']} · {result['dtype']}: {'; '.join(result['problems'])[:600]}")
    missing = sum(map(len, groups)) - count
    if missing:
        job.left_out.append(f"{missing} of {sum(map(len, groups))} cases")
    # what was not looked at is not known to be right
    job.good = not missing and not any(row["problems"] for row in job.rows)


def _groups(job: Job) -> list[list[Item]]:
    """A group for an op and a dtype, split where it is long; those that take longest first."""
    from fastloc.kernels.gate import DTYPES
    from fastloc.kernels.table import OPS

    groups = []
    for name, op in OPS.items():
        for dtype in DTYPES:
            mine = [(name, place, dtype) for place, case in enumerate(op.module.CASES) if _selected(job, case, dtype)]
            # in the interpreter one case an op has to do
            mine = mine[:1] if job.quick else mine
            groups += [mine[start : start + 6] for start in range(0, len(mine), 6)]
    attention = ("self_attention", "self_self_ensemble", "self_self_step")
    return sorted(filter(None, groups), key=lambda group: (group[0][0] not in attention, -len(group)))


def _selected(job: Job, case: Any, dtype: torch.dtype) -> bool:
    if dtype not in (case.dtypes or (torch.float32, torch.float16, torch.bfloat16)):
        return False
    if job.quick and (case.large or (dtype is torch.float32 and case.dtypes is None)):
        return False
    return job.cuda or not case.large


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def lines(record: Row) -> list[str]:
    rows = record["rows"]
    bad, skipped = [row for row in rows if row["problems"]], [row for row in rows if row.get("skipped")]
    lines = [f"{len(rows) - len(bad) - len(skipped)} good, {len(bad)} bad, {len(skipped)} skipped"]
    for row in bad[:12]:
        numbers = f" error {_number(row.get('error'))}, torch's {_number(row.get('torch_error'))}" if row.get("error") else ""
        lines.append(f"BAD {row['op']} · {row['case']} · {row['dtype']}{numbers}: {'; '.join(row['problems'])[:200]}")
    if len(bad) > 12:
        lines.append(f"… and {len(bad) - 12} more: " + ", ".join(sorted({f"{row['op']} {row['dtype']}" for row in bad[12:]})))
    worst: dict[str, float] = {}
    for row in rows:
        if row.get("allowed") and isinstance(row["error"], float):
            worst[row["op"]] = max(worst.get(row["op"], 0.0), row["error"] / row["allowed"])
    return [*lines, "worst share of the allowed error: " + ", ".join(f"{op} {share:.2f}" for op, share in worst.items())]


def _number(value: Any) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)
