"""transformers' config.json of a CLIP, MetaCLIP 2, SigLIP, SigLIP 2 or TIPSv2 as a model configuration of open_clip's form.

A missing field takes the default of its class (transformers' configuration_*.py), a row of a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastloc.checkpoints.config_schema import CONTEXT, LAYERS, PATCH, SIDE, VOCABULARY, WIDTH
from fastloc.errors import FastlocError, ModelError, unknown
from fastloc.imaging.geometry import both_sides
from fastloc.utils.schema import convert, count, number, one_of, shown

__all__ = ["CLASSES", "Class", "class_of", "model_config"]

Sides = int | tuple[int, int]
# hidden_act -> the name that towers have for it; SigLIP's is GELU by its tanh form
_ACTIVATIONS = {
    "quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_python": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh",
    "relu": "relu",
}  # fmt: skip
# the names of these activations in a text_cfg
_TEXT_ACTIVATIONS: dict[str, dict[str, Any]] = {
    "gelu_tanh": {"act_kwargs": {"approximate": "tanh"}}, "relu": {"activation": "relu"},
}  # fmt: skip
# the wrong ids in configurations of early CLIPs, whose end of text is the highest id
_OLD_END = 2


@dataclass
class _Vision:
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    patch_size: Sides
    hidden_act: str
    layer_norm_eps: float
    intermediate_size: int = 0
    image_size: Sides = 0
    num_channels: int = 3
    vision_use_head: bool = True
    # SigLIP 2's field in place of image_size
    num_patches: int = 0
    # TIPSv2's field in place of intermediate_size
    mlp_ratio: float = 0.0
    use_swiglu_ffn: bool = False
    num_register_tokens: int = 0
    qkv_bias: bool = True

    def __post_init__(self) -> None:
        for name, most in (("hidden_size", WIDTH), ("num_hidden_layers", LAYERS), ("num_attention_heads", WIDTH)):
            count(name, getattr(self, name), most)
        for side in both_sides(self.patch_size):
            count("patch_size", side, PATCH)
        count("num_patches", self.num_patches, SIDE * SIDE, 0)
        count("intermediate_size", self.intermediate_size, 16 * WIDTH, 0)
        number("layer_norm_eps", self.layer_norm_eps, 0, 1)
        number("mlp_ratio", self.mlp_ratio, 0, 64)
        one_of("hidden_act", self.hidden_act, [*_ACTIVATIONS][:-1])
        if self.num_channels != 3:
            raise FastlocError(f"num_channels must be 3, red, green and blue, got {shown(self.num_channels)}")
        if self.num_patches and math.isqrt(self.num_patches) ** 2 != self.num_patches:
            raise FastlocError(f"num_patches must be a square number, got {self.num_patches}")
        if not self.vision_use_head:
            raise FastlocError("vision_use_head must be true, since without it there is no image embedding, got false")


@dataclass
class _Text:
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    max_position_embeddings: int
    hidden_act: str
    layer_norm_eps: float
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    projection_size: int | None = None
    scale_sqrt_depth: bool = True

    def __post_init__(self) -> None:
        for name, most in (
            ("hidden_size", WIDTH), ("intermediate_size", 16 * WIDTH), ("num_hidden_layers", LAYERS), ("num_attention_heads", WIDTH),
            ("vocab_size", VOCABULARY), ("max_position_embeddings", CONTEXT),
        ):  # fmt: skip
            count(name, getattr(self, name), most)
        number("layer_norm_eps", self.layer_norm_eps, 0, 1)
        one_of("hidden_act", self.hidden_act, _ACTIVATIONS)
        if self.hidden_size % self.num_attention_heads:
            raise FastlocError(f"num_attention_heads must divide the hidden_size, {self.hidden_size}, got {self.num_attention_heads}")


@dataclass(frozen=True)
class Class:
    """A class of transformers.

    Attributes:
        name: its name. layouts: the naming layouts of its files, see `transformers_keys`.
        vision, text: defaults of its configuration.
        mean, std, interpolation: of pixels, if there is no processor's file.
        clean: the cleaning of texts by tokenizer class; None: as in CLIP's own tokenizer.
        recommended: see `fastloc.checkpoints.loading.Source`.
    """

    name: str
    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    clean: Mapping[str, str] = field(default_factory=dict)
    recommended: Mapping[str, Any] = field(default_factory=dict)


_BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_VISION = {**_BASE, "patch_size": 32, "image_size": 224, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_CLIP_TEXT = {
    "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8, "vocab_size": 49408,
    "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49407,
}  # fmt: skip
_SIGLIP_ACT = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
_SIGLIP_TEXT = {**_BASE, **_SIGLIP_ACT, "vocab_size": 32000, "max_position_embeddings": 64}
_TIPS_VISION = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "mlp_ratio": 4, "patch_size": 14, "image_size": 448,
    "hidden_act": "gelu", "layer_norm_eps": 1e-6, "num_register_tokens": 1,
}  # fmt: skip
_OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF, _RAW = ((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3)
# SigLIP's tokenizer removes punctuation itself, SigLIP 2's lowercases texts
_SIGLIP_CLEAN = {"SiglipTokenizer": "canonicalize", "": "lower"}
# a NaFlex takes a picture at its own ratio: the size rule of its processor, and its resize of positions
_NAFLEX = {"fit": "naflex", "position": "bilinear-antialias"}
# model_type -> class
CLASSES = {
    "clip": Class("CLIPModel", _CLIP_VISION, _CLIP_TEXT, *_OPENAI),
    "metaclip_2": Class("MetaClip2Model", _CLIP_VISION, _CLIP_TEXT, *_OPENAI, clean={"": "whitespace"}),
    "siglip": Class(
        "SiglipModel", {**_BASE, **_SIGLIP_ACT, "patch_size": 16, "image_size": 224}, _SIGLIP_TEXT, *_HALF, clean=_SIGLIP_CLEAN
    ),
    "siglip2": Class(
        "Siglip2Model", {**_BASE, **_SIGLIP_ACT, "patch_size": 16, "num_patches": 256}, _SIGLIP_TEXT, *_HALF, "bilinear", _SIGLIP_CLEAN,
        _NAFLEX,
    ),
    "tipsv2": Class(
        "Tipsv2Model", _TIPS_VISION, {**_SIGLIP_TEXT, "hidden_act": "relu", "layer_norm_eps": 1e-5, "pad_token_id": 0}, *_RAW, "bilinear",
        {"": "lower"},
    ),
}  # fmt: skip


def class_of(content: Mapping[str, Any], path: str) -> Class:
    """The class of a config.json. Raises ModelError for any other class; `path` is the file's."""
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in CLASSES:
        raise ModelError(f"{path!r}: {unknown('model_type', shown(kind) if not isinstance(kind, str) else kind, CLASSES)}")
    return CLASSES[kind]


