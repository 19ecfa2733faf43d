"""Write tests/goldens/maskclip_*.npz: answers of MaskCLIP's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/maskclip.py CHECKOUT [-o folder]

Its VisionTransformer, MaskClipHead and EncoderDecoder are run as they are, up to the shares at the picture's size. mmcv, of which they
take base classes, an attention and an MLP, is stood in for by the modules below. What surprises in them, all of it kept in the answers:

- the softmax over the classes is one of cosines that nothing scales: shares of a few classes are nearly even, and their argmax is meant;
- maps are made bilinearly twice, to the input and from there to the picture;
- the published configuration has an exact GELU and norms with an epsilon of 1e-6, though its weights were trained with neither;
- positions are resized where the number of patches is another than the trained one: as many patches in another shape keep the table;
- an input that the patch does not divide is filled up with zeros, right and below.

Each file holds `patches` [B, P, E] (projected, not of unit length), `cosines` [B, T, h, w], `texts` [T, E] and `shares` [B, T, H, W] at
the picture's size, every `step`-th pixel.
"""

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from seeded_checkout import EMBED, Checkout, checkout, config, pixels, state, stub, texts
from torch import Tensor, nn

# norm_kwargs and the activation are those of configs/_base_/models/maskclip_vit16.py
CONFIG = config(64, 16, 4, quick=False, norm_kwargs={"eps": 1e-6})


class BaseModule(nn.Module):
    """mmcv's, which keeps what it would initialise."""

    def __init__(self, init_cfg: Any = None) -> None:
        super().__init__()
        self.init_cfg = init_cfg


class MultiheadAttention(nn.Module):
    """mmcv's: PyTorch's attention, and the stream added to it."""

    def __init__(self, embed_dims: int, num_heads: int, bias: bool = True, **_: Any) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, bias=bias, batch_first=True)

    def forward(self, y: Tensor, identity: Tensor) -> Tensor:
        seen: Tensor = self.attn(y, y, y, need_weights=False)[0]
        return identity + seen


class FFN(nn.Module):
    """mmcv's: an MLP, and the stream added to it."""

    def __init__(self, embed_dims: int, feedforward_channels: int, **_: Any) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(embed_dims, feedforward_channels), nn.GELU())
        self.layers = nn.Sequential(first, nn.Linear(feedforward_channels, embed_dims))

    def forward(self, y: Tensor, identity: Tensor) -> Tensor:
        made: Tensor = self.layers(y)
        return identity + made


class Registry:
    """A registry that registers nothing."""

    def register_module(self, **_: Any) -> Callable[[Any], Any]:
        return lambda kind: kind


@dataclass(frozen=True)
class Case:
    """One golden. Sizes are (height, width)."""

    name: str
    size: tuple[int, int]
    picture: tuple[int, int]
    texts: int
    seed: int
    batch: int = 1
    step: int = 7


CASES = (
    Case("trained", (64, 64), (100, 90), 3, 0, batch=2),
    Case("wide", (48, 112), (60, 140), 2, 1),
    # as many patches as the trained grid has, in another shape
    Case("same_count", (32, 128), (40, 160), 4, 2),
)


def packages(checkout: Checkout) -> None:
    """mmcv, and as much of mmseg's packages as its three classes need."""
    passed = {"BaseModule": BaseModule, "ModuleList": nn.ModuleList, "auto_fp16": _undecorated, "force_fp32": _undecorated}
    norm = {"build_norm_layer": lambda cfg, width, postfix="": (f"ln{postfix}", nn.LayerNorm(width, eps=cfg.get("eps", 1e-5)))}
    conv = {"build_conv_layer": lambda cfg, **options: nn.Conv2d(**options)}
    both = {"to_2tuple": lambda value: value if isinstance(value, tuple) else (value, value)}
    stub("mmcv", "mmcv.utils", "mmcv.cnn", "mmcv.cnn.bricks", "mmcv.cnn.utils", "mmcv.cnn.utils.weight_init", **norm, **conv, **both)
    stub("mmcv.cnn.bricks.transformer", FFN=FFN, MultiheadAttention=MultiheadAttention)
    stub("mmcv.runner", "mmcv.runner.base_module", **passed)
    registries = {name: Registry() for name in ("BACKBONES", "HEADS", "SEGMENTORS")}
    stub("mmseg", "mmseg.core", "mmseg.utils", "mmseg.models.losses")
    stub("mmseg.models")
    stub("mmseg.models.builder", **registries)
    stub("mmseg.models.backbones", "mmseg.models.decode_heads", "mmseg.models.segmentors", "mmseg.models.utils", "mmseg.ops")
    for part in ("models", "models/backbones", "models/decode_heads", "models/segmentors", "models/utils", "ops"):
        importlib.import_module(f"mmseg.{part.replace('/', '.')}").__path__ = [str(checkout.folder / "mmseg" / part)]
    importlib.import_module("mmseg.ops").resize = importlib.import_module("mmseg.ops.wrappers").resize
    importlib.import_module("mmseg.models.utils").PatchEmbed = importlib.import_module("mmseg.models.utils.embed").PatchEmbed


