"""What an image tower looks like: the shape facts that come with a checkpoint, and which towers fastloc can run."""

from dataclasses import dataclass
from typing import Any

from fastloc.errors import ModelError
from fastloc.imaging.geometry import both_sides
from fastloc.utils.schema import shown

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ModelSpec:
    """A plain pre-norm ViT with a class token, as open_clip's `VisionTransformer` builds it.

    Sizes are (height, width). `pool` is how the image embedding is read: the class token ("tok") or the mean of the
    patches ("avg", CLIPA); with `norm_after_pool` the final LayerNorm comes after that mean. `mean` and `std` are per
    channel for pixels in [0, 1]. `ln_pre` and `layer_scale` say which optional parameters the tower has.
    """

    width: int
    layers: int
    heads: int
    patch: tuple[int, int]
    image: tuple[int, int]
    embed: int
    activation: str = "gelu"
    norm_eps: float = 1e-5
    pool: str = "tok"
    norm_after_pool: bool = False
    ln_pre: bool = True
    layer_scale: bool = False
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    interpolation: str = "bicubic"

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def grid(self) -> tuple[int, int]:
        """The (h, w) grid of patches the position embedding was trained on."""
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]


# what in an open_clip vision_cfg rules a tower out, and why; each test reads the configuration
_REFUSALS = (
    ("timm_model_name", "its image tower comes from timm (EVA, SigLIP, ConvNeXt, MobileCLIP …), which has other blocks than a CLIP ViT"),
    ("attentional_pool", "its image tower pools with attention (CoCa), so patch tokens are not in the text's space"),
    ("qk_norm", "its attention normalises q and k"),
    ("scaled_cosine_attn", "its attention is scaled cosine attention"),
    ("scale_heads", "its attention scales heads"),
    ("scale_attn_inner", "its attention normalises inside"),
    ("scale_attn", "its attention normalises after the block"),
    ("scale_fc", "its MLP normalises inside"),
)


def refusal(config: dict[str, Any]) -> str | None:
    """Why this open_clip model configuration has no ViT that fastloc can run; None if it has one."""
    return "its image tower is a ResNet, not a ViT" if is_resnet(config) else part_refusal(config)


def is_resnet(config: dict[str, Any]) -> bool:
    """Whether the image tower of this open_clip model configuration is one of CLIP's ResNets: see `fastloc.checkpoints.resnet_spec`."""
    return isinstance(config.get("vision_cfg", {}).get("layers"), (list, tuple))


def part_refusal(config: dict[str, Any]) -> str | None:
    """What fastloc does not run of this open_clip model configuration, whichever kind its image tower is of; None if it runs all."""
    vision = config.get("vision_cfg", {})
    for key, reason in _REFUSALS:
        if vision.get(key):
            return reason
    if config.get("multimodal_cfg"):
        return "it is a generative model (CoCa)"
    if config.get("text_cfg", {}).get("hf_model_name"):
        return "its text tower is a transformers model"
    if vision.get("pool_type", "tok") not in ("tok", "avg"):
        return f"its pooling {shown(vision['pool_type'])} gives no image embedding"
    return None


def from_open_clip(config: dict[str, Any], preprocess: dict[str, Any] | None = None) -> ModelSpec:
    """Read an open_clip model configuration (and its preprocess configuration: mean, std, interpolation).

    Raises:
        ModelError: the tower is of a kind that fastloc does not run; the message says which.
    """
    reason = refusal(config)
    if reason:
        raise ModelError(f"this model is not supported: {reason}; plain CLIP ViTs with open_clip's own text tower are")
    vision, preprocess = config["vision_cfg"], preprocess or {}
    width = vision.get("width", 768)
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    if (vision.get("act_kwargs") or {}).get("approximate") == "tanh" and activation == "gelu":
        activation = "gelu_tanh"
    return ModelSpec(
        width=width,
        layers=vision.get("layers", 12),
        heads=width // vision.get("head_width", 64),
        patch=both_sides(vision.get("patch_size") or 16),
        image=both_sides(vision.get("image_size", 224)),
        embed=config["embed_dim"],
        activation=activation,
        norm_eps=(vision.get("norm_kwargs") or {}).get("eps", 1e-5),
        pool=vision.get("pool_type", "tok"),
        norm_after_pool=bool(vision.get("final_ln_after_pool")),
        ln_pre=not vision.get("no_ln_pre"),
        layer_scale=vision.get("ls_init_value") is not None,
        mean=tuple(preprocess.get("mean") or OPENAI_MEAN),
        std=tuple(preprocess.get("std") or OPENAI_STD),
        interpolation=preprocess.get("interpolation") or "bicubic",
    )
