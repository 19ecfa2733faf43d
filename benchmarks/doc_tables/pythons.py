"""The table of Pythons: what ran on each without torch, and why the rest did not."""

from typing import Any

from doc_tables.markdown_table import markdown

Record = dict[str, Any]
COMMAND = "make matrix RECORD=1"
SHOWN, PACKAGES = 3, ("numpy", "pillow", "onnxruntime")


def pythons_table(record: Record) -> str:
    """A row a Python, then the day and the rooms."""
    rows = []
    for row in record["rows"]:
        versions = row.get("versions") or {}
        with_these = ", ".join(f"{name} {versions[name]}" for name in PACKAGES if versions.get(name))
        why = [f"{count} {reason}" for reason, count in row["why"].items()]
        more = f", {sum(list(row['why'].values())[SHOWN:])} others" if len(why) > SHOWN else ""
        lacks = f"; no wheels of {', '.join(row['lacks'])}" if row.get("lacks") else ""
        said = (", ".join(why[:SHOWN]) + more) if versions else f"not run: {next(iter(row['why']))}"
        rows.append((versions.get("python", row["python"]), row["passed"], row["failed"], row["skipped"], said + lacks, with_these))
    head = ("Python", "passed", "failed", "skipped", "why skipped", "with")
    words = (f"The quick tests of the rooms {', '.join(record['rooms'])}, without torch: `{COMMAND}`. {record['system']}, {record['day']}, "
             f"commit {record['commit']}.\n")  # fmt: skip
    return markdown(head, rows) + "\n" + words
