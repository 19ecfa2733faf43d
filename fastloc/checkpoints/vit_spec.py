"""The spec of an image tower: the shape facts that come with a checkpoint, and the limits of the towers that fastloc runs."""

from dataclasses import dataclass
from typing import Any

from fastloc.checkpoints.families import timm_towers
from fastloc.errors import ModelError
from fastloc.imaging.geometry import both_sides
from fastloc.utils.schema import shown

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding in two dimensions, the same in every block and head (RoFormer, arXiv 2104.09864).

    Half of a head's pairs of channels turn by a patch's column, the other half by its row, with frequencies
    10000^(-j / (d/4)), j = 0 … d/4 - 1; tokens in front of the patches do not turn.

    Attributes:
        first: the axis of the first half, "columns" (PE) or "rows" (EVA-02).
        offset: added to every row and column, which count from 0.
        grid: rows and columns are scaled to this grid of (height, width), whatever the picture's (EVA-02); None: they are cells.
    """

    first: str = "columns"
    offset: float = 0.0
    grid: tuple[int, int] | None = None


@dataclass(frozen=True)
class ModelSpec:
    """A vision transformer, as open_clip and timm build them: what differs between families is a field.

    Sizes are (height, width), widths are numbers of channels.

    Attributes:
        hidden: width of the MLP, 0 for four times `width`; of one half of it where it is gated.
        activation: "gelu", "gelu_tanh", "quick_gelu" or "silu".
        gated: the MLP multiplies an activated half by another (SwiGLU with "silu").
        class_token, registers: the tokens in front of the patches, the class token first.
        stem: "patch", one convolution that steps by its own size; "conv", several of these with GELU between (MobileCLIP-B); or
            "mbconv", overlapping ones with two stages of inverted bottlenecks between (ViTamin).
        stem_width: of the stem "mbconv" at its finest map, which has half the picture's sides.
        position: patches have a learned position.
        norm: LayerNorms stand before attention and MLP ("pre") or behind them ("post", EVA02-E).
        attn_norm, mlp_norm: a LayerNorm before the out-projection, and before the MLP's second product (EVA-02's sub-LN).
        fc_norm: a second LayerNorm before the MLP's first product, behind the block's own (ViTamin).
        qk_norm: queries and keys of a head pass a LayerNorm.
        rope: rotary positions beside the learned ones, or None.
        relative: the width of the MLP with which each block makes a bias of its logits from the distance of two patches (timm's relpos
            towers), or 0 in towers without such a bias.
        pool: the read-out of the image embedding: the class token ("tok"), the mean of the patches ("avg", CLIPA), or one query's
            attention to all tokens ("attn": SigLIP's MAP head, PE's pool, CoCa's pooler).
        norm_after_pool: the last LayerNorm comes after that mean.
        pool_heads: of an attention pool. pool_mlp: it ends with an MLP and its residual (MAP), and not with a LayerNorm (CoCa).
        patch_read: where a pool ends with an MLP, a patch in the text's space is the whole pool's output for it alone ("pool"), or
            that of its values and out-projection ("value").
        ln_pre, layer_scale: optional parameters that the tower has.
        mean, std: per channel, for pixels in [0, 1].
    """

    width: int
    layers: int
    heads: int
    patch: tuple[int, int]
    image: tuple[int, int]
    embed: int
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
    rope: Rope | None = None
    relative: int = 0
    pool: str = "tok"
    norm_after_pool: bool = False
    pool_heads: int = 0
    pool_mlp: bool = True
    patch_read: str = "pool"
    ln_pre: bool = True
    layer_scale: bool = False
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    interpolation: str = "bicubic"

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def mlp_width(self) -> int:
        return self.hidden or 4 * self.width

    @property
    def prefix(self) -> int:
        """The number of tokens in front of the patches."""
        return int(self.class_token) + self.registers

    @property
    def grid(self) -> tuple[int, int]:
        """The (h, w) grid of patches the position embedding was trained on."""
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]


# the reasons why an open_clip vision_cfg rules a tower out; each test reads the configuration
_REFUSALS = (
    ("scaled_cosine_attn", "its attention is scaled cosine attention"),
    ("scale_heads", "its attention scales heads"),
    ("scale_attn", "its attention normalises after the block"),
)


def refusal(config: dict[str, Any]) -> str | None:
    """The reason why fastloc cannot run the ViT of this open_clip model configuration, or None if it can."""
    return "its image tower is a ResNet, not a ViT" if is_resnet(config) else part_refusal(config)


def is_resnet(config: dict[str, Any]) -> bool:
    """True if the image tower of this open_clip model configuration is one of CLIP's ResNets, see `fastloc.checkpoints.resnet_spec`."""
    return isinstance(config.get("vision_cfg", {}).get("layers"), (list, tuple))


def part_refusal(config: dict[str, Any]) -> str | None:
    """The part of this open_clip model configuration that fastloc does not run, for any kind of image tower; None if it runs all."""
    vision = config.get("vision_cfg", {})
    if vision.get("timm_model_name"):
        return timm_towers.refusal(vision["timm_model_name"], vision.get("timm_pool", "avg"))
    for key, reason in _REFUSALS:
        if vision.get(key):
            return reason
    if isinstance(vision.get("attentional_pool"), str):
        return f"its pooler is {shown(vision['attentional_pool'])}, and of CoCa's the plain one is run"
    if vision.get("pool_type", "tok") not in ("tok", "avg"):
        return f"its pooling {shown(vision['pool_type'])} gives no image embedding"
    return None


def from_open_clip(config: dict[str, Any], preprocess: dict[str, Any] | None = None) -> ModelSpec:
    """Read an open_clip model configuration (and its preprocess configuration: mean, std, interpolation).

    The image tower is open_clip's own, one of timm's by name (`timm_model_name`, see `fastloc.checkpoints.timm_towers`), or
    described field by field: `"vit"` in `vision_cfg` holds a ModelSpec's.

    Raises:
        ModelError: the tower is of a kind that fastloc does not run; the message names it.
    """
    reason = refusal(config)
    if reason:
        raise ModelError(f"this model is not supported: {reason}")
    vision, preprocess = config["vision_cfg"], preprocess or {}
    pixels = {
        "mean": tuple(preprocess.get("mean") or OPENAI_MEAN),
        "std": tuple(preprocess.get("std") or OPENAI_STD),
        "interpolation": preprocess.get("interpolation") or "bicubic",
    }
    fields = dict(vision.get("vit") or timm_towers.tower_fields(vision.get("timm_model_name") or "") or _own(config))
    for name in ("patch", "image"):
        fields[name] = both_sides(fields[name])
    if fields.get("rope") is not None:
        rope = dict(fields["rope"])
        fields["rope"] = Rope(**{**rope, "grid": both_sides(rope["grid"]) if rope.get("grid") else None})
    return ModelSpec(**{**fields, "embed": config["embed_dim"], **pixels})


def _own(config: dict[str, Any]) -> dict[str, Any]:
    """The spec's fields for open_clip's own VisionTransformer."""
    vision = config["vision_cfg"]
    width = vision.get("width", 768)
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    if (vision.get("act_kwargs") or {}).get("approximate") == "tanh" and activation == "gelu":
        activation = "gelu_tanh"
    pool: dict[str, Any] = {"pool": vision.get("pool_type", "tok"), "norm_after_pool": bool(vision.get("final_ln_after_pool"))}
    if vision.get("attentional_pool"):
        pool = {"pool": "attn", "pool_heads": vision.get("attn_pooler_heads", 8), "pool_mlp": False}
    return {
        "width": width, "layers": vision.get("layers", 12), "heads": width // vision.get("head_width", 64),
        "patch": both_sides(vision.get("patch_size") or 16), "image": both_sides(vision.get("image_size", 224)),
        "hidden": int(width * vision.get("mlp_ratio", 4.0)), "activation": activation,
        "norm_eps": (vision.get("norm_kwargs") or {}).get("eps", 1e-5), **pool,
        "qk_norm": bool(vision.get("qk_norm")), "attn_norm": bool(vision.get("scale_attn_inner")), "mlp_norm": bool(vision.get("scale_fc")),
        "ln_pre": not vision.get("no_ln_pre"), "layer_scale": vision.get("ls_init_value") is not None,
    }  # fmt: skip
