"""The README's table of video: how heat follows what moves, what a stream costs around the model, and what it holds for long."""

from typing import Any

from doc_tables.markdown_table import TableError, markdown

Part = dict[str, Any]
METHOD = "gem_calibrated"


def video_table(record: Part) -> str:
    """The parts of the record, each with where and when it was measured.

    Raises:
        TableError: it has none.
    """
    parts = [make(record["parts"][name]) + "\n" + _where(record["parts"][name]) for name, make in MAKES.items() if name in record["parts"]]
    if not parts:
        raise TableError("its record is empty: run `python benchmarks/video.py --record`")
    return "\n".join(parts)


def _tracking(part: Part) -> str:
    alone = {row["method"]: row for row in part["rows"] if row["mode"] == "each frame alone"}
    rows = [_mode(row) for row in part["rows"] if row["method"] == METHOD]
    head = ("`fastloc.stream` with", "pointing", "contrast", "lag, s", "flicker", "absent: warm, %", "gone: warm, %", "absent: peak")
    others = ", ".join(f"`{name}` {row['pointing']:.3f}" for name, row in alone.items() if name != METHOD)
    words = (
        f"The embedded model with `{METHOD}`; {part['clips']} clips of {part['seconds']:g} s at {part['rate']} frames/s, one to three "
        f"things that move a quarter of the picture's width a second, {alone[METHOD]['questions']} questions. Pointing of other methods, "
        f"each frame alone: {others}. Lag: how far the peak is behind the thing's centre, in seconds of its speed. Flicker: mean change of "
        "heat from frame to frame where no pixel changes. Warm: heat of 0.5 or more, as a share of the picture, for a text that was never "
        "in the clip, and one that left it.\n"
    )
    return markdown(head, rows, right=7) + "\n" + words


def _mode(row: Part) -> tuple[str, ...]:
    name = f"`{row['mode']}`" if "=" in row["mode"] else row["mode"]
    warm = (f"{100 * row[key]:.1f}" for key in ("absent_warm", "gone_warm"))
    return (name, f"{row['pointing']:.3f}", f"{row['contrast']:.2f}", f"{round(row['lag_s'], 2) + 0.0:.2f}", f"{row['flicker']:.4f}", *warm,
            f"{row['absent_peak']:.2f}")  # fmt: skip


def _overhead(part: Part) -> str:
    rows = [
        (row["size"], row["model"], f"{row['model_fps']:.1f}", *(f"{row[f'{name}_over']:.2f} ({row[f'{name}_over_p20']:.2f} … "
         f"{row[f'{name}_over_p80']:.2f})" for name in ("stream", "video")), f"{row['stream_overlap']:.2f}",
         *(f"{row[f'{name}_alone_ms']:.1f}" for name in ("decode", "convert", "locate", "draw", "encode")))
        for row in part["rows"]
    ]  # fmt: skip
    head = ("input", "model", "model alone, frames/s", "stream: x the time", "drawn and encoded: x", "x its busiest thread", "decode, ms",
            "convert", "locate", "draw", "encode")  # fmt: skip
    handed = part["handed_over"]
    words = (
        "Medians of turns (p20 … p80); each stage alone, in milliseconds a frame. Through threads and queues a frame takes "
        f"{handed['stream_us'] - handed['engine_us']:.0f} µs.\n"
    )
    return markdown(head, rows, right=9) + "\n" + words


def _live(part: Part) -> str:
    heads = (f"{_minutes(row['seconds'])} of a camera of {row['rate']:g} frames/s, {row['case']}" for row in part["rows"])
    return "".join(f"- {head}: {_held(row)}\n" for head, row in zip(heads, part["rows"], strict=True))


def _held(row: Part) -> str:
    def slope(name: str, by: float = 1.0) -> str:
        return f"{by * row[f'{name}_slope']:+.2g} ± {by * row[f'{name}_slope_error']:.1g}"

    return (
        f"{row['captured']} frames captured, {row['delivered']} answered, {row['dropped']} dropped. Age {_three(row, 'age')} ms, "
        f"inference {_three(row, 'inference')} ms (p50/p95/p99); age less one inference and one frame interval is {_three(row, 'excess')} "
        f"ms, at most {row['excess_worst_ms']:.1f}, above 0 in {row['over']} of {row['judged']}. A minute, memory grows by "
        f"{slope('rss_mb')} MB and {slope('blocks')} Python objects' blocks, inference by {slope('inference_s', 1000)} ms, age by "
        f"{slope('age_s', 1000)} ms; {row['threads']:.0f} threads, at most {row['threads_most']:.0f}; {row['files']:.0f} open files, at "
        f"most {row['files_most']:.0f}."
    )


def _three(row: Part, name: str) -> str:
    return "/".join(f"{row[f'{name}_p{p}_ms']:.1f}" for p in (50, 95, 99))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def _file(part: Part) -> str:
    good = not part["problems"]
    how = "; ".join(f"{row['engine']} {row['fps']:.0f} frames/s" for row in part["rows"])
    verdict = "each frame once, in order, at its time" if good else "; ".join(part["problems"])
    return f"- A file of {part['frames']} frames of {len(part['gaps'])} different gaps: {verdict} ({how}).\n"


def _where(part: Part) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in part["versions"].items())
    load = part["load_before"]
    busy = "" if load is None else f", load average before the run {load:.1f}"
    machine = f"{part['machine']}, {part['threads']} used by torch{busy}"
    return f"{machine}; python {part['python']}, {versions}; {part['day']}, commit {part['commit']}.\n"


MAKES = {"tracking": _tracking, "overhead": _overhead, "live": _live, "fast": _live, "file": _file}
