"""How well each method points on the embedded model's quality set: read from the record that came with the package."""

import json
from pathlib import Path

# written by `python benchmarks/quality.py --record`
RECORD = Path(__file__).parents[1] / "embedded" / "quality.json"


def embedded_quality() -> dict[str, dict[str, float]]:
    """{method, or "method (recommended)": {"pointing", "miou", "auc"}}, each 0 … 1; what they are is in `benchmarks/quality.py`."""
    found: dict[str, dict[str, float]] = json.loads(RECORD.read_text(encoding="utf-8"))["methods"]
    return found
