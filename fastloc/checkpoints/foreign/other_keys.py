"""The tensor names of Meta's Perception Encoder and Apple's MobileCLIP-B. The targets are timm's and open_clip's names.

Letters as in `transformers_keys`; k, K: queries, keys and values in one.
"""

from fastloc.checkpoints.foreign.renaming import Layout, Row, one, pair

__all__ = ["LAYOUTS"]

_TRUNK, _BLOCK = "visual.trunk", "visual.trunk.blocks.{i}"
_POOL = f"{_TRUNK}.attn_pool"


def _resblocks(to: str, of: str) -> tuple[Row, ...]:
    """The rows of a text tower's blocks, whose names are open_clip's."""
    return (
        *pair(f"{to}.ln_1", f"{of}.ln_1", "c"), *pair(f"{to}.ln_2", f"{of}.ln_2", "c"),
        *one(f"{to}.attn.in_proj_weight", f"{of}.attn.in_proj_weight", "k c"),
        *one(f"{to}.attn.in_proj_bias", f"{of}.attn.in_proj_bias", "k"),
        *pair(f"{to}.attn.out_proj", f"{of}.attn.out_proj", "c c"),
        *pair(f"{to}.mlp.c_fc", f"{of}.mlp.c_fc", "m c"), *pair(f"{to}.mlp.c_proj", f"{of}.mlp.c_proj", "c m"),
    )  # fmt: skip


_PE_BLOCK, _PE_POOL = "visual.transformer.resblocks.{i}", "visual.attn_pool"
_PE = (
    # the largest model has none
    *one(f"{_TRUNK}.cls_token", "visual.class_embedding", "C", "as a token", needed=False),
    *one(f"{_TRUNK}.patch_embed.proj.weight", "visual.conv1.weight", "C 3 h w"),
    *one(f"{_TRUNK}.pos_embed", "visual.positional_embedding", "N C", "with a batch"),
    *pair(f"{_TRUNK}.norm_pre", "visual.ln_pre", "C"),
    *pair(f"{_BLOCK}.norm1", f"{_PE_BLOCK}.ln_1", "C"), *pair(f"{_BLOCK}.norm2", f"{_PE_BLOCK}.ln_2", "C"),
    *one(f"{_BLOCK}.attn.qkv.weight", f"{_PE_BLOCK}.attn.in_proj_weight", "K C"),
    *one(f"{_BLOCK}.attn.qkv.bias", f"{_PE_BLOCK}.attn.in_proj_bias", "K"),
    *pair(f"{_BLOCK}.attn.proj", f"{_PE_BLOCK}.attn.out_proj", "C C"),
    *pair(f"{_BLOCK}.mlp.fc1", f"{_PE_BLOCK}.mlp.c_fc", "M C"), *pair(f"{_BLOCK}.mlp.fc2", f"{_PE_BLOCK}.mlp.c_proj", "C M"),
    *pair(f"{_TRUNK}.norm", "visual.ln_post", "C"),
    *one(f"{_POOL}.latent", f"{_PE_POOL}.probe", "1 1 C"), *pair(f"{_POOL}.norm", f"{_PE_POOL}.layernorm", "C"),
    *one(f"{_POOL}.q.weight", f"{_PE_POOL}.attn.in_proj_weight", "K C", "queries"),
    *one(f"{_POOL}.q.bias", f"{_PE_POOL}.attn.in_proj_bias", "K", "queries"),
    *one(f"{_POOL}.kv.weight", f"{_PE_POOL}.attn.in_proj_weight", "K C", "keys and values"),
    *one(f"{_POOL}.kv.bias", f"{_PE_POOL}.attn.in_proj_bias", "K", "keys and values"),
    *pair(f"{_POOL}.proj", f"{_PE_POOL}.attn.out_proj", "C C"),
    *pair(f"{_POOL}.mlp.fc1", f"{_PE_POOL}.mlp.c_fc", "M C"), *pair(f"{_POOL}.mlp.fc2", f"{_PE_POOL}.mlp.c_proj", "C M"),
    *one(f"{_TRUNK}.head.weight", "visual.proj", "C E", "transposed"),
    *one("text.token_embedding.weight", "token_embedding.weight", "V c"), *one("text.positional_embedding", "positional_embedding", "L c"),
    *_resblocks("text.transformer.resblocks.{i}", "transformer.resblocks.{i}"), *pair("text.ln_final", "ln_final", "c"),
    *one("text.text_projection", "text_projection", "c E"), *one("logit_scale", "logit_scale", ""),
)  # fmt: skip

