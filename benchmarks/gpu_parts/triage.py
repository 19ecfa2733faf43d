"""Failures in the records of a run, and where to look: nothing is run, and no GPU is needed.

For each failure: its check, the error beside what is allowed, the shortest command that repeats it (on the GPU, and in Triton's
interpreter), the file and line of the literal reference, and causes that fit its words. Causes are facts of this project's kernels and of
the versions that it was built with; what is not known is not guessed.
"""

import inspect
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from gpu_parts import job
from gpu_parts.job import ROOT, Row

SCRIPT = "python benchmarks/gpu.py"
# failures of a part that are printed whole; the others are counted
SHOWN = 12
# a word of a failure's message, and what is known of it
CAUSES = (
    ("shared memory", "the tiles need more shared memory than a block has here (163 KiB at 8.0, 99 KiB at 8.9, 227 KiB at 9.0):"
     " smaller BM, BN or num_stages in the op's `_configuration`; `kernel_builds.json` has each build's need"),
    ("OutOfResources", "registers or shared memory of a block: smaller tiles or fewer warps in the op's `_configuration`"),
    ("CompilationError", "Triton's front end: an API of `tl` that this version lacks or names otherwise; see the versions above, and run"
     " `python benchmarks/compile_kernels.py`, which compiles without a GPU"),
    ("PassManager", "Triton's compiler, not the kernel's Python: compare the versions, and try num_stages one smaller"),
    ("has no attribute", "an API that this version of Triton or PyTorch lacks or names otherwise"),
    ("unexpected keyword", "an argument that this version of Triton or PyTorch does not take"),
    ("illegal memory access", "an address outside a tensor: an offset that needs 64 bits, a mask that is missing; run the command under"
     " `compute-sanitizer`"),
    ("misaligned address", "strides are passed in eighths and promise 16 bytes: a view whose offset or row is no multiple of 8 elements"),
    ("ended with code", "the process was lost: a memory fault, or no memory on the host; run the command alone, then under"
     " `compute-sanitizer`"),
    ("out of memory", "another process holds the device's memory, or the case is larger than what is free"),
    ("a second run", "the same input gives other bits: a race, or memory that nothing wrote; run under"
     " `compute-sanitizer --tool racecheck`"),
    ("alone does not give the same bits", "the configuration, or the order of a sum, depends on the batch"),
    ("not written or not finite", "outputs begin as NaN: a block that is not started, a mask, or an infinity times zero in padding"
     " (1/|x| of a zero row is 0)"),
    ("wrote into its argument", "a pointer is stored to that is only to be read"),
    ("wrote beside", "the last tile's mask: rows or columns past the end"),
    ("capturing", "something in the pass waits for the device, copies from pageable memory or allocates pinned memory: with launch=eager it"
     " runs; the traceback of the part's record has the line"),
    ("same device", "a table or a scalar tensor stayed on the host"),
    ("maximum error", "single elements are off: look at the last tile, padding and the class token before the arithmetic"),
    ("a replay", "a tensor that the graph reads was freed or replaced after the capture; `Pass` holds what it reads"),
    ("an earlier result", "a result is the graph's own buffer, and was not cloned"),
    ("msgspec", "msgspec is not installed: carry its wheel, see --wheels"),
    ("Invalid backend", "PyTorch's attention has no such back end for this shape, dtype or device"),
    ("No available kernel", "PyTorch's attention has no such back end for this shape, dtype or device"),
)  # fmt: skip
# causes by dtype, where nothing else is known: what no run without a GPU has shown
BY_DTYPE = {
    "bfloat16": "bfloat16 is judged on GPUs alone (Triton's interpreter multiplies it wrongly): compare with the case's float16 row first",
    "float32": "float32 is exact only without TF32; a GPU's exp2, reciprocal square root and division are off by up to two units",
    "float16": "the interpreter runs the small cases in float16 and is right: the compiler, the device's exp2 and the order of sums differ",
}


def main(results: Path) -> int:
    """Print every failure of the newest records below this folder; 0 if there is none, 1 if there are some, 2 without records."""
    records = newest(results)
    if not records:
        print(f"no records of the GPU script below {results}")
        return 2
    found = list(problems(records))
    head = next(iter(records.values()))
    print(f"{head['device']}, capability {head['capability']}, driver {head['driver']}, torch {head['torch']}, triton {head['triton']}, "
          f"CUDA {head['cuda']}, Python {head['python']}, commit {head['commit']}, run {head['run']}")  # fmt: skip
    print(f"kernels were compiled ahead of time with Triton {_built()}")
    shown: dict[str, int] = {}
    for problem in found:
        shown[problem["part"]] = shown.get(problem["part"], 0) + 1
        if shown[problem["part"]] <= SHOWN:
            print("\n" + "\n".join(_lines(problem)))
    for part, count in shown.items():
        if count > SHOWN:
            print(f"\n{part}: and {count - SHOWN} more")
    for part, record in records.items():
        if record["left_out"]:
            print(f"\n{part}: left out for time: {', '.join(record['left_out'][:6])}; run it again, and it goes on")
    print(f"\n{len(found)} failures" if found else "\nnothing failed")
    return int(bool(found))


