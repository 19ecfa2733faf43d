"""Towers that train.py trains: the small CLIP that ships, a SigLIP and a Perception Encoder of its size, a FastViT for devices, and losses.

SigLIP (arXiv:2303.15343), PE-Core (arXiv:2504.13181) and FastViT (arXiv:2303.14189, in MobileCLIP's form) are timm's own modules, so a
trained file holds timm's names behind `visual.trunk.`; the text tower is that of the small CLIP in all of them.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import nn

from fastloc.embedded import CONFIG

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# the FastViT for devices, as `fastloc.checkpoints.hierarchical.described` reads it: two stages, so that a cell is 8 x 8 pixels. With the
# text tower it is a file of less than 2 MB in float16.
DEVICE: dict[str, Any] = {"depths": [2, 2], "dims": [48, 96], "ratio": 3, "attending": 1, "stem_scales": False}
# a branch's share in its block when a training starts: timm's 1e-5 suits long ones
_LAYER_SCALE = 0.3


def contrastive_loss(logits: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in both directions, the target spread evenly over the positives. logits, positive: [images, captions]."""
    target = positive.float()
    by_image = F.cross_entropy(logits, target / target.sum(1, keepdim=True))
    by_text = F.cross_entropy(logits.T, (target / target.sum(0, keepdim=True)).T)
    return (by_image + by_text) / 2


