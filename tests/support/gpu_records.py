"""Records of the GPU script that are made up, of a GPU that does not exist."""

from pathlib import Path
from typing import Any

from gpu_parts.job import written

HEAD = {"run": "20300102-030405", "device": "made-up GPU", "capability": "9.0", "driver": "1.2", "torch": "t", "triton": "tt", "cuda": "c",
        "python": "p", "commit": "abc", "code": "x", "quick": False, "seconds": 1.0, "finished": True, "good": True,
        "left_out": []}  # fmt: skip
PLAN = {"attention": "triton", "norm": "torch"}
Row = dict[str, Any]


def timed(contender: str, ms: float, config: str = "B/16 448 b1", **more: Any) -> Row:
    return {"config": config, "model": "B/16", "size": 448, "batch": 1, "contender": contender, "dtype": "float16", "ms": ms,
            "ms_p20": ms - 0.01, "ms_p80": ms + 0.01, "error": 1e-3, **more}  # fmt: skip


def write(folder: Path, part: str, rows: list[Row], **more: Any) -> None:
    """One part's record, in a machine's folder of results."""
    (folder / "gpu").mkdir(parents=True, exist_ok=True)
    (folder / "gpu" / f"{part}.json").write_text(written({"part": part, **HEAD, **more, "rows": rows}), encoding="utf-8")


GATE = [
    {"op": "cosine", "case": "one text", "dtype": "float16", "error": 1e-4, "torch_error": 2e-4, "max_error": 3e-4, "allowed": 5e-4,
     "problems": [], "skipped": "", "large": False},
    {"op": "self_self_step", "case": "unit N=17 d=16", "dtype": "bfloat16", "error": 0.5, "torch_error": 0.1, "max_error": 0.5,
     "allowed": 0.2, "problems": ["output 0: error 5.00e-01 is over 2.00e-01, 2 x PyTorch's own 1.00e-01 and half an ulp"], "skipped": "",
     "large": False},
]  # fmt: skip
