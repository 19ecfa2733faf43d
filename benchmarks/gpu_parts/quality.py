"""Half precision against float32 on the embedded model and the quality set: float16 points at the thing as often, to half a point."""

import torch

from gpu_parts import fleet, models, scenes
from gpu_parts.job import Job, Row
from gpu_parts.report import POINTS


def run(job: Job) -> None:
    job.rows.clear()
    job.good = False
    models.strict()
    limit = 4 if job.quick else None
    settings, why = models.fallback(job)
    if why:
        print(why)
    # read before processes are forked, which then share it; with one thread, because threads do not survive a fork
    torch.set_num_threads(1)
    scenes.chunks(limit)
    variants = scenes.variants()
    chosen = ["gem (recommended)", "naclip"] if job.quick else list(variants)

    def work(name: str) -> list[Row]:
        models.strict()
        row = variants[name]
        runs = {"float32": scenes.engine(row, job.device, "float32", {})}
        runs |= {dtype: scenes.engine(row, job.device, dtype, settings) for dtype in scenes.DTYPES}
        with torch.inference_mode():
            return scenes.rows_of(name, scenes.measure(row, runs, job.device, limit))

    done = []
    job.good = True
    for name, result in fleet.spread([[name] for name in chosen], work, job.device, job.deadline, job.clock):
        done.append(name)
        if isinstance(result, fleet.Failure):
            job.good = False
            job.row(method=name, dtype="all", failed=result.message)
            print(f"BAD {name}: {result.message}")
            continue
        for each in result:
            job.row(**each, fallback=why)
            # bfloat16 is reported: a few questions of 700 go either way
            if each["dtype"] == "float16" and not abs(each["points"]) <= POINTS:
                job.good = False
                print(f"BAD {name} in {each['dtype']}: {each['points']:+.2f} points")
    if missing := [name for name in chosen if name not in done]:
        job.good = False
        job.left_out += missing


def lines(record: Row) -> list[str]:
    rows = [row for row in record["rows"] if not row.get("failed")]
    lines = scenes.table(rows) + [f"{row['method']}: {row['failed']}" for row in record["rows"] if row.get("failed")]
    off = [f"{row['method']} {row['dtype']} {row['points']:+.2f}" for row in rows if not abs(row["points"]) <= POINTS]
    return [*lines, f"off by more than {POINTS} points: {', '.join(off) or 'none'}"]
