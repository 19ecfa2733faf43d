"""Builds one engine in a process of its own: a builder that crashes takes its process with it, and no message would be left.

    python -m fastloc.export.trt.worker < job.json

reads a job (see `fastloc.export.trt.build`), writes the engine to a file and prints one JSON object a line: its progress, and at the end
the description of the engine, or the reason of the failure. It imports only the standard library and the runtime's module.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

# seconds between two lines about the steps of a phase
APART = 0.1
# the most warnings kept; a parser may repeat one for every node
MOST = 50
# numpy's names of TensorRT's dtypes, where they are not the lower-case ones
DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
Job = dict[str, Any]


class Refused(Exception):
    """The error of a runtime that does not build this job."""


class Lines:
    """Prints one JSON object a line to the process that started this one."""

    def __init__(self) -> None:
        # libraries print to standard output too: their output is redirected to standard error
        self.file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.last = 0.0

    def send(self, **content: Any) -> bool:
        """Print one object. Returns False if the reader has closed the pipe."""
        try:
            print(json.dumps(content), file=self.file, flush=True)
        except OSError:
            return False
        return True

    def far(self, phase: str, done: int, total: int) -> bool:
        """Print the progress of a phase. Steps in quick succession are left out, but never a phase: it may be the long one."""
        now = time.monotonic()
        if done and now - self.last < APART:
            return True
        self.last = now
        return self.send(phase=phase, done=done, total=total)


def build(job: Job, lines: Lines) -> dict[str, Any]:
    """Run a job and return the description of the engine. Raises Refused with one line."""
    trt = importlib.import_module(job["module"])
    log = _logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if job["typed_flag"] else 0)
    if not network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED):
        raise Refused("this version's network is not strongly typed, so precision would be its choice and not the file's")
    lines.far("Reading the ONNX file", 0, 1)
    _parse(trt, network, job["onnx"], log)
    config = builder.create_builder_config()
    # the configuration does not own its monitor
    config.progress_monitor = monitor = _monitor(trt, lines)
    _configure(trt, builder, config, job)
    plan = builder.build_serialized_network(network, config)
    del monitor
    if plan is None:
        raise Refused(log.first("it says no reason"))
    with Path(job["part"]).open("wb") as file:
        file.write(plan)
    if job["load"]:
        _load(trt, plan, log)
    _keep_timing(config, job)
    return {"layers": _layers(network), "tensors": _tensors(network), "warnings": log.warnings, "version": trt.__version__}


def _parse(trt: Any, network: Any, path: str, log: Any) -> None:
    parser = trt.OnnxParser(network, log)
    # parsed from the file, so that weights beside it are found
    if parser.parse_from_file(path):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    if not errors:
        raise Refused(log.first("its parser says no reason"))
    first, more = errors[0], len(errors) - 1
    node = " ".join(part for part in (first.node_operator(), first.node_name()) if part)
    raise Refused(f"node {node}: {_line(first.desc())}" + (f" (and {more} more)" if more else ""))


def _configure(trt: Any, builder: Any, config: Any, job: Job) -> None:
    # on by default; float32 in a file means float32
    (config.set_flag if job["tf32"] else config.clear_flag)(trt.BuilderFlag.TF32)
    if job["workspace"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job["workspace"])
    if job["optimization_level"] is not None:
        config.builder_optimization_level = job["optimization_level"]
    if job["capabilities"]:
        config.num_compute_capabilities = len(job["capabilities"])
        for i, name in enumerate(job["capabilities"]):
            if not config.set_compute_capability(getattr(trt.ComputeCapability, name), i):
                raise Refused(f"it does not take compute capability {name}")
    if job["shapes"]:
        profile = builder.create_optimization_profile()
        for name, (low, usual, high) in job["shapes"].items():
            profile.set_shape(name, tuple(low), tuple(usual), tuple(high))
        if config.add_optimization_profile(profile) < 0:
            raise Refused(f"it does not take these ranges: {job['shapes']}")
    if job["timing_cache"]:
        path = Path(job["timing_cache"])
        cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
        if not config.set_timing_cache(cache, False):
            raise Refused(f"timing cache {path} was made by another version or on another GPU: remove it")


def _keep_timing(config: Any, job: Job) -> None:
    cache = config.get_timing_cache() if job["timing_cache"] else None
    if cache is None:
        return
    path = Path(job["timing_cache"])
    # not by fastloc's own writer, which imports more than the standard library into this process
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    with part.open("xb") as file:
        file.write(bytes(cache.serialize()))
    part.replace(target)


def _load(trt: Any, plan: Any, log: Any) -> None:
    """Load the engine again, on this machine's GPU."""
    if trt.Runtime(log).deserialize_cuda_engine(plan) is None:
        raise Refused(f"the engine was built, and cannot be loaded again: {log.first('it says no reason')}")


def _layers(network: Any) -> dict[str, dict[str, int]]:
    """The number of layers of each type and output dtype. The network is strongly typed: the engine computes in these dtypes."""
    counts: dict[str, Counter[str]] = {}
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        dtype = _dtype(layer.get_output(0)) if layer.num_outputs else "none"
        counts.setdefault(layer.type.name.lower(), Counter())[dtype] += 1
    return {kind: dict(count) for kind, count in sorted(counts.items())}


def _tensors(network: Any) -> list[dict[str, Any]]:
    inputs = [(network.get_input(i), "input") for i in range(network.num_inputs)]
    outputs = [(network.get_output(i), "output") for i in range(network.num_outputs)]
    return [{"name": each.name, "mode": mode, "dtype": _dtype(each), "shape": list(each.shape)} for each, mode in inputs + outputs]


def _dtype(tensor: Any) -> str:
    name: str = tensor.dtype.name
    return DTYPES.get(name, name.lower())


def _logger(trt: Any) -> Any:
    """A logger that keeps errors and warnings, each once."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the base is known when it runs
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            kept = self.errors if severity < trt.ILogger.WARNING else self.warnings
            line = _line(message)
            if severity <= trt.ILogger.WARNING and line not in kept and len(kept) < MOST:
                kept.append(line)

        def first(self, otherwise: str) -> str:
            """The first error, and the number of further ones."""
            more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
            return self.errors[0] + more if self.errors else otherwise

    return Log()


def _monitor(trt: Any, lines: Lines) -> Any:
    """A monitor that prints the builder's progress and stops it once the reader is gone. The builder's own threads call it."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.totals[phase_name] = num_steps
            lines.far(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return lines.far(phase_name, step + 1, self.totals.get(phase_name, 0))

        def phase_finish(self, phase_name: str) -> None:
            self.totals.pop(phase_name, None)

    return Monitor()


def _line(message: str, most: int = 400) -> str:
    line = " ".join(str(message).split())
    return line if len(line) <= most else f"{line[: most - 2]} …"


def main() -> int:
    """Read the job, run it, and print the result. Returns 0 if an engine was built."""
    lines = Lines()
    job = json.loads(sys.stdin.read())
    try:
        lines.send(built=build(job, lines))
    except Refused as error:
        lines.send(refused=_line(str(error), 600))
        return 1
    # any exception of a library is the result; the parent process reports it in one line
    except Exception as error:
        lines.send(refused=_line(f"{type(error).__name__}: {error}", 600))
        return 1
    return 0


if __name__ == "__main__":
    # skips destructors of native objects, some of which have crashed
    os._exit(main())
