"""The rows of a run as tables for a terminal: one function a suite, each a row of SUITES."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console

from fastloc.bench.report import rows as report_rows
from fastloc.bench.report.grid import Grid, Head, Line
from fastloc.bench.report.rows import AXES, Axis, does_not_fit, gain, grouped, memory, method, names, setting, step
from fastloc.bench.report.words import COST_ONLY, digits, error, machine, mb, occasion, packages, percent, seconds, span, throttling, times
from fastloc.bench.schema import ENCODER, Row

Rows = Sequence[Row]
WATERFALL = "waterfall"


def show(rows: Rows, console: Console) -> None:
    """Print where the rows were measured, and a table or more for each suite."""
    for text in header(rows):
        console.print(text, soft_wrap=True, markup=False, highlight=False)
    for grid in tables(rows):
        console.print()
        console.print(grid)


def header(rows: Rows) -> list[str]:
    """Machine, versions, commit and date; the cause of throttled clocks, if there is one."""
    if not rows:
        return ["no rows"]
    return [text for text in (machine(rows), occasion(rows), *packages(rows), throttling(rows)) if text]


def tables(rows: Rows) -> list[Grid]:
    """The tables of all suites, in the order of the rows."""
    found = grouped(rows, lambda row: row["suite"])
    return [grid for suite, mine in found.items() for grid in SUITES.get(suite, _plain)(mine)]


def _methods(rows: Rows) -> Iterator[Grid]:
    """A table for each model, size and batch; the encoder, measured in every group, once."""
    lead = report_rows.leading(rows)
    for title, mine in grouped(rows, lambda row: setting(lead(row))).items():
        anchor = report_rows.middle_encoder(mine)
        shown = [*([anchor] if anchor else []), *(row for row in mine if row["contender"] != ENCODER)]
        lines = [Line(_method_cells(row, name), row.get("failed", "")) for row, name in zip(shown, names(shown), strict=True)]
        count = sum(row["contender"] == ENCODER for row in mine)
        notes = [f"{ENCODER}: its median over {count} groups"] if anchor and count > 1 else []
        yield Grid(f"{rows[0]['suite']}: {title}", _METHOD_HEADS, lines, keys=2, notes=[*notes, *_notes(shown)])


_METHOD_HEADS = (
    Head("method", right=False), Head("contender", right=False), Head("dtype", right=False, spare=7), Head("ms"),
    Head("p20 … p80", spare=6), Head("p99", spare=8), Head("end to end ms", spare=4), Head(f"x {ENCODER}"), Head("95 %", spare=5),
    Head("floor ms", spare=9), Head("of limit", spare=3), Head("working MB", spare=2), Head("error", spare=1),
)  # fmt: skip


def _method_cells(row: Row, name: str) -> tuple[str, ...]:
    over = report_rows.ratio(row)
    mark = " *" if row.get("checked", COST_ONLY) != COST_ONLY else ""
    return (
        method(row) if row["contender"] != ENCODER else "", name, row.get("dtype", ""), digits(row.get("ms")),
        span(row.get("ms_p20"), row.get("ms_p80")), digits(row.get("ms_p99")), digits(row.get("end_ms")), times(over, "middle"),
        times(over, "ends"), digits(row.get("floor_ms")), percent(row.get("achieved")), mb(memory(row)), error(row) + mark,
    )  # fmt: skip


def _notes(rows: Rows) -> list[str]:
    """Notes below a table: the rows' subjects of error, and their own notes, each once."""
    checked = grouped((row for row in rows if row.get("checked", COST_ONLY) != COST_ONLY), lambda row: row["checked"])
    noted = grouped((row for row in rows if row.get("note")), lambda row: row["note"])
    errors = [f"* error of {_who(mine)}: {words}" for words, mine in checked.items()]
    return errors + [f"{_who(mine)}: {words}" for words, mine in noted.items()]


def _who(rows: Rows) -> str:
    return ", ".join(dict.fromkeys(names(rows)))


def _cold(rows: Rows) -> Iterator[Grid]:
    heads = (
        Head("contender", right=False), Head("model", right=False, spare=1), Head("method", right=False, spare=2), Head("import s"),
        Head("load s"), Head("first ms"), Head("loaded MB", spare=3),
    )  # fmt: skip
    lines = [
        Line((name, str(row.get("model", "")), method(row), seconds(row.get("import_s")), seconds(row.get("load_s")),
              digits(row.get("first_ms")), mb(row.get("loaded_mb"))), row.get("failed", ""))
        for row, name in zip(rows, names(rows), strict=True)
    ]  # fmt: skip
    yield Grid("cold: from the start of a process to its first result", heads, lines, notes=_notes(rows))


