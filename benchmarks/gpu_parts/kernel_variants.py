"""The kernels' variants for the part `variants`: first the gate's cases that decide whether each is right, then a contender for each.

A variant is checked in float16, in forked processes that leave its compiled kernels on the disk. One that is wrong, or was not reached, is
not timed: its row has the reason.
"""

import time
from collections.abc import Callable
from dataclasses import asdict

import torch

from fastloc.kernels import gate, variants
from gpu_parts import fleet, models, speed
from gpu_parts.job import Job, Row

# cases of an op that are checked with the variant's own, and how many large ones
EARLY, LARGE = 2, 1
# of the part's time
SHARE = 0.4
DTYPE = torch.float16
# a variant's name and the place among its cases
Item = tuple[str, int]


def names(job: Job) -> list[str]:
    """The variants that the device can run; this process must not touch it before it forks."""
    if not job.cuda:
        # attention takes the interpreter long, and its variants have tests of their own
        return ["project_cosine"]
    capability = tuple(map(int, job.head["capability"].split(".")))
    return [name for name in variants.VARIANTS if not variants.refusals(name, (capability[0], capability[1]))]


def check(job: Job) -> None:
    """Add a row for each case that is not there yet."""
    done = {_title(row) for row in job.rows if "case" in row}
    groups = [[item for item in group if _title(_head(item)) not in done] for name in names(job) for group in _groups(job, name)]

    def work(item: Item) -> Row:
        op, case = variants.cases(item[0])[item[1]]
        began = time.perf_counter()
        with variants.using(item[0]):
            verdict = gate.check(op, case, DTYPE, job.device)
        return {**asdict(verdict), "seconds": time.perf_counter() - began}

    count = 0
    for item, result in fleet.spread(groups, work, job.device, job.clock() + SHARE * job.left(), job.clock):
        found = {**_head(item), "problems": [f"raised {result.message}"]} if isinstance(result, fleet.Failure) else result
        row = job.row(variant=item[0], **found)
        count += 1
        if row["problems"]:
            print(f"BAD {_title(row)}: {'; '.join(row['problems'])[:400]}")
    if missing := sum(map(len, groups)) - count:
        job.left_out.append(f"{missing} checks of variants")


def problem(job: Job, name: str) -> str:
    """The reason why a variant is not timed; empty if every check of it is there and good."""
    rows = {_title(row): row for row in job.rows if row.get("variant") == name}
    for item in (item for group in _groups(job, name) for item in group):
        row = rows.get(_title(_head(item)))
        if row is None:
            return f"not checked: {_title(_head(item))}"
        if row["problems"]:
            return f"{row['op']} · {row['case']}: {row['problems'][0]}"
    return ""


def contenders(job: Job, config: speed.Config) -> dict[str, Callable[[], speed.Made]]:
    """The default plan with each variant. A CPU has none: the interpreter's times mean nothing."""
    found: dict[str, Callable[[], speed.Made]] = {}
    for name in names(job) if job.cuda else ():
        found[f"kernel {name}"] = lambda name=name: _switched(job, config, name)  # type: ignore[misc]
    return found


def _switched(job: Job, config: speed.Config, name: str) -> speed.Made:
    """Raises RuntimeError for a variant that is wrong, and where the default avoids the kernels that it changes."""
    settings, why = models.fallback(job)
    field = "readout" if name == "project_cosine" else "attention"
    if reason := why if field in settings else problem(job, name):
        raise RuntimeError(f"not timed: {reason}")
    call, fields = speed.ours(job, config, "gem", settings, why)

    def switched(pixels: torch.Tensor) -> torch.Tensor:
        # the first call captures a graph, which keeps the variant
        with variants.using(name):
            return call(pixels)

    return switched, fields


def _groups(job: Job, name: str) -> list[list[Item]]:
    """The checks of a variant, a group for each of its ops: its own cases, a few of the op's, a large one on a GPU."""
    groups = []
    for op in variants.VARIANTS[name].ops:
        mine = [(place, case) for place, (owner, case) in enumerate(variants.cases(name)) if owner is op]
        shipped, own = mine[: len(op.module.CASES)], mine[len(op.module.CASES) :]
        large = [place for place, case in (*own, *shipped) if case.large and job.cuda][:LARGE]
        small = [place for place, case in (*own, *shipped[:EARLY]) if not case.large]
        groups.append([(name, place) for place in (*small, *large)][: 1 if job.quick else None])
    return groups


def _head(item: Item) -> Row:
    op, case = variants.cases(item[0])[item[1]]
    return {"variant": item[0], "op": op.name, "case": case.label, "dtype": str(DTYPE).removeprefix("torch.")}


def _title(row: Row) -> str:
    return f"{row['variant']} · {row['op']} · {row['case']}"


def lines(record: Row) -> list[str]:
    """A line for all checks, and one for each that is bad."""
    rows = [row for row in record["rows"] if "case" in row]
    bad = [row for row in rows if row["problems"]]
    found = [f"checks of kernels' variants: {len(rows) - len(bad)} good, {len(bad)} bad"] if rows else []
    return [*found, *(f"BAD {_title(row)}: {'; '.join(row['problems'])[:160]}" for row in bad[:6])]
