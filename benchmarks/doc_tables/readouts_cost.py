"""The table of what read-outs cost, beside an earlier commit."""

from typing import Any

from doc_tables.markdown_table import markdown

_OWN = ", package and picture included; own MB: what the step adds at most where these are there already, its answer included"
COMMAND = "python benchmarks/readouts.py --against COMMIT --record"


def cost_table(record: dict[str, Any]) -> str:
    """Times and memory of each read-out before and now."""
    part = record["parts"]["readouts"]
    own = all("now_own_mb" in row for row in part["rows"])
    rows = [
        (row["case"], row["order"], row["step"], _times(row["before_ms"]), _times(row["now_ms"]),
         "{:.1f} ({:.1f} … {:.1f})".format(*row["ratio"]), row["before_mb"], row["now_mb"],
         *((row["before_own_mb"], row["now_own_mb"]) if own else ()))
        for row in part["rows"]
    ]  # fmt: skip
    head = (
        "picture", "order", "what is asked for", f"{part['against']}, ms", f"{part['commit']}, ms", "times faster", "MB", "MB now",
        *(("own MB", "own MB now") if own else ()),
    )  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in part["versions"].items())
    results = " or ".join(f"{count} results of {case}" for case, count in part["repeats"].items())
    words = (
        f"The median of {part['rounds']} rounds by turns, each a process of {results} on one thread, and the lowest and the "
        f"highest round. MB: what the first one adds to the process{_OWN if own else ''}. {part['machine']}, load "
        f"{part['load_before']:.1f} before it, {versions}, {part['day']}.\n"
    )
    return markdown(head, rows, right=7 if own else 5) + "\n" + words


def _times(ms: list[float]) -> str:
    return "{:.1f} ({:.1f} … {:.1f})".format(*ms)
