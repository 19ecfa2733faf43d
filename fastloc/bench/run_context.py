"""Context of a run: its folder of weights and inputs, its contenders' processes, and the columns that all its rows share."""

import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastloc.bench import peer_environments, run_facts
from fastloc.bench.cases import Case, write_inputs
from fastloc.bench.models import Model
from fastloc.bench.peer_table import PEERS
from fastloc.bench.request import Request
from fastloc.bench.schema import Row, slug
from fastloc.bench.session import References
from fastloc.bench.worker_pool import WorkerProcess


class Work:
    """A context: processes are ended and the folder is removed when it is left."""

    def __init__(self, request: Request, run: str) -> None:
        self.request, self.run = request, run
        self._stack = ExitStack()
        self.workers: dict[str, WorkerProcess] = {}
        self._weights: dict[str, Path] = {}
        # this machine's ceilings, as `limits.floor` takes them
        self.rates: dict[str, float] = {}

    def __enter__(self) -> "Work":
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="fastloc-bench-")))
        self.facts: Row = {"run": self.run, **run_facts.columns(self.request.device)}
        self.references = References(self.folder, self._inputs_at)
        return self

    def __exit__(self, *error: object) -> None:
        # all at once: each takes a moment to end
        for worker in self.workers.values():
            worker.release()
        for worker in self.workers.values():
            worker.close()
        self._stack.close()

    # cases

    def case(self, one: Model, method: str, size: int, batch: int = 1, texts: int | None = None, **more: Any) -> Case:
        """A case of this run, with its weights and inputs on the disk."""
        texts = texts or self.request.texts
        made = Case(
            one.name, one.config, str(self.weights(one)), method, (size, size), "", preprocess=one.preprocess, batch=batch, texts=texts,
            dtype=self.request.dtype, device=self.request.device, threads=self.request.threads,
        )  # fmt: skip
        made = replace(made, **more)
        return replace(made, inputs=self._inputs_at(made, made.size))

    def weights(self, one: Model) -> Path:
        """The file of its image tower, written at its first use."""
        key = slug(f"{one.name} {one.pretrained}")
        if key not in self._weights:
            self._weights[key] = one.write(self.folder / "weights" / f"{key}.safetensors")
        return self._weights[key]

    def _inputs_at(self, case: Case, size: tuple[int, int]) -> str:
        folder = self.folder / "inputs" / f"{case.model}-{size[0]}x{size[1]}-{case.batch}-{case.texts}"
        if not folder.exists():
            write_inputs(folder, case.batch, size, case.texts, case.config["embed_dim"], case.frame)
        return str(folder)

    # processes

    def backend(self, name: str, key: str = "", path: Path | None = None) -> WorkerProcess:
        """The process of a backend; another one for another key. Started, or started again, when it is not there.

        path: a folder that its packages are looked for in first, to run another checkout's.
        """
        # what another checkout exports is its own
        exported = self.folder / ("files" if path is None else f"files{key}")
        exported.mkdir(exist_ok=True)
        command = [sys.executable, "-P", "-m", "fastloc.bench.backends", name, exported]
        return self._started(f"{name}{key}", command, {} if path is None else {"PYTHONPATH": str(path)})

    def peer(self, name: str, key: str = "") -> WorkerProcess:
        """The process of a peer, in its own environment."""
        row = PEERS[name]
        script = Path(peer_environments.__file__).parent / "peers" / row.script
        return self._started(f"{name}{key}", [peer_environments.python_of(row.environment), script])

    def module(self, name: str) -> WorkerProcess:
        """The process of another module of this package that speaks the protocol."""
        return self._started(name, [sys.executable, "-P", "-m", name])

    def _started(self, key: str, command: list[Any], environment: Mapping[str, str] | None = None) -> WorkerProcess:
        if key not in self.workers or not self.workers[key].alive:
            self.workers[key] = WorkerProcess(key, command, self.request.threads, self.folder / "logs" / f"{key}.log", environment)
        return self.workers[key]

    def end(self, key: str) -> None:
        """End a process, so that the next one of its name is a fresh one."""
        if key in self.workers:
            self.workers.pop(key).close()

    # columns

    def columns(self, suite: str, case: Case, one: Model) -> Row:
        """Columns of a row of this case that are the same for every contender."""
        return {
            **self.facts, "suite": suite, "model": one.name, "weights": "trained" if one.trained else "random",
            "changes": case.changes or None, "height": case.size[0], "width": case.size[1], "tokens": case.tokens, "batch": case.batch,
            "texts": case.texts, "dtype": case.dtype, "threads": case.threads, "compiled": case.compiled or None, "versions": {},
        }  # fmt: skip
