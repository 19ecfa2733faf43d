"""The facts of a model's listing: its family, its image tower's size and its text tower, read from configurations without weights."""

import re
from collections.abc import Mapping
from typing import Any

from fastloc.checkpoints.hierarchical.vitamin import DEPTHS, EXPANSION
from fastloc.checkpoints.vit_spec import ModelSpec

__all__ = ["FAMILIES", "family", "image_parameters", "text_tower"]

# the first pattern that a name holds; `FAMILIES` has the order of the list
_PATTERNS = (
    (r"^embedded", "embedded"), (r"^nllb", "NLLB"), (r"SigLIP2", "SigLIP 2"), (r"SigLIP", "SigLIP"), (r"^PE-", "PE-Core"),
    (r"^EVA", "EVA"), (r"^MobileCLIP", "MobileCLIP"), (r"^ViTamin", "ViTamin"), (r"^coca_", "CoCa"), (r"CLIPA", "CLIPA"),
    (r"-worldwide", "MetaCLIP 2"), (r"^TIPS|tips", "TIPS"),
    (r"roberta|^mt5", "CLIP with other text towers"), (r"^RN\d", "CLIP ResNet"), (r"^convnext_", "ConvNeXt"), (r"^swin_", "Swin"),
    (r"", "CLIP"),
)  # fmt: skip
FAMILIES = (
    "embedded", "CLIP", "CLIP ResNet", "CLIP with other text towers", "CLIPA", "MetaCLIP 2", "CoCa", "SigLIP", "SigLIP 2", "PE-Core",
    "EVA", "MobileCLIP", "ConvNeXt", "ViTamin", "Swin", "TIPS", "NLLB",
)  # fmt: skip
# open_clip's own default
_CONTEXT = 77


def family(name: str) -> str:
    """The family of a model, one of FAMILIES, by open_clip's name."""
    return next(found for pattern, found in _PATTERNS if re.search(pattern, name))


def image_parameters(spec: ModelSpec) -> int:
    """The number of parameters of the image tower, to about a hundredth.

    A conv stem is counted as one convolution, and projections are counted with a bias.
    """
    width, hidden, embed = spec.width, spec.mlp_width, spec.embed
    norms = 4 * width + 2 * width * (spec.attn_norm + spec.fc_norm) + 2 * hidden * spec.mlp_norm + 4 * spec.head_width * spec.qk_norm
    mlp = (1 + spec.gated) * hidden * (width + 1) + hidden * width + width
    relative = spec.relative * (3 + spec.heads) + (spec.heads if spec.relative else 0)
    block = 4 * width * (width + 1) + mlp + norms + 2 * width * spec.layer_scale + relative
    stem = _mbconv(spec) if spec.stem == "mbconv" else 3 * spec.patch[0] * spec.patch[1] * width
    stem += (spec.prefix + spec.position * spec.grid[0] * spec.grid[1]) * width
    pool = 0
    if spec.pool == "attn":
        inner = width if spec.pool_mlp else embed
        pool = 2 * inner * inner + 2 * inner * width + (2 * inner * hidden if spec.pool_mlp else 0)
    # SigLIP's and TIPS's towers end in the texts' space
    head = 0 if embed == width and spec.pool == "attn" and spec.pool_mlp else width * embed
    return spec.layers * block + stem + pool + head + 2 * width * (1 + spec.ln_pre)


def _mbconv(spec: ModelSpec) -> int:
    """The parameters of ViTamin's stem: its three convolutions, and two stages of blocks."""
    narrow, total = spec.stem_width, (27 + 9 * spec.stem_width) * spec.stem_width + 18 * spec.stem_width * spec.width
    for stage, depth in enumerate(DEPTHS):
        outer = narrow << stage
        hidden = EXPANSION * outer
        inner = (narrow if stage == 0 else outer // 2) + (depth - 1) * outer
        total += hidden * inner + depth * hidden * (outer + 9) + (outer * outer // 2 if stage else 0)
    return total


def text_tower(config: Mapping[str, Any]) -> dict[str, Any]:
    """{"kind", "context", "tokenizer"} of an open_clip model configuration.

    The kind is "transformer" or a name on the hub, the tokenizer "clip" or a name on the hub.
    """
    text = config.get("text_cfg") or {}
    return {
        "kind": text.get("hf_model_name") or "transformer", "context": text.get("context_length") or _CONTEXT,
        "tokenizer": text.get("hf_tokenizer_name") or text.get("hf_model_name") or "clip",
    }  # fmt: skip
