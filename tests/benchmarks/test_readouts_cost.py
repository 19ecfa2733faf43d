"""The table of what read-outs cost: with the memory of the step alone where the record has it."""

from doc_tables.readouts_cost import cost_table
from readouts import row_of


def test_the_table_has_the_memory_of_the_step_alone() -> None:
    before, now = {"ms": 2.0, "cpu_ms": 1.9, "mb": 60.0, "own_mb": 40.0}, {"ms": 1.0, "cpu_ms": 0.9, "mb": 30.0, "own_mb": 10.4}
    rounds = [[{**side, "ms": side["ms"] * each} for side in (before, now)] for each in (1, 2, 3)]
    row = row_of("1080p", "picture", "maps", rounds)
    head = {"against": "aaaa", "commit": "bbbb", "versions": {"numpy": "2"}, "rounds": 3, "machine": "m", "load_before": 0.1}
    part = {**head, "repeats": {"12 Mpx": 3, "1080p": 15}, "day": "2026-01-01", "rows": [row]}
    made = cost_table({"parts": {"readouts": part}})
    assert "| MB | MB now | own MB | own MB now |" in made
    assert "| 4.0 (2.0 … 6.0) | 2.0 (1.0 … 3.0) | 2.0 (2.0 … 2.0) | 60 | 30 | 40 | 10 |" in made
    assert "own MB: what the step adds" in made
    assert "each a process of 3 results of 12 Mpx or 15 results of 1080p on one thread" in made
    # of an older record
    for name in ("before_own_mb", "now_own_mb"):
        del row[name]
    made = cost_table({"parts": {"readouts": part}})
    assert "own" not in made and "| 60 | 30 |\n" in made
