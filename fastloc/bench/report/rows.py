"""Readings of rows for tables and plots alike: contenders' names, groups of rows, memory and ratios."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastloc.bench.schema import ENCODER, Row
from fastloc.bench.stats import Growth, Interval, growth

# columns that distinguish the rows of one contender, where they differ in them
_PARTS = ("dtype", "provider")


@dataclass(frozen=True)
class Axis:
    """A suite that varies one thing. value: reads it off a row; one, symbol: its names; changed: its recipe field."""

    suite: str
    symbol: str
    one: str
    value: Callable[[Row], int]
    changed: str = ""


AXES = {
    axis.suite: axis
    for axis in (
        Axis("tokens", "N", "token", lambda row: int(row["tokens"])),
        Axis("batch", "B", "picture", lambda row: int(row["batch"])),
        Axis("texts", "T", "text", lambda row: int(row["texts"])),
        Axis("blocks", "L", "changed block", lambda row: int(row["changes"]["blocks"]), changed="blocks"),
    )
}


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """The rows by what `key` gives, in the order in which it first came."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def leading(rows: Iterable[Row]) -> Callable[[Row], Row]:
    """A function from a row to the row that it was measured for: its group's first of fastloc's own; encoder and peers stand beside that.

    A row alone, or in a group without such a row, leads itself.
    """
    first: dict[Any, Row] = {}
    for row in rows:
        if row.get("by", "fastloc") == "fastloc" and row["contender"] != ENCODER and "group" in row:
            first.setdefault((row["run"], row["group"]), row)
    return lambda row: first.get((row["run"], row.get("group")), row)


def names(rows: Sequence[Row]) -> list[str]:
    """Names of the rows' contenders among these rows: with dtype or provider, where a contender is there in several."""
    several = {
        (who, part)
        for who, mine in grouped(rows, lambda row: row["contender"]).items()
        for part in _PARTS if len({row[part] for row in mine if part in row}) > 1
    }  # fmt: skip
    return [" ".join(map(str, _words(row, several))) for row in rows]


def _words(row: Row, several: set[tuple[str, str]]) -> list[Any]:
    who = row["contender"]
    parts = [row[part] for part in _PARTS if (who, part) in several and part in row]
    return [who, *(["compiled"] if row.get("compiled") and "compile" not in who else []), *parts]


def method(row: Row, but: str = "") -> str:
    """The method, with the fields that were changed (all except `but`); the embedded model's changes are those it recommends."""
    changes = {field: value for field, value in row.get("changes", {}).items() if field != but}
    if not changes:
        return str(row.get("method", ""))
    if row.get("model") == "embedded":
        return f"{row['method']} (recommended)"
    # a temperature for each head and pass would fill the page
    words = (f"{field}=…" if isinstance(value, list) else f"{field}={value}" for field, value in changes.items())
    return f"{row['method']} ({', '.join(words)})"


def setting(row: Row, *leave: str) -> str:
    """The common setting of a table's or a plot's rows: model, input, batch, texts; without the parts in `leave`."""
    height, width = row.get("height"), row.get("width")
    size = f"{height} px" if height == width else f"{height} × {width} px"
    weights = f"{row.get('model')} (random weights)" if row.get("weights") == "random" else str(row.get("model"))
    parts = {"model": weights, "tokens": size, "batch": f"batch {row.get('batch')}", "texts": f"{row.get('texts')} texts"}
    there = {"model": "model", "tokens": "height", "batch": "batch", "texts": "texts"}
    return ", ".join(words for part, words in parts.items() if part not in leave and there[part] in row)


def memory(row: Row) -> float | None:
    """MB that a call takes above what was there before it: of the GPU's memory, where it ran on one."""
    found: float | None = row.get("device_working_mb", row.get("working_mb"))
    return found


def ratio(row: Row, other: str = ENCODER) -> Interval | None:
    """Time of a row's contender over another's, and the interval's ends."""
    found = row.get("ratios", {}).get(other)
    return (float(found[0]), float(found[1]), float(found[2])) if found else None


def speed_up(row: Row, other: str) -> Interval | None:
    """Time of the other contender over the row's own, and the interval's ends."""
    found = ratio(row, other)
    return (1 / found[0], 1 / found[2], 1 / found[1]) if found else None


def along(axis: Axis, rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, dict[int, Row]]]:
    """The rows of an axis's suite: (setting, method) -> what the contender is called -> the axis's value -> its row."""
    lead, found = leading(rows), {}
    for both, mine in grouped(rows, lambda row: (setting(lead(row), axis.suite), method(lead(row), axis.changed))).items():
        # encoder and peers stand at the value of what they were measured beside
        found[both] = {name: {axis.value(lead(row)): row for row in own} for name, own in by_name(mine).items()}
    return found


def fitted(by_value: Mapping[int, Row]) -> Growth | None:
    """Growth of one contender's times along an axis; None where fewer than three sizes have times."""
    timed = {value: float(row["ms"]) for value, row in by_value.items() if row.get("ms")}
    return growth(list(timed), list(timed.values())) if len(timed) > 2 else None


def does_not_fit(row: Row) -> bool:
    """True for a row that was not run because of the memory it would take."""
    return bool(row.get("failed")) and "needs_mb" in row


def middle_encoder(rows: Iterable[Row]) -> Row | None:
    """The encoder's row with the median time, of one row for each group it was measured in; without times, the first."""
    mine = [row for row in rows if row["contender"] == ENCODER]
    timed = sorted((row for row in mine if row.get("ms")), key=lambda row: float(row["ms"]))
    return timed[(len(timed) - 1) // 2] if timed else next(iter(mine), None)


def by_name(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each contender, by its name among them."""
    called = dict(zip(map(id, rows), names(rows), strict=True))
    return grouped(rows, lambda row: called[id(row)])


def step(row: Row) -> str:
    """The name of a step of the waterfall."""
    return str(row.get("step", row["contender"]))


def steps(rows: Iterable[Row]) -> Iterator[tuple[Row, Row | None]]:
    """Each step of a waterfall, and the last one before it that has a time."""
    last: Row | None = None
    for row in rows:
        yield row, last
        last = row if row.get("ms") else last


def gain(before: Row | None, row: Row) -> float | None:
    """Speed of a step as a multiple of an earlier one's; None without times.

    It is taken from the rounds of both, if they were compared with one another or with the same third one: that need not be quite the
    quotient of their medians. Else it is that quotient.
    """
    if before is None or before is row or not before.get("ms") or not row.get("ms"):
        return None
    paired, theirs, ours = ratio(row, step(before)), before.get("ratios", {}), row.get("ratios", {})
    if paired:
        return 1 / paired[0]
    shared = next((name for name in ours if name in theirs), None)
    return float(theirs[shared][0] / ours[shared][0] if shared else before["ms"] / row["ms"])
