"""The README's five figures, each from the record of the page that it links to."""

import json
from pathlib import Path
from typing import Any

from doc_tables import bench
from doc_tables.markdown_table import markdown
from fastloc.bench.report import rows as reported
from fastloc.bench.report.words import times
from fastloc.embedded import QUALITY

HERE = Path(__file__).resolve().parents[1]
RECORDS, RESULTS = HERE / "records", HERE / "results"
# the measurement that speed is quoted of
MODEL, SIZE, PEER = "ViT-B-16", 448, "gem_torch"
Record = dict[str, Any]


def headline_table(_: Record) -> str:
    """Quality, speed, memory and the exported file, a line each."""
    quality, parity, presence = (_read(path) for path in (QUALITY, RECORDS / "onnx_parity.json", RECORDS / "presence.json"))
    best = max(quality["methods"], key=lambda name: quality["methods"][name]["pointing"])
    scores = {row["method"]: row["auc"] for row in presence["methods"]}
    rows = [
        ("the peak lies on the object, embedded model on drawn scenes",
         f"raw map {quality['methods']['itsm']['pointing']:.1%}, `{best}` {quality['methods'][best]['pointing']:.1%}",
         "docs/performance/quality.md"),
        ("the score tells present from absent texts, AUROC, same scenes", f"`{best}` {scores[best]:.2f}", "docs/performance/quality.md"),
        *_speed(),
        ("a float32 ONNX file against PyTorch, largest error of a cosine, all methods", _error(parity), "docs/performance/exported.md"),
    ]  # fmt: skip
    return markdown(("measured", "figure", "page"), [(measured, figure, f"[page]({page})") for measured, figure, page in rows])


def _speed() -> list[tuple[str, str, str]]:
    """GEM beside its official package, in the group in which both were measured in turns."""
    rows = [row for every in bench.machines(RESULTS).values() for row in every
            if row["suite"] == "peers" and row.get("method") == "gem" and (row.get("model"), row["height"]) == (MODEL, SIZE)]  # fmt: skip
    if not rows:
        return []
    newest = max(row["run"] for row in rows)
    mine = {row["contender"]: row for row in rows if row["run"] == newest and row["by"] == "fastloc"}
    device = next(iter(mine.values()))["device"]
    words = ", ".join(f"{name} {times(reported.speed_up(mine[name], PEER))} times" for name in ("torch", "ort", "int8") if name in mine)
    return [(f"GEM's speed over its official package, {MODEL} at {SIZE} px, {device}", words, "docs/performance/peers.md")]


def _error(parity: Record) -> str:
    found = [row["similarity"] for row in parity["rows"] if row["dtype"] == "float32"]
    return f"{max(found):.0e}"


def _read(path: Path) -> Record:
    content: Record = json.loads(path.read_text(encoding="utf-8"))
    return content
