"""Compile every shipped kernel with ptxas, for GPUs that need not be there, and check that it is fit to ship.

    python benchmarks/compile_kernels.py                    # compile everything, write records/kernel_builds.json
    python benchmarks/compile_kernels.py --check            # compile everything, compare with the record, exit 1 if something is wrong
    python benchmarks/compile_kernels.py --check --sm 90    # the same of a part: --sm, --head-widths, --ops

Wrong is: a kernel that does not compile, spills registers, needs more shared memory than a block can have or leaves its dots to other
than tensor cores (`compile_gate.broken_rules`), and a record that differs. Machine code is compared only where Triton is of the
record's version; of a part it is read only where its PTX is not the record's, which halves the time. Compute capability 10.0 is tried
and recorded, not judged. A head width or dtype of null: the builds ignore it. The variants of `fastloc.kernels.variants` are compiled for
one head width in float16, on the GPUs that they are for; their rows name them, and have no build that is a shipped one.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from functools import cache, partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fastloc.kernels.launch import Build, recording
from fastloc.kernels.table import OPS
from fastloc.kernels.variants import CONSTANTS, VARIANTS, refusals, using
from fastloc.utils.atomic_write import write_text
from fastloc.utils.termination import end_with_parent

RECORD = Path(__file__).parent / "records" / "kernel_builds.json"
COMMAND = "python benchmarks/compile_kernels.py"
HEAD_WIDTHS = (32, 64, 72, 80, 88, 96, 104, 128)
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
JUDGED = (80, 89, 90)
TRIED = (*JUDGED, 100)
# of variants, so that compiling them takes a tenth of the time of what is shipped
VARIANT_WIDTH, VARIANT_DTYPE = 64, "float16"
ATTENTION = ("self_self_step", "self_self_ensemble", "self_attention")
Row = dict[str, Any]


class Job(NamedTuple):
    """One build, by where it was recorded: kernels do not travel between processes."""

    op: str
    head_width: int
    dtype: str
    place: int
    sm: int
    variant: str = ""


@cache
def recorded(op: str, head_width: int, dtype: str, variant: str = "") -> list[Build]:
    """The builds that an op ships for a head width and dtype, or those of a variant in their place."""
    with using(*filter(None, [variant])), recording() as builds:
        OPS[op].module.builds(head_width, DTYPES[dtype])
    if not builds:
        raise ValueError(f"{op}.builds({head_width}, {dtype}) started no kernel")
    return builds


@cache
def known() -> dict[str, Any]:
    """The record's builds of machine code, by the PTX that they are made of; nothing where the record is of another Triton."""
    from fastloc.kernels.compile_gate import Compiled

    record: Row = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {"triton": ""}
    names = [field.name for field in fields(Compiled)]
    rows = record["builds"] if record["triton"] == version("triton") else []
    return {row["ptx"]: Compiled(*(row[name] for name in names)) for row in rows if row.keys() >= set(names)}


def compiled(job: Job, reuse: bool) -> tuple[Row, list[str]]:
    """A job's row of the record, and which rules it breaks. Runs in a process of its own."""
    from fastloc.kernels.compile_gate import broken_rules, compile_build, specialise

    build = recorded(*job[:3], job.variant)[job.place]
    _, constants, _, _ = specialise(build, job.sm)
    names = {build.kernel.arg_names[place]: _plain(value) for (place,), value in constants.items()}
    # what belongs to a variant is not there where it is off
    names = {name: value for name, value in names.items() if value or name not in CONSTANTS}
    row: Row = {"constants": names, "num_warps": build.num_warps, "num_stages": build.num_stages}
    try:
        found = compile_build(build, job.sm, known() if reuse else {})
    # whatever stops Triton or ptxas is what the row says
    except Exception as error:
        message = " ".join(str(error).split())
        row["failed"] = f"{type(error).__name__}: {message if len(message) < 300 else message[:150] + ' … ' + message[-150:]}"
        return row, [f"does not compile: {row['failed']}"]
    return row | asdict(found), broken_rules(found, job.sm, attention=job.op in ATTENTION)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def jobs_of(ops: Sequence[str], head_widths: Sequence[int], sms: Sequence[int]) -> dict[Job, Row]:
    """Every build once, with the start of its row. A build that several ops, widths or dtypes share is noted with the first."""
    from fastloc.kernels.compile_gate import key

    shared: dict[tuple[Any, ...], list[Job]] = {}
    for op, width, dtype in product(OPS, HEAD_WIDTHS, DTYPES):
        for place, build in enumerate(recorded(op, width, dtype)):
            shared.setdefault(key(build, sms[0]), []).append(Job(op, width, dtype, place, sms[0]))
    jobs: dict[Job, Row] = {}
    for first, *others in shared.values():
        alike = [first, *(job for job in others if job.op == first.op)]
        any_width = {job.head_width for job in alike} == set(HEAD_WIDTHS)
        any_dtype = {job.dtype for job in alike} == set(DTYPES)
        if first.op in ops and (any_width or first.head_width in head_widths):
            start = {
                "op": first.op,
                "kernel": recorded(*first[:3])[first.place].kernel.__name__,
                "head_width": None if any_width else first.head_width,
                "dtype": None if any_dtype else first.dtype,
            }
            jobs |= {first._replace(sm=sm): {**start, "sm": sm} for sm in sms}
    return jobs | _variants(ops, head_widths, sms)


