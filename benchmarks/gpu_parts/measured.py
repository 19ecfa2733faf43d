"""The parts' measurements as rows of `fastloc.bench.schema`, which can be put together with those of `python -m fastloc.bench`.

The parts' own records hold what they need to go on; these rows have the same columns for every measurement, without those that only
control a part. As in the bench, no time is reported for a contender whose answer is off by more than its precision allows.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fastloc.bench.correctness_gate import ALLOWED
from fastloc.bench.models import model as known_model
from fastloc.bench.schema import Log, checked
from fastloc.errors import FastlocError
from gpu_parts import models
from gpu_parts.job import Row

# open_clip's names of what `models.CONFIGS` has
NAMES = {"B/16": "ViT-B-16-quickgelu", "L/14": "ViT-L-14-336-quickgelu"}
COMMON = ("run", "device", "driver", "capability", "processor", "cores", "threads", "python", "commit", "load_before")
PACKAGES = ("torch", "triton", "cuda")
# columns that parts call what the schema calls them
SAME = ("contender", "dtype", "batch", "plan", "ms", "ms_p20", "ms_p80", "ms_p99", "rounds", "calls", "first_ms", "error", "failed", "rate",
        "unit", "case", "method", "throttled", "gflop", "moved_mb", "traffic_mb", "floor_ms", "bound", "achieved")  # fmt: skip
TIMES = ("ms", "ms_p20", "ms_p80", "ms_p99", "rounds", "calls", "first_ms", "floor_ms", "bound", "achieved", "rate", "unit")
FIRST = "the first picture, against float64"


def _device(row: Row) -> Row:
    return {}


def _speed(row: Row) -> Row:
    # the dtype is a column
    name = row["contender"].removesuffix(" float32").removesuffix(" bfloat16")
    compiled = name.startswith("compiled")
    fields = {"group": row["config"], **_input(row["model"], (row["size"],) * 2, models.TEXTS), "checked": _checked(row, FIRST)}
    if "estimate_gb" in row:
        fields["needs_mb"] = row["estimate_gb"] * 1000
    if "not trusted" in name:
        fields["failed"] = f"not trusted: {row.get('fallback', 'the gate found a kernel wrong')}"
    return {**fields, "contender": "official" if compiled else name, "compiled": True if compiled else None}


def _variants(row: Row) -> Row | None:
    # a check of a kernel's variant is no measurement
    return _speed(row) if "contender" in row else None


def _methods(row: Row) -> Row:
    # each alone: an engine's call after another of its own
    wrong = {"failed": row.get("failed") or "; ".join(row["problems"])} if row.get("problems") else {}
    return {**_speed(row), "group": f"{row['config']} {row['method']}", **wrong}


def _kernels(row: Row) -> Row:
    if "tuned" in row:
        shipped = row["configuration"] == "shipped"
        fields = {"contender": row["tuned"], "case": f"batch {row['batch'] or 1}", "error": row.get("apart")}
        return {**fields, "group": f"{row['tuned']} b{row['batch'] or 1}", "batch": row["batch"] or 1, "dtype": "float16",
                "plan": None if shipped else row["configuration"], "note": "as it is shipped" if shipped else None,
                "checked": "against the shipped configuration"}  # fmt: skip
    return {"contender": row.get("contender", "all"), "group": row["case"], "dtype": "float16", "checked": _checked(row, "against float64")}


def _frames(row: Row) -> Row:
    fields: Row = {"contender": row["what"], "group": f"{row['frame']} b{row['batch']}", "method": "gem"}
    # a size that failed as a whole says no more
    if "model" in row:
        fields |= {**_input(row["model"], tuple(row["input"]), models.TEXTS), "frame": row["picture"],
                   "checked": _checked(row, FIRST, "in the parts gate and parity")}  # fmt: skip
    return fields


def _exported(row: Row) -> Row | None:
    if "timed" not in row:
        return None
    fields = {"group": row["timed"], "batch": 1, **_input(row["model"], (row["size"],) * 2, row.get("texts"))}
    provider = row["contender"].split(" ")[0]
    checks = None if provider == "torch" else "the file's golden, and float32 on this device"
    return {**fields, "provider": None if provider in ("torch", "all") else provider, "checked": checks}


# part -> what it calls something else than the schema, of a row; None for a row that is no measurement
PARTS: dict[str, Callable[[Row], Row | None]] = {
    "device": _device, "methods": _methods, "speed": _speed, "compiled": _speed, "variants": _variants,
    "kernels": _kernels, "frames": _frames, "video": _frames,
    "exported": _exported,
}  # fmt: skip


def measurements(record: Row) -> list[Row]:
    """The rows of a part's record as it is read from its file; none of a part that only checks.

    Raises:
        FastlocError: a row that is not one of the schema.
    """
    of = PARTS.get(record["part"], lambda row: None)
    pairs = [(row, of(row)) for row in record["rows"]]
    return [checked(_row(record, row, more)) for row, more in pairs if more is not None]


def write(file: Path, records: Iterable[Row]) -> list[str]:
    """Write the file, whole or not at all; what could not be written, in words. Its one `run` is when the first record was begun."""
    found, problems = list(records), []
    began = min((record["run"] for record in found), default="")
    temporary = file.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    log = Log(temporary)
    for record in found:
        try:
            for row in measurements(record):
                log.add({**row, "run": began})
        # a part's own record is there all the same
        except (FastlocError, KeyError, TypeError) as error:
            problems.append(f"{record['part']}: {type(error).__name__}: {error}")
    if log.rows:
        temporary.replace(file)
    return problems


def _row(record: Row, row: Row, more: Row) -> Row:
    found = {**{name: record.get(name) for name in COMMON}, **{name: row.get(name) for name in SAME}, **more}
    versions = {name: record[name] for name in PACKAGES if record.get(name)}
    if "onnxruntime" in row:
        versions["onnxruntime"] = row["onnxruntime"]
    found |= {"suite": f"gpu-{record['part']}", "by": "fastloc", "versions": versions, "device_working_mb": row.get("working_mb")}
    found["note"] = "; ".join(filter(None, (found.get("note"), row.get("note"), row.get("fallback"), row.get("mode"), _means(row)))) or None
    return _judged(found)


def _judged(found: Row) -> Row:
    """No times of what is wrong; JSON carries an infinite error, or a NaN, as a word."""
    allowed, error = ALLOWED.get(found.get("dtype") or ""), found["error"]
    if isinstance(error, str):
        found |= {"error": None, "failed": found["failed"] or f"its error is {error}"}
    elif error is not None and allowed is not None:
        found["allowed"] = allowed
        if error > allowed:
            found["failed"] = found["failed"] or f"it computes something else: off by {error:.1e}, {allowed:.0e} is allowed"
    return {**found, **dict.fromkeys(TIMES)} if found["failed"] else found


def _means(row: Row) -> str:
    """A sample is the mean of calls that follow one another."""
    each = round(row["calls"] / row["rounds"]) if row.get("calls") and row.get("rounds") else 1
    return f"percentiles are of means of {each} calls" if each > 1 else ""


def _checked(row: Row, step: str, otherwise: str = "cost only") -> str | None:
    """The subject of the error, where there is one."""
    if row.get("failed"):
        return None
    return step if row.get("error") is not None else otherwise


def _input(name: str, size: tuple[Any, ...], texts: int | None) -> Row:
    embedded = name == "embedded"
    patch = known_model(name).spec.patch[0] if embedded else models.CONFIGS[name]["vision_cfg"]["patch_size"]
    return {"model": NAMES.get(name, name), "weights": "trained" if embedded else "random", "height": size[0], "width": size[1],
            "tokens": 1 + (size[0] // patch) * (size[1] // patch), "texts": texts}  # fmt: skip
