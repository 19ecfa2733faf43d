"""Seeded towers, inputs and exact answers, alike on every machine, and what to do without where a kernel is wrong."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fastloc.bench.peers.seeded import seeded_pixels, seeded_state, seeded_texts, vision_shapes
from fastloc.checkpoints import vit_layouts, vit_spec
from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import Recipe
from fastloc.reference import scores as literal
from gpu_parts import families
from gpu_parts.job import Job, Row

Size = tuple[int, int]
# open_clip's configurations of OpenAI's models, and one for machines that are slow
CONFIGS: dict[str, dict[str, Any]] = {
    "B/16": {"embed_dim": 512, "quick_gelu": True, "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16}},
    "L/14": {"embed_dim": 768, "quick_gelu": True, "vision_cfg": {"image_size": 336, "layers": 24, "width": 1024, "patch_size": 14}},
    "tiny": {"embed_dim": 24, "quick_gelu": True,
             "vision_cfg": {"image_size": 32, "layers": 7, "width": 32, "head_width": 16, "patch_size": 8, "mlp_ratio": 2.0}},
}  # fmt: skip
TEXTS = 4


@cache
def seeded(name: str) -> Weights:
    """The image tower of a configuration, or a family's small one, float32 on the CPU."""
    if name in families.NAMES:
        # heads of 16 channels, which kernels take
        return families.tower(name, torch.float32, width=64, heads=4)
    config = CONFIGS[name]
    state = {key: torch.from_numpy(array) for key, array in seeded_state(vision_shapes(config), 0).items()}
    return vit_layouts.from_open_clip(state, vit_spec.from_open_clip(config))


@cache
def tower(name: str, device: torch.device, dtype: str) -> Any:
    """A `fastloc.engine.vit_engine.Tower` of it."""
    from fastloc.engine.vit_engine import Tower

    return Tower(seeded(name), device, dtype)


@cache
def exact_weights(name: str, device: torch.device) -> Weights:
    return seeded(name).to(device, torch.float64)


def pixels(batch: int, size: Size, device: torch.device, seed: int = 0) -> Tensor:
    """Normalised pixels [B, 3, H, W], float32."""
    return torch.from_numpy(seeded_pixels((batch, 3, *size), seed)).to(device)


def drawn_pixels(batch: int, size: Size, device: torch.device, seed: int = 0) -> Tensor:
    """The same kind of pixels, drawn on the device: quick for large batches, and other numbers on every kind of device."""
    generator = torch.Generator(device).manual_seed(seed)
    blobs = 0.8 * torch.randn(batch, 3, -(-size[0] // 8), -(-size[1] // 8), generator=generator, device=device)
    noise = 0.6 * torch.randn(batch, 3, *size, generator=generator, device=device)
    return blobs.repeat_interleave(8, 2).repeat_interleave(8, 3)[..., : size[0], : size[1]] + noise


def texts(name: str, device: torch.device, count: int = TEXTS) -> Tensor:
    """Unit vectors [T, E], float32."""
    return torch.from_numpy(seeded_texts(count, seeded(name).spec.embed, 0)).to(device)


def exact(weights: Weights, pixels: Tensor, words: Tensor, recipe: Recipe) -> Tensor:
    """The similarity grids [B, T, h, w] of a recipe by `fastloc.reference.methods`, in the dtype of `weights`, image by image."""
    h, w = (side // step for side, step in zip(pixels.shape[-2:], weights.spec.patch, strict=True))
    words = words.to(weights.dtype)
    grids = []
    for image in pixels.to(weights.dtype)[:, None]:
        scores = literal.scores(weights, image, words, recipe)
        grids.append(scores.transpose(1, 2).reshape(1, len(words), h, w))
    return torch.cat(grids)


def distance(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖, a measure to compare two plans by; a NaN stays one."""
    wide = expected.double()
    return float((found.to(wide.device).double() - wide).norm() / wide.norm())


def off(found: Tensor, expected: Tensor) -> float:
    """The error of a measurement: the largest difference over the largest value of `expected`; a NaN stays one."""
    wide = expected.double()
    return float((found.to(wide.device).double() - wide).abs().max() / wide.abs().max())


def strict() -> None:
    """Float32 means float32: no TF32 in matrix products, which is PyTorch's default, nor in convolutions, which is not."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


# which plan field does without an op's kernel, and by what
_WITHOUT = {
    "inverse_norms": ("attention", "sdpa"), "self_self_step": ("attention", "sdpa"), "self_self_ensemble": ("attention", "sdpa"),
    "self_attention": ("attention", "sdpa"), "add_norm": ("norm", "torch"), "quick_gelu": ("activation", "torch"),
    "cosine": ("readout", "torch"), "heatmap": ("readout", "torch"), "label_map": ("readout", "torch"),
    "frame_patches": ("frames", "torch"),
}  # fmt: skip


def fallback(job: Job, dtype: str = "float16") -> tuple[dict[str, str], str]:
    """Plan settings that avoid every kernel which the gate found wrong in this dtype, and what to say of it in a row."""
    gate: Row | None = job.other("gate")
    if gate is None:
        return {}, "the gate has not run"
    bad = _problems(gate, dtype)
    incomplete = "the gate is incomplete" if gate.get("error") or gate["left_out"] else ""
    settings = {_WITHOUT[op][0]: _WITHOUT[op][1] for op in bad if op in _WITHOUT}
    problems = "; ".join(f"{op} is wrong ({problem[:80]})" for op, problem in bad.items())
    reason = f"{_named(settings)} because {problems}" if settings else ""
    return settings, "; ".join(filter(None, (reason, incomplete)))


def dangerous(job: Job, dtype: str = "float16") -> bool:
    """True if a wrong kernel of this dtype took the device with it, so that nothing after it would run."""
    gate: Row | None = job.other("gate")
    problems = _problems(gate, dtype).values() if gate else ()
    return any(word in problem for problem in problems for word in ("CUDA", "illegal", "ended with code"))


def _problems(gate: Row, dtype: str) -> dict[str, str]:
    """The first problem of each op in this dtype; integers and maps are judged once, in float32."""
    bad: dict[str, str] = {}
    for row in gate["rows"]:
        if row.get("problems") and row["dtype"] in (dtype, "float32"):
            bad.setdefault(row["op"], row["problems"][0])
    return bad


def _named(settings: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def possible(device: torch.device, weights: Weights, recipe: Recipe, batch: int, size: Size, settings: Mapping[str, str]) -> Any:
    """The plan for these settings, or None where they are impossible together."""
    from fastloc.engine.plan import PlanRequest
    from fastloc.engine.plan_options import choose
    from fastloc.errors import PlanError

    try:
        return choose(PlanRequest(device, weights.spec, recipe, batch, size), settings)
    except PlanError:
        return None


def brief(plan: Any) -> dict[str, str]:
    """A plan's fields, for a row."""
    from fastloc.engine.plan import FIELDS

    return {name: getattr(plan, name) for name in FIELDS}
