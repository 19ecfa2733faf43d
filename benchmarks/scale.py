"""The scale benchmark: batch, Ray, a service and its clients, and how memory and time grow.

    python benchmarks/scale.py -o benchmarks/records/scale.jsonl --minutes 8   # everything that fits, in this order
    python benchmarks/scale.py --parts process,ray,loop --minutes 20           # some of it, with more rounds
    python benchmarks/scale.py --parts growth --minutes 20                     # to 10^5 pictures
    python benchmarks/scale.py --parts soak --minutes 10
    python benchmarks/scale.py --quick                                         # test the script

    process   `fastloc batch` in one process over 1080p JPEG files, and the model alone on ready tensors
    ray       the same command with one and two Ray actors
    loop      the loop that people write around open_clip and GEM, in turns with those
    serve     `fastloc serve` under 1, 4, 16 and 64 clients in a closed loop, every answer checked
    naive     a FastAPI handler as tutorials write one, in turns with it
    stages    milliseconds of decode, preprocess, model, read-out and write
    growth    memory and time over up to 10^5 small pictures
    soak      `fastloc serve` under 64 clients for all of the minutes; only where it is named

All is called as a user calls it, in processes of its own. Parts share the minutes: every part runs once, and again while there is time.
A record keeps the rows of parts that did not run. Times mean something on a machine that does nothing else.
`python benchmarks/doc_tables/scale.py` makes docs/guide/scale.md of the record. Exit code 1 if a contender failed or an answer was wrong.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from scale_parts import growth, record, service, stages, throughput  # noqa: E402
from scale_parts.budget import Budget  # noqa: E402
from scale_parts.models import MODELS  # noqa: E402

Row = dict[str, Any]
# groups of parts that take turns, in order of importance, and their shares of the time
GROUPS = {("process", "ray", "loop"): 0.58, ("serve", "naive"): 0.22, ("stages",): 0.07, ("growth",): 0.13}
USUAL = tuple(part for group in GROUPS for part in group)
PARTS = (*USUAL, "soak")
MINUTES, SECONDS = 8.0, 5.0


def run(parts: Sequence[str], seconds: float, budget: Budget, folder: Path, quick: bool = False) -> Iterator[Row]:
    """Rows of the chosen parts, as they are measured."""
    chosen = {group: share for group, share in GROUPS.items() if set(group) & set(parts)}
    left = sum(chosen.values())
    if "soak" in parts:
        yield from service.soak(seconds if quick else budget.left, folder / "soak")
    for group, share in chosen.items():
        mine = budget.share(share, left)
        left -= share
        here = folder / group[0]
        if group[0] == "process":
            yield from throughput.run(parts, seconds, mine, here, {"embedded": 1.0} if quick else throughput.SHARES)
        elif group[0] == "serve":
            yield from service.run(parts, seconds, mine, here, service.CLIENTS[:2] if quick else service.CLIENTS)
        elif group[0] == "stages":
            yield from stages.run(seconds, mine, here, ("embedded",) if quick else tuple(MODELS))
        else:
            yield from growth.run(60.0, here, 640, 64) if quick else growth.run(max(mine.left, seconds), here)


def problem(row: Row) -> str:
    """The fault of a row; "" if all is well."""
    about = f"{row['part']}, {row['contender']}, {row['model']}"
    if "failed" in row:
        return f"{about}: {row['failed']}"
    if row.get("wrong") or row.get("failures"):
        return f"{about}, {row['clients']} clients: {row['wrong']} wrong answers, {row['failures']} failed {row.get('why') or ''}"
    return ""


def line(row: Row) -> str:
    """A row for the eye: its numbers."""
    skipped = ("round", "height", "width", "texts", "batch", "shard", "seconds", "why", "of")
    numbers = (f"{name} {value:.4g}" for name, value in row.items()
               if isinstance(value, int | float) and not isinstance(value, bool) and name not in skipped)  # fmt: skip
    return f"{row['part']:8} {row['contender']:20} {row['model']:9} {row['round']}  {row.get('failed') or ', '.join(numbers)}"


def parts_of(text: str) -> list[str]:
    names = text.split(",")
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(f"parts must be of {', '.join(PARTS)}, got {', '.join(unknown)}")
    return names


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=parts_of, default=list(USUAL), metavar="PART,…", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=positive, default=MINUTES, help=f"for all of them (default: {MINUTES:g})")
    parser.add_argument("--seconds", type=positive, help=f"of one measurement (default: {SECONDS:g})")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="record to write; rows of other parts stay")
    parser.add_argument("--quick", action="store_true", help="every part once and short, to test the script")
    args = parser.parse_args(arguments)
    if args.quick and args.output:
        parser.error("a record must be of a full run; leave --quick out")
    seconds, budget = args.seconds or (1.0 if args.quick else SECONDS), Budget(1.0 if args.quick else 60 * args.minutes)
    facts, rows, problems = record.facts(), [], []
    kept = [row for row in record.read(args.output) if row["part"] not in args.parts] if args.output else []
    with tempfile.TemporaryDirectory(prefix="fastloc-scale-") as folder:
        for row in run(args.parts, seconds, budget, Path(folder), args.quick):
            rows.append({**row, **facts})
            print(line(row), flush=True)
            if fault := problem(row):
                problems.append(fault)
            # what a run that is stopped has measured
            if args.output:
                record.write(args.output, [*kept, *rows])
    print(*(["\nNOT GOOD", *problems] if problems else ["\ngood"]), sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
