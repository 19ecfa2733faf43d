"""Each kernel beside what PyTorch does in its place, and beside itself in other configurations. Times are of replayed graphs: no host.

Attention counts 4 N N d operations for each stream, head and pass. "sdpa" is the same attention from the same projections with
PyTorch's fused attention in each of its back ends, normalisation and sum included; "two bare sdpa" its two products alone.
"""

from typing import Any

import torch

from gpu_parts import fleet, kernel_cases, kernel_tuning, models, timing
from gpu_parts.job import Job, Row
from gpu_parts.speed import number

CALLS = 10


def run(job: Job) -> None:
    models.strict()
    small = job.quick or not job.cuda
    job.rows = [row for row in job.rows if row.get("batch") != 0]
    good = compiled(job, small)
    with torch.no_grad():
        for make in kernel_cases.cases(job.device, small):
            if not job.late("a case of kernels beside PyTorch", need=1.5 if job.cuda else 0.0):
                _compare(job, make, 0.05 if small else 1.2)
        for kernel in kernel_tuning.CANDIDATES:
            for batch in (1, 8) if kernel in kernel_tuning.BATCHED and not small else (1,):
                if kernel not in good or job.has(tuned=kernel, batch=batch):
                    continue
                if not job.late(f"{kernel} b{batch}", need=1.5 if job.cuda else 0.0):
                    _tune(job, kernel, batch, good[kernel], small)


def compiled(job: Job, small: bool) -> dict[str, list[kernel_tuning.Configuration]]:
    """The configurations that run on this device, by what is tuned."""
    tried = {kernel: candidates[:1] if small else candidates for kernel, (_, candidates) in kernel_tuning.CANDIDATES.items()}
    # three to a process, so that the inputs are made not too often
    groups = [[(kernel, each) for each in some[start : start + 3]] for kernel, some in tried.items() for start in range(0, len(some), 3)]

    def work(item: tuple[str, kernel_tuning.Configuration]) -> str:
        kernel, configuration = item
        call = kernel_tuning.launcher(kernel, job.device, 1, small)(configuration)
        call(0)
        timing.wait(job.device)
        return ""

    good: dict[str, list[kernel_tuning.Configuration]] = {}
    # at most half of the time: what is not compiled by then is left out
    until = job.clock() + job.left() / 2
    for (kernel, configuration), result in fleet.spread(groups, work, job.device, until, job.clock):
        if isinstance(result, fleet.Failure):
            job.row(tuned=kernel, batch=0, configuration=configuration, ms=None, failed=result.message)
        else:
            good.setdefault(kernel, []).append(configuration)
    missing = sum(map(len, tried.values())) - sum(map(len, good.values())) - sum(row.get("batch") == 0 for row in job.rows)
    if missing > 0:
        job.left_out.append(f"{missing} configurations")
    return good


def _compare(job: Job, make: Any, seconds: float) -> None:
    made: list[kernel_cases.Case] = []
    if problem := timing.attempt(lambda: made.append(make()), job.device):
        job.row(case="a case that could not be made", ms=None, failed=problem)
        return
    case = made[0]
    if job.has(case=case.label):
        return
    running = {name: _graph(job, call) for name, call in case.contenders.items()}
    exact: list[torch.Tensor] = []
    if case.exact is not None:
        expected = case.exact
        timing.attempt(lambda: exact.append(expected()), job.device)
    timing.rounds(running, job.device, seconds, sample=timing.SAMPLE if job.cuda else 0.0)
    for name, each in running.items():
        fields = _per_call(job, timing.fields(each))
        error: list[float] = []
        if exact and not each.error and not name.startswith("two bare"):
            call = case.contenders[name]
            timing.attempt(lambda: error.append(models.off(call(0)[: len(exact[0])], exact[0])), job.device)  # noqa: B023
        ms = fields["ms"]
        job.row(case=case.label, contender=name, error=error[0] if error else None,
                tflops=case.flops / ms / 1e9 if ms and case.flops else None, gbs=case.bytes / ms / 1e6 if ms and case.bytes else None,
                gflop=case.flops / 1e9 or None, moved_mb=case.bytes / 1e6 or None, **fields)  # fmt: skip
    print(f"{case.label}: " + ", ".join(f"{name} {1000 * row['ms']:.1f} µs" for name, row in _timed(job, case=case.label)))


