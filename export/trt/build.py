"""Building of TensorRT and TensorRT-RTX engines from ONNX files: all refusals come first, then a separate process builds."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from fastloc._version import __version__
from fastloc.errors import ModelError, PlanError
from fastloc.export.trt import checks, flavours
from fastloc.export.trt import report as engine_file
from fastloc.export.trt.flavours import Flavour
from fastloc.export.trt.profiles import Profiles, Shapes, shapes
from fastloc.export.trt.report import EngineReport, IoTensor
from fastloc.onnx_file import graph as onnx_graph
from fastloc.onnx_file import header
from fastloc.onnx_file.graph import Graph
from fastloc.onnx_file.manifest import Manifest
from fastloc.runtime import engine_cache
from fastloc.utils.atomic_write import create, destination, is_stream, part_of
from fastloc.utils.hardware import Gpu, cuda_gpu
from fastloc.utils.system import files, remains

__all__ = ["EngineReport", "Profiles", "Progress", "build"]

Job = dict[str, Any]
WORKER = "fastloc.export.trt.worker"
# seconds between two calls of a progress callback while the builder reports nothing
BEAT = 1.0
# the levels in both runtimes' documentation
LEVELS = range(6)
# nodes that become layers of products
PRODUCTS = ("Attention", "Conv", "Einsum", "Gemm", "MatMul")


@dataclass(frozen=True)
class Progress:
    """The builder's phase, its steps done and in total (0 of 0 while they are not reported), and the seconds since the start."""

    phase: str
    done: int
    total: int
    seconds: float