def _axis(rows: Rows) -> Iterator[Grid]:
    """A table for each setting and method: a column for each of the axis's values, time and memory below one another."""
    axis = AXES[rows[0]["suite"]]
    for (title, what), found in report_rows.along(axis, rows).items():
        values = sorted({value for by_value in found.values() for value in by_value})
        # those in between go first where there is no room
        heads = [Head(str(value), spare=i % 2 if i + 1 < len(values) else 0) for i, value in enumerate(values)]
        lines, notes = [], []
        for name, by_value in found.items():
            lines += [Line((name, "ms", *(_time(by_value.get(value)) for value in values)))]
            lines += [Line(("", "MB", *(_space(by_value.get(value)) for value in values)))]
            notes += _grown(axis, name, by_value) + [_refused(axis, name, *each) for each in by_value.items() if each[1].get("failed")]
        notes += _notes([row for by_value in found.values() for row in by_value.values()])
        yield Grid(f"{axis.suite}: {what}, {title}", [Head("contender", False), Head(f"{axis.one}s", False), *heads], lines, 2, notes)


def _time(row: Row | None) -> str:
    if row is None or not row.get("failed"):
        return digits((row or {}).get("ms"))
    return "no fit" if does_not_fit(row) else "failed"


def _space(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{row['needs_mb'] / 1000:.1f} GB" if does_not_fit(row) else mb(memory(row))


def _grown(axis: Axis, name: str, by_value: Mapping[int, Row]) -> list[str]:
    found = report_rows.fitted(by_value)
    return [f"{name}: {found.formula(axis.symbol)} ms; at the largest sizes as {axis.symbol}^{found.exponent:.1f}"] if found else []


def _refused(axis: Axis, name: str, value: int, row: Row) -> str:
    needs = f"does not fit, would take {row['needs_mb'] / 1000:.1f} GB: " if does_not_fit(row) else ""
    return f"{name} at {value} {axis.one}s: {needs}{row['failed'].removeprefix('does not fit: ')}"


def _steps(rows: Rows) -> Iterator[Grid]:
    """A line a step; those of the waterfall stand one on another, those of a plan each on the first."""
    heads = (
        Head("step", right=False), Head("ms"), Head("speed-up"), Head("over the last"), Head("working MB", spare=1),
        Head("error", spare=2),
    )  # fmt: skip
    falls = rows[0]["suite"] == WATERFALL
    for mine in grouped(rows, lambda row: (row.get("group"), setting(row), method(row))).values():
        lines = []
        for row, last in report_rows.steps(mine):
            over = _gain(last, row) if falls else ""
            cells = (step(row), digits(row.get("ms")), _gain(mine[0], row), over, mb(memory(row)), error(row))
            lines.append(Line(cells, row.get("failed", "")))
        paired = ["speed-ups are of the same rounds, not quotients of the medians"] if any(row.get("ratios") for row in mine) else []
        yield Grid(f"{rows[0]['suite']}: {method(mine[0])}, {setting(mine[0])}", heads, lines, notes=paired + _notes(mine))


def _gain(before: Row | None, row: Row) -> str:
    found = gain(before, row)
    return f"{found:.2f}" if found else ""


def _ceilings(rows: Rows) -> Iterator[Grid]:
    heads = (Head("ceiling", right=False), Head("case", right=False), Head("dtype", right=False), Head("rate"), Head("unit", right=False))
    lines = [
        Line((*(row.get(key, "") for key in ("contender", "case", "dtype")), digits(row.get("rate")), row.get("unit", "")),
             row.get("failed", ""))
        for row in rows
    ]  # fmt: skip
    yield Grid("ceilings: what this machine reaches", heads, lines, notes=_notes(rows))


_PLAIN_HEADS = (
    Head("contender", right=False), Head("step", right=False, spare=8), Head("case", right=False), Head("model", right=False, spare=6),
    Head("method", right=False, spare=5), Head("dtype", right=False, spare=4), Head("px", spare=3), Head("batch", spare=3), Head("ms"),
    Head("p20 … p80", spare=9), Head("rate"), Head("unit", right=False), Head("working MB", spare=7), Head("error", spare=2),
)  # fmt: skip


def _plain(rows: Rows) -> Iterator[Grid]:
    """A suite that has no table of its own."""
    lines = []
    for row, name in zip(rows, names(rows), strict=True):
        what = (row.get("step", ""), row.get("case", ""), row.get("model", ""), method(row), row.get("dtype", ""))
        shape = (str(row.get("height", "")), str(row.get("batch", "")))
        found = (digits(row.get("ms")), span(row.get("ms_p20"), row.get("ms_p80")), digits(row.get("rate")), row.get("unit", ""))
        lines.append(Line((name, *what, *shape, *found, mb(memory(row)), error(row)), row.get("failed", "")))
    yield Grid(rows[0]["suite"], _PLAIN_HEADS, lines, notes=_notes(rows))


SUITES: dict[str, Callable[[Rows], Iterator[Grid]]] = {
    "methods": _methods, "peers": _methods, "cold": _cold, WATERFALL: _steps, "plan": _steps, "ceilings": _ceilings,
    **dict.fromkeys(AXES, _axis),
}  # fmt: skip
