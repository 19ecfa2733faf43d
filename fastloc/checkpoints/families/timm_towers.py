"""Image towers that open_clip takes from timm, by timm's names: each a row of fields, so that timm itself is not needed to run one.

A row holds the architecture's fields of `fastloc.checkpoints.vit_spec.ModelSpec`; the size of the input is the name's last number.
"""

import re
from collections.abc import Callable
from typing import Any

__all__ = ["refusal", "tower_fields"]

Fields = dict[str, Any]

# (width, layers, heads, hidden; 0 is four times the width), by the names that timm gives sizes
_SIZES = {
    "xsmall": (256, 10, 4, 0), "small": (384, 12, 6, 0), "medium": (512, 12, 8, 0), "betwixt": (640, 12, 10, 0),
    "base": (768, 12, 12, 0), "large": (1024, 24, 16, 0), "huge": (1280, 32, 16, 0), "so400m": (1152, 27, 16, 4304),
    "giantopt": (1536, 40, 16, 0), "giant": (1408, 40, 16, 6144), "gigantic": (1664, 48, 16, 8192),
}  # fmt: skip
_PE_SIZES = {
    "tiny": (192, 12, 3, 0), "small": (384, 12, 6, 0), "base": (768, 12, 12, 0), "large": (1024, 24, 16, 0),
    "gigantic": (1536, 50, 16, 8960),
}  # fmt: skip
_TIPS_SIZES = {
    "base": (768, 12, 12, 0), "large": (1024, 24, 16, 0), "so400m": (1152, 27, 16, 4304), "giant": (1536, 40, 24, 4096),
}  # fmt: skip
# sizes whose SigLIP timm builds with the tanh form of GELU; the others have the exact one, whatever they were trained with
_TANH = re.compile(r"patch32|large_patch16_siglip_(gap_)?512|so400m_patch16|giantopt")
_EPS = 1e-6


def _sized(sizes: dict[str, tuple[int, int, int, int]], size: str) -> Fields:
    width, layers, heads, hidden = sizes[size]
    return {"width": width, "layers": layers, "heads": heads, "hidden": hidden}


def _siglip(name: str, size: str, gap: str) -> Fields:
    pool = {"pool": "avg"} if gap else {"pool": "attn", "pool_heads": _SIZES[size][2]}
    activation = "gelu_tanh" if _TANH.search(name) else "gelu"
    return {**_sized(_SIZES, size), **pool, "activation": activation, "class_token": False, "ln_pre": False, "norm_eps": _EPS}


def _pe(name: str, size: str) -> Fields:
    giant = size == "gigantic"
    rope = {"first": "columns", "offset": 0.0 if giant else 1.0}
    return {**_sized(_PE_SIZES, size), "pool": "attn", "pool_heads": 8, "class_token": not giant, "rope": rope}


def _tips(name: str, size: str) -> Fields:
    gated = {"activation": "silu", "gated": True} if size == "giant" else {}
    return {**_sized(_TIPS_SIZES, size), **gated, "registers": 1, "layer_scale": True, "ln_pre": False, "norm_eps": _EPS}


def _clip(name: str, size: str) -> Fields:
    return _sized(_SIZES, size)


def _gap(name: str) -> Fields:
    return {**_sized(_SIZES, "medium"), "pool": "avg", "class_token": False, "layer_scale": True, "ln_pre": False, "norm_eps": _EPS}


def _relpos(name: str, size: str, cls: str) -> Fields:
    token = {"pool": "tok"} if cls else {"class_token": False, "pool": "avg", "norm_after_pool": True}
    # timm's default width of the bias's MLP, and that of the one model that CLIP was trained with
    relative = 256 if cls and size == "medium" else 128
    shared = {"position": False, "relative": relative, "layer_scale": True, "ln_pre": False, "norm_eps": _EPS}
    return {**_sized(_SIZES, size), **token, **shared}


def _mobileclip(name: str) -> Fields:
    return {**_sized(_SIZES, "base"), "stem": "conv", "ln_pre": False, "norm_eps": _EPS}


# (width, layers, heads, stem's width)
_VITAMIN_SIZES = {
    "small": (384, 14, 6, 64), "base": (768, 14, 12, 128), "large": (1024, 31, 16, 160), "large2": (1024, 31, 16, 160),
    "xlarge": (1152, 32, 16, 192),
}  # fmt: skip