def newest(results: Path) -> dict[str, Row]:
    """The records by part of the folder that was written last: `results` itself, its `gpu`, or a machine's below it."""
    folders = [folder for folder in (results, results / "gpu", *results.glob("*/gpu")) if any(map(job.read, folder.glob("*.json")))]
    if not folders:
        return {}
    last = max(folders, key=lambda folder: max(file.stat().st_mtime for file in folder.glob("*.json")))
    read = {file.stem: job.read(file) for file in sorted(last.glob("*.json"))}
    return {part: record for part, record in read.items() if record and "device" in record}


def problems(records: dict[str, Row]) -> Iterator[Row]:
    """The failures: {"part", "title", "messages", "row"}."""
    for part, record in records.items():
        if record.get("error"):
            trace = record["error"]
            yield {"part": part, "title": "the part itself", "messages": trace.splitlines()[:1], "row": {}, "trace": trace}
        for row in record["rows"]:
            messages = list(row.get("problems") or ()) + ([row["failed"]] if isinstance(row.get("failed"), str) else [])
            if messages:
                yield {"part": part, "title": _title(part, row), "messages": messages, "row": row, "trace": ""}


def _title(part: str, row: Row) -> str:
    if part == "gate":
        from gpu_parts import gate

        return gate.title(row)
    if part == "parity":
        from gpu_parts import parity

        return parity.label(row)
    if part == "methods":
        return str(row["method"])
    names = ("config", "frame", "what", "case", "tuned", "timed", "model", "method", "spelling", "step", "contender", "configuration",
             "dtype")  # fmt: skip
    return " · ".join(str(row[name]) for name in names if row.get(name))


def _lines(problem: Row) -> list[str]:
    row = problem["row"]
    lines = [f"{problem['part']}: {problem['title']}", *(f"  {message[:300]}" for message in problem["messages"][:4])]
    numbers = [f"{name.replace('_', ' ')} {row[name]:.2e}" for name in NUMBERS if isinstance(row.get(name), float) and row[name]]
    lines += [f"  {', '.join(numbers)}"] if numbers else []
    lines += [f"  shape and plan: {json.dumps(shape)}"] if (shape := {name: row[name] for name in SHAPE if row.get(name)}) else []
    lines += [f"  repeat: {each}" for each in commands(problem)]
    lines += [f"  reference: {each}" for each in references(problem)]
    lines += [f"  look at: {each}" for each in causes(problem)]
    lines += [f"    {each}" for each in problem["trace"].splitlines()[1:][-6:]]
    return lines


NUMBERS = ("error", "distance", "allowed", "within", "torch_error", "max_error", "replay", "alone", "apart")
SHAPE = ("model", "size", "frame", "batch", "settings", "configuration", "plan")


def commands(problem: Row) -> list[str]:
    """The shortest command that repeats it, and where it can be repeated without a GPU."""
    part, row = problem["part"], problem["row"]
    only = f" --only {shlex.quote(problem['title'])}" if part in ("gate", "methods", "parity") and row else ""
    here = f"{SCRIPT} --parts {part}{only}"
    interpreted = part == "gate" and row and not row.get("large") and row.get("dtype") != "bfloat16"
    return [here if only else f"{here} --again", *([f"{here} --device cpu   (Triton's interpreter)"] if interpreted else [])]


def references(problem: Row) -> list[str]:
    """File and line of the literal statement that the answer was compared with."""
    from fastloc.kernels.table import OPS
    from fastloc.recipes import RECIPES
    from fastloc.reference import any_recipe, methods, relevance

    part, row = problem["part"], problem["row"]
    if part == "gate" and row.get("op") in OPS:
        module = OPS[row["op"]].module
        return [f"{_place(module.reference)}; the kernel: {_place(getattr(module, row['op']))}"]
    name = row.get("recipe", row.get("method"))
    if name not in RECIPES:
        return []
    if name in methods.METHODS:
        return [_place(methods.METHODS[name])]
    return [_place(any_recipe.features if RECIPES[name].reads == "patches" else relevance.relevance)]


def causes(problem: Row) -> list[str]:
    """Known causes of failures with these words."""
    text = " ".join([*problem["messages"], problem["trace"]])
    found = [cause for words, cause in CAUSES if words in text]
    dtype = problem["row"].get("dtype")
    if any("error" in message and "over" in message for message in problem["messages"]) and dtype in BY_DTYPE:
        found.append(BY_DTYPE[dtype])
    plan = problem["row"].get("plan") or {}
    if problem["part"] in ("parity", "methods") and "triton" in plan.values():
        fields = ", ".join(name for name, value in plan.items() if value == "triton")
        found.append(f"the gate's rows of this dtype first: if they are good, set {fields} to PyTorch's own one at a time")
    return found


def _place(of: Any) -> str:
    of = inspect.unwrap(of)
    file = inspect.getsourcefile(of if isinstance(of, ModuleType) else getattr(of, "fn", of)) or ""
    line = inspect.getsourcelines(getattr(of, "fn", of))[1]
    path = Path(file).resolve()
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{line}"


def _built() -> str:
    record = json.loads((ROOT / "benchmarks" / "records" / "kernel_builds.json").read_text(encoding="utf-8"))
    return str(record["triton"])
