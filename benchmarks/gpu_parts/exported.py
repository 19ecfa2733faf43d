"""Exported files in every onnxruntime provider that is there: do they compute what PyTorch computes on this device, and how fast?

Each file is written as a user gets it, with its golden inside, which the export itself runs on the CPU. Then every provider that takes
its kind runs it through `fastloc.runtime.session`, which refuses where a node is not on that provider: the golden, and pictures that the
engine answers on this device in float32 and, for a float16 file, in float16. Providers for GPUs are timed beside the engine: normalised
pixels on the device to the grid there, one picture a call, each call waited for (a session returns when its outputs are there).
With the plain onnxruntime this is the CPU alone; `gpu.py --wheels` brings another, and a missing provider is a row with that reason.
"""

import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastloc.diagnostics.probes import ADD
from fastloc.errors import FastlocError
from fastloc.onnx_file.formats import SPELLINGS
from fastloc.recipes import RECIPES
from fastloc.runtime.providers import PROVIDERS, available, choose, register, runtime
from gpu_parts import fleet, models, timing
from gpu_parts.exported_files import SIZES, File, engine, opened, pictures, ran, texts, tower, written
from gpu_parts.job import Job, Row
from gpu_parts.speed import number, ratio

METHODS = ("gem", "clip_surgery", "naclip")
# pictures of a quick look
FEW = 4
# of the time, for correctness; the rest is for times
CHECKS = 0.7
# provider -> the files that it is for, see `fastloc.onnx_file.formats.SPELLINGS`; the slowest last
TAKES: dict[str, Callable[[File], bool]] = {
    "cuda": lambda file: True,
    "tensorrt": lambda file: file.spelling != "ort",
    "tensorrt-rtx": lambda file: file.spelling == "decomposed" or (file.spelling == "onnx" and file.dtype == "float16"),
    "cpu": lambda file: True,
}
# each takes up to half a minute, and many are made at once: first those that matter most
EVERY = tuple(sorted(
    (File(*each) for each in product(("embedded", "B/16"), METHODS, SPELLINGS, ("float16", "float32"))),
    key=lambda file: (file.method != "gem" or (file.model != "embedded" and file.dtype != "float16"), file.model != "embedded"),
))  # fmt: skip
QUICK = (File("tiny", "gem", "ort", "float32"), File("embedded", "clip_surgery", "decomposed", "float16"))
# a file, and what is done with it: "export", or a provider's name
Item = tuple[File, str]


def run(job: Job) -> None:
    job.rows.clear()
    job.good = None
    models.strict()
    there = _there(job)
    if not there:
        return
    job.good = False
    # what is read here is shared by the processes that are forked; one thread, because threads do not survive a fork
    torch.set_num_threads(1)
    files = QUICK if job.quick else EVERY
    for model in dict.fromkeys(file.model for file in files):
        tower(model), pictures(model, FEW if job.quick else None)
    with tempfile.TemporaryDirectory() as folder:
        _check(job, files, there, Path(folder))
        _time(job, there, Path(folder))


def _there(job: Job) -> list[str]:
    """The providers of this onnxruntime; a row for each that it lacks, or for all that is missing."""
    try:
        for package in ("onnx", "onnxscript"):
            import_module(package)
        ort = runtime()
    except (ImportError, FastlocError) as error:
        job.row(missing="all", reason=timing.first_line(error))
        print(f"no files: {timing.first_line(error)}")
        return []
    there = []
    for name in TAKES:
        try:
            choose(name, available(ort), f"onnxruntime {ort.__version__}")
            there.append(name)
        except FastlocError as error:
            job.row(missing=name, reason=str(error), onnxruntime=ort.__version__)
    # what is built in may lack its libraries; one that crashes takes only its own process with it
    for name, problem in fleet.spread([[name] for name in there], _problem, job.device, job.deadline, job.clock):
        if problem:
            there.remove(name)
            # onnxruntime says where it happened first, and what happened last
            reason = f"provider {name!r} fails: … {problem.message[-80:]}" if isinstance(problem, fleet.Failure) else problem
            job.row(missing=name, reason=reason, onnxruntime=ort.__version__)
    print(f"onnxruntime {ort.__version__}: {', '.join(there)}")
    return there


