"""A family's small tower on disk, as open_clip writes a model: a configuration that describes it field by field, and timm's names."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

import families
from fastloc.bench.peers.seeded import seeded_array
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Pool, Weights

# a text tower that reads its last token, as SigLIP's does
TEXT = {"context_length": 64, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, "pool_type": "last", "no_causal_mask": True}
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear", "resize_mode": "squash"}
# a field of a block and its name in timm
_BLOCK = {
    "ln1_w": "norm1.weight", "ln1_b": "norm1.bias", "qkv_w": "attn.qkv.weight", "qkv_b": "attn.qkv.bias", "out_w": "attn.proj.weight",
    "out_b": "attn.proj.bias", "ln2_w": "norm2.weight", "ln2_b": "norm2.bias", "fc_w": "mlp.fc1.weight", "fc_b": "mlp.fc1.bias",
    "proj_w": "mlp.fc2.weight", "proj_b": "mlp.fc2.bias", "ls1": "ls1.gamma", "ls2": "ls2.gamma", "attn_norm_w": "attn.norm.weight",
    "attn_norm_b": "attn.norm.bias", "mlp_norm_w": "mlp.norm.weight", "mlp_norm_b": "mlp.norm.bias",
    "relative_in_w": "attn.rel_pos.mlp.fc1.weight", "relative_in_b": "attn.rel_pos.mlp.fc1.bias",
    "relative_out_w": "attn.rel_pos.mlp.fc2.weight", "relative_out_b": "attn.rel_pos.mlp.fc2.bias",
}  # fmt: skip
_POOL = {
    "q_w": "q.weight", "q_b": "q.bias", "out_w": "proj.weight", "out_b": "proj.bias", "norm_w": "norm.weight", "norm_b": "norm.bias",
    "fc_w": "mlp.fc1.weight", "fc_b": "mlp.fc1.bias", "proj_w": "mlp.fc2.weight", "proj_b": "mlp.fc2.bias",
}  # fmt: skip
_UNSAID = ("embed", "mean", "std", "interpolation")


def folder(path: Path, name: str, preprocess: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write the tower `families.tower(name, **changes)` with a seeded text tower; pixels are SigLIP's unless `preprocess` is given."""
    tower = families.tower(name, torch.float32, **changes)
    path.mkdir(parents=True, exist_ok=True)
    fields = {key: value for key, value in asdict(tower.spec).items() if key not in _UNSAID}
    config = {"embed_dim": tower.spec.embed, "vision_cfg": {"vit": fields}, "text_cfg": TEXT}
    content = {"model_cfg": config, "preprocess_cfg": HALF if preprocess is None else preprocess}
    (path / "open_clip_config.json").write_text(json.dumps(content))
    state = {**trunk(tower), **_text(tower.spec)}
    save_file({key: tensor.clone().contiguous() for key, tensor in state.items()}, path / "open_clip_model.safetensors")
    return path


def trunk(tower: Weights) -> dict[str, Tensor]:
    """The tower as timm names it, behind `visual.`."""
    spec, start = tower.spec, "visual.trunk."
    norm = "fc_norm" if spec.norm_after_pool else "norm"
    found = {
        f"{start}pos_embed": tower.pos[None] if spec.position else None, f"{start}patch_embed.proj.weight": tower.patch_w,
        f"{start}patch_embed.proj.bias": tower.patch_b, f"{start}norm_pre.weight": tower.ln_pre_w, f"{start}norm_pre.bias": tower.ln_pre_b,
        f"{start}{norm}.weight": tower.ln_post_w, f"{start}{norm}.bias": tower.ln_post_b,
        "visual.head.proj.weight": None if tower.proj is None else tower.proj.T, "visual.head.proj.bias": tower.proj_b,
        f"{start}cls_token": tower.prefix[None, :1] if spec.class_token else None,
        f"{start}reg_token": tower.prefix[None, int(spec.class_token) :] if spec.registers else None,
    }  # fmt: skip
    for i, block in enumerate(tower.blocks):
        found |= {f"{start}blocks.{i}.{theirs}": getattr(block, ours) for ours, theirs in _BLOCK.items()}
    if tower.pool is not None:
        found |= _pool(tower.pool, f"{start}attn_pool.")
    return {key: tensor for key, tensor in found.items() if tensor is not None}


def _pool(pool: Pool, start: str) -> dict[str, Tensor | None]:
    tensors = {start + theirs: getattr(pool, ours) for ours, theirs in _POOL.items()}
    kv = {f"{start}kv.weight": torch.cat([pool.k_w, pool.v_w]), f"{start}kv.bias": torch.cat([pool.k_b, pool.v_b])}
    return {**tensors, **kv, f"{start}latent": pool.latent[None, None]}


def _text(spec: ModelSpec) -> dict[str, Tensor]:
    width, context, words = TEXT["width"], TEXT["context_length"], TEXT["vocab_size"]
    block = "transformer.resblocks.0."
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (words, width), "positional_embedding": (context, width), "text_projection": (width, spec.embed),
        "ln_final.weight": (width,), "ln_final.bias": (width,),
        f"{block}attn.in_proj_weight": (3 * width, width), f"{block}attn.in_proj_bias": (3 * width,),
        f"{block}attn.out_proj.weight": (width, width), f"{block}attn.out_proj.bias": (width,),
        f"{block}mlp.c_fc.weight": (4 * width, width), f"{block}mlp.c_fc.bias": (4 * width,),
        f"{block}mlp.c_proj.weight": (width, 4 * width), f"{block}mlp.c_proj.bias": (width,),
        **{f"{block}{norm}.{part}": (width,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")},
    }  # type: ignore[dict-item]  # fmt: skip
    made = {key: torch.from_numpy(seeded_array(f"text.{key}", shape, 0, 0.0, 0.3)).float() for key, shape in shapes.items()}
    return {**made, "logit_scale": torch.tensor(4.0)}
