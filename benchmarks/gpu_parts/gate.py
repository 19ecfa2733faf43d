"""The correctness gate of every kernel on this device, its large cases too; see `fastloc.kernels.gate`.

Groups of cases are checked side by side in processes of their own, because most of the time goes into compiling, and because a
kernel that writes where it must not takes its process with it. First a few cases of every op in every dtype: a line of each op says early
whether it is right. Cut short, it goes on with what is not in its record.
"""

import time
from collections import Counter
from dataclasses import asdict
from typing import Any

import torch

from gpu_parts import fleet
from gpu_parts.job import Job, Row

# an op's name, the place of a case among its CASES, the dtype
Item = tuple[str, int, torch.dtype]
# they are compiled longest
ATTENTION = ("self_attention", "self_self_ensemble", "self_self_step")
# cases of an op and a dtype that come first
EARLY = 2


def run(job: Job) -> None:
    from fastloc.kernels import device as kernels
    from fastloc.kernels import gate
    from fastloc.kernels.table import OPS

    job.good = False
    # not asked of a GPU, which this process must not touch before it forks
    if not job.cuda and (reasons := kernels.why_not(job.device)):
        raise RuntimeError("; ".join(reasons))
    groups = _groups(job)
    first = set(_early(job)) & {item for group in groups for item in group}
    early = Counter(item[0] for item in first)

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
            print(f"BAD {title(result)}: {'; '.join(result['problems'])[:600]}")
        if (op, place, dtype) in first:
            early[op] -= 1
            if not early[op]:
                print(_so_far(op, job.rows))
    missing = sum(map(len, groups)) - count
    if missing:
        job.left_out.append(f"{missing} of {sum(map(len, groups))} cases")
    # what was not looked at is not known to be right
    job.good = not missing and not any(row["problems"] for row in job.rows)


def _groups(job: Job) -> list[list[Item]]:
    """A group for the early cases of each op, attention's first, then one for an op and a dtype, split where it is long."""
    from fastloc.kernels.gate import DTYPES
    from fastloc.kernels.table import OPS

    done = {title(row) for row in job.rows}
    early = [[item for item in _early(job) if item[0] == name] for name in sorted(OPS, key=lambda name: name not in ATTENTION)]
    begun = {item for group in early for item in group}
    groups = []
    for name in OPS:
        for dtype in DTYPES:
            mine = [item for item in _items(job, name, dtype) if item not in begun]
            groups += [mine[start : start + 6] for start in range(0, len(mine), 6)]
    # those that take longest first
    groups.sort(key=lambda group: (group[0][0] not in ATTENTION, -len(group)))
    return [left for group in (*early, *groups) if (left := [item for item in group if _title(item) not in done])]


def _early(job: Job) -> list[Item]:
    """Every op's first cases in every dtype, with a large one, which a GPU alone runs."""
    from fastloc.kernels.gate import DTYPES
    from fastloc.kernels.table import OPS

    found = []
    for name, op in OPS.items():
        for dtype in DTYPES:
            mine = _items(job, name, dtype)
            large = [item for item in mine if op.module.CASES[item[1]].large]
            found += list(dict.fromkeys([*mine[:EARLY], *large[:1]]))
    return found


def _items(job: Job, name: str, dtype: torch.dtype) -> list[Item]:
    from fastloc.kernels.table import OPS

    mine = [(name, place, dtype) for place, case in enumerate(OPS[name].module.CASES) if _selected(job, case, dtype)]
    mine = [item for item in mine if job.only in _title(item)]
    # in the interpreter one case an op has to do
    return mine[:1] if job.quick else mine


def title(row: Row) -> str:
    """The name of a check: op, case and dtype."""
    return f"{row['op']} · {row['case']} · {row['dtype']}"


def _title(item: Item) -> str:
    from fastloc.kernels.table import OPS

    return title({"op": item[0], "case": OPS[item[0]].module.CASES[item[1]].label, "dtype": _short(item[2])})


def _so_far(op: str, rows: list[Row]) -> str:
    """An op's line after its early cases."""
    mine = [row for row in rows if row["op"] == op]
    bad, skipped = sum(bool(row["problems"]) for row in mine), sum(bool(row.get("skipped")) for row in mine)
    shares = [row["error"] / row["allowed"] for row in mine if row.get("allowed") and isinstance(row["error"], float)]
    worst = f", at most {max(shares):.2f} of the allowed error" if shares else ""
    return f"{op}: {len(mine) - bad - skipped} good, {bad} bad, {skipped} skipped{worst}"


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
        lines.append(f"BAD {title(row)}{numbers}: {'; '.join(row['problems'])[:200]}")
    if len(bad) > 12:
        lines.append(f"… and {len(bad) - 12} more: " + ", ".join(sorted({f"{row['op']} {row['dtype']}" for row in bad[12:]})))
    worst: dict[str, float] = {}
    for row in rows:
        if row.get("allowed") and isinstance(row["error"], float):
            worst[row["op"]] = max(worst.get(row["op"], 0.0), row["error"] / row["allowed"])
    return [*lines, "worst share of the allowed error: " + ", ".join(f"{op} {share:.2f}" for op, share in worst.items())]


def _number(value: Any) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)
