"""The table of an hour under load: what each process held, and whether it grew."""

from typing import Any

from doc_tables.markdown_table import markdown

Record = dict[str, Any]
COMMAND = "python benchmarks/soak.py --record"
KINDS = {"rss_mb": "resident memory, MB", "pss_mb": "its own share of it (PSS), MB", "heap_mb": "heap in use, MB",
         "descriptors": "descriptors",
         "threads": "threads", "files": "temporary and cached files"}  # fmt: skip


def soak_table(record: Record) -> str:
    """A row a process and quantity, then what was done meanwhile and where."""
    rows = [
        (row["process"], KINDS[row["kind"]], f"{row['first']:.1f}", f"{row['last']:.1f}", f"{row['most']:.1f}",
         f"{row['slope']:+.2f} ± {row['error']:.2f}", f"{row['low']:+.2f} … {row['high']:+.2f}", row["verdict"])
        for row in record["rows"] if "slope" in row
    ]  # fmt: skip
    head = ("process", "quantity", "first", "last", "most", "slope an hour ± standard error", "95 % interval", "verdict")
    done = "".join(f"- {name}: {', '.join(f'{count:,} {kind}' for kind, count in counts.items())}\n"
                   for name, counts in record["done"].items())  # fmt: skip
    return f"{markdown(head, rows, right=6)}\n{_words(record)}\n{done}"


def _words(record: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    wrong = "Nothing was wrong." if not record["problems"] else f"Wrong: {'; '.join(record['problems'])}."
    arenas = f"at most {record['arenas']} arenas" if record.get("arenas") else "the usual number of arenas"
    return (
        f"{record['seconds'] / 60:.0f} minutes, a sample every {record['every']:g} s, of which the second half counts. {wrong} "
        f"{record['device']}, {record['cores']} cores, load average before the run {record['load_before']:.1f}, niceness {record['nice']}, "
        f"{arenas} of the allocator; "
        f"{versions}; {record['day']}, commit {record['commit']}.\n"
    )
