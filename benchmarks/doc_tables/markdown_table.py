"""Common parts of the generated tables: their Markdown, and the error of one that cannot be made."""

from collections.abc import Iterable


class TableError(Exception):
    """A table that cannot be made; the message says which command mends it."""


def markdown(head: tuple[str, ...], rows: Iterable[tuple[object, ...]], right: int = 0) -> str:
    """A Markdown table; the last `right` columns are aligned to the right."""
    rule = ["---"] * (len(head) - right) + ["--:"] * right
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |\n" for row in (head, rule, *rows))
