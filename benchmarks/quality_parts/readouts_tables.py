"""The tables of readouts.md, made from records/readouts.json, never typed.

    python benchmarks/docs.py           # write them; --check compares
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from doc_tables import page  # noqa: E402
from doc_tables.markdown_table import TableError, markdown  # noqa: E402

RECORD, PAGE = HERE / "records" / "readouts.json", HERE.parent / "docs" / "methods" / "readouts.md"
# field -> the option that is compared, what with, and what they are called
FIELDS: dict[str, tuple[Any, Any, str, str]] = {
    "patch_read": ("value", "pool", "`value`", "`pool`"), "rotary": (False, True, "not rotated", "rotated"),
}  # fmt: skip
TITLES = {"siglip": "SigLIP", "pe": "PE"}
Record = dict[str, Any]


def training(record: Record) -> str:
    """The towers' training, and how well they separate one picture's names from others."""
    towers = record["towers"]
    lines: tuple[tuple[str, Callable[[Record], Any]], ...] = (
        ("pictures", lambda tower: f"{tower['training']['images']:,}"),
        ("steps", lambda tower: f"{tower['training']['steps']:,} of {tower['training']['batch']}"),
        ("time, s", lambda tower: f"{tower['training']['seconds']:,}"), ("loss at the end", lambda tower: tower["training"]["final_loss"]),
        ("parameters", lambda tower: f"{tower['training']['parameters']:,}"),
        ("AUC of the picture's cosines, names that are there", lambda tower: f"{tower['presence_auc']:.3f}"),
        ("measured", lambda tower: f"{tower['date']}, {tower['commit']}"),
    )  # fmt: skip
    rows = [(head, *map(line, towers.values())) for head, line in lines]
    return markdown(("", *(TITLES[name] for name in towers)), rows, right=len(towers))


def summary(record: Record) -> str:
    """Each comparison's mean over the methods that have both options: all, and those that localise."""
    rows = []
    for name, tower in record["towers"].items():
        for mean in (row for row in tower["differences"] if row["method"] == "mean"):
            _, _, one, other = FIELDS[mean["of"]]
            pairs = [row for row in tower["differences"] if row["method"] != "mean" and row["of"] == mean["of"]]
            pairs = [row for row in pairs if mean["over"] == "all" or _best_auc(tower, row) >= record["works"]]
            better, worse = (sum(sign * row["pointing"] > 2 * row["pointing_se"] for row in pairs) for sign in (1, -1))
            over = "all" if mean["over"] == "all" else f"AUC {record['works']} or more"
            cells = (_points(mean, "pointing"), _points(mean, "auc"), len(pairs), better, worse)
            rows.append((TITLES[name], f"{one} less {other}", over, *cells))
    head = ("tower", "comparison", "methods", "pointing, points", "AUC, points", "pairs", "better in pointing", "worse")
    return markdown(head, rows, right=5)


def _best_auc(tower: Record, change: Record) -> float:
    """AUC of the better option of a comparison."""
    found = {_key(row): row for row in tower["rows"]}
    return max(found[_key({**change, change["of"]: option})]["auc"] for option in FIELDS[change["of"]][:2])


def compared(name: str, field: str) -> Callable[[Record], str]:
    """A table of one comparison on one tower, method by method."""
    one, other, one_name, other_name = FIELDS[field]
    rest = next(each for each in FIELDS if each != field)

    def made(record: Record) -> str:
        tower = record["towers"][name]
        found = {_key(row): row for row in tower["rows"]}
        rows = []
        for change in (row for row in tower["differences"] if row["of"] == field and row["method"] != "mean"):
            pair = [found[_key({**change, field: option})] for option in (other, one)]
            cells = (cell for key in ("pointing", "auc") for cell in (*(f"{row[key]:.3f}" for row in pair), _points(change, key)))
            rows.append((f"`{change['method']}`", change["parameters"], *([_option(rest, change[rest])] if name == "pe" else []), *cells))
        names = ("method", "parameters", *([rest.replace("_", " ")] if name == "pe" else []))
        values = (other_name, one_name, "difference, points")
        return markdown((*names, *(f"{measure}: {each}" for measure in ("pointing", "AUC") for each in values)), rows, right=6)

    return made


def others(record: Record) -> str:
    """Methods without these options, on both towers; of those that do not run the reason, and those that were not measured."""
    rows = []
    towers = record["towers"]
    for method in dict.fromkeys(row["method"] for tower in towers.values() for row in tower["rows"] if row["patch_read"] is None):
        cells = []
        for tower in towers.values():
            row = next((row for row in tower["rows"] if row["method"] == method), None)
            cells += [_with_error(row, name) if row else "" for name in ("pointing", "auc")]
        rows.append((f"`{method}`", *cells))
    head = ("method", *(f"{TITLES[name]}: {each}" for name in towers for each in ("pointing", "AUC")))
    text = markdown(head, rows, right=len(head) - 1)
    lacking = dict.fromkeys(name for tower in towers.values() for name in tower["lacking"])
    if lacking:
        text += f"\nNot measured: {', '.join(f'`{name}`' for name in lacking)}.\n"
    refused = dict.fromkeys((TITLES[name], row["method"], row["reason"]) for name, tower in towers.items() for row in tower["refused"])
    return text + "".join(f"\n{name}: `{method}` does not run: {reason}.\n" for name, method, reason in refused)


TABLES: dict[str, Callable[[Record], str]] = {
    "readouts-training": training, "readouts-summary": summary, "readouts-siglip": compared("siglip", "patch_read"),
    "readouts-pe": compared("pe", "patch_read"), "readouts-rotary": compared("pe", "rotary"), "readouts-others": others,
}  # fmt: skip


def _key(row: Record) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("method", "parameters", "patch_read", "rotary"))


def _option(field: str, value: Any) -> str:
    if value is None:
        return ""
    one, _, one_name, other_name = FIELDS[field]
    return one_name if value == one else other_name


def _points(row: Record, name: str) -> str:
    return f"{100 * row[name]:+.1f} ± {100 * row[f'{name}_se']:.1f}"


def _with_error(row: Record, name: str) -> str:
    return f"{row[name]:.3f} ± {row[f'{name}_se']:.3f}"


def filled(text: str, record: Record) -> str:
    """The page with its tables made anew. Raises TableError where it asks for one that there is not."""

    def fill(block: re.Match[str]) -> str:
        if block["name"] not in TABLES:
            raise TableError(f"there is no table {block['name']!r}; there are {', '.join(TABLES)}")
        return block["start"] + TABLES[block["name"]](record) + block["end"]

    return page.BLOCK.sub(fill, text)


def current(text: str) -> str:
    """The page with its tables made of the record as it is."""
    return filled(text, json.loads(RECORD.read_text(encoding="utf-8")))
