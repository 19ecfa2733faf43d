r"""The tables of scale.md, made from records/scale.jsonl and the cost model, never typed.

    python benchmarks/scale.py -o benchmarks/records/scale.jsonl   # on a machine that does nothing else
    python benchmarks/docs.py                                      # write them; --check compares
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from doc_tables import page  # noqa: E402
from doc_tables.bench import where  # noqa: E402
from doc_tables.markdown_table import TableError, markdown  # noqa: E402
from scale_parts import cost, record  # noqa: E402
from scale_parts.models import MODELS  # noqa: E402
from scale_parts.stages import STAGES  # noqa: E402

PAGE = HERE.parent / "docs" / "guide" / "scale.md"
MISSING = "Not measured yet.\n"
Rows = list[dict[str, Any]]


def throughput(rows: Rows) -> str:
    """Medians over rounds, and the least and the most of them."""
    cells = []
    for model in MODELS:
        mine = [row for row in rows if row["part"] in ("process", "ray", "loop") and row["model"] == model]
        rates = {name: [row["steady"] for row in mine if row["contender"] == name and row.get("steady")]
                 for name in dict.fromkeys(row["contender"] for row in mine)}  # fmt: skip
        digests = {row["rows_sha256"] for row in mine if row["contender"] == "one process" and "rows_sha256" in row}
        for name, found in rates.items():
            here = [row for row in mine if row["contender"] == name]
            if not found:
                cells.append((model, name, here[0].get("failed", "too few shards"), *[""] * 6, 0))
                continue
            good = [row for row in here if row.get("steady")]
            versus = [_digits(median(found) / median(rates[other])) if rates.get(other) else "" for other in ("model alone", "one process")]
            whole = [row["pictures"] / row["wall_s"] for row in good if "pictures" in row]
            cells.append((model, name, _spread(found), *versus, _digits(median(whole)) if whole else "", _middle(good, "start_s"),
                          _middle(good, "peak_mb"), _same(good, digests), len(found)))  # fmt: skip
    head = ("model", "contender", "pictures/s", "x model alone", "x one process", "with its start", "start, s", "peak MB", "bytes of rows",
            "rounds")  # fmt: skip
    return f"{markdown(head, cells, right=len(head) - 2)}\n{_where(rows)}"


def stages(rows: Rows) -> str:
    cells = []
    for model in MODELS:
        for name in dict.fromkeys(row["contender"] for row in rows):
            mine = [row for row in rows if (row["model"], row["contender"]) == (model, name)]
            if mine:
                took = [median(row[f"{stage}_ms"] for row in mine) for stage in STAGES]
                shares = (f"{_digits(each)} ({100 * each / sum(took):.0f} %)" for each in took)
                cells.append((model, name, *shares, _digits(sum(took))))
    head = ("model", "read-out", *(f"{stage}, ms" for stage in STAGES), "sum, ms")
    return f"{markdown(head, cells, right=len(head) - 2)}\n{_where(rows)}"


def service(rows: Rows) -> str:
    cells = []
    for name in dict.fromkeys(row["contender"] for row in rows):
        for clients in dict.fromkeys(row.get("clients") for row in rows if row["contender"] == name):
            mine = [row for row in rows if (row["contender"], row.get("clients")) == (name, clients)]
            if clients is None:
                cells.append((name, "", mine[0]["failed"], *[""] * 9))
                continue
            total = {key: sum(row[key] for row in mine) for key in ("answers", "wrong", "failures", "refused")}
            times = (_middle(mine, f"p{q}_ms") for q in (50, 95, 99))
            cells.append((name, clients, _spread([row["rate"] for row in mine]), *times, _middle(mine, "queue_most"),
                          _middle(mine, "batch_mean"), *total.values(), _middle(mine, "peak_mb")))  # fmt: skip
    head = ("server", "clients", "answers/s", "p50, ms", "p95, ms", "p99, ms", "longest queue", "batch", "answers", "wrong", "failed",
            "429", "peak MB")  # fmt: skip
    return f"{markdown(head, cells, right=len(head) - 1)}\n{_where(rows)}"


def soak(rows: Rows) -> str:
    cells = []
    for row in rows:
        if "failed" in row:
            cells.append((row["failed"], *[""] * 9))
            continue
        # who comes last waits until the queue before it has been worked off
        bound = 1000 * row["queue_most"] / row["rate"]
        slope = f"{row['memory_slope']:+.3g} ± {row['memory_slope_error']:.2g}"
        total = (row[key] for key in ("answers", "wrong", "failures", "refused"))
        times = (_digits(row[f"p{q}_ms"]) for q in (50, 99))
        cells.append((f"{row['seconds'] / 60:.0f}", row["clients"], *total, *times, _digits(bound), slope))
    head = ("minutes", "clients", "answers", "wrong", "failed", "429", "p50, ms", "p99, ms", "longest queue times a picture's time, ms",
            "memory, MB a minute")  # fmt: skip
    return f"{markdown(head, cells, right=len(head))}\n{_where(rows)}"


def growth(rows: Rows) -> str:
    cells = []
    for row in rows:
        if "failed" in row:
            cells.append((row["of"], row["failed"], *[""] * 5))
            continue
        slopes = (f"{row[f'{name}_slope']:+.3g} ± {row[f'{name}_slope_error']:.2g}" if f"{name}_slope" in row else "too few samples"
                  for name in ("memory", "shard_time"))  # fmt: skip
        ended = "all" if row["complete"] else f"stopped, of {row['of']}"
        cells.append((row["pictures"], ended, row["rows"], _digits(row.get("rate")), *slopes, f"{row['peak_mb']:.0f}"))
    head = ("pictures", "", "rows", "pictures/s", "memory, MB per 1000", "time of a shard, % per 1000", "peak MB")
    return f"{markdown(head, cells, right=len(head) - 2)}\n{_where(rows)}"


def inputs(rows: Rows) -> str:
    """The numbers that the cost model takes from the record."""
    cells = []
    for known in _known(rows):
        cells += [
            (known.model, "decode a picture in one thread, ms", _digits(known.decode_ms), "measured"),
            (known.model, "decode, resize, read out and write one in one thread, ms", _digits(known.host_ms), "measured"),
            (known.model, "GFLOP of a picture", _digits(known.gflop), "counted from the plan"),
            (known.model, f"pictures a second of one process, {known.cores} cores", _digits(known.rate), "measured"),
            (known.model, "bytes of a picture", f"{known.picture_bytes:.0f}", "measured, of pictures that were made"),
            (known.model, "bytes of a picture's rows", f"{known.row_bytes:.0f}", "measured"),
        ]
    return markdown(("model", "number", "value", "from"), cells) if cells else MISSING


def assumptions(rows: Rows) -> str:
    return markdown(("number", "value", "assumed from"), cost.ASSUMED)


def devices(rows: Rows) -> str:
    cells = []
    for known in _known(rows):
        for device in cost.DEVICES:
            found = cost.cost(device, known)
            kind = "prediction" if device.tflops else "measured" if device.cores == known.cores else "measured, times cores"
            whole = _count(found.hours(1e9)), _count(found.money(1e9))
            cells.append((known.model, device.name, _digits(found.rate), found.bound, kind, *whole))
    head = ("model", "machine", "pictures/s", "bound by", "rate is", "machine hours for 10^9", "$ for 10^9")
    return markdown(head, cells, right=2) if cells else MISSING


def sizes(rows: Rows) -> str:
    cells = []
    for known in _known(rows):
        costs = [cost.cost(device, known) for device in cost.DEVICES]
        cheapest = min(costs, key=lambda each: each.money(1.0))
        for pictures in cost.SIZES:
            size, monthly = cost.storage(pictures, known)
            hours = cheapest.hours(pictures)
            numbers = (hours, hours / cost.MACHINES, cheapest.money(pictures), cost.egress(pictures, known), size, monthly)
            cells.append((known.model, f"10^{len(str(pictures)) - 1}", cheapest.device.name, *map(_count, numbers)))
    head = ("model", "pictures", "cheapest machine", "hours on one", f"on {cost.MACHINES}", "$", "egress, $", "rows, GB", "rows, $ a month")
    return markdown(head, cells, right=6) if cells else MISSING


# name -> the parts of the record that it is made of (all where there are none), and what makes it
TABLES: dict[str, tuple[tuple[str, ...], Callable[[Rows], str]]] = {
    "throughput": (("process", "ray", "loop"), throughput),
    "stages": (("stages",), stages),
    "service": (("serve", "naive"), service),
    "soak": (("soak",), soak),
    "growth": (("growth",), growth),
    "inputs": ((), inputs),
    "assumptions": ((), assumptions),
    "devices": ((), devices),
    "sizes": ((), sizes),
}


def filled(text: str, content: str) -> str:
    """The page with its tables made anew."""
    rows = record.parsed(content)

    def fill(block: Any) -> str:
        if block["name"] not in TABLES:
            raise TableError(f"there is no table {block['name']!r}; there are {', '.join(TABLES)}")
        parts, made = TABLES[block["name"]]
        mine = [row for row in rows if not parts or row["part"] in parts]
        return block["start"] + (made(mine) if mine or not parts else MISSING) + block["end"]

    return page.BLOCK.sub(fill, text)


def _known(rows: Rows) -> list[cost.Measured]:
    return [known for model in MODELS if (known := cost.measured(rows, model))]


def _same(rows: Rows, digests: set[str]) -> str:
    """A comparison of the rows' files with those of one process; "" for a contender that writes none, or without those."""
    mine = {row["rows_sha256"] for row in rows if "rows_sha256" in row}
    return "" if not (mine and digests) else "the same" if mine == digests and len(mine) == 1 else "differ"


def _where(rows: Rows) -> str:
    return where([row for row in rows if "failed" not in row] or rows)


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _count(value: float) -> str:
    """With commas from a thousand on."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _middle(rows: Rows, name: str) -> str:
    found = [row[name] for row in rows if name in row]
    return _digits(median(found)) if found else ""


def _spread(values: Sequence[float]) -> str:
    """The median, and the least and the most where there are several."""
    more = f" ({_digits(min(values))} … {_digits(max(values))})" if len(values) > 1 else ""
    return _digits(median(values)) + more


def current(text: str) -> str:
    """The page with its tables made of the record as it is."""
    return filled(text, record.RECORD.read_text(encoding="utf-8"))
