"""Text of tables and plots: the machine and the date of the rows, and the spelling of their numbers."""

import math
from collections.abc import Sequence

from fastloc.bench.schema import Row
from fastloc.bench.stats import Interval

COST_ONLY = "cost only"
# above this, something else was running before the run
IDLE_LOAD = 0.5


def machine(rows: Sequence[Row]) -> str:
    """Device, driver, threads, load: "AMD EPYC, threads: 2 of 2, load average before the run 0.3"."""
    parts = [" and ".join(_all(rows, "device"))]
    parts += [f"{name} {', '.join(found)}" for name in ("driver", "capability") if (found := _all(rows, name))]
    processors = [each for each in _all(rows, "processor") if each not in parts[0]]
    parts += [f"host {', '.join(processors)}"] if processors else []
    threads, cores = "/".join(_all(rows, "threads")), "/".join(_all(rows, "cores"))
    parts += [f"threads: {threads}" + (f" of {cores}" if cores else "")] if threads else []
    # of another runtime a row says so; of a GPU its threads only start kernels
    spun = [row for row in rows if row.get("provider") == "cpu" and row.get("spinning", True)]
    parts += ["onnxruntime's threads spun while they waited"] if spun else []
    loads = [float(row["load_before"]) for row in rows if "load_before" in row]
    busy = " (not an idle machine)" if loads and max(loads) > IDLE_LOAD else ""
    parts += [f"load average before the run {max(loads):.1f}{busy}"] if loads else []
    return ", ".join(parts)


def occasion(rows: Sequence[Row]) -> str:
    """Date and commit: "2026-11-21, commit a5d76c8"."""
    days = sorted({f"{run[:4]}-{run[4:6]}-{run[6:8]}" for run in _all(rows, "run")})
    return f"{' and '.join(days)}, commit {', '.join(_all(rows, 'commit'))}"


def packages(rows: Sequence[Row]) -> list[str]:
    """Versions: those that all contenders have in common, then a line for what others have besides."""
    by_name = {row["contender"]: {"python": row.get("python"), **row["versions"]} for row in rows if row["versions"]}
    if not by_name:
        return []
    shared = {item for item in next(iter(by_name.values())).items() if all(item in each.items() for each in by_name.values()) and item[1]}
    rest: dict[str, list[str]] = {}
    for name, each in by_name.items():
        words = ", ".join(f"{package} {version}" for package, version in each.items() if version and (package, version) not in shared)
        if words:
            rest.setdefault(words, []).append(name)
    common = ", ".join(f"{package} {version}" for package, version in next(iter(by_name.values())).items() if (package, version) in shared)
    return [*([common] if common else []), *(f"{', '.join(who)}: {words}" for words, who in rest.items())]


def throttling(rows: Sequence[Row]) -> str:
    """The causes of throttled clocks and their number of rows; "" where the driver reports none."""
    held = [row for row in rows if row.get("throttled")]
    return f"throttled: {', '.join(_all(held, 'throttled'))} ({len(held)} of {len(rows)} rows)" if held else ""


def _all(rows: Sequence[Row], name: str) -> list[str]:
    return list(dict.fromkeys(str(row[name]) for row in rows if name in row))


def digits(value: float | None, least: int = 3) -> str:
    """So many significant digits, never an exponent: "0.0123", "1.23", "1234"; "" for None."""
    if value is None:
        return ""
    places = least - 1 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, min(places, 6))}f}"


def span(low: float | None, high: float | None) -> str:
    return f"{digits(low)} … {digits(high)}" if low is not None and high is not None else ""


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def mb(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def times(found: Interval | None, part: str = "all") -> str:
    """A ratio: "1.35 (1.30 … 1.41)"; its `part` "middle" or "ends" alone."""
    if found is None:
        return ""
    middle, ends = f"{found[0]:.2f}", f"{found[1]:.2f} … {found[2]:.2f}"
    return {"middle": middle, "ends": ends, "all": f"{middle} ({ends})"}[part]


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.1f} %"


def error(row: Row) -> str:
    """Error of a row, "cost only" where nothing is compared."""
    if row.get("checked") == COST_ONLY:
        return COST_ONLY
    return "" if row.get("error") is None else f"{row['error']:.0e}"
