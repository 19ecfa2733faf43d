"""The README's tables of runs: made of the rows in `benchmarks/results/<machine>/`, one table a machine, a GPU's first."""

from collections.abc import Callable, Sequence
from pathlib import Path

from doc_tables.markdown_table import TableError, markdown
from fastloc.bench.backends.table import BACKENDS
from fastloc.bench.report import rows as runs
from fastloc.bench.report.plots import draw, figures
from fastloc.bench.report.rows import AXES, Axis, gain, grouped, leading, memory, method, names, ratio, setting
from fastloc.bench.report.words import COST_ONLY, digits, error, machine, mb, occasion, packages, percent, seconds, span, throttling, times
from fastloc.bench.schema import ENCODER, SUFFIX, Row, newest, read
from fastloc.errors import FastlocError

PLOTS = Path(__file__).resolve().parents[2] / "docs" / "assets" / "plots"
RUN = "python -m fastloc.bench{} -o benchmarks/results"
Rows = list[Row]
# a machine's folder -> its rows
Machines = dict[Path, Rows]


def machines(results: Path) -> Machines:
    """Every folder that holds records, with a GPU's before a processor's; none if there is no such folder.

    Raises:
        TableError: a record cannot be read.
    """
    try:
        found = {folder: read(folder) for folder in sorted(results.glob("*/")) if any(folder.rglob(f"*{SUFFIX}"))}
    except FastlocError as error:
        raise TableError(str(error)) from error
    return dict(sorted(found.items(), key=lambda item: not any("capability" in row or "driver" in row for row in item[1])))


def each_machine(found: Machines, suites: Sequence[str], make: Callable[[Rows], str]) -> str:
    """Apply `make` to the newest rows of these suites, machine by machine, and add a line with where and when; "" adds nothing.

    Raises:
        TableError: no machine has what it takes.
    """
    parts = []
    for every in found.values():
        rows = [row for suite in suites for row in newest(every, suite)]
        body = make(rows) if rows else ""
        if body:
            parts.append((rows[0]["device"], f"{body}\n{where(rows)}"))
    if not parts:
        raise TableError(f"there are no records of it: make them with `{command(suites)}`")
    return "\n".join(f"**{device}**\n\n{text}" if len(parts) > 1 else text for device, text in parts)


def command(suites: Sequence[str]) -> str:
    """The command that writes the records of these suites."""
    if set(suites) == {"peers"}:
        return RUN.format(" --suites peers --models ViT-B-16 --vs peers")
    usual = set(suites) <= {"methods", "cold", "waterfall"}
    return RUN.format("" if usual else f" --suites {','.join(suites)}")


def where(rows: Rows) -> str:
    """Dtypes, machine, load, versions, commit and day, as one line."""
    dtypes = ", ".join(dict.fromkeys(row["dtype"] for row in rows if "dtype" in row))
    random = ", ".join(dict.fromkeys(row["model"] for row in rows if row.get("weights") == "random"))
    parts = (dtypes, f"random weights: {random}" if random else "", machine(rows), *packages(rows), occasion(rows), throttling(rows))
    return "; ".join(part for part in parts if part) + ".\n"


def methods_table(found: Machines) -> str:
    """The cost of every method in PyTorch, in multiples of the untouched encoder."""
    return each_machine(_run_by(found, in_pytorch=True), ("methods",), _methods)


def exported_methods_table(found: Machines) -> str:
    """The same of exported files, in the runtimes that take them."""
    return each_machine(_run_by(found, in_pytorch=False), ("methods",), _methods)


def _run_by(found: Machines, *, in_pytorch: bool) -> Machines:
    """Methods in PyTorch alone, or of exported files alone, each with the encoder of its runs: the two may be of different days."""
    return {folder: [row for run in grouped(rows, lambda row: row["run"]).values() for row in _of_run(run, in_pytorch)]
            for folder, rows in found.items()}  # fmt: skip


