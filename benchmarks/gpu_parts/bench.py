"""`python -m fastloc.bench` as a user starts it, on this GPU: its own gate, its own processes, its own file of rows."""

from fastloc.bench import schema
from gpu_parts import fleet
from gpu_parts.job import Job, Row

# for ending in time, after its last group
SPARE = 8.0
# of the part's time: loading, compiling kernels and checking take the rest
MEASURED = 0.25
FULL = ("--models", "ViT-B-16", "--sizes", "448", "--methods", "gem,itsm,clip_surgery,naclip", "--suites", "methods,waterfall")
QUICK = ("--models", "embedded", "--sizes", "48", "--methods", "gem", "--suites", "waterfall")


def run(job: Job) -> None:
    job.rows.clear()
    small = job.quick or not job.cuda
    folder = job.folder / "bench"
    seconds = max(MEASURED * job.left(), 0.1)
    arguments = [*(QUICK if small else FULL), "--device", job.device.type, "--backends", "torch" if small else "torch,triton", "--json",
                 "--seconds", f"{seconds:.1f}", "-o", str(folder)]  # fmt: skip
    code, output = fleet.module("fastloc.bench", arguments, job.left() - SPARE)
    files = sorted(folder.rglob(f"*{schema.SUFFIX}"))
    rows = [row for file in files for row in schema.read(file)]
    for file in files:
        # beside what the other parts measured, as a run that was started by hand would leave it
        file.replace(job.folder.parent / file.name)
    last = [line for line in output.splitlines() if line.strip() and not line.startswith("{")][-3:]
    job.row(code=code, rows=len(rows), failed=[f"{row['contender']}: {row['failed']}" for row in rows if "failed" in row], said=last)
    for row in rows:
        if "ms" in row and row["suite"] != "ceilings":
            label = row.get("step") or f"{row['method']} {row['contender']}"
            job.row(what=label, ms=row["ms"], end_ms=row.get("end_ms"), error=row.get("error"), achieved=row.get("achieved"))
    if code == fleet.LATE:
        job.left_out.append("what came after the interrupt")
    elif code:
        raise RuntimeError(f"fastloc.bench ended with code {code}: {' '.join(last)}")


def lines(record: Row) -> list[str]:
    """The part's rows in short; the whole is in its own file."""
    lines = []
    for row in record["rows"]:
        if "what" in row:
            end, achieved = (f"{row[name]:.3g}" if isinstance(row.get(name), float) else "–" for name in ("end_ms", "achieved"))
            lines.append(f"{row['what']:32}{row['ms']:9.3f} ms  end to end {end} ms  of the limit {achieved}")
        else:
            lines += row["failed"][:5]
    return lines
