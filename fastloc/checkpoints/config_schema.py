"""The schema of a model configuration from elsewhere (open_clip_config.json): the fields that fastloc reads, each with its range.

Other fields are ignored. A configuration is checked before any tensor of its sizes is made, and before a tokenizer gets its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fastloc.checkpoints.families.timm_towers import tower_fields
from fastloc.checkpoints.families.vit_schema import Vit
from fastloc.checkpoints.hierarchical.described import FastVit
from fastloc.errors import FastlocError, ModelError
from fastloc.imaging.geometry import FITS, both_sides
from fastloc.imaging.preprocess import INTERPOLATIONS
from fastloc.recipes import RECIPES, Recipe
from fastloc.recipes.presence import Calibration
from fastloc.recipes.schema import POSITION_MODES
from fastloc.text.cleaning import CLEANERS
from fastloc.utils.schema import convert, count, number, one_line, one_of, shown

__all__ = ["check", "outline", "parameters", "tokenizer_arguments"]

# largest sizes; the largest CLIPs there are have 48 blocks of 1,664 channels, and a vocabulary of 901,629
WIDTH, LAYERS, CONTEXT, VOCABULARY, SIDE, PATCH = 1 << 14, 256, 1 << 12, 1 << 20, 1 << 14, 1 << 10
# the bounds of a file's recommendation; a caller may set more
RECOMMENDED_SIDE, ITERATIONS = 1 << 12, 100
# the most parameters of a model made with random weights
MOST_PARAMETERS = 8_000_000_000
_MODES = ("", "clips")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}([_-][A-Za-z0-9]{1,8}){0,3}")

Sides = int | list[int]


@dataclass
class _Outline:
    """The fields that determine the kind of model."""

    embed_dim: Any
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]


@dataclass
class _Names:
    """The names in `vision_cfg` that determine the kind of tower."""

    timm_model_name: str | None = None
    timm_pool: str | None = None
    timm_proj: str | None = None

    def __post_init__(self) -> None:
        for name in ("timm_model_name", "timm_pool", "timm_proj"):
            one_line(name, getattr(self, name) or "", 200)


def _check_layers(norm: Mapping[str, float] | None, activation: Mapping[str, str] | None) -> None:
    """Raise FastlocError for arguments of norms and activation other than the two that models use."""
    for name, value in (norm or {}).items():
        one_of("argument of norm_kwargs", name, ("eps",))
        number("eps", value, 0, 1)
    for name, text in (activation or {}).items():
        one_of("argument of act_kwargs", name, ("approximate",))
        one_of("approximation of GELU", text, ("none", "tanh"))


@dataclass
class _Vision:
    layers: Sides = 12
    width: int = 768
    head_width: int = 64
    mlp_ratio: float = 4.0
    patch_size: Sides | None = None
    image_size: Sides = 224
    ls_init_value: float | None = None
    pool_type: str = "tok"
    final_ln_after_pool: bool | None = None
    no_ln_pre: bool | None = None
    act_kwargs: dict[str, str] | None = None
    norm_kwargs: dict[str, float] | None = None
    attn_pooler_heads: int = 8
    timm_model_name: str | None = None
    # the tower field by field
    vit: Vit | None = None
    fastvit: FastVit | None = None

    def __post_init__(self) -> None:
        stages = isinstance(self.layers, list)
        count("width", self.width, WIDTH)
        count("head_width", self.head_width, WIDTH)
        for layers in _each("layers", self.layers, (1, 4)):
            count("layers", layers, LAYERS)
        for side in _each("image_size", self.image_size, (1, 2)):
            count("image_size", side, SIDE)
        for side in _each("patch_size", 16 if self.patch_size is None else self.patch_size, (1, 2)):
            count("patch_size", side, PATCH)
        # a ResNet's heads are those of its pool, which is 32 times as wide
        if self.width * (32 if stages else 1) % self.head_width:
            raise FastlocError(f"head_width must divide the width, {self.width}, got {self.head_width}")
        number("mlp_ratio", self.mlp_ratio, 1e-3, 64)
        count("attn_pooler_heads", self.attn_pooler_heads, WIDTH)
        _check_layers(self.norm_kwargs, self.act_kwargs)
        if not stages:
            self._check_grid()

    def _check_grid(self) -> None:
        image, patch = (each if isinstance(each, list) else [each] for each in (self.image_size, self.patch_size or 16))
        if any(side < step for side, step in zip(image * (3 - len(image)), patch * (3 - len(patch)), strict=False)):
            raise FastlocError(f"image_size must be one patch or more, {self.patch_size or 16}, got {self.image_size}")


@dataclass
class _Text:
    context_length: int = 77
    vocab_size: int = 49408
    width: int = 512
    heads: int = 8
    layers: int = 12
    mlp_ratio: float = 4.0
    ls_init_value: float | None = None
    no_causal_mask: bool | None = None
    pool_type: str = "argmax"
    eos_id: int = 2
    pad_id: int = 0
    embed_cls: bool | None = None
    proj_type: str = "linear"
    proj_bias: bool | None = None
    # of TIPSv2, see `fastloc.checkpoints.text_tower`
    activation: str = "gelu"
    positions: str = "learned"
    scale_embedding: bool | None = None
    use_pad_mask: bool | None = None
    act_kwargs: dict[str, str] | None = None
    norm_kwargs: dict[str, float] | None = None
    hf_tokenizer_name: str | None = None
    tokenizer_kwargs: dict[str, Any] | None = None
    tokenizer_mode: str | None = None
    hf_model_name: str | None = None
    hf_proj_type: str | None = "mlp"
    hf_pooler_type: str = "mean_pooler"

    def __post_init__(self) -> None:
        for name, most in (("context_length", CONTEXT), ("vocab_size", VOCABULARY), ("width", WIDTH), ("heads", WIDTH), ("layers", LAYERS)):
            count(name, getattr(self, name), most)
        count("eos_id", self.eos_id, VOCABULARY, 0)
        count("pad_id", self.pad_id, VOCABULARY, 0)
        number("mlp_ratio", self.mlp_ratio, 1e-3, 64)
        _check_layers(self.norm_kwargs, self.act_kwargs)
        one_of("proj_type", self.proj_type, ("linear", "none"))
        one_of("activation", self.activation, ("gelu", "relu"))
        one_of("positions", self.positions, ("learned", "sinusoidal"))
        if self.width % self.heads:
            raise FastlocError(f"heads must divide the width, {self.width}, got {self.heads}")


@dataclass
class _Config:
    embed_dim: int
    vision_cfg: _Vision
    text_cfg: _Text
    quick_gelu: bool | None = None
    custom_text: bool | None = None
    init_logit_scale: float | None = None
    init_logit_bias: float | None = None

    def __post_init__(self) -> None:
        count("embed_dim", self.embed_dim, WIDTH)
        for name in ("init_logit_scale", "init_logit_bias"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), -1000, 1000)


@dataclass
class _Preprocess:
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: str | None = None

    def __post_init__(self) -> None:
        for mean in self.mean or ():
            number("mean", mean, -1e6, 1e6)
        for std in self.std or ():
            number("std", std, 1e-6, 1e6)
        if self.interpolation:
            one_of("interpolation", self.interpolation, INTERPOLATIONS)


@dataclass
class _Recommended:
    size: int | None = None
    fit: str | None = None
    position: str | None = None
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size is not None:
            count("size", self.size, RECOMMENDED_SIDE)
        if self.fit is not None:
            one_of("fit", self.fit, FITS)
        if self.position is not None:
            one_of("position", self.position, POSITION_MODES)


@dataclass
class _Extras:
    words: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    recommended: _Recommended = field(default_factory=_Recommended)
    # the calibrations of scores, by "plain" and "projected"
    presence: dict[str, Calibration] = field(default_factory=dict)


@dataclass
class _TokenizerArguments:
    """Every tokenizer argument that a configuration may set; it covers those of all published models."""

    clean: str | None = None
    strip_sep_token: bool = False
    language: str | None = None
    tokenizer_mode: str | None = None

    def __post_init__(self) -> None:
        if self.clean is not None:
            one_of("clean", self.clean, CLEANERS)
        if self.language is not None and not _LANGUAGE.fullmatch(self.language):
            raise FastlocError(f"language must be a code such as eng_Latn, got {shown(self.language)}")
        if self.tokenizer_mode is not None:
            one_of("tokenizer_mode", self.tokenizer_mode, _MODES)


def outline(config: object, name: str) -> dict[str, Any]:
    """A configuration with its three parts. Raises ModelError for anything else; `name` is the file's."""
    damaged = f"model configuration {name!r} is damaged"
    found = convert(config, _Outline, damaged)
    # the names by which the kind of a tower is looked up
    convert(found.vision_cfg, _Names, f"{damaged}: vision_cfg")
    if not isinstance(config, dict):
        raise ModelError(f"{damaged} (model_cfg must be an object, got {type(config).__name__})")
    return config