def _of_run(rows: Rows, in_pytorch: bool) -> Rows:
    mine = [row for row in rows if row["suite"] == "methods" and _contends(row, in_pytorch)]
    return mine if any(row["contender"] != ENCODER for row in mine) else []


def _contends(row: Row, in_pytorch: bool) -> bool:
    if row["contender"] == ENCODER:
        return True
    return row["by"] == "fastloc" and row["contender"] in BACKENDS and (BACKENDS[row["contender"]].runtime == "torch") == in_pytorch


def _methods(rows: Rows) -> str:
    lead, cells = leading(rows), []
    # the embedded model, small enough to flatter, comes last
    for mine in sorted(grouped(rows, lambda row: setting(lead(row))).values(), key=lambda mine: mine[0].get("model") == "embedded"):
        anchor = runs.middle_encoder(mine)
        shown = [row for row in mine if row is anchor or (row["contender"] != ENCODER and row["by"] == "fastloc")]
        shown.sort(key=lambda row: row is not anchor)
        for row, name in zip(shown, names(shown), strict=True):
            label = "untouched encoder" if row is anchor else f"`{method(row)}`"
            cells.append((row["model"], label, _size(row), "" if row is anchor else name, digits(row.get("ms")), times(ratio(row)),
                          mb(memory(row)), percent(row.get("achieved")), row.get("failed", error(row))))  # fmt: skip
    return markdown(("model", "method", "px", "contender", "ms", "x encoder", "working MB", "of limit", "error"), cells, right=5)


def _size(row: Row) -> str:
    size = str(row["height"]) if row["height"] == row["width"] else f"{row['height']} × {row['width']}"
    return size if row.get("batch", 1) == 1 else f"{size}, batch {row['batch']}"


def peers_table(found: Machines) -> str:
    """Other packages beside ours, of the groups in which both were measured in turns."""
    return each_machine(found, ("peers",), _peers)


def _peers(rows: Rows) -> str:
    cells, over = [], []
    for mine in grouped(rows, lambda row: row.get("group")).values():
        peers = [row for row in mine if row["by"] == "peer"]
        if not peers:
            continue
        ours = [row for row in mine if row["by"] == "fastloc" and row["contender"] != ENCODER]
        # the first peer that computes the same
        against = next((row["contender"] for row in peers if row.get("ms") and row.get("checked") != COST_ONLY), "")
        over += [against] if against else []
        shown = ours + peers
        for row, name in zip(shown, names(shown), strict=True):
            faster = times(runs.speed_up(row, against)) if row["by"] == "fastloc" else ""
            spread = f"{digits(row['ms'])} ({span(row.get('ms_p20'), row.get('ms_p80'))})" if row.get("ms") else ""
            cells.append((ours[0]["model"] if ours else "", _size(mine[0]), method(row), f"**{name}**" if row["by"] == "fastloc" else name,
                          spread, faster, times(ratio(row)), mb(memory(row)), row.get("failed", error(row))))  # fmt: skip
    if not cells:
        return ""
    head = ("model", "px", "method", "contender", "ms (p20 … p80)", "speed-up", "x encoder", "working MB", "error")
    words = f"fastloc's in bold. Speed-up: over {' and '.join(dict.fromkeys(over))}, in the same rounds.\n" if over else ""
    return markdown(head, cells, right=5) + (f"\n{words}" if words else "")


def scaling_table(found: Machines) -> str:
    """Cost against tokens as a table, against batch, texts and changed blocks in a line each."""
    return each_machine(found, tuple(AXES), _scaling)


def _scaling(rows: Rows) -> str:
    by_suite = grouped(rows, lambda row: row["suite"])
    text = "".join(_tokens(*each) for each in runs.along(AXES["tokens"], by_suite.get("tokens", [])).items())
    lines = [line for suite, mine in by_suite.items() if suite != "tokens" for line in _lines(AXES[suite], mine)]
    return text + ("\n" if text and lines else "") + "".join(lines)


