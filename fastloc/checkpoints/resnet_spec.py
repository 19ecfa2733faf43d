"""The spec of a CLIP ResNet: the shape facts that come with a checkpoint."""

from dataclasses import dataclass
from typing import Any

from fastloc.checkpoints.vit_spec import OPENAI_MEAN, OPENAI_STD, is_resnet, part_refusal
from fastloc.errors import ModelError

# the stride of the whole tower: stem 4, then 1, 2, 2 and 2
STRIDE = 32
# channels of the last stage over the tower's width
EXPANSION = 32


@dataclass(frozen=True)
class ResNetSpec:
    """CLIP's ResNet with an attention pool, as open_clip's `ModifiedResNet` builds it.

    `width` is the stem's, `layers` the bottlenecks of the four stages, `heads` those of the attention pool. Sizes are (height, width);
    `mean` and `std` are per channel for pixels in [0, 1]. `patch` is the tower's stride, the size of one cell of the grid in pixels.
    """

    width: int
    layers: tuple[int, int, int, int]
    heads: int
    image: tuple[int, int]
    embed: int
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    interpolation: str = "bicubic"

    @property
    def patch(self) -> tuple[int, int]:
        return STRIDE, STRIDE

    @property
    def channels(self) -> int:
        """The channels of the last stage and of the attention pool."""
        return self.width * EXPANSION

    @property
    def head_width(self) -> int:
        return self.channels // self.heads

    @property
    def grid(self) -> tuple[int, int]:
        """The (h, w) grid that the pool's position embedding was trained on."""
        return self.image[0] // STRIDE, self.image[1] // STRIDE


def refusal(config: dict[str, Any]) -> str | None:
    """The reason why fastloc cannot run the ResNet of this open_clip model configuration, or None if it can."""
    return part_refusal(config) if is_resnet(config) else "its image tower is no ResNet"


def from_open_clip(config: dict[str, Any], preprocess: dict[str, Any] | None = None) -> ResNetSpec:
    """Read an open_clip model configuration of a ResNet (and its preprocess configuration: mean, std, interpolation).

    Raises:
        ModelError: the model is no CLIP ResNet, or of a kind that fastloc does not run.
    """
    reason = refusal(config)
    if reason:
        raise ModelError(f"this model is not supported: {reason}")
    vision, preprocess = config["vision_cfg"], preprocess or {}
    size, width, layers = vision.get("image_size", 224), vision.get("width", 64), vision["layers"]
    if not isinstance(size, int) or size % STRIDE or len(layers) != 4:
        raise ModelError(f"a ResNet must have image_size in multiples of {STRIDE} and four stages of layers, got {size!r} and {layers!r}")
    return ResNetSpec(
        width=width,
        layers=(layers[0], layers[1], layers[2], layers[3]),
        heads=width * EXPANSION // vision.get("head_width", 64),
        image=(size, size),
        embed=config["embed_dim"],
        mean=tuple(preprocess.get("mean") or OPENAI_MEAN),
        std=tuple(preprocess.get("std") or OPENAI_STD),
        interpolation=preprocess.get("interpolation") or "bicubic",
    )
