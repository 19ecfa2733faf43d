"""The tables of the runtimes of a CPU: pointing, speed in turns, and threads beside a decoder and an encoder."""

from typing import Any

from doc_tables.markdown_table import TableError, markdown

Part = dict[str, Any]
COMMAND = "python benchmarks/runtimes.py --record"
# what each measure of the threads is called in the table
MEASURES = {"alone": "call after call", "camera": "after a pause", "beside": "beside both", "stream": "in a stream"}


def pointing_table(record: Part) -> str:
    """Pointing and errors of each runtime and precision."""
    if "pointing" not in record["parts"]:
        raise TableError(f"its record has no part 'pointing': run `{COMMAND}`")
    part = record["parts"]["pointing"]
    rows = [
        (f"`{row['method']}`", row["way"], f"{row['pointing']:.3f}", f"{row['points']:+.2f} ± {row['standard_error']:.2f}",
         f"{100 * row['moved']:.1f}", f"{row['largest_error']:.0e}", f"{row['mean_error']:.0e}")
        for row in part["rows"]
    ]  # fmt: skip
    head = ("method", "runtime", "pointing", "difference, points ± standard error", "peaks moved, %", "largest error", "mean error")
    words = (
        f"{part['scenes']} scenes, {part['rows'][0]['questions']} questions; 8 bits calibrated on {part['calibration']} sample pictures. "
        "Errors of similarities, over a picture's largest. "
    )
    return markdown(head, rows, right=5) + "\n" + words + _where(part)


def times_table(record: Part) -> str:
    """Times in turns and beside a decoder and an encoder, of the parts that the record has."""
    made = [make(record["parts"][name]) for name, make in (("speed", _speed), ("threads", _threads)) if name in record["parts"]]
    if not made:
        raise TableError(f"its record has no times: run `{COMMAND}`")
    return "\n".join(made)


def _speed(part: Part) -> str:
    rows = [
        (row["model"], row["size"], row["way"], f"{row['ms']:.1f}", _interval(row["ratio"]), f"{row['error']:.0e}")
        for row in part["rows"]
    ]  # fmt: skip
    words = f"One picture, {part['texts']} texts, {part['used_threads']} threads. "
    words += "The ratio is to onnxruntime's float32, with a 95 % interval. "
    return markdown(("model", "px", "runtime", "ms", "ratio", "error"), rows, right=3) + "\n" + words + _where(part)


def _threads(part: Part) -> str:
    rows = [
        (row["way"], *(f"{row[f'{key}_ms']:.0f} · {_interval(row[f'{key}_ratio'])}" for key in MEASURES), f"{row['decoded']:.0f}",
         f"{row['encoded']:.0f}")
        for row in part["rows"]
    ]  # fmt: skip
    height, width = part["size"]
    words = (
        f"The embedded model on frames of {width} x {height}, {part['rounds']} rounds: milliseconds a frame, and the ratio to the first "
        "row with a 95 % interval. Beside both: while one thread decodes and another encodes; the last columns are their frames a second "
        "meanwhile. "
    )
    return markdown(("threads", *MEASURES.values(), "decoded/s", "encoded/s"), rows, right=6) + "\n" + words + _where(part)


def _interval(ratio: list[float]) -> str:
    return "{:.2f} ({:.2f} … {:.2f})".format(*ratio)


def _where(part: Part) -> str:
    names = [name for name in ("onnxruntime", "openvino", "nncf", "torch") if name in part["versions"]]
    versions = ", ".join(f"{name} {part['versions'][name].partition('-')[0]}" for name in names)
    return f"{part['machine']}, load {part['load_before']:.1f} before it, {versions}, commit {part['commit']}, {part['day']}.\n"