def _tune(job: Job, kernel: str, batch: int, candidates: list[kernel_tuning.Configuration], small: bool) -> None:
    of = kernel_tuning.launcher(kernel, job.device, batch, small)
    configurations: list[kernel_tuning.Configuration | None] = [None, *candidates]
    running = {str(each): _graph(job, of(each)) for each in configurations}
    shipped = of(None)(0)
    timing.rounds(running, job.device, 0.02 if small else 0.8, least=3, sample=timing.SAMPLE / 2 if job.cuda else 0.0)
    for each, contender in zip(configurations, running.values(), strict=True):
        error: list[float] = []
        if not contender.error:
            timing.attempt(lambda: error.append(models.off(_one(of(each)(0)), _one(shipped))), job.device)  # noqa: B023
        fields = _per_call(job, timing.fields(contender))
        job.row(tuned=kernel, batch=batch, configuration=each or "shipped", apart=error[0] if error else None, **fields)
    print(f"{kernel} b{batch}: {best(job.rows, kernel, batch, 4)}")


def _one(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[1]


def _graph(job: Job, call: timing.Call) -> timing.Contender:
    """A contender that replays CALLS calls. One that cannot be captured holds the reason."""
    made: list[timing.Call] = []
    problem = timing.attempt(lambda: made.append(timing.graphed(call, job.device, CALLS if job.cuda else 1)), job.device)
    return timing.warmed(made[0], job.device, 2) if made else timing.Contender(call, [], error=problem)


def _per_call(job: Job, fields: Row) -> Row:
    """Times of one call of a graph's."""
    calls = CALLS if job.cuda else 1
    fields = {name: value / calls if name.startswith("ms") and value else value for name, value in fields.items()}
    return {**fields, "calls": fields["calls"] * calls} if "calls" in fields else fields


def _timed(job: Job, **fields: Any) -> list[tuple[str, Row]]:
    return [(row["contender"], row) for row in job.rows if row.get("ms") and all(row.get(name) == value for name, value in fields.items())]


def best(rows: list[Row], kernel: str, batch: int, count: int) -> str:
    """The configurations of an op, best first, in microseconds."""
    timed = (row for row in rows if row.get("tuned") == kernel and row["batch"] == batch and row.get("ms"))
    mine = sorted(timed, key=lambda row: row["ms"])
    # the shipped one is reported wherever it stands
    kept = [row for place, row in enumerate(mine) if place < count or row["configuration"] == "shipped"]
    return " | ".join(f"{1000 * row['ms']:.1f} {_short(row['configuration'])}" for row in kept)


def _short(configuration: Any) -> str:
    return configuration if isinstance(configuration, str) else "/".join(str(each) for each in configuration.values())


def lines(record: Row) -> list[str]:
    rows = record["rows"]
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows if "contender" in row):
        mine = {row["contender"]: row for row in rows if row.get("case") == case}
        ours = mine.get("kernels") or mine.get("kernel") or {}
        line = f"{case:32}" + number(1000 * ours["ms"] if ours.get("ms") else None, "8.1f") + " µs"
        line += f" {ours['tflops']:.0f} TF/s" if ours.get("tflops") else f" {ours['gbs']:.0f} GB/s" if ours.get("gbs") else ""
        others = {_brief(name): row.get("ms") for name, row in mine.items() if row is not ours}
        lines.append(f"{line}; " + ", ".join(f"{name} {number(1000 * ms if ms else None, '.1f')}" for name, ms in others.items()))
    lines.append("configurations, µs, best first (BM/BN/warps/stages or as their keys)")
    for kernel, batch in dict.fromkeys((row["tuned"], row["batch"]) for row in rows if row.get("ms") and "tuned" in row):
        lines.append(f"{kernel} b{batch}: {best(rows, kernel, batch, 2)}")
    return lines


def _brief(contender: str) -> str:
    return contender.replace("two bare sdpa", "bare").replace("efficient", "eff.")
