"""The names that transformers' CLIPModel, MetaClip2Model, SiglipModel, Siglip2Model and Tipsv2Model give their tensors.

Letters: C, M, H: width, MLP and classes of the image tower; c, m, V, L: width, MLP, vocabulary and context of the text tower; E: the
shared space; P, N: patches and tokens; h, w: sides of a patch. The targets are open_clip's names, or timm's behind `visual.trunk.`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fastloc.checkpoints.foreign.renaming import Layout, Row, one, pair

__all__ = ["LAYOUTS", "joined_class_position"]

_POSITIONS = (r".*\.position_ids",)
_QKV = "{q_proj,k_proj,v_proj}"


def _transformer(to: str, of: str, width: str, inner: str) -> tuple[Row, ...]:
    """The rows of transformers' blocks under open_clip's names."""
    wide = f"{width} {width}"
    return (
        *pair(f"{to}.ln_1", f"{of}.layer_norm1", width), *pair(f"{to}.ln_2", f"{of}.layer_norm2", width),
        *one(f"{to}.attn.in_proj_weight", f"{of}.self_attn.{_QKV}.weight", wide),
        *one(f"{to}.attn.in_proj_bias", f"{of}.self_attn.{_QKV}.bias", width),
        *pair(f"{to}.attn.out_proj", f"{of}.self_attn.out_proj", wide),
        *pair(f"{to}.mlp.c_fc", f"{of}.mlp.fc1", f"{inner} {width}"), *pair(f"{to}.mlp.c_proj", f"{of}.mlp.fc2", f"{width} {inner}"),
    )  # fmt: skip


def _text(to: str) -> tuple[Row, ...]:
    start = "text_model.embeddings"
    return (
        *one(f"{to}token_embedding.weight", f"{start}.token_embedding.weight", "V c"),
        *one(f"{to}positional_embedding", f"{start}.position_embedding.weight", "L c"),
        *_transformer(f"{to}transformer.resblocks.{{i}}", "text_model.encoder.layers.{i}", "c", "m"),
        *pair(f"{to}ln_final", "text_model.final_layer_norm", "c"),
    )


_CLIP = (
    *one("visual.class_embedding", "vision_model.embeddings.class_embedding", "C"),
    *one("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight", "C 3 h w"),
    *one("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight", "N C"),
    # the file's own spelling
    *pair("visual.ln_pre", "vision_model.pre_layrnorm", "C"),
    *_transformer("visual.transformer.resblocks.{i}", "vision_model.encoder.layers.{i}", "C", "M"),
    *pair("visual.ln_post", "vision_model.post_layernorm", "C"),
    *one("visual.proj", "visual_projection.weight", "E C", "transposed"),
    *_text(""),
    *one("text_projection", "text_projection.weight", "E c", "transposed"),
    *one("logit_scale", "logit_scale", ""),
)


def _siglip(patches: Row) -> tuple[Row, ...]:
    trunk, block, of = "visual.trunk", "visual.trunk.blocks.{i}", "vision_model.encoder.layers.{i}"
    pool, head = f"{trunk}.attn_pool", "vision_model.head"
    return (
        patches, *one(f"{trunk}.patch_embed.proj.bias", "vision_model.embeddings.patch_embedding.bias", "C"),
        *one(f"{trunk}.pos_embed", "vision_model.embeddings.position_embedding.weight", "P C", "with a batch"),
        *pair(f"{block}.norm1", f"{of}.layer_norm1", "C"), *pair(f"{block}.norm2", f"{of}.layer_norm2", "C"),
        *one(f"{block}.attn.qkv.weight", f"{of}.self_attn.{_QKV}.weight", "C C"),
        *one(f"{block}.attn.qkv.bias", f"{of}.self_attn.{_QKV}.bias", "C"),
        *pair(f"{block}.attn.proj", f"{of}.self_attn.out_proj", "C C"),
        *pair(f"{block}.mlp.fc1", f"{of}.mlp.fc1", "M C"), *pair(f"{block}.mlp.fc2", f"{of}.mlp.fc2", "C M"),
        *pair(f"{trunk}.norm", "vision_model.post_layernorm", "C"),
        *one(f"{pool}.latent", f"{head}.probe", "1 1 C"), *pair(f"{pool}.norm", f"{head}.layernorm", "C"),
        *one(f"{pool}.q.weight", f"{head}.attention.in_proj_weight", "K C", "queries"),
        *one(f"{pool}.q.bias", f"{head}.attention.in_proj_bias", "K", "queries"),
        *one(f"{pool}.kv.weight", f"{head}.attention.in_proj_weight", "K C", "keys and values"),
        *one(f"{pool}.kv.bias", f"{head}.attention.in_proj_bias", "K", "keys and values"),
        *pair(f"{pool}.proj", f"{head}.attention.out_proj", "C C"),
        *pair(f"{pool}.mlp.fc1", f"{head}.mlp.fc1", "M C"), *pair(f"{pool}.mlp.fc2", f"{head}.mlp.fc2", "C M"),
        *_text("text."), *pair("text.text_projection", "text_model.head", "E c"),
        *one("logit_scale", "logit_scale", "1"), *one("logit_bias", "logit_bias", "1"),
    )  # fmt: skip


_PATCHES = "vision_model.embeddings.patch_embedding.weight"
_SIGLIP = _siglip(Row("visual.trunk.patch_embed.proj.weight", _PATCHES, "C 3 h w"))
# a linear layer on the pixels of a patch: row, column, channel
_SIGLIP2 = _siglip(Row("visual.trunk.patch_embed.proj.weight", _PATCHES, "C F", "as a convolution"))


def _tips_ends(of: str, tokens: str, position: str, patches: str, norm: str) -> tuple[Row, ...]:
    trunk = "visual.trunk"
    return (
        *one(f"{trunk}.cls_token", f"{of}cls_token", "1 1 C"), *one(f"{trunk}.reg_token", f"{of}{tokens}", "1 R C"),
        *one(f"{trunk}.pos_embed", f"{of}{position}", "1 Q C"),
        *one(f"{trunk}.patch_embed.proj.weight", f"{of}{patches}.weight", "C 3 h w"),
        *one(f"{trunk}.patch_embed.proj.bias", f"{of}{patches}.bias", "C"), *pair(f"{trunk}.norm", norm, "C"),
    )  # fmt: skip


def _tips_block(of: str, mlp: tuple[str, str], gated: tuple[str, str]) -> tuple[Row, ...]:
    block = "visual.trunk.blocks.{i}"
    parts = [
        *pair(f"{block}.mlp.fc1", f"{of}.mlp.{mlp[0]}", "M C"), *pair(f"{block}.mlp.fc2", f"{of}.mlp.{mlp[1]}", "C M"),
        *pair(f"{block}.mlp.fc1", f"{of}.mlp.{gated[0]}", "G C"), *pair(f"{block}.mlp.fc2", f"{of}.mlp.{gated[1]}", "C M"),
    ]  # fmt: skip
    return (
        *pair(f"{block}.norm1", f"{of}.norm1", "C"), *pair(f"{block}.norm2", f"{of}.norm2", "C"),
        *(Row(row.to, row.of, row.shape, needed=False) for row in parts),
    )  # fmt: skip


def _tips_attention(parts: str, out: str) -> tuple[Row, ...]:
    block = "visual.trunk.blocks.{i}.attn"
    rows = (
        *one(f"{block}.qkv.weight", f"{parts}.weight", "C C"), *one(f"{block}.qkv.bias", f"{parts}.bias", "C"),
        *pair(f"{block}.proj", out, "C C"),
    )  # fmt: skip
    return tuple(Row(row.to, row.of, row.shape, needed=False) for row in rows)


_BLOCK = "visual.trunk.blocks.{i}"
_VISION, _ENCODER = "vision_model.encoder.layer.{i}", "vision_encoder.blocks.{i}"
# the class's own names
_TIPS = (
    *_tips_ends(
        "vision_model.embeddings.", "register_tokens", "position_embeddings", "patch_embeddings.projection", "vision_model.layernorm"
    ),
    *_tips_block(_VISION, ("fc1", "fc2"), ("weights_in", "weights_out")),
    # DINOv2's names, which all models use since transformers 5
    *_tips_attention(f"{_VISION}.attention.attention.{{query,key,value}}", f"{_VISION}.attention.output.dense"),
    *_tips_attention(f"{_VISION}.attention.{_QKV}", f"{_VISION}.attention.o_proj"),
    *one(f"{_BLOCK}.ls1.gamma", f"{_VISION}.layer_scale1.lambda1", "C"),
    *one(f"{_BLOCK}.ls2.gamma", f"{_VISION}.layer_scale2.lambda1", "C"),
    *one("text.token_embedding.weight", "text_model.embeddings.token_embedding.weight", "V c"),
    *_transformer("text.transformer.resblocks.{i}", "text_model.encoder.layers.{i}", "c", "m"),
    *pair("text.ln_final", "text_model.final_layer_norm", "c"),
    *one("logit_scale", "temperature", "", "as a logarithm", needed=False),
)
_OWN = "transformer.resblocks.{i}"
# the names that it writes into files, nearly TIPS's and open_clip's
_TIPS_FILE = (
    *_tips_ends("vision_encoder.", "register_tokens", "pos_embed", "patch_embed.proj", "vision_encoder.norm"),
    *_tips_block(_ENCODER, ("c_fc", "c_proj"), ("w12", "w3")),
    *one(f"{_BLOCK}.attn.qkv.weight", f"{_ENCODER}.attn.qkv.weight", "K C"),
    *one(f"{_BLOCK}.attn.qkv.bias", f"{_ENCODER}.attn.qkv.bias", "K"),
    *pair(f"{_BLOCK}.attn.proj", f"{_ENCODER}.attn.proj", "C C"),
    *one(f"{_BLOCK}.ls1.gamma", f"{_ENCODER}.ls1.gamma", "C"), *one(f"{_BLOCK}.ls2.gamma", f"{_ENCODER}.ls2.gamma", "C"),
    *one("text.token_embedding.weight", "text_encoder.token_embedding.weight", "V c"),
    *pair(f"text.{_OWN}.ln_1", f"text_encoder.{_OWN}.ln_1", "c"), *pair(f"text.{_OWN}.ln_2", f"text_encoder.{_OWN}.ln_2", "c"),
    *one(f"text.{_OWN}.attn.in_proj_weight", f"text_encoder.{_OWN}.attn.in_proj_weight", "k c"),
    *one(f"text.{_OWN}.attn.in_proj_bias", f"text_encoder.{_OWN}.attn.in_proj_bias", "k"),
    *pair(f"text.{_OWN}.attn.out_proj", f"text_encoder.{_OWN}.attn.out_proj", "c c"),
    *pair(f"text.{_OWN}.mlp.c_fc", f"text_encoder.{_OWN}.mlp.c_fc", "m c"),
    *pair(f"text.{_OWN}.mlp.c_proj", f"text_encoder.{_OWN}.mlp.c_proj", "c m"),
    *pair("text.ln_final", "text_encoder.ln_final", "c"),
    *one("logit_scale", "temperature", "", "as a logarithm", needed=False),
)  # fmt: skip

LAYOUTS = (
    Layout("a CLIPModel", "vision_model.embeddings.class_embedding", _CLIP, _POSITIONS),
    Layout("a SiglipModel", "vision_model.head.probe", _SIGLIP, _POSITIONS),
    Layout("a Siglip2Model", "vision_model.head.probe", _SIGLIP2, _POSITIONS),
    Layout("a Tipsv2Model", "vision_model.embeddings.register_tokens", _TIPS, (*_POSITIONS, r"vision_model\.embeddings\.mask_token")),
    Layout("a Tipsv2Model", "vision_encoder.register_tokens", _TIPS_FILE, (r"vision_encoder\.mask_token",)),
)


def joined_class_position(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """TIPSv2's tower in timm's form: the class token's position, row 0 of the table, is added to the token; registers have none."""
    cls, pos = (state[f"visual.trunk.{name}"] for name in ("cls_token", "pos_embed"))
    # the sum is exact for half precision too
    summed = (cls.double() + pos[:, :1].double()).to(torch.promote_types(cls.dtype, torch.float32))
    return {**state, "visual.trunk.cls_token": summed, "visual.trunk.pos_embed": pos[:, 1:]}
