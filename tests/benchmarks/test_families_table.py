"""The table of encoders.md is its record's."""

from typing import Any

from doc_tables import families, page


def test_the_page_is_current() -> None:
    text, record = (path.read_text(encoding="utf-8") for path in (families.PAGE, families.RECORD))
    assert [block["name"] for block in page.BLOCK.finditer(text)] == ["families"]
    assert families.filled(text, record) == text, "run `python benchmarks/docs.py`"


def test_ratios_are_of_times_that_were_taken_in_turns() -> None:
    def row(group: str, method: str, contender: str, ms: float) -> dict[str, Any]:
        about = {"device": "d", "cores": 2, "threads": 2, "python": "3", "versions": {}, "by": "fastloc", "dtype": "float32", "commit": "c"}
        return {
            **about, "run": "20260101-000000", "suite": "methods", "model": "M", "height": 224, "group": group, "method": method,
            "contender": contender, "ms": ms, "ms_p20": ms, "ms_p80": 2 * ms,
        }  # fmt: skip

    rows = []
    for i, method in enumerate(families.METHODS):
        # each group has its own time of open_clip's
        rows.append(row(method, "encoder", "open_clip", 100.0 * (i + 1)))
        # 0.9, 0.8 and 0.9 of it
        rows.append(row(method, "encoder", "embedding", (90.0, 160.0, 270.0)[i]))
        rows += [row(method, method, "torch", 150.0), row(method, method, "ort", 50.0)]
    assert "| M | 224 | 100 … 300 | 2.00 | 0.90 | 1.50 | 0.75 | 0.50 | 0.50 | 0.25 | 0.17 |" in families.families(rows)
