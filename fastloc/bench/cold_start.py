"""Cold starts: from the start of a process until its first result, each time in a fresh process."""

from collections.abc import Callable, Iterator
from statistics import median

from fastloc.bench.backends.table import BACKENDS
from fastloc.bench.contenders import GEM
from fastloc.bench.models import Model
from fastloc.bench.run_context import Work
from fastloc.bench.schema import Row
from fastloc.bench.towers.kinds import no_backend
from fastloc.bench.worker_pool import WorkerError

# fresh processes of each; before them one that is not counted, which exports what there is to export and fills the disk's cache
STARTS = 3
KEY = " cold"


def measure(work: Work, add: Callable[[Row], object], say: Callable[[str], None]) -> None:
    """A row for each model and backend: medians of the time to import, to load, and of the first call."""
    for one in work.request.models:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in work.request.backends}
        failed = {name: reason for name in found if (reason := no_backend(one.spec, BACKENDS[name]))}
        rows: dict[str, Row] = {}
        for start in range(STARTS + 1):
            # in turns, so that drifts fall on all
            for name in (each for each in found if each not in failed):
                say(f"cold start {start + 1} of {STARTS + 1}: {one.name}, {name}")
                try:
                    times, rows[name] = _once(work, one, name)
                except WorkerError as error:
                    failed[name] = str(error)
                    continue
                if start:
                    found[name].append(times)
        for row in _rows(work, one, found, rows, failed):
            add(row)


def _once(work: Work, one: Model, name: str) -> tuple[dict[str, float], Row]:
    methods = one.methods(work.request.methods)
    case = work.case(one, GEM if GEM in methods else methods[0], work.request.sizes_of(one)[0])
    worker = work.backend(name, KEY)
    try:
        prepared = worker.ask("prepare", "cold", case=case.to_dict())
        row = {**work.columns("cold", case, one), "method": case.method, "dtype": BACKENDS[name].stored or case.dtype}
        row["versions"] = worker.hello["versions"]
        return {"import_s": worker.import_s, **{each: prepared[each] for each in ("load_s", "first_ms", "loaded_mb")}}, row
    finally:
        work.end(name + KEY)


def _rows(
    work: Work, one: Model, found: dict[str, list[dict[str, float]]], rows: dict[str, Row], failed: dict[str, str]
) -> Iterator[Row]:
    for name, times in found.items():
        head = {**work.facts, "suite": "cold", "model": one.name, "versions": {}, **rows.get(name, {})}
        head |= {"group": f"cold: {one.name}", "contender": name, "by": "fastloc"}
        if name in failed:
            yield {**head, "failed": failed[name]}
        else:
            yield {**head, "rounds": len(times), **{each: median(time[each] for time in times) for each in times[0]}}