def check(content: Mapping[str, Any], config: Mapping[str, Any], name: str) -> None:
    """Raise ModelError for a field that is missing or out of its range.

    content: the file. config: its open_clip part, of a kind of model that fastloc runs.
    """
    damaged = f"model configuration {name!r} is damaged"
    convert(config, _Config, f"{damaged}: model_cfg")
    convert(content.get("preprocess_cfg", {}), _Preprocess, f"{damaged}: preprocess_cfg")
    extras = convert(content.get("fastloc", {}), _Extras, f"{damaged}: fastloc")
    for method, changes in extras.recommended.recipes.items():
        _check_recipe(method, changes, f"{damaged}: recommended {method[:60]!r}")


def tokenizer_arguments(text: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The arguments of a configuration's tokenizer, limited to the few that control cleaning and padding.

    Other arguments would reach a library that runs the code that they name, `trust_remote_code` first of all.

    Raises:
        ModelError: any other argument, or an invalid value. `name` is the configuration's.
    """
    given = text.get("tokenizer_kwargs") or {}
    damaged = f"model configuration {name!r} is damaged: tokenizer_kwargs"
    if not isinstance(given, dict):
        raise ModelError(f"{damaged} (it must be an object, got {type(given).__name__})")
    known = _TokenizerArguments.__dataclass_fields__
    other = [each for each in given if each not in known]
    if other:
        raise ModelError(f"{damaged} must be among {', '.join(known)}, got {shown(other[0])}: remove it")
    mode = {"tokenizer_mode": text["tokenizer_mode"]} if text.get("tokenizer_mode") else {}
    arguments = convert({**mode, **given}, _TokenizerArguments, damaged) if given or mode else _TokenizerArguments()
    return {key: value for key, value in asdict(arguments).items() if value is not None and key in {**mode, **given}}


def parameters(config: Mapping[str, Any]) -> int:
    """The approximate number of parameters of a configuration's model: those of its blocks and its table of tokens."""
    described = config["vision_cfg"].get("vit") or tower_fields(config["vision_cfg"].get("timm_model_name") or "") or {}
    ratio = {"mlp_ratio": described["hidden"] / described["width"]} if described.get("hidden") else {}
    shape = {"patch_size": described["patch"], "image_size": described["image"]} if described else {}
    heads = {"head_width": described["width"] // described["heads"], "vit": None} if described else {}
    given = {**config["vision_cfg"], **described, **ratio, **heads, **{name: list(both_sides(side)) for name, side in shape.items()}}
    vision, text = _Vision(**_known(_Vision, given)), _Text(**_known(_Text, config["text_cfg"]))
    blocks = sum(_each("layers", vision.layers, (1, 4))) * vision.width**2 * (4 + 2 * vision.mlp_ratio)
    texts = text.layers * text.width**2 * (4 + 2 * text.mlp_ratio) + text.width * (text.vocab_size + text.context_length)
    grid = max(_each("image_size", vision.image_size, (1, 2))) ** 2 * vision.width // 16
    return int(blocks + texts + (0 if isinstance(vision.layers, list) else grid // 16))


def _known(kind: Any, part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key in kind.__dataclass_fields__}


def _each(name: str, value: Sides, lengths: tuple[int, int]) -> list[int]:
    """A list of sides from one number or a list, whose length must be within `lengths`."""
    if not isinstance(value, list):
        return [value]
    if len(value) not in lengths:
        raise FastlocError(f"{name} must be one number or {lengths[1]}, got {shown(value)}")
    return value


def _check_recipe(method: str, changes: Mapping[str, Any], damaged: str) -> None:
    row = RECIPES.get(method)
    if row is None:
        return
    readout = asdict(row.readout)
    content = {**asdict(row), **changes, "readout": {**readout, **{key: value for key, value in changes.items() if key in readout}}}
    found = convert(content, Recipe, damaged)
    if found.blocks > LAYERS or found.iterations > ITERATIONS:
        raise ModelError(f"{damaged} (blocks must be at most {LAYERS} and iterations at most {ITERATIONS})")
