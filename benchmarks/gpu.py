"""The GPU script: what fastloc's kernels and plans are worth on this machine's GPU, and whether they are right, in one command.

    python benchmarks/gpu.py                                      # everything, within 540 seconds
    python benchmarks/gpu.py --parts gate parity --budget 200     # some parts
    python benchmarks/gpu.py --device cpu --quick                 # whether the script works, with Triton's interpreter
    python benchmarks/gpu.py --parts exported --wheels FOLDER     # with onnxruntime-gpu from wheels, whole or in parts (.whl.00, .whl.01 …)
    python benchmarks/gpu.py --triage                             # runs nothing: what failed in the newest records, and where to look
    python benchmarks/gpu.py --parts gate --only 'cosine · one text · float16'      # checks whose title holds this; no record is changed

The first two parts, about 100 seconds, are the correctness of every kernel and one number a method. It needs torch, triton, numpy, scipy,
Pillow and safetensors, the part `exported` also onnx, onnxscript, onnxruntime and msgspec; no network and no open_clip. It runs from
a checkout as it lies. Each part has a process of its own and a share of the time; what it does not use goes to the parts after it. It
writes one JSON file into the folder's `gpu` while it runs, and stops early with what it has. Run again, it goes on: parts that finished
with the same code on the same device are skipped (`--again` repeats them). After every part all that was measured is written again into
`gpu.jsonl`, in the rows of `python -m fastloc.bench`. The end of the output is a summary. Exit code 0: everything ran, and gate, methods
and parity are good; 1: a part failed, or one of these found something wrong; 2: there is no GPU.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
# the parts in order, with their shares of the time in seconds: after the first two it is known what is right, and what each method costs
PARTS = {"gate": 55.0, "methods": 40.0, "device": 8.0, "parity": 65.0, "speed": 95.0, "compiled": 60.0, "video": 30.0, "exported": 40.0,
         "kernels": 40.0, "variants": 45.0, "frames": 25.0, "quality": 17.0, "bench": 20.0}  # fmt: skip
# packages beyond those of every part
NEEDS = {"exported": ("msgspec", "onnx", "onnxruntime", "onnxscript"), "bench": ("msgspec", "platformdirs")}
# the caller may see only the last 12,000 characters
LONGEST = 11_000
# seconds that a part may run over before it is ended
GRACE = 15.0


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(arguments)
    began = time.monotonic()
    if args.triage:
        _paths()
        from gpu_parts import triage

        return triage.main(args.out or RESULTS)
    if args.device == "cpu":
        # read when triton is imported, which is not before here
        os.environ["TRITON_INTERPRET"] = "1"
    _paths()
    if hasattr(sys.stdout, "reconfigure"):
        # what is printed is seen, even if the script is stopped
        sys.stdout.reconfigure(line_buffering=True)
    from gpu_parts import wheels

    with ExitStack() as stack:
        try:
            names = stack.enter_context(wheels.on_path(args.wheels))
        except ValueError as error:
            parser.error(str(error))
        return _run(args, began, names)


def _run(args: argparse.Namespace, began: float, names: tuple[str, ...]) -> int:
    """Run the script with the packages of these wheels."""
    import torch

    from fastloc.bench import schema
    from fastloc.bench.run_facts import commit, load
    from gpu_parts import job

    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device(args.device)
    facts = _facts(args.device)
    if "why" in facts:
        why = f"{facts['why']} (torch {torch.__version__})"
        print(f"no CUDA GPU to run on: {why}; --device cpu tries the script without one", file=sys.stderr)
        return 2
    head = {"run": time.strftime("%Y%m%d-%H%M%S", time.gmtime()), **facts, "load_before": load(), "commit": args.commit or commit(),
            "code": job.code(), **({"wheels": list(names)} if names else {})}  # fmt: skip
    results = args.out or RESULTS / schema.slug(str(facts["device"]))
    # checks that are repeated stand beside the records
    folder = results / ("only" if args.only else "gpu")
    print(f"{head['device']}, torch {head['torch']}, triton {head['triton']}, commit {head['commit']}: {results}")
    for line in lacking(args.parts):
        print(line)
    every = [job.Job(part, device, folder, head, quick=args.quick, only=args.only) for part in PARTS]
    todo = [one for one in every if one.part in args.parts]
    earlier = {} if args.again or args.only else {one.part: _earlier(one) for one in todo}
    for place, one in enumerate(todo):
        found = earlier.get(one.part)
        if found and found["finished"]:
            print(f"\n== {one.part}: done before")
            continue
        one.rows = list(found["rows"]) if found else []
        left = args.budget - (time.monotonic() - began)
        rest = [each.part for each in todo[place:] if not (earlier.get(each.part) or {}).get("finished")]
        share = max(left, 0.0) * PARTS[one.part] / sum(PARTS[each] for each in rest)
        if share < 1:
            print(f"\n== {one.part}: no time left")
            continue
        print(f"\n== {one.part}: {share:.0f} s of {left:.0f} s")
        # the last part has no one to take time from
        _start(one, share, share + (GRACE if left - share > GRACE else 5.0), isolate=args.isolate)
        if not args.only:
            _measured(results / f"gpu{schema.SUFFIX}", every)
    return summary(folder, head, [one.part for one in todo], time.monotonic() - began)


def _measured(file: Path, parts: list[Any]) -> None:
    """Write the measurements of all parts that were run with this code on this device, in this run or one before."""
    from gpu_parts import measured

    for problem in measured.write(file, [found for found in map(_earlier, parts) if found]):
        print(f"not in {file.name}: {problem}")


def _start(one: Any, share: float, limit: float, isolate: bool) -> None:
    """Run one part; whatever becomes of it, there is a record."""
    from gpu_parts import fleet, job

    def work() -> None:
        # counted from here: a process takes a moment to start
        one.started, one.deadline = time.monotonic(), one.clock() + share
        run(one)

    if not isolate or fleet.FORK is None:
        work()
    elif error := fleet.isolated(work, limit):
        # it could not report this itself; the rows it wrote in time are kept
        found = job.read(one.file)
        same = found and found.get("code") == one.head["code"]
        one.rows, one.left_out, one.good = (found["rows"], found["left_out"], found["good"]) if found and same else (one.rows, [], None)
        one.save(error=error)
        print(f"{one.part}: {error}")


def run(one: Any) -> None:
    """One part in this process; what it raises goes into its record."""
    try:
        _module(one.part).run(one)
    # the parts after it are still worth running
    except Exception as error:
        lines = traceback.format_exc().strip().splitlines()
        first = str(error).strip().splitlines()
        one.save(error="\n".join([f"{type(error).__name__}: {first[0] if first else ''}", *lines[-12:]]))
        print(f"{one.part} failed:", *lines[-12:], sep="\n")
    else:
        one.save(finished=True)


def summary(folder: Path, head: dict[str, Any], todo: list[str], seconds: float) -> int:
    """Print every part's table, the most important last; the exit code."""
    from gpu_parts import job, report

    records = {}
    for part in PARTS:
        found = job.read(folder / f"{part}.json")
        if found and found.get("code") == head["code"]:
            records[part] = found
    blocks = []
    for part in reversed(PARTS):
        if part in records:
            blocks.append("\n".join([f"-- {part}{_state(records[part])}", *_lines(part, records[part])]))
    verdict, lines = report.verdict(records, todo)
    last = "\n".join([*lines, f"{seconds:.0f} s; records in {folder}"])
    # from the end backwards, as much as fits
    kept: list[str] = []
    room = LONGEST - len(last)
    for block in reversed(blocks):
        if len(block) + 2 > room:
            block = block[: max(room - 40, 0)] + "\n… cut, see the record"
        kept.insert(0, block)
        room -= len(block) + 2
        if room < 200:
            break
    print("\n" + "=" * 20 + " summary\n" + "\n\n".join([*kept, last]))
    return verdict


