"""The end of the summary: correctness, the targets, and the exit code."""

from collections import Counter
from collections.abc import Callable

from gpu_parts.job import Row

Records = dict[str, Row]
# parts whose finding decides the exit code; the quality set's is a target
JUDGES = ("gate", "methods", "parity")
# half precision may point elsewhere in so many of a hundred questions
POINTS = 0.5
ONE, EIGHT, MANY = "B/16 448 b1", "B/16 448 b8", "B/16 448 b32"
SELF_SELF = ("N=785 d=64 Z=1", "N=785 d=64 Z=8", "N=197 d=64 Z=8", "N=1765 d=64 Z=8")


def verdict(records: Records, todo: list[str]) -> tuple[int, list[str]]:
    """The exit code, 0 or 1, and the last lines."""
    wrong = []
    for part in todo:
        record = records.get(part)
        if record is None:
            wrong.append(f"{part} did not run")
        elif record.get("error"):
            wrong.append(f"{part} failed")
        elif part in JUDGES and not record["good"]:
            wrong.append(f"{part} is incomplete" if record["left_out"] else f"{part} is not good")
    lines = ["-- targets", *targets(records), "-- verdict", "good" if not wrong else "NOT GOOD: " + ", ".join(wrong)]
    return int(bool(wrong)), lines


def targets(records: Records) -> list[str]:
    """A line for each target: yes or no, and the number; "?" where it was not measured."""
    speed, frames, kernels = (records.get(part, {}).get("rows", []) for part in ("speed", "frames", "kernels"))
    best = {config: _row(speed, config=config, contender="default") for config in (ONE, EIGHT, MANY)}
    frame, waited = (_row(frames, frame="1080p", batch=1, what=f"device frame to grid, {how}") for how in ("back to back", "one at a time"))
    lines = [_target("a uint8 frame on the device to its grid, B/16 448 b1: ≤ 1.0 ms", frame.get("ms"), lambda x: x <= 1.0, "ms", frame)]
    if waited.get("ms"):
        lines.append(f"      waited for one at a time: {waited['ms']:.3f} ms")
    ratio = _ratio(best[ONE], _row(speed, config=ONE, contender="encoder"))
    lines.append(_target("the plain encoder's time, same plan: ≤ 1.35 x", ratio, lambda x: x <= 1.35, "x", best[ONE]))
    rate = 32_000 / best[MANY]["ms"] if best[MANY].get("ms") else None
    lines.append(_target("batch 32: ≥ 2000 images/s", rate, lambda x: x >= 2000, "images/s", best[MANY]))
    for config, row in best.items():
        ratio = _ratio(_row(speed, config=config, contender="official float32"), row)
        lines.append(_target(f"the official form, eager float32, {config}: ≥ 10 x", ratio, lambda x: x >= 10, "x", row))
    lines += [_self_self(kernels, f"self-self {shape}") for shape in SELF_SELF]
    lines += [_quality(records.get("quality", {}).get("rows", []), dtype) for dtype in ("float16", "bfloat16")]
    lines += _video(records.get("video", {}).get("rows", []))
    return [*lines, _exported(records.get("exported", {}).get("rows", []))]


def _video(rows: list[Row]) -> list[str]:
    """Streams of frames on the host, as a decoder leaves them."""
    every, live = (_row(rows, frame="1080p", what=f"host frames, {how}") for how in ("every one", "200 a second: age"))
    return [_target("a stream of decoded 1080p frames, B/16 448: ≥ 200 frames/s", every.get("fps"), lambda x: x >= 200, "frames/s", every),
            _target("age at 200 frames/s, p95: ≤ 15 ms", live.get("ms_p95"), lambda x: x <= 15, "ms", live)]  # fmt: skip


def _quality(rows: list[Row], dtype: str) -> str:
    """The method whose pointing differs most from float32's."""
    mine = [row for row in rows if row["dtype"] == dtype]
    worst = max(mine, key=lambda row: abs(row["points"]), default={})
    claim = f"{dtype} points as float32 does: ± {POINTS} points"
    claim += f", at most {worst['points']:+.2f} for {worst['method']}" if worst else ""
    return _target(claim, abs(worst["points"]) if worst else None, lambda x: x <= POINTS, "points", worst)


def _exported(rows: list[Row]) -> str:
    """Files in providers; what could not be written or loaded counts as wrong."""
    steps = [row for row in rows if row.get("step")]
    wrong = sum(bool(row["problems"]) for row in steps)
    ran = ", ".join(f"{name} {count}" for name, count in Counter(row["step"] for row in steps if row["step"] != "export").items())
    claim = "exported files compute what float32 does" + (f" (runs: {ran})" if ran else "")
    return _target(claim, float(wrong) if steps else None, lambda x: x == 0, "wrong", {})


def _self_self(kernels: list[Row], case: str) -> str:
    """The kernels beside the quickest of SDPA's back ends."""

    def least(start: str) -> Row:
        mine = [row for row in kernels if row.get("case") == case and row.get("ms") and row["contender"].startswith(start)]
        return min(mine, key=lambda row: row["ms"], default={})

    ours, bare = least("kernels"), _ratio(least("two bare"), least("kernels"))
    line = _target(f"SDPA's best back end, {case}: ≥ 1.3 x", _ratio(least("sdpa"), ours), lambda x: x >= 1.3, "x", {})
    return line + (f"; its two products alone: {bare:.2f} x" if bare else "")


def _target(claim: str, value: float | None, met: Callable[[float], bool], unit: str, row: Row) -> str:
    if value is None:
        return f"  ?   {claim}: not measured"
    # a number without some kernel names it
    note = f" ({row['fallback']})" if row.get("fallback") else ""
    return f"  {'yes' if met(value) else 'NO '} {claim}: {value:.3g} {unit}{note}"


def _row(rows: list[Row], **fields: object) -> Row:
    return next((row for row in rows if not row.get("note") and all(row.get(name) == value for name, value in fields.items())), {})


def _ratio(one: Row, other: Row) -> float | None:
    return one["ms"] / other["ms"] if one.get("ms") and other.get("ms") else None
