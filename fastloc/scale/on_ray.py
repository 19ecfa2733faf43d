"""Shards of a batch made by actors of Ray Data, on this machine or on many."""

from __future__ import annotations

import os
import socket
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastloc.errors import FastlocError
from fastloc.scale.locate import Locate
from fastloc.scale.one_process import located
from fastloc.scale.ray_session import connected
from fastloc.scale.rows import Settings
from fastloc.scale.shards import Counts, Shard, commit
from fastloc.utils.schema import first_line, number

__all__ = ["Actor", "Pool", "pool_of", "run"]

# how often a shard is tried again whose actor has died: of a machine that is taken away, or of pictures that kill every actor
RETRIES = 3
# cores of an actor, unless the number of actors is given
CORES = 4


@dataclass(frozen=True)
class Pool:
    """Actors: their number, and CPU cores and GPUs of each."""

    actors: int
    cores: int
    gpus: float


def run(
    locate: Locate, shards: Iterable[Shard], folder: Path, *,
    address: str | None = None, actors: int | None = None, gpus: float | None = None,
) -> Iterator[tuple[int, Counts]]:  # fmt: skip
    """Have shards located and committed into a batch's folder by actors; yields the number and the counts of each when it is on the disk.

    An actor loads the model once and makes one shard at a time. A shard whose actor dies is made again, of the same bytes; one that kills
    `RETRIES` + 1 actors is left out, and the others are finished before the error is raised.

    Args:
        folder: must be the same on all machines, as must the current one.
        address: see `fastloc.scale.ray_session.connected`.
        actors: their number; by default as many as GPUs allow, and without GPUs one every 4 cores.
        gpus: GPUs of an actor, which may be a fraction; by default 1 where the model runs on "cuda" here, else 0.

    Raises:
        FastlocError: no such cluster, more than it has, an error of an actor, or shards that could not be finished.
    """
    waiting = {shard.number: shard for shard in shards}
    if not waiting:
        return
    settings = locate.settings
    with connected(address) as ray:
        from ray.data import ActorPoolStrategy

        pool = pool_of(ray.nodes(), actors, float(settings.device == "cuda") if gpus is None else gpus)
        described = ray.data.from_items([{"shard": shard} for shard in waiting.values()], override_num_blocks=len(waiting))
        with warnings.catch_warnings():
            # of the last two, for which the versions that are allowed have no other place
            warnings.filterwarnings("ignore", ".*ray_remote_args")
            made = described.map_batches(
                Actor, fn_constructor_args=(locate, folder, settings, pool.cores, os.getcwd()), batch_size=1,
                compute=ActorPoolStrategy(size=pool.actors, max_tasks_in_flight_per_actor=1), num_cpus=pool.cores, num_gpus=pool.gpus,
                max_restarts=-1, max_task_retries=RETRIES,
            )  # fmt: skip
        # of actors' deaths alone: every exception comes back as an error
        made.context.max_errored_blocks = -1
        try:
            for row in made.iter_rows():
                if row["error"]:
                    raise FastlocError(row["error"])
                del waiting[row["number"]]
                yield row["number"], Counts(row["pictures"], row["located"], row["failed"])
        except ray.exceptions.RayError as error:
            raise FastlocError(f"Ray cannot go on ({first_line(error)}); the same command goes on where it was") from error
    if waiting:
        numbers = ", ".join(map(str, sorted(waiting)[:5])) + (", …" if len(waiting) > 5 else "")
        raise FastlocError(
            f"{len(waiting)} shards are not finished ({numbers}): their actors died {RETRIES + 1} times; the same command tries these again"
        )


class Actor:
    """The class that Ray Data's actors are of: shards come in, and what became of each goes out.

    Args:
        locate: loads its model here, with the first shard.
        folder: the batch's.
        settings: of the run; a machine where `locate` has others must not add to its rows.
        cores: threads that locate.
        here: the folder that relative paths start from.
    """

    def __init__(self, locate: Locate, folder: Path, settings: Settings, cores: int, here: str) -> None:
        self.locate, self.folder, self.settings, self.here = locate, folder, settings, here
        locate.threads = cores

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Make shards. The answer has `number`, `pictures`, `located`, `failed` and `error` of each, "" unless the run cannot go on."""
        made: dict[str, list[Any]] = {name: [] for name in ("number", "pictures", "located", "failed", "error")}
        for shard in batch["shard"]:
            counts, error = Counts(), ""
            try:
                counts = self._made(shard)
            # Ray would leave a shard out whose exception it sees, and its reason
            except Exception as fault:
                error = f"shard {shard.number} on {socket.gethostname()}: {first_line(fault)}"
                if not isinstance(fault, (FastlocError, OSError)):
                    traceback.print_exc()
            for name, value in {"number": shard.number, **asdict(counts), "error": error}.items():
                made[name].append(value)
        return made

    def _made(self, shard: Shard) -> Counts:
        os.chdir(self.here)
        if not self.folder.is_dir():
            raise FastlocError(f"{os.path.abspath(self.folder)} must be a folder that all machines of the cluster share")
        if self.locate.settings != self.settings:
            raise FastlocError(f"must have the settings of the run, and {_different(self.locate.settings, self.settings)}")
        return commit(self.folder, shard, located(self.locate, shard), self.settings)


def pool_of(nodes: Iterable[Mapping[str, Any]], actors: int | None, gpus: float) -> Pool:
    """The actors for the machines of a cluster, as `ray.nodes()` lists them: each with as many cores as all can have.

    Raises FastlocError for more than there is room for, and for numbers that cannot be.
    """
    if actors is not None:
        number("actors", actors, 1, float("inf"))
    number("gpus of an actor", gpus, 0, float("inf"))
    if gpus > 1 and gpus % 1:
        raise FastlocError(f"gpus of an actor must be a whole number or a part of one, got {gpus:g}; use {int(gpus)}")
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    usable = [each for each in resources if each.get("CPU", 0) >= 1 and each.get("GPU", 0) >= gpus]
    if not usable:
        raise FastlocError(f"an actor needs a CPU core and {gpus:g} GPUs, which no machine of the cluster has")
    if actors is None:
        actors = sum(int(each["GPU"] / gpus) if gpus else max(1, int(each["CPU"]) // CORES) for each in usable)

    def room(cores: int) -> int:
        return sum(min(int(each["CPU"]) // cores, int(each["GPU"] / gpus) if gpus else sys.maxsize) for each in usable)

    most = int(max(each["CPU"] for each in usable))
    cores = next((cores for cores in range(most, 0, -1) if room(cores) >= actors), None)
    if cores is None:
        raise FastlocError(f"actors must be at most {room(1)} in this cluster, got {actors}; each takes a core or more and {gpus:g} GPUs")
    return Pool(actors, cores, gpus)


def _different(here: Settings, run: Settings) -> str:
    """The first setting that is not the run's."""
    ours, theirs = asdict(here), asdict(run)
    name = next(name for name in ours if ours[name] != theirs[name])
    return f"{name} is {ours[name]!r} here and {theirs[name]!r} there"