def build(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    runtime: str = "tensorrt-rtx",
    sm: Iterable[str] = (),
    profiles: Profiles = Profiles(),  # noqa: B008  # frozen
    timing_cache: str | os.PathLike[str] | None = None,
    workspace: int | None = None,
    optimization_level: int | None = None,
    tf32: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> EngineReport:
    """Build an engine of a file that `fastloc export` wrote, in the precision that the file has.

    Args:
        out: the engine's file; by default beside the model, with the runtime's suffix. The report is written to `<out>.json`.
        runtime: of `FLAVOURS`. "tensorrt-rtx" needs no GPU; "tensorrt" builds on the GPU that the engine is for.
        sm: compute capabilities such as "86", or "current"; none for the runtime's own choice.
        profiles: ranges of the dimensions that the file leaves open.
        timing_cache: a folder that keeps the builder's measurements for the next build. TensorRT alone.
        workspace: the most bytes of GPU memory for a kernel's scratch space; by default the runtime's own limit.
        optimization_level: 0 to 5, how long the builder searches. TensorRT alone.
        tf32: allow float32 products in TensorFloat-32, which is faster and uses only 10 bits of each factor's mantissa.
        progress: called from the thread that builds, a few times a second.

    Raises:
        ModelError: not a fastloc file, the runtime is missing or cannot take it, or an engine cannot be written.
        PlanError: an unknown or impossible runtime, compute capability, range or option.
    """
    job, known = _job(Path(model), out, runtime, sm, profiles, timing_cache, workspace, optimization_level, tf32)
    target, part = known.target, Path(job["part"])
    held: int | None = None
    try:
        held = _claim(part, target)
        start = time.monotonic()
        built = _run(job, known, progress or (lambda _: None))
        report = _report(job, known, built, time.monotonic() - start)
        _check_precision(report, known.graph)
        engine_file.publish(part, target, report)
    finally:
        with suppress(OSError):
            files.remove(part)
        if held is not None:
            os.close(held)
    return report


@dataclass(frozen=True)
class _Known:
    """The facts that are known before the build."""

    row: Flavour
    module: ModuleType
    manifest: Manifest
    graph: Graph
    gpu: Gpu | None
    onnx: Path
    target: Path

    @property
    def gpu_name(self) -> str | None:
        return None if self.gpu is None else engine_cache.device_name(self.gpu)

    @property
    def title(self) -> str:
        return f"{self.row.title} {self.module.__version__}"


def _job(
    onnx: Path, out: str | os.PathLike[str] | None, runtime: str, sm: Iterable[str], profiles: Profiles,
    timing_cache: str | os.PathLike[str] | None, workspace: int | None, level: int | None, tf32: bool,
) -> tuple[Job, _Known]:  # fmt: skip
    """The worker's job, after every check that needs no build."""
    row = flavours.flavour(runtime)
    _check_options(row, timing_cache, workspace, level)
    manifest, graph = header.read(onnx).manifest(), onnx_graph.read(onnx).graph
    module = flavours.load(row)
    checks.check(str(onnx), checks.Case(graph, manifest, row, flavours.release(module)))
    gpu = _gpu()
    targets = flavours.capabilities(row, module, sm, gpu)
    target = Path(out) if out is not None else onnx.with_suffix(row.suffix)
    names = {tensor.name for tensor in graph.tensors}
    job = {
        "module": row.module,
        "typed_flag": flavours.release(module) < row.flag_before,
        "onnx": str(onnx),
        "part": str(part_of(_writable(target))),
        "capabilities": targets,
        "shapes": shapes([value for value in graph.inputs if value.name not in names], manifest, profiles),
        "workspace": workspace,
        "optimization_level": level,
        "tf32": tf32,
        "timing_cache": _timing(timing_cache, row, module, gpu),
        # an engine for other GPUs cannot be loaded on this one
        "load": not row.ahead or targets == (flavours.CURRENT.upper(),),
    }
    return job, _Known(row, module, manifest, graph, gpu, onnx, target)


def _check_options(row: Flavour, timing_cache: object, workspace: int | None, level: int | None) -> None:
    for name, value in (("timing cache", timing_cache), ("optimization level", level)):
        if value is not None and name in row.refused:
            raise PlanError(f"{row.title} has no {name}: {row.refused[name]}; leave it out")
    if workspace is not None and workspace < 1 << 20:
        raise PlanError(f"workspace must be at least 1 MiB, got {workspace} bytes; give more, or leave it out")
    if level is not None and level not in LEVELS:
        raise PlanError(f"optimization level must be from {LEVELS[0]} to {LEVELS[-1]}, got {level}")


def _gpu() -> Gpu | None:
    """The GPU of this machine, or None without a usable one."""
    try:
        return cuda_gpu()
    except PlanError:
        return None


def _timing(folder: str | os.PathLike[str] | None, row: Flavour, module: ModuleType, gpu: Gpu | None) -> str | None:
    """The timing cache's file: one for each device and version, because times are valid only there."""
    if folder is None:
        return None
    name = None if gpu is None else engine_cache.device_name(gpu)
    return str(engine_cache.prepared(Path(folder)) / f"{row.name}-{module.__version__}-{name}.timing")


def _writable(target: Path) -> Path:
    """The engine's target file with links resolved. Raises ModelError for a path that cannot be written."""
    try:
        if is_stream(target):
            raise ModelError(f"{target} must be a file, which has its report beside it, got a pipe or a device; give a file's name")
        return destination(target)
    except IsADirectoryError:
        raise ModelError(f"{target} must be a file, got a folder; give the engine a file's name") from None
    except OSError as error:
        raise ModelError(f"{target} cannot be written ({error.strerror or error})") from None


def _claim(part: Path, target: Path) -> int | None:
    """Make the engine's file before the build, so that an unwritable path does not cost minutes. Returns the descriptor that locks it, and
    removes the files of builds that were killed."""
    try:
        remains.clean(destination(target))
        return remains.held(part, lambda: create(part))
    except OSError as error:
        raise ModelError(f"{target} cannot be written ({error.strerror or error})") from None


def _run(job: Job, known: _Known, progress: Callable[[Progress], None]) -> Job:
    """Build in a separate process, and return its description of the engine."""
    # the interpreter's current path, on which the runtime is found from any working folder
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    command = [sys.executable, "-P", "-m", WORKER]
    pipes: Job = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8", "env": env}
    with tempfile.TemporaryFile() as noise, subprocess.Popen(command, stderr=noise, **pipes) as process:
        try:
            assert process.stdin
            assert process.stdout
            # a worker that cannot start prints no last line; its exit status is reported
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(job))
                process.stdin.close()
            end = _follow(process.stdout, progress)
            status = process.wait()
        finally:
            # any interruption, such as Ctrl-C, also ends the builder, which handles no signals while it builds
            process.kill()
        if "built" in end:
            return dict(end["built"])
        if "refused" in end:
            raise ModelError(f"{known.onnx}: {known.title} does not build it: {end['refused']}")
        raise ModelError(f"{known.onnx}: {known.title} {_crash(status, noise)} while building it: {_otherwise(known)}")