def _tokens(key: tuple[str, str], lines: dict[str, dict[int, Row]]) -> str:
    every = {value: row for by_value in lines.values() for value, row in by_value.items()}
    head = ("px", "tokens", *(word for name in lines for word in (f"{name}, ms", "MB")))
    rows = [
        (_size(row), value, *(word for by_value in lines.values() for word in _cost(by_value.get(value))))
        for value, row in sorted(every.items())
    ]
    grown = {name: runs.fitted(by_value) for name, by_value in lines.items()}
    words = "; ".join(f"{name} {g.formula()} (as N^{g.exponent:.1f} at the largest)" for name, g in grown.items() if g)
    sentence = f"`{key[1]}`, {key[0]}. " + (f"Fitted, in ms: {words}." if words else "")
    return markdown(head, rows, right=len(head) - 1) + f"\n{sentence.strip()}\n"


def _cost(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    if runs.does_not_fit(row):
        return "does not fit", f"would take {row['needs_mb'] / 1000:.1f} GB"
    return (digits(row["ms"]), mb(memory(row))) if row.get("ms") else ("failed", "")


def _lines(axis: Axis, rows: Rows) -> list[str]:
    found = []
    for (place, name), lines in runs.along(axis, rows).items():
        values = sorted({value for by_value in lines.values() for value in by_value})
        each = [f"{who} {' · '.join(_cost(by_value.get(value))[0] or '-' for value in values)} ms" for who, by_value in lines.items()]
        found.append(f"- {axis.one}s {' · '.join(map(str, values))} (`{name}`, {place}): {'; '.join(each)}\n")
    return found


def cold_table(found: Machines) -> str:
    """From the start of a process to its first result."""
    return each_machine(found, ("cold",), _cold)


def _cold(rows: Rows) -> str:
    cells = [
        (row.get("model", ""), name, seconds(row.get("import_s")), seconds(row.get("load_s")), digits(row.get("first_ms")),
         row.get("failed", mb(row.get("loaded_mb"))))
        for row, name in zip(rows, names(rows), strict=True)
    ]  # fmt: skip
    return markdown(("model", "contender", "import s", "load s", "first call ms", "loaded MB"), cells, right=4)


def waterfall_table(found: Machines) -> str:
    """The gain of each optimisation."""
    return each_machine(found, ("waterfall",), _waterfall)


def _waterfall(rows: Rows) -> str:
    text = ""
    for mine in grouped(rows, lambda row: row.get("group")).values():
        cells = []
        for row, last in runs.steps(mine):
            whole = times(runs.speed_up(row, runs.step(mine[0]))) or _gain(mine[0], row)
            cells.append((runs.step(row), digits(row.get("ms")), whole, _gain(last, row), mb(memory(row)), row.get("failed", error(row))))
        text += markdown(("step", "ms", "speed-up", "over the step before", "working MB", "error"), cells, right=5)
        paired = " Speed-ups are of the same rounds, not quotients of the medians." if any(row.get("ratios") for row in mine) else ""
        text += f"\n`{method(mine[0])}`, {setting(mine[0])}.{paired}\n"
    return text


def _gain(before: Row | None, row: Row) -> str:
    found = gain(before, row)
    return f"{found:.2f}" if found else ""


def draw_plots(found: Machines) -> list[Path]:
    """Write each machine's plots into a folder of its name in PLOTS, as SVG.

    Raises:
        FastlocError: matplotlib is not installed.
    """
    return [path for folder, rows in found.items() for path in draw(rows, PLOTS / folder.name, ("svg",))]


def missing_plots(found: Machines) -> list[Path]:
    """Plots that should be there and are not; how they look is not compared, it depends on matplotlib's version."""
    return [path for folder, rows in found.items() for name in figures(rows) if not (path := PLOTS / folder.name / f"{name}.svg").exists()]
