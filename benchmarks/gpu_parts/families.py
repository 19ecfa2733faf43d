"""Small image towers of every family that fastloc runs, with seeded weights that leave no part of a tower without effect."""

from dataclasses import fields, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fastloc.bench.peers.seeded import seeded_array
from fastloc.checkpoints.vit_spec import ModelSpec, Rope
from fastloc.checkpoints.vit_weights import Block, MapBlock, MapStem, Pool, Stem, Weights

EMBED, LAYERS, PATCH = 24, 7, 8
_BASE: dict[str, Any] = {
    "width": 32, "layers": LAYERS, "heads": 4, "patch": (PATCH, PATCH), "image": (4 * PATCH, 4 * PATCH), "embed": EMBED, "hidden": 80,
}  # fmt: skip
_EPS = 1e-6
_MAP = {"pool": "attn", "pool_heads": 4, "class_token": False, "ln_pre": False, "norm_eps": _EPS}
# the fields of a spec besides `_BASE`; a tower without a projection ends in the texts' space
_FAMILIES: dict[str, dict[str, Any]] = {
    "clip": {"activation": "quick_gelu"},
    "clipa": {"pool": "avg", "norm_after_pool": True, "ln_pre": False, "activation": "gelu_tanh"},
    "siglip": {**_MAP, "activation": "gelu_tanh"},
    "siglip-value": {**_MAP, "patch_read": "value"},
    "pe": {"pool": "attn", "pool_heads": 2, "rope": Rope("columns", 1.0)},
    "pe-g": {"pool": "attn", "pool_heads": 2, "class_token": False, "rope": Rope("columns")},
    "eva01": {"ln_pre": False, "norm_eps": _EPS},
    "eva02": {
        "activation": "silu", "gated": True, "attn_norm": True, "mlp_norm": True, "rope": Rope("rows", grid=(5, 5)), "ln_pre": False,
        "norm_eps": _EPS,
    },
    "eva02-e": {"norm": "post", "ln_pre": False, "norm_eps": _EPS},
    "mobileclip": {"stem": "conv", "ln_pre": False, "norm_eps": _EPS},
    "vitamin": {
        "stem": "mbconv", "stem_width": 8, "gated": True, "fc_norm": True, "pool": "avg",
        "norm_after_pool": True, "class_token": False, "ln_pre": False, "norm_eps": _EPS,
    },
    "gap": {"pool": "avg", "class_token": False, "layer_scale": True, "ln_pre": False, "norm_eps": _EPS},
    "coca": {"pool": "attn", "pool_heads": 3, "pool_mlp": False},
    "tips": {"registers": 1, "layer_scale": True, "ln_pre": False, "norm_eps": _EPS},
    "tips-g": {"registers": 1, "layer_scale": True, "ln_pre": False, "activation": "silu", "gated": True, "norm_eps": _EPS},
    "registers": {"registers": 3, "qk_norm": True},
    "relpos": {"relative": 10, "position": False, "layer_scale": True, "ln_pre": False, "norm_eps": _EPS},
}  # fmt: skip
NAMES = tuple(_FAMILIES)
# projections with a bias, and towers that end in the texts' space
_BIASED, _UNPROJECTED = ("pe", "pe-g", "eva01", "eva02", "eva02-e", "mobileclip"), ("siglip", "siglip-value", "tips", "tips-g")


def spec(name: str, **changes: Any) -> ModelSpec:
    """The spec of a family's small tower."""
    fields = {**_BASE, **_FAMILIES[name], **changes}
    return ModelSpec(**{**fields, "embed": fields["width"]} if name in _UNPROJECTED else fields)


