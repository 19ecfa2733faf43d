"""The table of models for an edge device."""

from typing import Any

from doc_tables.markdown_table import markdown

COMMAND = "python benchmarks/edge.py --record"
FILES = ("float32", "float16", "int8-static")
WAYS = ("open_clip", "float32", "int8-dynamic", "int8-static")
EIGHT = ("int8-dynamic", "int8-static")
HEAD = (
    "model", "weights", "px", "parameters, M", "MB: float32", "float16", "int8", "ms: open_clip", "float32", "int8-dynamic", "int8-static",
    "best, times open_clip's", "error: int8-dynamic", "int8-static", "pointing: float32", "int8-static",
)  # fmt: skip


def edge_table(record: dict[str, Any]) -> str:
    """A row a model: what its files weigh, what a frame takes, and how often it points at the thing where its weights are trained."""
    part = record["parts"]["models"]
    rows = [_row(row) for row in part["rows"]]
    versions = ", ".join(f"{name} {part['versions'][name].partition('+')[0]}" for name in ("onnxruntime", "torch"))
    trained = [row["pointing"] for row in part["rows"] if "pointing" in row]
    pointing = "; ".join(f"`{each['method']}`, {each['questions']} questions" for each in trained[:1])
    words = (
        f"One picture, {part['texts']} texts, {part['used_threads']} threads, {part['rows'][0]['rounds']} rounds in turns: the median, and "
        "in brackets the 20th and 80th percentile of the rounds' medians. Best: the file with the shortest time, and how many times faster "
        "it is than open_clip's own image tower in PyTorch, with a 95 % interval; it has none for `embedded-device`. Error: the largest "
        f"of a similarity against float32, over the largest similarity, on noise. Pointing on the quality set ({pointing}). "
        f"{part['machine']}, load {part['load_before']:.1f} before it, {versions}, commit {part['commit']}, {part['day']}.\n"
    )
    return markdown(HEAD, rows, right=len(HEAD) - 2) + "\n" + words


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    times, points = row["times"], row.get("pointing", {}).get("files", {})
    best = min((way for way in times if way != "open_clip"), key=lambda way: float(times[way]["ms"]))
    return (
        row["model"], row["weights"], row["size"], f"{row['parameters'] / 1e6:.1f}", *(f"{row['mb'][dtype]:.1f}" for dtype in FILES),
        *(_ms(times[way]) if way in times else "" for way in WAYS), f"{best}{_faster(times[best])}",
        *(f"{row['errors'][dtype]:.2g}" if dtype in row["errors"] else "" for dtype in EIGHT),
        *(f"{points[dtype]:.3f}" if points else "" for dtype in ("float32", "int8-static")),
    )  # fmt: skip


def _ms(found: dict[str, Any]) -> str:
    return f"{found['ms']:.1f} ({found['ms_p20']:.1f} … {found['ms_p80']:.1f})"


def _faster(found: dict[str, Any]) -> str:
    return ", {:.1f} ({:.1f} … {:.1f})".format(*found["faster"]) if "faster" in found else ""