def _variants(ops: Sequence[str], head_widths: Sequence[int], sms: Sequence[int]) -> dict[Job, Row]:
    """The builds that a variant changes, on the GPUs that it is for. A build that several of its ops share is noted with the first."""
    from fastloc.kernels.compile_gate import key

    jobs: dict[Job, Row] = {}
    for name, sm in product(VARIANTS, sms if VARIANT_WIDTH in head_widths else ()):
        if refusals(name, divmod(sm, 10)):
            continue
        shared = {key(build, sm) for op in VARIANTS[name].ops for build in recorded(op.name, VARIANT_WIDTH, VARIANT_DTYPE)}
        for op in VARIANTS[name].ops:
            for place, build in enumerate(recorded(op.name, VARIANT_WIDTH, VARIANT_DTYPE, name)):
                found = key(build, sm)
                if found not in shared and op.name in ops:
                    start: Row = {"op": op.name, "variant": name, "kernel": build.kernel.__name__}
                    job = Job(op.name, VARIANT_WIDTH, VARIANT_DTYPE, place, sm, name)
                    jobs[job] = {**start, "head_width": VARIANT_WIDTH, "dtype": VARIANT_DTYPE, "sm": sm}
                shared.add(found)
    return jobs


def compile_all(jobs: dict[Job, Row], processes: int, *, reuse: bool) -> tuple[list[Row], list[str]]:
    """Every job's finished row in the record's order, and the rules that those which are judged break."""
    # kernels with many registers take longest, so the widest heads go first
    queue = sorted(jobs, key=lambda job: -job.head_width)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        rows, problems = [], []
        for job, (found, broken) in zip(queue, pool.map(partial(compiled, reuse=reuse), queue), strict=True):
            rows.append(jobs[job] | found)
            problems += [f"{_title(rows[-1])}: {rule}" for rule in broken if job.sm in JUDGED]
    return sorted(rows, key=_order), problems


def _order(row: Row) -> tuple[Any, ...]:
    return (list(OPS).index(row["op"]), row["head_width"] or 0, row["dtype"] or "", row["sm"], row.get("variant", ""), json.dumps(row))


def _title(row: Row) -> str:
    width = f" d={row['head_width']}" if row["head_width"] else ""
    constants = " ".join(f"{name}={value}" for name, value in row["constants"].items())
    variant = f" as {row['variant']}" if "variant" in row else ""
    name = f"{row['op']}.{row['kernel']}{variant}{width} {row['dtype'] or 'any dtype'}"
    return f"{name} sm_{row['sm']} ({constants}, {row['num_warps']} warps)"


def written(rows: Sequence[Row]) -> str:
    """The record: one row a line, so that a difference reads as one."""
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
    return f'{{\n"triton": {json.dumps(version("triton"))},\n"builds": [\n{lines}\n]\n}}\n'


def differences(rows: Sequence[Row], ops: Sequence[str], head_widths: Sequence[int], sms: Sequence[int]) -> list[str]:
    """Differences of that part of the record from `rows`; nothing where it is of another Triton."""
    if not RECORD.exists():
        return [f"there is no {RECORD.name}; make it with {COMMAND}"]
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    if record["triton"] != version("triton"):
        print(f"the record is of Triton {record['triton']}, this is {version('triton')}: only the rules are checked")
        return []
    part = [row for row in record["builds"] if row["sm"] in sms and row["head_width"] in (None, *head_widths)]
    # an op that is no longer there is of every part
    selected = [row for row in part if row["op"] in ops or row["op"] not in OPS]
    stale = [f"only in the record: {json.dumps(row)}" for row in selected if row not in rows]
    new = [f"not in the record: {json.dumps(row)}" for row in rows if row not in selected]
    return [*stale, *new, *([f"{RECORD.name} is out of date; make it again with {COMMAND}"] if stale or new else [])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the record instead of writing it")
    parser.add_argument("--sm", nargs="+", type=int, choices=TRIED, default=list(TRIED), help="compute capabilities")
    parser.add_argument("--head-widths", nargs="+", type=int, choices=HEAD_WIDTHS, default=list(HEAD_WIDTHS))
    parser.add_argument("--ops", nargs="+", choices=OPS, default=list(OPS))
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    chosen = parser.parse_args()
    whole = (chosen.sm, chosen.head_widths, chosen.ops) == (list(TRIED), list(HEAD_WIDTHS), list(OPS))
    if not (chosen.check or whole):
        parser.error("a record must hold every build; a part can be checked alone, with --check")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        # these are read when triton is imported, which is not before here; a cache of one's own is empty, so everything is compiled
        os.environ.pop("TRITON_INTERPRET", None)
        os.environ["TRITON_CACHE_DIR"] = folder
        # PTX that does not change with the place of a line
        os.environ["TRITON_DISABLE_LINE_INFO"] = "1"
        jobs = jobs_of(chosen.ops, chosen.head_widths, chosen.sm)
        rows, problems = compile_all(jobs, chosen.jobs, reuse=not whole)
    print(f"{len(rows)} builds in {time.perf_counter() - started:.0f} s with Triton {version('triton')}", flush=True)
    if chosen.check:
        problems += differences(rows, chosen.ops, chosen.head_widths, chosen.sm)
    else:
        write_text(RECORD, written(rows))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