def _vitamin(name: str, size: str) -> Fields:
    width, layers, heads, stem = _VITAMIN_SIZES[size]
    return {
        "width": width, "layers": layers, "heads": heads, "hidden": 2 * width, "gated": True, "fc_norm": True, "stem": "mbconv",
        "stem_width": stem, "position": size != "xlarge", "pool": "avg", "norm_after_pool": True, "class_token": False, "ln_pre": False,
        "norm_eps": _EPS,
    }  # fmt: skip


def _eva01(name: str) -> Fields:
    return {**_sized(_SIZES, "giant"), "ln_pre": False, "norm_eps": _EPS}


def _eva02(name: str, size: str) -> Fields:
    width = _SIZES[size][0]
    return {
        **_sized(_SIZES, size), "hidden": width * 8 // 3, "activation": "silu", "gated": True, "attn_norm": True, "mlp_norm": True,
        "rope": {"first": "rows", "grid": (16, 16)}, "ln_pre": False, "norm_eps": _EPS,
    }  # fmt: skip


def _eva02_enormous(name: str) -> Fields:
    return {"width": 1792, "layers": 64, "heads": 16, "hidden": 15360, "norm": "post", "ln_pre": False, "norm_eps": _EPS}


# a whole name -> its fields; the groups are the size's name and, for SigLIP, a mark if the mean is its pool
_ROWS: tuple[tuple[str, Callable[..., Fields]], ...] = (
    (r"vit_(base|large|so400m|giantopt)_patch\d+_siglip_(gap_)?\d+", _siglip),
    (r"vit_pe_core_(tiny|small|base|large|gigantic)_patch\d+_\d+", _pe),
    (r"vit_(base|large|so400m|giant)_patch\d+_reg1_tipsv2", _tips),
    (r"vit_(xsmall|small|medium|betwixt|base|large|huge|giant|gigantic)_patch\d+_clip_\d+", _clip),
    (r"vit_medium_patch\d+_gap_\d+", _gap),
    (r"vit_relpos_(small|medium|base)_patch16_(cls_)?224", _relpos),
    (r"vit_base_mci_\d+", _mobileclip),
    (r"vitamin_(small|base|large|large2|xlarge)_\d+", _vitamin),
    (r"eva_giant_patch\d+_\d+", _eva01),
    (r"eva02_(base|large)_patch\d+_clip_\d+", _eva02),
    (r"eva02_enormous_patch\d+_clip_\d+", _eva02_enormous),
)
# input sizes that a name does not contain
_PATCH, _IMAGE = {"mci": 16, "vitamin": 16}, {"tipsv2": 448}


def tower_fields(name: str) -> Fields | None:
    """The fields of `ModelSpec` that timm's name means, without those of a projection; None for a tower that is not a ViT of these."""
    name = name.partition(".")[0]
    for pattern, fields in _ROWS:
        found = re.fullmatch(pattern, name)
        if found:
            return {**fields(name, *found.groups()), **_sides(name)}
    return None


def refusal(name: str, pool: str | None) -> str | None:
    """The reason why fastloc does not run a timm tower with this pool, or None if it does. An empty pool is the tower's own."""
    fields = tower_fields(name)
    if fields is not None:
        own = {"attn": "map", "tok": "token"}.get(fields.get("pool", "tok"), "avg")
        return None if pool in (own, "", None) else f"its pool is {pool!r}, and a {name} ends in {own!r}"
    known = "the plain ViTs of CLIP, SigLIP, PE, EVA, MobileCLIP, TIPS and ViTamin, and those of 16-pixel patches with relative positions,"
    return f"its image tower is timm's {name[:60]}, and of timm's {known} are run"


def _sides(name: str) -> Fields:
    patch = re.search(r"patch(\d+)", name)
    image = re.search(r"_(\d+)$", name)
    step = int(patch[1]) if patch else next(size for word, size in _PATCH.items() if word in name)
    side = int(image[1]) if image else next(size for word, size in _IMAGE.items() if word in name)
    return {"patch": (step, step), "image": (side, side)}