def model_config(content: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A model configuration with `embed_dim`, `vision_cfg` {"vit": …} and `text_cfg` out of a config.json; `path` is the file's.

    Raises:
        ModelError: another model, or a field that is missing, out of its range or contradicts another one.
    """
    found, damaged = class_of(content, path), f"model configuration {path!r} is damaged"
    vision = convert({**found.vision, **_part(content, "vision_config", damaged)}, _Vision, f"{damaged}: vision_config")
    text = convert({**found.text, **_part(content, "text_config", damaged)}, _Text, f"{damaged}: text_config")
    make = {"clip": _clip, "metaclip_2": _clip, "tipsv2": _tips}.get(content["model_type"], _siglip)
    made: dict[str, Any] = make(content, vision, text, damaged)
    return made


def _part(content: Mapping[str, Any], name: str, damaged: str) -> dict[str, Any]:
    """The fields of one tower. Old files have a second object for it, which takes precedence."""
    made: dict[str, Any] = {}
    for key in (name, f"{name}_dict"):
        part = content.get(key)
        if part is not None and not isinstance(part, dict):
            raise ModelError(f"{damaged} ({key} must be an object, got {type(part).__name__})")
        made |= {each: value for each, value in (part or {}).items() if value is not None}
    return made


def _clip(content: Mapping[str, Any], vision: _Vision, text: _Text, damaged: str) -> dict[str, Any]:
    embed = content.get("projection_dim")
    embed = 512 if embed is None else embed
    if type(embed) is not int or not 1 <= embed <= WIDTH:
        raise ModelError(f"{damaged} (projection_dim must be a whole number from 1 to {WIDTH}, got {shown(embed)})")
    end = text.eos_token_id if isinstance(text.eos_token_id, int) else None
    # CLIP's end of text has the highest id, which the towers look for if a file has no valid id
    highest = content["model_type"] == "clip" and (end is None or end in (_OLD_END, text.vocab_size - 1))
    pool = {"pool_type": "argmax"} if highest else {"pool_type": "eos", "eos_id": _OLD_END if end is None else end}
    vit = _vit(vision, vision.intermediate_size)
    return {"embed_dim": embed, **_quick(text), "vision_cfg": {"vit": vit}, "text_cfg": {**_text(text), **pool}}


def _siglip(content: Mapping[str, Any], vision: _Vision, text: _Text, damaged: str) -> dict[str, Any]:
    embed = text.projection_size or text.hidden_size
    if embed != vision.hidden_size:
        raise ModelError(
            f"{damaged} (projection_size of text_config must be the hidden_size of vision_config, {vision.hidden_size}, got {embed})"
        )
    pool = {"class_token": False, "ln_pre": False, "pool": "attn", "pool_heads": vision.num_attention_heads}
    return {
        "embed_dim": embed, "custom_text": True, "init_logit_bias": -10, **_quick(text),
        "vision_cfg": {"vit": {**_vit(vision, vision.intermediate_size), **pool}},
        "text_cfg": {**_text(text), "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    }  # fmt: skip


def _tips(content: Mapping[str, Any], vision: _Vision, text: _Text, damaged: str) -> dict[str, Any]:
    if text.hidden_size != vision.hidden_size:
        raise ModelError(
            f"{damaged} (hidden_size of text_config must be that of vision_config, {vision.hidden_size}, got {text.hidden_size})"
        )
    if not vision.qkv_bias:
        raise ModelError(f"{damaged} (qkv_bias must be true, got false)")
    hidden, more = int(vision.hidden_size * vision.mlp_ratio), {}
    if vision.use_swiglu_ffn:
        # two thirds, up to a multiple of 8
        hidden, more = (int(hidden * 2 / 3) + 7) // 8 * 8, {"activation": "silu", "gated": True}
    vit = {**_vit(vision, hidden), **more, "registers": vision.num_register_tokens, "layer_scale": True, "ln_pre": False}
    return {
        "embed_dim": vision.hidden_size, "custom_text": True, **_quick(text), "vision_cfg": {"vit": vit},
        "text_cfg": {
            **_text(text), "no_causal_mask": True, "use_pad_mask": True, "pool_type": "mean", "pad_id": text.pad_token_id or 0,
            "proj_type": "none", "positions": "sinusoidal", "scale_embedding": text.scale_sqrt_depth,
        },
    }  # fmt: skip


def _vit(vision: _Vision, hidden: int) -> dict[str, Any]:
    patch = vision.patch_size
    image: Any = vision.image_size
    if vision.num_patches:
        rows, columns = both_sides(patch)
        image = [math.isqrt(vision.num_patches) * side for side in (rows, columns)]
    return {
        "width": vision.hidden_size, "layers": vision.num_hidden_layers, "heads": vision.num_attention_heads, "patch": patch,
        "image": image, "hidden": hidden, "activation": _ACTIVATIONS[vision.hidden_act], "norm_eps": vision.layer_norm_eps,
    }  # fmt: skip


def _quick(text: _Text) -> dict[str, bool]:
    # read only for the text tower: the image tower has a field
    return {"quick_gelu": text.hidden_act == "quick_gelu"}


def _text(text: _Text) -> dict[str, Any]:
    more = _TEXT_ACTIVATIONS.get(_ACTIVATIONS[text.hidden_act], {})
    return {
        "context_length": text.max_position_embeddings, "vocab_size": text.vocab_size, "width": text.hidden_size,
        "heads": text.num_attention_heads, "layers": text.num_hidden_layers,
        # half a channel is added, so that the product is never rounded below the size
        "mlp_ratio": (text.intermediate_size + 0.5) / text.hidden_size, "norm_kwargs": {"eps": text.layer_norm_eps}, **more,
    }  # fmt: skip
