"""Small image towers with non-degenerate weights, in every shape that open_clip's configurations ask for."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from fastloc.bench.peers.seeded import seeded_array, seeded_pixels, seeded_state, seeded_texts, vision_shapes
from fastloc.checkpoints import vit_layouts, vit_spec
from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import RECIPES

EMBED = 24
# the methods that compare patch features with the texts; `fastloc.reference.scores` states the others too
PATCHES = [name for name, row in RECIPES.items() if row.reads == "patches"]
# seven blocks leave one before the six that GEM and CLIP Surgery change
LAYERS, HEADS, PATCH, TRAINED = 7, 4, 8, (4, 4)


def config(*, scale: bool = False, ln_pre: bool = True, activation: str = "gelu", pool: str = "tok", **vision: Any) -> dict[str, Any]:
    """An open_clip model configuration; pool "avg-norm" is the mean of the patches before the last LayerNorm."""
    tower = {
        "image_size": TRAINED[0] * PATCH, "layers": LAYERS, "width": 32, "head_width": 32 // HEADS, "patch_size": PATCH, "mlp_ratio": 2.5,
        "ls_init_value": 0.5 if scale else None, "no_ln_pre": not ln_pre, "pool_type": pool.removesuffix("-norm"),
        "final_ln_after_pool": pool.endswith("-norm"), "act_kwargs": {"approximate": "tanh"} if activation == "gelu_tanh" else None,
    }
    return {"embed_dim": EMBED, "quick_gelu": activation == "quick_gelu", "vision_cfg": tower | vision}


def state(seed: int = 0, **kind: Any) -> dict[str, Tensor]:
    """The image tower of `config(**kind)` as open_clip's state dict, float32."""
    return {name: torch.from_numpy(array) for name, array in seeded_state(vision_shapes(config(**kind)), seed).items()}


@cache
def tower(dtype: torch.dtype = torch.float64, seed: int = 0, **kind: Any) -> Weights:
    """The weights of `config(**kind)`."""
    return vit_layouts.from_open_clip(state(seed, **kind), vit_spec.from_open_clip(config(**kind))).to(dtype=dtype)


def pixels(
    batch: int, grid: tuple[int, int], dtype: torch.dtype = torch.float64, seed: int = 0, patch: tuple[int, int] = (PATCH, PATCH)
) -> Tensor:
    """[batch, 3, H, W] for this grid of patches."""
    return torch.from_numpy(seeded_pixels((batch, 3, grid[0] * patch[0], grid[1] * patch[1]), seed)).to(dtype)


def texts(count: int, seed: int = 0) -> Tensor:
    """[count, EMBED], unit length, float64."""
    return torch.nn.functional.normalize(torch.from_numpy(seeded_texts(count, EMBED, seed)).double(), dim=-1)


def array(name: str, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Seeded uniform float64 numbers between low and high."""
    middle, spread = (low + high) / 2, (high - low) / 12**0.5
    return torch.from_numpy(seeded_array(name, shape, 0, middle, spread)).double()


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest reference value."""
    assert found.shape == expected.shape, f"{tuple(found.shape)} instead of {tuple(expected.shape)}"
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())
