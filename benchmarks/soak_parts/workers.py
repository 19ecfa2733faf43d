"""The soak's own processes: each does its work for the seconds of its job and writes its tally."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["WORKERS", "main"]

Job = dict[str, Any]


def _calls(job: Job, tally: Any) -> None:
    from soak_parts import calls

    calls.run(tally, job["seconds"], job["calls"], job["pause"], Path(job["folder"]), job["judged"])


def _streams(job: Job, tally: Any) -> None:
    from soak_parts import streams

    streams.run(tally, job["seconds"], job["pause"], Path(job["folder"]))


def _clients(job: Job, tally: Any) -> None:
    from soak_parts import clients

    clients.run(tally, job["seconds"], job["pause"], job["serve"], job["live"], job["judged"])


# name -> its work
WORKERS: dict[str, Callable[[Job, Any], None]] = {"calls": _calls, "streams": _streams, "clients": _clients}


def main(name: str, job: Path) -> int:
    """Do the work of a job's file: {"seconds", "pause", "calls", "folder", "tally", "serve", "live", "judged"}. Returns the exit status."""
    from soak_parts.tally import Tally

    asked: Job = json.loads(job.read_text(encoding="utf-8"))
    with Tally(Path(asked["tally"])) as tally:
        WORKERS[name](asked, tally)
    return 0