def _state(record: dict[str, Any]) -> str:
    ending = f", {record['seconds']:.0f} s"
    if record.get("error"):
        ending += f"\nFAILED: {record['error'].splitlines()[0]}"
    if record["left_out"]:
        names = [name if count == 1 else f"{count} x {name}" for name, count in Counter(record["left_out"]).items()]
        ending += f"\nleft out for time: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
    return ending


def _lines(part: str, record: dict[str, Any]) -> list[str]:
    try:
        lines: list[str] = _module(part).lines(record)
    # a table that cannot be drawn is no reason to lose the others
    except Exception as error:
        lines = [f"no table: {type(error).__name__}: {error}"]
    return lines


def _earlier(one: Any) -> dict[str, Any] | None:
    """The record of a run before with the same code, device and size."""
    from gpu_parts import job

    found = job.read(one.file)
    expected = {**{name: one.head.get(name) for name in ("code", "device", "torch", "triton", "wheels")}, "quick": one.quick}
    return found if found and all(found.get(name) == value for name, value in expected.items()) else None


def _facts(device: str) -> dict[str, Any]:
    """`job.facts` of the device, or {"why": there is none}. Asked in a process of its own: this one forks, and must not touch a GPU."""
    import torch

    from gpu_parts import fleet, job

    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "facts.json"

        def ask() -> None:
            try:
                there = device == "cpu" or torch.cuda.is_available()
                facts = job.facts(torch.device(device)) if there else {"why": "torch sees none"}
            except Exception as error:
                facts = {"why": f"{type(error).__name__}: {error}"}
            answer.write_text(json.dumps(facts), encoding="utf-8")

        if device == "cpu":
            ask()
            problem = ""
        else:
            problem = fleet.isolated(ask, 120)
        return json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {"why": problem}


def lacking(parts: list[str]) -> list[str]:
    """A line for each package that a part imports and this machine lacks."""
    missing: dict[str, list[str]] = {}
    for part, names in NEEDS.items():
        for name in names if part in parts else ():
            if find_spec(name) is None:
                missing.setdefault(name, []).append(part)
    return [f"{name} is not installed, for {' and '.join(of)}: carry its wheel, see --wheels" for name, of in missing.items()]


def _module(part: str) -> Any:
    return import_module(f"gpu_parts.{part}")


def _paths() -> None:
    """Set sys.path: this folder first, for `gpu_parts`; the repo's root last, where its folder `kernels` hides nothing."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    if str(HERE.parent) not in sys.path:
        sys.path.append(str(HERE.parent))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=540.0, metavar="SECONDS", help="time for all parts together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--again", action="store_true", help="repeat parts that finished before")
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder of the records; by default results/<device>")
    parser.add_argument("--quick", action="store_true", help="tiny shapes and few rounds, to test the script")
    parser.add_argument("--device", default="cuda", help="device: cuda, or cpu for Triton's interpreter")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="packages to use in place of installed ones, see gpu_parts/wheels.py")
    parser.add_argument("--triage", action="store_true", help="run nothing: what failed in the newest records, and where to look")
    parser.add_argument("--only", default="", metavar="TEXT", help="of gate, methods and parity the checks whose title holds this")
    parser.add_argument("--commit", help="commit to write into the records where there is no git")
    parser.add_argument("--one-process", dest="isolate", action="store_false", help="run the parts in this process, for debugging")
    return parser


if __name__ == "__main__":
    sys.exit(main())