def _undecorated(*_: Any, **__: Any) -> Callable[[Any], Any]:
    return lambda function: function


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The image tower's tensors under the names of tools/maskclip_utils/convert_clip_weights.py."""
    names = {
        "transformer.resblocks.": "layers.", "attn.": "attn.attn.", "ln_pre": "ln0", "ln_post": "ln1", "ln_": "ln",
        "conv1.": "patch_embed.projection.", "mlp.c_fc": "ffn.layers.0.0", "mlp.c_proj": "ffn.layers.1",
        "class_embedding": "cls_token", "positional_embedding": "pos_embed",
    }  # fmt: skip
    found = {}
    for key, each in weights.items():
        if key.startswith("visual.") and key != "visual.proj":
            key = key.removeprefix("visual.")
            for old, new in names.items():
                key = key.replace(old, new)
            found[key] = each.reshape(1, 1, -1) if key == "cls_token" else each[None] if key == "pos_embed" else each
    return found


def answer(case: Case, backbone: Any, head: Any, segmentor: Any) -> dict[str, Any]:
    vision, weights, words = CONFIG["vision_cfg"], state(CONFIG, case.seed), texts(case.texts, case.seed)
    side, width = vision["image_size"], vision["width"]
    tower = backbone.VisionTransformer(
        img_size=(side, side), patch_size=vision["patch_size"], patch_bias=False, embed_dims=width, num_layers=vision["layers"],
        num_heads=width // 64, norm_cfg={"type": "LN", "eps": 1e-6}, pre_norm=True, final_norm=True, return_qkv=True,
    ).double()  # fmt: skip
    tower.load_state_dict(renamed(weights))
    # what it loads from its two files
    head.torch.load = lambda path, **_: words if path == "texts" else {"proj": {"weight": weights["visual.proj"].T}}
    reader = head.MaskClipHead(
        case.texts, EMBED, "texts", "projections", vit=True, in_channels=width, channels=0, num_classes=case.texts, dropout_ratio=0,
        in_index=-1, align_corners=False, loss_decode={},
    ).double()  # fmt: skip
    reader.text_embeddings = words
    model = segmentor.EncoderDecoder.__new__(segmentor.EncoderDecoder)
    nn.Module.__init__(model)
    model.backbone, model.decode_head, model.align_corners, model.test_cfg = tower, reader, False, type("Test", (), {"mode": "whole"})
    model.eval()
    inputs, height, across = pixels(case.batch, case.size, case.seed), case.size[0] // 16, case.size[1] // 16
    with torch.no_grad():
        values = tower(inputs)[-1][-1]
        shares = model.inference(inputs, [{"ori_shape": case.picture, "flip": False}] * case.batch, True)
        return {
            "patches": reader.proj(values).flatten(2).transpose(1, 2), "texts": words,
            "cosines": reader([[None, None, None, values]]).reshape(case.batch, case.texts, height, across),
            "shares": shares[:, :, :: case.step, :: case.step],
        }  # fmt: skip


def main(checkout: Checkout) -> None:
    packages(checkout)
    modules = map(partial(importlib.import_module), (
        "mmseg.models.backbones.vit", "mmseg.models.decode_heads.maskclip_head", "mmseg.models.segmentors.encoder_decoder",
    ))  # fmt: skip
    backbone, head, segmentor = modules
    for case in CASES:
        checkout.write(f"maskclip_{case.name}", asdict(case) | {"model": CONFIG}, answer(case, backbone, head, segmentor))


if __name__ == "__main__":
    main(checkout("chongzhou96/MaskCLIP", __doc__))
