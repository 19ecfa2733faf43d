"""The waterfall's steps: each adds one thing to the one before, and shows its effect on time, memory and accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """A way to run GEM. dtype: in place of the run's. settings: plan fields."""

    name: str
    backend: str
    dtype: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


_HALF = "float16"

STEPS: Mapping[str, tuple[Step, ...]] = {
    "cpu": (
        Step("official form", "official", "float32"),
        Step("restructured", "torch", "float32", {"attention": "bmm"}),
        Step("fused attention", "torch", "float32", {"attention": "sdpa"}),
        Step("exported, onnxruntime", "ort", "float32"),
        Step("8-bit products", "int8", "float32"),
    ),
    "cuda": (
        Step("official form", "official", "float32"),
        Step("float16", "official", _HALF),
        Step("restructured", "torch", _HALF, {"attention": "bmm"}),
        Step("fused attention", "torch", _HALF, {"attention": "sdpa"}),
        Step("CUDA graph", "graph", _HALF),
        Step("joint projection", "graph", _HALF, {"projection": "joint"}),
        Step("Triton attention", "graph", _HALF, {"projection": "joint", "attention": "triton"}),
        Step("all kernels, second stream", "triton", _HALF),
    ),
}