def _follow(lines: IO[str], progress: Callable[[Progress], None]) -> Job:
    """Pass on the worker's progress until its last line, and the time while it prints nothing."""
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def listen() -> None:
        # the pipe is closed if the build is interrupted
        with suppress(ValueError):
            for line in lines:
                answers.put(line)
        answers.put(None)

    threading.Thread(target=listen, daemon=True).start()
    start, phase = time.monotonic(), ("Starting", 0, 0)
    end: Job = {}
    while True:
        try:
            line = answers.get(timeout=BEAT)
        except queue.Empty:
            line = ""
        if line is None:
            return end
        content = json.loads(line) if line else {}
        if "phase" in content:
            phase = content["phase"], content["done"], content["total"]
        elif content:
            end = content
        progress(Progress(*phase, time.monotonic() - start))


def _crash(status: int, noise: IO[bytes]) -> str:
    """The exit of a worker without a last line, and the end of its output."""
    how = f"ended with status {status}"
    if status < 0:
        how = f"crashed ({signal.Signals(-status).name})" if -status in list(signal.Signals) else f"was ended by signal {-status}"
    noise.seek(0)
    printed = noise.read().decode("utf-8", "replace").strip().splitlines()
    return f"{how}, saying {' '.join(printed[-1].split())[:300]!r}," if printed else how


def _otherwise(known: _Known) -> str:
    """The alternative to try if the runtime itself is at fault."""
    other = "'decomposed'" if known.manifest.spelling == "onnx" else "'onnx' in float16"
    return f"try another version of it, or export with spelling {other}"


def _report(job: Job, known: _Known, built: Job, seconds: float) -> EngineReport:
    part, targets = Path(job["part"]), tuple(each.removeprefix("SM") for each in job["capabilities"])
    ranges: Shapes = job["shapes"]
    current = known.gpu is not None and job["load"]
    return EngineReport(
        version=__version__,
        runtime=known.row.name,
        runtime_version=built["version"],
        capabilities=tuple(each.lower() for each in targets),
        serves=_serves(known, targets),
        gpu=known.gpu_name if current else None,
        engine=known.target.name,
        bytes=part.stat().st_size,
        digest=engine_file.digest(part),
        onnx=known.onnx.name,
        onnx_digest=header.read(known.onnx).digest(),
        shapes={name: [list(each) for each in three] for name, three in ranges.items()},
        options={key: job[key] for key in ("workspace", "optimization_level", "tf32")},
        tensors=tuple(IoTensor(**{**each, "shape": tuple(each["shape"])}) for each in built["tensors"]),
        layers=built["layers"],
        loaded=job["load"],
        warnings=tuple(built["warnings"]),
        seconds=round(seconds, 2),
        manifest=known.manifest,
    )


def _serves(known: _Known, targets: tuple[str, ...]) -> str:
    if not targets:
        return known.row.usual
    if targets == (flavours.CURRENT.upper(),):
        return f"GPUs like the one it was built on, {known.gpu_name}"
    return f"GPUs of compute capability {', '.join(f'{each[:-1]}.{each[-1]}' for each in targets)}"


def _check_precision(report: EngineReport, graph: Graph) -> None:
    """Check that products have the file's dtypes, so that no silent conversion took place: of those in the dtype of its metadata at least
    half the share that the file's graph has. A method may keep some in float32."""
    file_dtype, products = report.manifest.dtype, report.products
    if file_dtype not in ("float32", "float16") or not products:
        return
    asked = _products_of(graph)
    share = asked[file_dtype] / asked.total() if asked[file_dtype] else 1.0
    if products.get(file_dtype, 0) < share / 2 * sum(products.values()):
        counts = ", ".join(f"{count} in {dtype}" for dtype, count in products.items())
        raise ModelError(f"{report.onnx} must multiply in {file_dtype}, its metadata's dtype, got layers of {counts}; export it again")


def _products_of(graph: Graph) -> Counter[str]:
    """The number of multiplying nodes of each dtype of what they give, as far as the file says it."""
    dtypes = {value.name: value.dtype for value in (*graph.values, *graph.outputs)}
    found = (dtypes.get(node.outputs[0]) for node in graph.every_node() if node.op in PRODUCTS and node.outputs)
    return Counter(dtype for dtype in found if dtype)