@cache
def tower(name: str, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> Weights:
    """A family's small tower."""
    made = spec(name, **changes)
    width, tokens = made.width, made.prefix + made.grid[0] * made.grid[1]
    numbers = _Numbers(f"{name}-{seed}")
    pos = numbers("pos", tokens, width, spread=0.5)
    if name in ("mobileclip", "tips", "tips-g"):
        # tokens in front have no position of their own
        pos[: made.prefix] = 0
    if not made.position:
        pos = torch.zeros_like(pos)
    proj = None if name in _UNPROJECTED else numbers("proj", made.embed if name == "coca" else width, made.embed, spread=0.3)
    weights = Weights(
        spec=made, prefix=numbers("prefix", made.prefix, width), pos=pos,
        ln_pre_w=numbers.scale("ln_pre_w", width) if made.ln_pre else None, ln_pre_b=numbers("ln_pre_b", width) if made.ln_pre else None,
        blocks=tuple(_block(made, numbers, f"blocks.{i}.") for i in range(made.layers)),
        ln_post_w=numbers.scale("ln_post_w", width), ln_post_b=numbers("ln_post_b", width), proj=proj,
        proj_b=numbers("proj_b", made.embed) if name in _BIASED else None, pool=_pool(made, numbers) if made.pool == "attn" else None,
        **_stem(made, numbers),
    )  # fmt: skip
    return weights.to(dtype=dtype)


class _Numbers:
    """Seeded float64 tensors by name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, name: str, *shape: int, middle: float = 0.0, spread: float = 0.2) -> Tensor:
        if 0 in shape:
            return torch.zeros(shape, dtype=torch.float64)
        return torch.from_numpy(seeded_array(f"{self.name}.{name}", shape, 0, middle, spread)).double()

    def scale(self, name: str, *shape: int) -> Tensor:
        return self(name, *shape, middle=1.0)

    def matrix(self, name: str, *shape: int) -> Tensor:
        inner = torch.Size(shape[1:]).numel()
        return self(name, *shape, spread=1.2 * inner**-0.5)


def _block(made: ModelSpec, numbers: _Numbers, path: str) -> Block:
    width, hidden = made.width, made.mlp_width
    gated = (1 + made.gated) * hidden
    shapes: dict[str, tuple[int, ...]] = {
        "ln1_w": (width,), "ln1_b": (width,), "qkv_w": (3 * width, width), "qkv_b": (3 * width,), "out_w": (width, width),
        "out_b": (width,), "ln2_w": (width,), "ln2_b": (width,), "fc_w": (gated, width), "fc_b": (gated,), "proj_w": (width, hidden),
        "proj_b": (width,),
    }  # fmt: skip
    shapes |= {"ls1": (width,), "ls2": (width,)} if made.layer_scale else {}
    shapes |= {"attn_norm_w": (width,), "attn_norm_b": (width,)} if made.attn_norm else {}
    shapes |= {"mlp_norm_w": (hidden,), "mlp_norm_b": (hidden,)} if made.mlp_norm else {}
    shapes |= {"fc_norm_w": (width,), "fc_norm_b": (width,)} if made.fc_norm else {}
    if made.relative:
        shapes |= {"relative_in_w": (made.relative, 2), "relative_in_b": (made.relative,)}
        shapes |= {"relative_out_w": (made.heads, made.relative), "relative_out_b": (made.heads,)}
    head = (made.head_width,)
    shapes |= {"q_norm_w": head, "q_norm_b": head, "k_norm_w": head, "k_norm_b": head} if made.qk_norm else {}
    found = {}
    for field in fields(Block):
        if field.name in shapes:
            scale = ("ln" in field.name or "norm" in field.name or "ls" in field.name) and not field.name.endswith("_b")
            make = numbers.scale if scale else numbers.matrix if len(shapes[field.name]) == 2 else numbers
            found[field.name] = make(path + field.name, *shapes[field.name])
    if made.norm == "post":
        # projections read the stream as it is, whose length grows: logits beyond 100 are no encoder's
        found["qkv_w"] = found["qkv_w"] / 4
    return Block(**found)


def _pool(made: ModelSpec, numbers: _Numbers) -> Pool:
    width, inner = made.width, made.width if made.pool_mlp else made.embed
    hidden = 3 * inner
    mlp = {
        "fc_w": numbers.matrix("pool.fc_w", hidden, inner), "fc_b": numbers("pool.fc_b", hidden),
        "proj_w": numbers.matrix("pool.proj_w", inner, hidden), "proj_b": numbers("pool.proj_b", inner),
    }  # fmt: skip
    return Pool(
        latent=numbers("pool.latent", inner, spread=1.0), q_w=numbers.matrix("pool.q_w", inner, inner), q_b=numbers("pool.q_b", inner),
        k_w=numbers.matrix("pool.k_w", inner, width), k_b=numbers("pool.k_b", inner), v_w=numbers.matrix("pool.v_w", inner, width),
        v_b=numbers("pool.v_b", inner), out_w=numbers.matrix("pool.out_w", inner, inner), out_b=numbers("pool.out_b", inner),
        norm_w=numbers.scale("pool.norm_w", inner), norm_b=numbers("pool.norm_b", inner), **(mlp if made.pool_mlp else {}),
    )  # fmt: skip


def _stem(made: ModelSpec, numbers: _Numbers) -> dict[str, Any]:
    if made.stem == "patch":
        bias = None if made.ln_pre else numbers("patch_b", made.width)
        return {"patch_w": numbers("patch_w", made.width, 3, *made.patch, spread=0.15), "patch_b": bias}
    if made.stem == "mbconv":
        return _map_stem(made, numbers)
    sides = ((8, 8), (made.width, 8))
    steps = tuple(Stem(numbers.matrix(f"stem.{i}.w", *side, 2, 2), numbers(f"stem.{i}.b", side[0])) for i, side in enumerate(sides))
    return {"patch_w": numbers("patch_w", 8, 3, 2, 2, spread=0.3), "patch_b": numbers("patch_b", 8), "stem": steps}


def _map_stem(made: ModelSpec, numbers: _Numbers) -> dict[str, Any]:
    narrow, blocks = made.stem_width, []
    for i, (inner, outer, halves) in enumerate(((narrow, 2 * narrow, True), (2 * narrow, 2 * narrow, False))):
        path, hidden, expands = f"maps.blocks.{i}.", 2 * outer, inner != outer
        short = (numbers.matrix(path + "short_w", outer, inner), numbers(path + "short_b", outer)) if expands else (None, None)
        blocks.append(MapBlock(
            numbers.scale(path + "norm_w", inner), numbers(path + "norm_b", inner), numbers.matrix(path + "widen_w", hidden, inner),
            numbers(path + "widen_b", hidden), numbers.matrix(path + "depth_w", hidden, 1, 3, 3), numbers(path + "depth_b", hidden),
            numbers.matrix(path + "narrow_w", outer, hidden), numbers(path + "narrow_b", outer), *short, halves,
        ))  # fmt: skip
    maps = MapStem(
        numbers.scale("maps.norm_w", narrow), numbers("maps.norm_b", narrow), numbers.matrix("maps.second_w", narrow, narrow, 3, 3),
        numbers("maps.second_b", narrow), tuple(blocks), numbers.scale("maps.end_norm_w", 2 * narrow),
        numbers("maps.end_norm_b", 2 * narrow), numbers.matrix("maps.end_w", made.width, 2 * narrow, 3, 3),
        numbers("maps.end_b", made.width),
    )  # fmt: skip
    return {"patch_w": numbers.matrix("patch_w", narrow, 3, 3, 3), "patch_b": numbers("patch_b", narrow), "maps": maps}


def with_read(weights: Weights, read: str) -> Weights:
    """The same tower, whose patches pass its pool otherwise."""
    return replace(weights, spec=replace(weights.spec, patch_read=read))