def _problem(name: str) -> str:
    """The reason that a provider does not load, from a trial with a file of one node; "" where it does. Raises what onnxruntime raises."""
    row, ort = PROVIDERS[name], runtime()
    devices, options = register(row, ort), ort.SessionOptions()
    if devices:
        options.add_provider_for_devices(devices[:1], {})
    session = ort.InferenceSession(ADD, options, providers=None if devices else [row.ort], enable_fallback=0)
    # a plugin may have another name than its row
    if devices or row.ort in session.get_providers():
        return ""
    return f"provider {name!r} is in onnxruntime {ort.__version__} and does not load: a library that it needs is not there"


def _check(job: Job, files: tuple[File, ...], there: list[str], folder: Path) -> None:
    """Write and run every file; rows, and whether all are good."""
    settings, why = models.fallback(job)
    groups = [[(file, step) for step in ("export", *there) if step == "export" or TAKES[step](file)] for file in files]

    def work(item: Item) -> Row | None:
        models.strict()
        file, step = item
        if step == "export":
            return written(file, folder)
        # what could not be written has its row
        return ran(file, step, folder, job.device, settings, FEW if job.quick else None) if file.path(folder).exists() else None

    deadline = job.clock() + CHECKS * job.left() if _timed(job, there) else job.deadline
    todo = [item for group in groups for item in group]
    for item, result in fleet.spread(groups, work, job.device, deadline, job.clock):
        file, step = item
        todo.remove(item)
        if isinstance(result, fleet.Failure):
            result = {"problems": [result.message]}
        if result is None:
            continue
        job.row(**asdict(file), step=step, **result, **({"fallback": why} if why and "labels_float16" in result else {}))
        if result["problems"]:
            print(f"BAD {file} {step}: {'; '.join(result['problems'])[:400]}")
    job.left_out += [f"{file} {step}" for file, step in todo]
    job.good = not todo and not any(row.get("problems") for row in job.rows)


def _timed(job: Job, there: list[str]) -> list[str]:
    """The providers whose times say something here."""
    return [name for name in there if (name != "cpu") == job.cuda]


def _file(row: Row) -> File:
    return File(row["model"], row["method"], row["spelling"], row["dtype"])


# times


def _time(job: Job, there: list[str], folder: Path) -> None:
    """Files that are right, in turns with the engine: a row a contender."""
    settings, why = models.fallback(job)
    groups: dict[str, list[Item]] = {}
    for row in job.rows:
        if row.get("step") in _timed(job, there) and not row["problems"]:
            file = _file(row)
            groups.setdefault(f"{file.model} {SIZES[file.model]} b1 {file.method} {file.dtype}", []).append((file, row["step"]))
    # first the shape that the issue is about
    order = sorted(groups, key=lambda title: (not title.startswith("B/16"), "float16" not in title))

    def work(title: str) -> list[Row]:
        models.strict()
        return timed(job, groups[title], folder, settings)

    # one group: nothing else is to run beside what is timed
    for title, result in fleet.spread([list(order)], work, job.device, job.deadline, job.clock):
        order.remove(title)
        of = asdict(groups[title][0][0])
        head = {name: of[name] for name in ("model", "method", "dtype")} | {"size": SIZES[of["model"]]}
        for each in [{"contender": "all", "ms": None, "failed": result.message}] if isinstance(result, fleet.Failure) else result:
            job.row(timed=title, **head, **each, **({"fallback": why} if why else {}))
    job.left_out += [f"times of {title}" for title in order]


def timed(job: Job, items: list[Item], folder: Path, settings: dict[str, str]) -> list[Row]:
    """The engine, and the files of one model, method and dtype in their providers."""
    file = items[0][0]
    pixels = pictures(file.model, FEW if job.quick else None)[0][1][:1]
    made = {"torch": partial(_waited, file, job.device, settings, pixels)}
    for one, provider in items:
        made[f"{provider} {one.spelling}"] = partial(_bound, one, provider, folder, pixels)
        if PROVIDERS[provider].memory == "cuda":
            made[f"{provider} {one.spelling} graph"] = partial(_bound, one, provider, folder, pixels, cuda_graph=True)
    running = {name: _started(make, job.device) for name, make in made.items()}
    timing.rounds(running, job.device, 0.05 if job.quick else 1.0, sample=timing.SAMPLE if job.cuda else 0.0)
    count, version = len(texts(file.model, RECIPES[file.method])[0]), runtime().__version__
    return [{"contender": name, "texts": count, "onnxruntime": version, **timing.fields(each)} for name, each in running.items()]


