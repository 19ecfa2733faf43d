"""Each method's results on the embedded model's quality set, from the record of `python benchmarks/quality.py --record`."""

import json

from fastloc.embedded import QUALITY


def embedded_quality() -> dict[str, dict[str, float]]:
    """{method, or "method (recommended)": {"pointing", "miou", "auc"}}, each 0 … 1; `benchmarks/quality.py` defines them."""
    found: dict[str, dict[str, float]] = json.loads(QUALITY.read_text(encoding="utf-8"))["methods"]
    return found