_IMAGE, _STEM = "image_encoder.model", f"{_TRUNK}.patch_embed.backbone"
_OF, _TEXT, _TEXT_BLOCK = f"{_IMAGE}.transformer.{{i}}", "text_encoder.transformer.{i}", "text.transformer.resblocks.{i}"


def _convolution(number: int, shape: str) -> tuple[Row, ...]:
    """The rows of one convolution of the stem, with its BatchNorm."""
    to, of = f"{_STEM}.{number}", f"{_IMAGE}.patch_emb.{number}.block"
    norm = ("weight", "bias", "running_mean", "running_var")
    rows = (one(f"{to}.bn.{name}", f"{of}.norm.{name}", shape[0]) for name in norm)
    return (*one(f"{to}.conv.weight", f"{of}.conv.weight", shape), *(row for each in rows for row in each))


_MOBILECLIP = (
    *_convolution(0, "Q 3 4 4"), *_convolution(1, "Q Q 2 2"), *pair(f"{_STEM}.2.conv", f"{_IMAGE}.patch_emb.2.block.conv", "C Q 2 2"),
    *one(f"{_TRUNK}.cls_token", f"{_IMAGE}.cls_token", "1 1 C"),
    *one(f"{_TRUNK}.pos_embed", f"{_IMAGE}.pos_embed.pos_embed.pos_embed", "1 1 N C", "without a batch"),
    *pair(f"{_BLOCK}.norm1", f"{_OF}.pre_norm_mha.0", "C"),
    *one(f"{_BLOCK}.attn.qkv.weight", f"{_OF}.pre_norm_mha.1.qkv_proj.weight", "K C"),
    *one(f"{_BLOCK}.attn.qkv.bias", f"{_OF}.pre_norm_mha.1.qkv_proj.bias", "K"),
    *pair(f"{_BLOCK}.attn.proj", f"{_OF}.pre_norm_mha.1.out_proj", "C C"),
    *pair(f"{_BLOCK}.norm2", f"{_OF}.pre_norm_ffn.0", "C"),
    *pair(f"{_BLOCK}.mlp.fc1", f"{_OF}.pre_norm_ffn.1", "M C"), *pair(f"{_BLOCK}.mlp.fc2", f"{_OF}.pre_norm_ffn.4", "C M"),
    *pair(f"{_TRUNK}.norm", f"{_IMAGE}.post_transformer_norm", "C"),
    *one(f"{_TRUNK}.head.weight", f"{_IMAGE}.classifier.proj", "C E", "transposed"),
    *one("text.token_embedding.weight", "text_encoder.embedding_layer.weight", "V c"),
    *one("text.positional_embedding", "text_encoder.positional_embedding.pos_embed.pos_embed", "1 1 L c", "without two batches"),
    *pair(f"{_TEXT_BLOCK}.ln_1", f"{_TEXT}.pre_norm_mha.0", "c"),
    *one(f"{_TEXT_BLOCK}.attn.in_proj_weight", f"{_TEXT}.pre_norm_mha.1.qkv_proj.weight", "k c"),
    *one(f"{_TEXT_BLOCK}.attn.in_proj_bias", f"{_TEXT}.pre_norm_mha.1.qkv_proj.bias", "k"),
    *pair(f"{_TEXT_BLOCK}.attn.out_proj", f"{_TEXT}.pre_norm_mha.1.out_proj", "c c"),
    *pair(f"{_TEXT_BLOCK}.ln_2", f"{_TEXT}.pre_norm_ffn.0", "c"),
    *pair(f"{_TEXT_BLOCK}.mlp.c_fc", f"{_TEXT}.pre_norm_ffn.1", "m c"),
    *pair(f"{_TEXT_BLOCK}.mlp.c_proj", f"{_TEXT}.pre_norm_ffn.4", "c m"),
    *pair("text.ln_final", "text_encoder.final_layer_norm", "c"),
    *one("text.text_projection", "text_encoder.projection_layer", "c E"), *one("logit_scale", "logit_scale", ""),
)  # fmt: skip

LAYOUTS = (
    Layout("a PE", "visual.attn_pool.probe", _PE),
    Layout("Apple's MobileCLIP-B", f"{_IMAGE}.patch_emb.0.block.conv.weight", _MOBILECLIP, (r".*\.num_batches_tracked",)),
)