def _started(make: Callable[[], timing.Call], device: torch.device) -> timing.Contender:
    calls: list[timing.Call] = []
    problem = timing.attempt(lambda: calls.append(make()), device)
    return timing.Contender(lambda i: None, [], error=problem) if problem else timing.warmed(calls[0], device)


def _waited(file: File, device: torch.device, settings: dict[str, str], pixels: Tensor) -> timing.Call:
    run, inputs = engine(file, device, file.dtype, settings), pixels.to(device)

    def call(index: int) -> None:
        with torch.inference_mode():
            run(inputs)
        timing.wait(device)

    return call


def _bound(file: File, provider: str, folder: Path, pixels: Tensor, **more: Any) -> timing.Call:
    """A session's bare call: inputs and outputs are in its own buffers on its device, and stay there."""
    session = opened(file, provider, folder, **more)
    feeds = {"pixels": pixels.numpy(), "text_embeddings": texts(file.model, RECIPES[file.method])[0].numpy()}
    # makes the buffers, and captures the graph where there is one
    for _ in range(3):
        session.run(feeds)
    binding = next(iter(session.bindings.sets.values())).binding
    return lambda index: session.session.run_with_iobinding(binding, None)


# the table

HEAD = f"{'largest errors to float32':26}{'files':>6}{'golden':>9}{'simil.':>9}{'heatmap':>9}{'labels':>9}  to float16"


def lines(record: Row) -> list[str]:
    """A line a provider and dtype, then times, what is wrong, and what is missing."""
    rows = record["rows"]
    compared = [row for row in rows if "similarity" in row]
    lines = [HEAD] if compared else []
    for step, dtype in dict.fromkeys((row["step"], row["dtype"]) for row in compared):
        lines.append(_line(f"{step} {dtype}", [row for row in compared if (row["step"], row["dtype"]) == (step, dtype)]))
    titles = dict.fromkeys(row["timed"] for row in rows if row.get("timed"))
    lines += [_times(title, [row for row in rows if row.get("timed") == title]) for title in titles]
    wrong = [f"BAD {_file(row)} {row['step']}: {each[:150]}" for row in rows for each in row.get("problems", ())]
    lines += wrong[:6] + ([f"… and {len(wrong) - 6} more"] if len(wrong) > 6 else [])
    lines += [f"{row['timed']}, {row['contender']}: {row['failed'][:120]}" for row in rows if row.get("failed")][:4]
    return lines + [f"not there: {row['missing']}: {row['reason'][:100]}" for row in rows if row.get("missing")]


def _line(title: str, rows: list[Row]) -> str:
    def most(values: list[Any]) -> float:
        # infinite numbers are words in a record
        return max((float(value) for value in values), default=math.inf)

    golden = [row["golden"]["similarity"] for row in rows if row["golden"]]
    line = f"{title:26}{len(rows):6}{most(golden):9.0e}{most([row['similarity'] for row in rows]):9.0e}"
    line += f"{most([row['heatmap'] for row in rows]):9.0e}{min(row['labels'] for row in rows):9.2%}"
    half = [row["similarity_float16"] for row in rows if "similarity_float16" in row]
    return line + (f"{most(half):12.0e}" if half else "")


def _times(title: str, rows: list[Row]) -> str:
    ms = {row["contender"]: row["ms"] for row in rows}
    usual = ms.get("torch")
    rest = [f"{name} {number(each, '.3f')} ({number(ratio(each, usual), '.2f')} x)" for name, each in ms.items() if name != "torch"]
    return f"{title}: torch {number(usual, '.3f')} ms, {', '.join(rest)}"
