"""The spec of a hierarchical image tower: the facts that a configuration of open_clip gives, with a trunk that timm names."""

from dataclasses import dataclass
from typing import Any

from fastloc.checkpoints.hierarchical.described import arch_of
from fastloc.checkpoints.hierarchical.families import FAMILIES, Arch, family_of
from fastloc.checkpoints.vit_spec import OPENAI_MEAN, OPENAI_STD
from fastloc.errors import ModelError
from fastloc.imaging.geometry import both_sides
from fastloc.utils.schema import shown

__all__ = ["DESCRIBED", "HEADS", "HierarchicalSpec", "from_open_clip", "is_hierarchical", "refusal"]

# open_clip's `timm_proj` -> the head: its own linear layer, its own MLP of two, or the trunk's classifier
HEADS = {"linear": "linear", "mlp": "mlp", None: "trunk", "": "trunk"}
# open_clip's defaults (CLIPVisionCfg)
_POOL, _PROJ, _IMAGE = "avg", "linear", 224
# the field of `vision_cfg` that describes a FastViT
DESCRIBED = "fastvit"


@dataclass(frozen=True)
class HierarchicalSpec:
    """A tower of stages, each with a smaller grid than the one before, as open_clip's `TimmModel` builds it.

    Sizes are (height, width); `mean` and `std` are per channel for pixels in [0, 1].

    Attributes:
        family: a key of `fastloc.checkpoints.hierarchical.families.FAMILIES`.
        name: timm's, without prefix and tag; "fastvit" for one that is described field by field.
        arch: the architecture's fields, of the family's own `Arch`.
        head: the way from the mean of the last map to the embedding, a value of `HEADS`.
        head_bias: open_clip's own head ends with a bias; the trunk's always does.
    """

    family: str
    name: str
    arch: Arch
    embed: int
    image: tuple[int, int]
    head: str = "linear"
    head_bias: bool = False
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    interpolation: str = "bicubic"

    @property
    def patch(self) -> tuple[int, int]:
        """The size of one cell of the last map, in pixels."""
        return self.arch.stride, self.arch.stride

    @property
    def channels(self) -> int:
        """The channels of the last map."""
        return self.arch.channels

    @property
    def attending(self) -> int:
        """The blocks of the last stage that attend over its whole grid: those that methods with a local path can change."""
        return FAMILIES[self.family].attending(self.arch)

    @property
    def grid(self) -> tuple[int, int]:
        """The (h, w) grid of the last map at the trained size."""
        return self.image[0] // self.arch.stride, self.image[1] // self.arch.stride


def is_hierarchical(config: dict[str, Any]) -> bool:
    """True if the image tower of this open_clip model configuration is of one of `FAMILIES`."""
    vision = config.get("vision_cfg", {})
    name = vision.get("timm_model_name")
    return bool(vision.get(DESCRIBED)) or (isinstance(name, str) and family_of(name) is not None)


def refusal(config: dict[str, Any]) -> str | None:
    """The reason why fastloc cannot run the hierarchical tower of this open_clip model configuration, or None if it can."""
    if not is_hierarchical(config):
        return "its image tower is not hierarchical"
    vision = config["vision_cfg"]
    pool, proj = vision.get("timm_pool", _POOL), vision.get("timm_proj", _PROJ)
    if proj not in HEADS:
        return f"its projection is {shown(proj)}, and linear, mlp and the trunk's own are run"
    # an empty pool is the trunk's own, which is the mean, except where the trunk is built without any
    if pool not in (("avg", "") if HEADS[proj] != "trunk" else ("avg",)):
        return f"its pool is {shown(pool)}, and {shown(vision.get('timm_model_name') or DESCRIBED)} ends in 'avg'"
    return None


def from_open_clip(config: dict[str, Any], preprocess: dict[str, Any] | None = None) -> HierarchicalSpec:
    """Read an open_clip model configuration of a hierarchical tower (and its preprocess configuration: mean, std, interpolation).

    The tower is one of timm's by name (`timm_model_name`), or a FastViT that `"fastvit"` in `vision_cfg` describes field by field.

    Raises:
        ModelError: the tower is not hierarchical, or of a kind that fastloc does not run, or image_size is no multiple of its stride.
    """
    reason = refusal(config)
    if reason:
        raise ModelError(f"this model is not supported: {reason}")
    vision, preprocess = config["vision_cfg"], preprocess or {}
    family, name, arch = _named(vision)
    image = both_sides(vision.get("image_size", _IMAGE))
    if any(side < arch.stride or side % arch.stride for side in image):
        raise ModelError(f"image_size must be a multiple of the stride of {name}, {arch.stride}, got {image}; give such a size")
    return HierarchicalSpec(
        family, name, arch, config["embed_dim"], image,
        head=HEADS[vision.get("timm_proj", _PROJ)],
        head_bias=bool(vision.get("timm_proj_bias")),
        mean=tuple(preprocess.get("mean") or OPENAI_MEAN),
        std=tuple(preprocess.get("std") or OPENAI_STD),
        interpolation=preprocess.get("interpolation") or "bicubic",
    )  # fmt: skip


def _named(vision: dict[str, Any]) -> tuple[str, str, Any]:
    """(family, name, Arch) of the tower of a `vision_cfg`."""
    if vision.get(DESCRIBED):
        return "FastViT", DESCRIBED, arch_of(vision[DESCRIBED])
    found = family_of(vision["timm_model_name"])
    assert found is not None
    return found
