"""Small CLIP ResNets with non-degenerate weights, BatchNorm's statistics included."""

from functools import cache
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor

from fastloc.bench.peers.seeded import seeded_array, seeded_pixels, seeded_texts
from fastloc.checkpoints import resnet_spec, resnet_weights
from fastloc.checkpoints.resnet_weights import ResNetWeights

EMBED, IMAGE, STRIDE = 24, 64, 32
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
# last part of a name -> (centre, deviation) of a BatchNorm's four
_NORM = {"running_var": (1.0, 0.3), "running_mean": (0.0, 0.3), "weight": (1.0, 0.3), "bias": (0.1, 0.2)}


def config(**vision: Any) -> dict[str, Any]:
    """An open_clip model configuration: 128 channels in the pool, eight heads, trained on a 2x2 grid."""
    tower = {"image_size": IMAGE, "layers": [1, 2, 1, 1], "width": 4, "head_width": 16, "patch_size": None}
    return {"embed_dim": EMBED, "vision_cfg": tower | vision, "text_cfg": TEXT}


def network(seed: int = 0, **vision: Any) -> ModifiedResNet:
    """open_clip's own module with seeded weights, in eval mode."""
    shape = config(**vision)["vision_cfg"]
    heads = shape["width"] * 32 // shape["head_width"]
    module = ModifiedResNet(shape["layers"], EMBED, heads, shape["image_size"], shape["width"]).eval().requires_grad_(False)
    module.load_state_dict({name: _tensor(name, each, seed) for name, each in module.state_dict().items()})
    return module


@cache
def tower(dtype: torch.dtype = torch.float64, seed: int = 0, **vision: Any) -> ResNetWeights:
    """The weights of `network`, as they are read: BatchNorm is not folded."""
    state = {f"visual.{name}": each for name, each in network(seed, **vision).state_dict().items()}
    return resnet_weights.from_open_clip(state, resnet_spec.from_open_clip(config(**vision))).to(dtype=dtype)


def pixels(batch: int, grid: tuple[int, int], dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """[batch, 3, H, W] for this grid."""
    return torch.from_numpy(seeded_pixels((batch, 3, grid[0] * STRIDE, grid[1] * STRIDE), seed)).to(dtype)


def texts(count: int, seed: int = 0) -> Tensor:
    """[count, EMBED], unit length, float64."""
    return torch.nn.functional.normalize(torch.from_numpy(seeded_texts(count, EMBED, seed)).double(), dim=-1)


def _tensor(name: str, like: Tensor, seed: int) -> Tensor:
    last = name.rpartition(".")[2]
    if like.ndim == 0:
        return like
    if like.ndim == 1:
        spread = _NORM[last]
    elif last == "positional_embedding":
        spread = (0.0, 0.5)
    else:
        # ReLU halves what it is given
        spread = (0.0, (2 / like[0].numel()) ** 0.5)
    return torch.from_numpy(seeded_array(name, tuple(like.shape), seed, *spread))
