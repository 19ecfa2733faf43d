"""A run: ceilings, then the chosen suites, row by row into the log."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fastloc.bench import cold_start, run_facts, session
from fastloc.bench.request import Request
from fastloc.bench.roofline import ceilings
from fastloc.bench.run_context import Work
from fastloc.bench.schema import SUFFIX, Log, Row, slug
from fastloc.bench.stats import percentiles
from fastloc.bench.suites import SUITES
from fastloc.bench.worker_pool import WorkerError

COLD = "cold"
CEILINGS = "fastloc.bench.roofline.ceilings"
# of each ceiling; the quickest counts, since nothing can be quicker than it could
CALLS = 8
Say = Callable[[str], None]


@dataclass
class Outcome:
    """interrupted: Ctrl-C, or a signal that ends a program, was received; the rows are those measured until then."""

    rows: list[Row]
    file: Path
    interrupted: KeyboardInterrupt | None = None


def names() -> tuple[str, ...]:
    """Every suite."""
    return (*SUITES, COLD)


def run(asked: Request, say: Say) -> Outcome:
    """Measure a request; `say` is called with each step's description."""
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    with Work(asked, moment) as work:
        file = asked.out / slug(str(work.facts["device"])) / f"{moment}{SUFFIX}"
        log = Log(file)

        def add(row: Row) -> None:
            throttled = run_facts.throttled(asked.device)
            log.add({**row, "throttled": throttled} if throttled else row)

        try:
            _ceilings(work, add, say)
            groups = [(name, group) for name in asked.suites if name != COLD for group in _listed(work, name, say)]
            for _, group in groups:
                session.measure(group, asked.seconds / max(len(groups), 1), work.references, add, say)
            if COLD in asked.suites:
                cold_start.measure(work, add, say)
        except KeyboardInterrupt as end:
            return Outcome(log.rows, file, end)
        return Outcome(log.rows, file)


def _listed(work: Work, name: str, say: Say) -> Sequence[session.Group]:
    say(f"preparing suite {name}")
    return list(SUITES[name].groups(work))


def _ceilings(work: Work, add: Callable[[Row], None], say: Say) -> None:
    """The machine's ceilings, which every floor is made of: the best of a few calls each."""
    asked, rows = work.request, []
    worker = work.module(CEILINGS)
    # on a GPU the waterfall has steps in half precision
    dtypes = {"uint8", "float32", asked.dtype, *(("float16",) if asked.kind == "cuda" else ())}
    for case in ceilings.cases(asked.device, asked.threads):
        if case["dtype"] not in dtypes:
            continue
        name = ceilings.contender(case)
        say(f"this machine's ceilings: {name}")
        row = {**work.facts, "suite": "ceilings", "group": "ceilings", "contender": name, "by": "fastloc", "dtype": case["dtype"],
               "threads": asked.threads, "versions": worker.hello["versions"], "case": ceilings.shape(case)}  # fmt: skip
        try:
            worker.ask("prepare", "ceiling", case=case)
            ms = worker.ask("go", "ceiling", what="model", count=CALLS)["ms"]
            worker.ask("drop", "ceiling")
        except WorkerError as error:
            add({**row, "failed": str(error)})
            continue
        rate, unit = ceilings.rate(case, min(ms))
        rows.append({**row, **percentiles(ms), "calls": len(ms), "rate": rate, "unit": unit})
        add(rows[-1])
    work.rates = ceilings.rates(rows)
    work.end(CEILINGS)


__all__ = ["Outcome", "names", "run"]