def sigmoid_loss(logits: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(z logit) with z = 1 for a true pair and -1 for another, the sum over pairs per picture (SigLIP, algorithm 1)."""
    return -F.logsigmoid(torch.where(positive, logits, -logits)).sum() / len(logits)


class Trunk(nn.Module):
    """open_clip's name for a module of timm: its tensors are `visual.trunk.…`."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed pixels [B,3,H,W] as [B,E]."""
        return self.trunk(pixels)


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    vision = config["vision_cfg"]
    return {
        "img_size": vision["image_size"], "patch_size": vision["patch_size"], "embed_dim": vision["width"], "depth": vision["layers"],
        "num_heads": vision["width"] // vision["head_width"],
    }  # fmt: skip


def siglip(config: dict[str, Any], drop: float) -> nn.Module:
    """SigLIP's tower: no class token, a learned position for every patch, GELU by tanh, a MAP head and no projection."""
    from timm.models.vision_transformer import VisionTransformer

    options: dict[str, Any] = {"class_token": False, "global_pool": "map", "num_classes": 0, "act_layer": "gelu_tanh"}
    return Trunk(VisionTransformer(**_shape(config), **options, patch_drop_rate=drop))


def pe(config: dict[str, Any], drop: float) -> nn.Module:
    """PE-Core's tower: absolute position and RoPE, norm_pre, a pool of 8 heads over class token and patches, a bare projection."""
    from timm.models.eva import Eva

    shape = _shape(config)
    side = shape["img_size"] // shape["patch_size"]
    trunk = Eva(
        **shape, global_pool="map", attn_type="rope", use_pre_transformer_norm=True, use_rot_pos_emb=True, ref_feat_shape=(side, side),
        rope_grid_offset=1.0, rope_grid_indexing="xy", attn_pool_num_heads=8, attn_pool_mlp_ratio=4.0,
        norm_layer=partial(nn.LayerNorm, eps=1e-5), num_classes=config["embed_dim"], patch_drop_rate=drop,
    )  # fmt: skip
    trunk.head = nn.Linear(shape["embed_dim"], config["embed_dim"], bias=False)
    nn.init.normal_(trunk.head.weight, std=shape["embed_dim"] ** -0.5)
    return Trunk(trunk)


def fastvit(config: dict[str, Any], drop: float) -> nn.Module:
    """A narrow FastViT-MCI: a stem of stride 4, RepMixer blocks, a step to stride 8, attention blocks, a convolution and a linear layer."""
    from timm.models.fastvit import FastVit, RepConditionalPosEnc

    stages, attending = len(DEVICE["dims"]), DEVICE["attending"]
    trunk = FastVit(
        layers=tuple(DEVICE["depths"]), embed_dims=tuple(DEVICE["dims"]), mlp_ratios=(DEVICE["ratio"],) * stages,
        token_mixers=("repmixer",) * (stages - attending) + ("attention",) * attending, downsamples=(False,) + (True,) * (stages - 1),
        se_downsamples=(False,) * stages, lkc_use_act=True, stem_use_scale_branch=DEVICE["stem_scales"],
        pos_embs=(None,) * (stages - attending) + (partial(RepConditionalPosEnc, spatial_shape=(7, 7)),) * attending,
        layer_scale_init_value=_LAYER_SCALE, num_classes=config["embed_dim"],
    )  # fmt: skip
    for module in trunk.modules():
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    return Trunk(trunk)


@dataclass(frozen=True)
class Tower:
    """A row of TOWERS: the image module (None: open_clip's own), pixels, loss, and where the logits begin.

    distilled: it learns the embedded CLIP's own maps and keeps its text tower, see `embedded_model.distil`.
    """

    build: Callable[[dict[str, Any], float], nn.Module] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    scale: float = 1 / 0.07
    bias: float | None = None
    # learning rate of scale and bias, in that of the weights: a short run does not move them far enough otherwise
    pace: float = 1.0
    # how it differs from a CLIP's tower, as fields of fastloc.checkpoints.vit_spec.ModelSpec
    fields: tuple[tuple[str, Any], ...] = ()
    distilled: bool = False


TOWERS = {
    "clip": Tower(None, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, contrastive_loss),
    "siglip": Tower(
        siglip, *HALF, sigmoid_loss, 10.0, -10.0, 5.0,
        (("activation", "gelu_tanh"), ("class_token", False), ("norm_eps", 1e-6), ("pool", "attn"), ("pool_heads", 6), ("ln_pre", False)),
    ),
    "pe": Tower(
        pe, *HALF, contrastive_loss, pace=5.0,
        fields=(("pool", "attn"), ("pool_heads", 8), ("rope", {"first": "columns", "offset": 1.0})),
    ),
    "device": Tower(fastvit, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, contrastive_loss, distilled=True),
}  # fmt: skip


def config() -> dict[str, Any]:
    """The embedded model's architecture, as open_clip_config.json has it."""
    return json.loads(CONFIG.read_text(encoding="utf-8"))["model_cfg"]


def build(row: Tower, words: int, drop: float) -> open_clip.CLIP:
    """The whole model, random: `words` rows of token embeddings, patches dropped at the rate `drop` while it trains."""
    shape = config()
    text = {**shape["text_cfg"], "vocab_size": words}
    vision = {**shape["vision_cfg"], "patch_dropout": drop}
    start = {"init_logit_scale": math.log(row.scale), "init_logit_bias": row.bias}
    model = open_clip.CLIP(embed_dim=shape["embed_dim"], vision_cfg=vision, text_cfg=text, **start)
    if row.build is not None:
        model.visual = row.build(shape, drop)
    return model


def set_drop(visual: nn.Module, share: float) -> None:
    """Drop this share of a picture's patches from here on; a tower of convolutions keeps them all."""
    trunk = getattr(visual, "trunk", None)
    dropping = visual.patch_dropout if trunk is None else getattr(trunk, "patch_drop", None)
    if dropping is not None:
        dropping.prob = share


def embedded_text(model: open_clip.CLIP, token_ids: torch.Tensor) -> None:
    """Give the model the text tower of the embedded CLIP, for the rows that `token_ids` names."""
    from safetensors.torch import load_file

    from fastloc.embedded import MODEL

    tensors = {key: value.float() for key, value in load_file(MODEL).items() if not key.startswith(("visual.", "logit_"))}
    kept = tensors.pop("token_ids")
    if not torch.equal(kept.long(), token_ids.long()):
        raise ValueError("token_ids must be those of the embedded model, got others; train without --embedded-text")
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    wrong = [*unexpected, *(key for key in missing if not key.startswith(("visual.", "logit_")))]
    if wrong:
        raise ValueError(f"the embedded model's text tower does not fit: {', '.join(wrong)}")
