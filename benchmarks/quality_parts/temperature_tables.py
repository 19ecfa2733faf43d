"""The tables of temperature.md, made from records/temperature.json and temperature_grids.json, never typed.

    python benchmarks/docs.py           # write them; --check compares
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from doc_tables import page  # noqa: E402
from doc_tables.markdown_table import TableError, markdown  # noqa: E402

RECORD, GRIDS = HERE / "records" / "temperature.json", HERE / "records" / "temperature_grids.json"
PAGE = HERE.parent / "docs" / "methods" / "temperature.md"
COMMAND = "python benchmarks/quality_parts/temperature.py --real FOLDER --photographs FOLDER"
SETS, SCORES = ("embedded", "real"), ("pointing", "iou", "auc")
Record = dict[str, Any]

# name -> (what its rows differ in, the sweeps that are its rows)
TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "temperature-published": ("method, official parameters", ("published",)),
    "temperature-rho": ("rho", ("rho, no iteration", "rho, no iteration, with residual", "rho", "rho, with residual")),
    "temperature-matched": ("rho", ("rho, solved for every picture",)),
    "temperature-number": ("one inverse temperature for all", ("number, no iteration", "number")),
    "temperature-iterations": ("iterations", ("iterations", "iterations, with residual")),
    "temperature-blocks": ("blocks", ("blocks",)),
    "temperature-streams": ("streams", ("streams",)),
    "temperature-pooled": ("a temperature of its own", ("pooled",)),
    "temperature-source": ("measured on", ("source",)),
    "temperature-pictures": ("pictures", ("pictures",)),
    "temperature-size": ("input, pixels", ("size",)),
}
# what the sweeps of a table with several are called in its first column
SHOWN = {
    "rho": "{} · one iteration", "rho, with residual": "{} · one iteration, residual", "rho, no iteration": "{}",
    "rho, no iteration, with residual": "{} · residual", "number": "{} · one iteration", "iterations, with residual": "{} · residual",
}  # fmt: skip


# table -> the set of the study of grids whose rows it holds
OF_GRIDS = {f"grids-{name}": name for name in ("others", "scenes", "real", "embedded")}


def records() -> Record:
    """Both records, that of the grids under "grids"."""
    return {**json.loads(RECORD.read_text(encoding="utf-8")), "grids": json.loads(GRIDS.read_text(encoding="utf-8"))}


def grids(record: Record, name: str) -> str:
    """Rows at each input size, and what they gain over the first row in the same questions."""
    rows = []
    for row in (each for each in record["grids"]["rows"] if each["set"] == name):
        means = (f"{row[each]:.3f} ± {row[f'{each}_se']:.3f}" if each == "pointing" else f"{row[each]:.3f}" for each in SCORES)
        gains = (f"{row[f'{each}_gain']:+.3f} ± {row[f'{each}_gain_se']:.3f}" for each in SCORES)
        same = row["row"] == record["grids"]["rows"][0]["row"]
        rows.append((row["size"], row["row"], row["questions"], *means, *(("",) * len(SCORES) if same else gains)))
    return markdown(("pixels", "row", "questions", *SCORES, *(f"{each} gain" for each in SCORES)), rows, right=7)


def attention(record: Record) -> str:
    """The contents of attention rows at each input size."""
    columns = ("number", "spread", "own", "class", "near", "long")
    found = sorted(record["grids"]["attention"], key=lambda each: (each["set"], each["size"]))
    rows = [(each["set"], each["size"], *(f"{each[column]:.2f}" for column in columns)) for each in found]
    return markdown(("set", "pixels", *columns), rows, right=len(columns))


def table(record: Record, name: str) -> str:
    """One table as Markdown: both sets' scores side by side, the best of each column in bold.

    Raises:
        TableError: there is no such table, or the record has none of its rows.
    """
    if name in OF_GRIDS:
        return grids(record, OF_GRIDS[name])
    if name == "grids-attention":
        return attention(record)
    if name not in TABLES:
        raise TableError(f"there is no table {name!r}; there are {', '.join(TABLES)}")
    head, sweeps = TABLES[name]
    found: dict[str, dict[str, Record]] = {}
    for sweep in sweeps:
        for row in record["rows"]:
            if _sweep(row) == sweep:
                found.setdefault(SHOWN.get(sweep, "{}").format(row["label"]), {})[row["set"]] = row
    if not found:
        raise TableError(f"the record has no rows for {name}: run `{COMMAND}`")
    best = {(each, key): max((row[each][key] for row in found.values() if each in row), default=0) for each in SETS for key in SCORES}
    rows = [(label, *(_cell(by_set.get(each), key, best[each, key]) for each in SETS for key in SCORES)) for label, by_set in found.items()]
    columns = (head, *(f"{each}: {key}" if key == SCORES[0] else key for each in SETS for key in SCORES))
    return markdown(columns, rows, right=len(columns) - 1)


def _sweep(row: Record) -> str:
    """The sweeps that were done with and without GEM's residual are two."""
    both = row["sweep"] in ("rho", "rho, no iteration", "iterations")
    return row["sweep"] + (", with residual" if both and row["residual"] else "")


def _cell(row: Record | None, key: str, best: float) -> str:
    if row is None:
        return ""
    shown = f"{row[key]:.3f}"
    return f"**{shown}**" if row[key] == best else shown


def filled(text: str, record: Record) -> str:
    """The page with its tables made anew."""
    return page.BLOCK.sub(lambda block: block["start"] + table(record, block["name"]) + block["end"], text)


def current(text: str) -> str:
    """The page with its tables made of the records as they are."""
    return filled(text, records())
