"""Narrow hierarchical towers with seeded weights that leave no part without effect, with every kind of head, and folders of them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch import Tensor

from fastloc.bench.peers.seeded import seeded_array, seeded_pixels, seeded_texts
from fastloc.checkpoints.hierarchical import convnext, fastvit, swin
from fastloc.checkpoints.hierarchical import spec as specs
from fastloc.checkpoints.hierarchical import weights as hierarchical_weights
from fastloc.checkpoints.hierarchical.parts import LayerNorm, Linear
from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.hierarchical.take import Take
from fastloc.checkpoints.hierarchical.weights import Head, HierarchicalWeights
from fastloc.checkpoints.vit_spec import OPENAI_MEAN, OPENAI_STD

EMBED, STRIDE = 24, 32
# family -> (timm's name of its smallest, where the architecture stands, its key there, a narrow one in its place)
NARROW: dict[str, tuple[str, dict[str, Any], str, Any]] = {
    "FastViT": ("fastvit_mci0", fastvit._SIZES, "fastvit_mci0", fastvit.Arch((1, 1, 1, 2), (32, 64, 64, 128), 3, 1, (2, 3), False, True)),
    "ConvNeXt": ("convnext_tiny", convnext._SIZES, "tiny", convnext.Arch((1, 1, 2, 1), (32, 64, 96, 128))),
}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
# the real ones of open_clip: ConvNeXt, ConvNeXt "_d", Swin, FastViT, and a bias behind a norm
HEADS = ("norm of the mean", "norm of the mean, MLP", "norm of the cells", "plain", "norm of the cells, MLP")
# heads whose embedding is the mean of the cells' own
LINEAR = ("norm of the cells", "plain")


class Seeded(Take):
    """Gives seeded tensors of any name and shape: scales about 1, everything else about 0."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__({})
        self.seed = seed

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        centre, spread = (0.0, 0.3) if len(shape) == 1 else (0.0, (torch.Size(shape[1:]).numel()) ** -0.5)
        if len(shape) == 1 and ("weight" in name or "var" in name or "gamma" in name):
            centre = 1.0
        return torch.from_numpy(seeded_array(name, shape, self.seed, centre, spread)).double()


class Recorded(Seeded):
    """Keeps what it gives, in float32 under names with a prefix."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix, self.found = prefix, dict[str, Tensor]()

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        made = super().__call__(name, shape)
        if "gamma" in name:
            # branches are small beside what they are added to, as trained ones are: 8 bits are not magnified from block to block
            made = 0.2 * made
        self.found[self.prefix + name] = made.float().contiguous()
        return made


@contextmanager
def narrow_sizes(family: str) -> Iterator[dict[str, Any]]:
    """Make timm's smallest tower of a family in NARROW a narrow one, and yield its open_clip configuration."""
    name, sizes, key, arch = NARROW[family]
    head = {"timm_pool": "avg", "timm_proj": None} if family == "FastViT" else {}
    with patch.dict(sizes, {key: arch}):
        yield config(timm_model_name=name, **head)


def folder(path: Path, family: str) -> Path:
    """Write a narrow tower with a seeded text tower as open_clip writes a model; read it within `narrow_sizes(family)`."""
    import open_clip

    path.mkdir(parents=True, exist_ok=True)
    with narrow_sizes(family) as made:
        trunk, head = Recorded("visual.trunk."), Recorded("visual.head.")
        hierarchical_weights._taken(specs.from_open_clip(made), trunk, head)
    torch.manual_seed(0)
    text = open_clip.model._build_text_tower(EMBED, made["text_cfg"]).state_dict()
    state = {**trunk.found, **head.found, "logit_scale": torch.tensor(4.0)}
    state |= {key: tensor.contiguous() for key, tensor in text.items() if tensor.is_floating_point() and key != "attn_mask"}
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": made, "preprocess_cfg": {"mean": OPENAI_MEAN, "std": OPENAI_STD}}))
    save_file(state, path / "open_clip_model.safetensors")
    return path


def config(**vision: Any) -> dict[str, Any]:
    """An open_clip model configuration with timm's smallest ConvNeXt."""
    tower = {"timm_model_name": "convnext_tiny", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear", "image_size": 64}
    return {"embed_dim": EMBED, "vision_cfg": tower | vision, "text_cfg": TEXT}


@cache
def tower(head: str = "norm of the mean", seed: int = 0) -> HierarchicalWeights:
    """A narrow ConvNeXt in float64 with one of HEADS."""
    arch = replace(convnext.architecture("convnext_tiny"), depths=(1, 1, 2, 1), dims=(8, 12, 16, 20))
    take, channels = Seeded(seed), arch.channels
    norm = LayerNorm(take("norm.weight", (channels,)), take("norm.bias", (channels,)), 1e-6)
    hidden = Linear(take("fc1", (2 * EMBED, channels)), take("fc1.bias", (2 * EMBED,)))
    inner = 2 * EMBED if "MLP" in head else channels
    out = Linear(take("fc2", (EMBED, inner)), take("fc2.bias", (EMBED,)) if head == "plain" else None)
    made = Head(out, hidden if "MLP" in head else None, norm if "norm" in head else None, "cells" in head)
    spec = HierarchicalSpec("ConvNeXt", "convnext_tiny", arch, EMBED, (64, 64))
    return HierarchicalWeights(spec, convnext.trunk(arch, take), made)


@cache
def narrow(family: str) -> HierarchicalWeights:
    """A narrow tower of a family in float64; a FastViT's last stage has two blocks that attend."""
    if family == "ConvNeXt":
        return tower()
    take = Seeded(1)
    if family == "FastViT":
        arch: Any = fastvit.Arch((1, 1, 1, 2), (32, 32, 64, 64), 3, 1, (2, 3), layer_norm=False, stem_scales=True)
        trunk: Any = fastvit.trunk(arch, take)
    else:
        arch = swin.Arch((1, 2, 2, 1), (16, 32, 64, 128), (1, 2, 4, 8))
        trunk = swin.trunk(arch, take)
    norm = None if family == "FastViT" else LayerNorm(take("norm.weight", (arch.channels,)), take("norm.bias", (arch.channels,)), 1e-5)
    out = Linear(take("fc", (EMBED, arch.channels)), take("fc.bias", (EMBED,)))
    spec = HierarchicalSpec(family, "narrow", arch, EMBED, (64, 64))
    return HierarchicalWeights(spec, trunk, Head(out, None, norm, family == "Swin"))


def pixels(batch: int, grid: tuple[int, int], seed: int = 0) -> Tensor:
    """[batch, 3, H, W] for this grid of the last map, float64."""
    return torch.from_numpy(seeded_pixels((batch, 3, grid[0] * STRIDE, grid[1] * STRIDE), seed)).double()


def texts(count: int, seed: int = 0) -> Tensor:
    """[count, EMBED], unit length, float64."""
    return torch.nn.functional.normalize(torch.from_numpy(seeded_texts(count, EMBED, seed)).double(), dim=-1)
