"""The schema of a tower that a configuration describes field by field, in `"vit"` of its `vision_cfg`; see `vit_spec.ModelSpec`."""

from __future__ import annotations

from dataclasses import dataclass

from fastloc.errors import FastlocError
from fastloc.utils.schema import count, number, one_of

__all__ = ["Vit"]

# largest sizes, as those of other configurations
WIDTH, LAYERS, SIDE, PATCH, REGISTERS = 1 << 14, 256, 1 << 14, 1 << 10, 64
Sides = int | tuple[int, int]


@dataclass
class _Rope:
    first: str = "columns"
    offset: float = 0.0
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        one_of("first axis of rope", self.first, ("columns", "rows"))
        number("offset of rope", self.offset, -1e4, 1e4)
        for side in self.grid or ():
            count("grid of rope", side, SIDE)


@dataclass
class Vit:
    """The fields of a `ModelSpec` that a configuration may give, each with its range."""

    width: int
    layers: int
    heads: int
    patch: Sides
    image: Sides
    hidden: int = 0
    activation: str = "gelu"
    gated: bool = False
    class_token: bool = True
    registers: int = 0
    stem: str = "patch"
    stem_width: int = 0
    position: bool = True
    norm: str = "pre"
    norm_eps: float = 1e-5
    attn_norm: bool = False
    mlp_norm: bool = False
    fc_norm: bool = False
    qk_norm: bool = False
    rope: _Rope | None = None
    relative: int = 0
    pool: str = "tok"
    norm_after_pool: bool = False
    pool_heads: int = 0
    pool_mlp: bool = True
    patch_read: str = "pool"
    ln_pre: bool = True
    layer_scale: bool = False

    def __post_init__(self) -> None:
        for name, least, most in (
            ("width", 1, WIDTH), ("layers", 1, LAYERS), ("heads", 1, WIDTH), ("hidden", 0, 16 * WIDTH), ("registers", 0, REGISTERS),
            ("pool_heads", 0, WIDTH), ("stem_width", 0, WIDTH), ("relative", 0, WIDTH),
        ):  # fmt: skip
            count(name, getattr(self, name), most, least)
        number("norm_eps", self.norm_eps, 0, 1)
        for name, known in (
            ("activation", ("gelu", "gelu_tanh", "quick_gelu", "silu")), ("stem", ("patch", "conv", "mbconv")), ("norm", ("pre", "post")),
            ("pool", ("tok", "avg", "attn")), ("patch_read", ("pool", "value")),
        ):  # fmt: skip
            one_of(name, getattr(self, name), known)
        self._check_sides()
        if self.width % self.heads or (self.rope is not None and self.width // self.heads % 4):
            rule = "a width that is four times a whole number each" if self.rope is not None else "a whole number of channels each"
            raise FastlocError(f"heads must divide the width, {self.width}, into {rule}, got {self.heads}")
        if self.pool == "tok" and not self.class_token:
            raise FastlocError("pool must be 'avg' or 'attn' without a class token, got 'tok'")
        if self.pool == "attn" and not self.pool_heads:
            raise FastlocError("pool_heads must be 1 or more with pool 'attn', got 0")
        for name, given in (("layer_scale", self.layer_scale), ("fc_norm", self.fc_norm)):
            if self.norm == "post" and given:
                raise FastlocError(f"{name} must be false with norm 'post', got true")

    def _check_sides(self) -> None:
        sides = [each if isinstance(each, tuple) else (each, each) for each in (self.image, self.patch)]
        for image, patch in zip(*sides, strict=True):
            count("image", image, SIDE)
            count("patch", patch, PATCH)
            if image < patch:
                raise FastlocError(f"image must be one patch or more, {patch}, got {image}")
        if self.stem != "patch" and sides[1] != (16, 16):
            raise FastlocError(f"patch must be 16 with stem {self.stem!r}, got {self.patch}")
        if (self.stem == "mbconv") != (self.stem_width > 0):
            rule = "1 or more with stem 'mbconv'" if self.stem == "mbconv" else f"0 with stem {self.stem!r}"
            raise FastlocError(f"stem_width must be {rule}, got {self.stem_width}")
