"""Image towers out of state dicts: the names that open_clip and timm give a ViT's tensors, in one table each.

`fastloc.checkpoints.loading` renames other layouts to one of these first.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical.take import Take
from fastloc.checkpoints.hierarchical.vitamin import map_stem
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, Pool, Stem, Weights
from fastloc.errors import ModelError

__all__ = ["from_open_clip", "text_blocks"]

# a tensor's name and its shape in letters, see _letters; several names are one tensor, each a part of its first axis
_Keys = dict[str, tuple[str, str]]

# open_clip's names under visual.transformer.resblocks.{i}.
_OPEN_CLIP_BLOCK: _Keys = {
    "ln1_w": ("ln_1.weight", "C"), "ln1_b": ("ln_1.bias", "C"),
    "qkv_w": ("attn.in_proj_weight", "3C C"), "qkv_b": ("attn.in_proj_bias", "3C"),
    "out_w": ("attn.out_proj.weight", "C C"), "out_b": ("attn.out_proj.bias", "C"),
    "ln2_w": ("ln_2.weight", "C"), "ln2_b": ("ln_2.bias", "C"),
    "fc_w": ("mlp.c_fc.weight", "G C"), "fc_b": ("mlp.c_fc.bias", "G"),
    "proj_w": ("mlp.c_proj.weight", "C M"), "proj_b": ("mlp.c_proj.bias", "C"),
    "ls1": ("ls_1.gamma", "C"), "ls2": ("ls_2.gamma", "C"),
    "attn_norm_w": ("attn.ln_inner.weight", "C"), "attn_norm_b": ("attn.ln_inner.bias", "C"),
    "mlp_norm_w": ("mlp.ln.weight", "M"), "mlp_norm_b": ("mlp.ln.bias", "M"),
    "q_norm_w": ("attn.ln_q.weight", "d"), "q_norm_b": ("attn.ln_q.bias", "d"),
    "k_norm_w": ("attn.ln_k.weight", "d"), "k_norm_b": ("attn.ln_k.bias", "d"),
}  # fmt: skip
_OPEN_CLIP_TOWER: _Keys = {
    "patch_w": ("conv1.weight", "C 3 h w"), "ln_pre_w": ("ln_pre.weight", "C"), "ln_pre_b": ("ln_pre.bias", "C"),
    "ln_post_w": ("ln_post.weight", "C"), "ln_post_b": ("ln_post.bias", "C"), "proj": ("proj", "C E"),
}  # fmt: skip
# timm's under visual.trunk.blocks.{i}. ; what has other names in Eva is looked for below
_TIMM_BLOCK: _Keys = {
    "ln1_w": ("norm1.weight", "C"), "ln1_b": ("norm1.bias", "C"),
    "out_w": ("attn.proj.weight", "C C"), "out_b": ("attn.proj.bias", "C"),
    "ln2_w": ("norm2.weight", "C"), "ln2_b": ("norm2.bias", "C"),
    "proj_w": ("mlp.fc2.weight", "C M"), "proj_b": ("mlp.fc2.bias", "C"),
    "ls1": ("ls1.gamma", "C"), "ls2": ("ls2.gamma", "C"),
    "attn_norm_w": ("attn.norm.weight", "C"), "attn_norm_b": ("attn.norm.bias", "C"),
    "mlp_norm_w": ("mlp.norm.weight", "M"), "mlp_norm_b": ("mlp.norm.bias", "M"),
    "q_norm_w": ("attn.q_norm.weight", "d"), "q_norm_b": ("attn.q_norm.bias", "d"),
    "k_norm_w": ("attn.k_norm.weight", "d"), "k_norm_b": ("attn.k_norm.bias", "d"),
    "relative_in_w": ("attn.rel_pos.mlp.fc1.weight", "I 2"), "relative_in_b": ("attn.rel_pos.mlp.fc1.bias", "I"),
    "relative_out_w": ("attn.rel_pos.mlp.fc2.weight", "H I"), "relative_out_b": ("attn.rel_pos.mlp.fc2.bias", "H"),
}  # fmt: skip
# ViTamin's MLP, which begins with the LayerNorm that stands inside EVA's
_VITAMIN_BLOCK: _Keys = {name: key for name, key in _TIMM_BLOCK.items() if not name.startswith(("proj_", "mlp_norm_"))} | {
    "proj_w": ("mlp.w2.weight", "C M"), "proj_b": ("mlp.w2.bias", "C"),
    "fc_norm_w": ("mlp.norm.weight", "C"), "fc_norm_b": ("mlp.norm.bias", "C"),
}  # fmt: skip
_TIMM_TOWER: _Keys = {
    "ln_pre_w": ("norm_pre.weight", "C"), "ln_pre_b": ("norm_pre.bias", "C"),
    "ln_post_w": ("norm.weight", "C"), "ln_post_b": ("norm.bias", "C"),
}  # fmt: skip
_TIMM_POOL: _Keys = {
    "q_w": ("q.weight", "C C"), "q_b": ("q.bias", "C"), "out_w": ("proj.weight", "C C"), "out_b": ("proj.bias", "C"),
    "norm_w": ("norm.weight", "C"), "norm_b": ("norm.bias", "C"), "fc_w": ("mlp.fc1.weight", "Q C"), "fc_b": ("mlp.fc1.bias", "Q"),
    "proj_w": ("mlp.fc2.weight", "C Q"), "proj_b": ("mlp.fc2.bias", "C"),
}  # fmt: skip
_NORM_EPS = 1e-5


class _State:
    """A state dict under a prefix; tensors are taken from it with a check of their shape."""

    def __init__(self, state: Mapping[str, Tensor], spec: ModelSpec) -> None:
        self.state, self.spec = state, spec
        self.letters = {
            "C": spec.width, "3C": 3 * spec.width, "2C": 2 * spec.width, "E": spec.embed, "P": spec.grid[0] * spec.grid[1], "3": 3, "1": 1,
            "N": spec.prefix + spec.grid[0] * spec.grid[1], "h": spec.patch[0], "w": spec.patch[1], "M": spec.mlp_width,
            "G": (1 + spec.gated) * spec.mlp_width, "d": spec.head_width, "R": spec.registers, "H": spec.heads, "I": spec.relative, "2": 2,
        }  # fmt: skip

    def has(self, key: str) -> bool:
        return key in self.state

    def take(self, key: str, shape: str) -> Tensor:
        """Take one tensor. Raises ModelError if it is missing or of another shape."""
        tensor = self.state.get(key)
        if tensor is None:
            found = ", ".join(sorted(self.state)[:3]) or "nothing"
            raise ModelError(f"weights of another architecture: {key!r} is missing (the file holds {found}, …)")
        expected = tuple(self.letters[letter] for letter in shape.split())
        if tuple(tensor.shape) != expected:
            raise ModelError(f"weights of another architecture: {key!r} must have shape {expected}, got {tuple(tensor.shape)}")
        return tensor.detach()

    def maybe(self, key: str, shape: str, there: bool) -> Tensor | None:
        """Take a tensor that only some towers have. Raises ModelError also if it exists against the spec."""
        if there:
            return self.take(key, shape)
        if self.has(key):
            raise ModelError(f"weights of another architecture: {key!r} is there, and the model has no such part")
        return None

    def bias(self, key: str, shape: str) -> Tensor:
        """Take a bias, zeros if there is none."""
        return self.take(key, shape) if self.has(key) else torch.zeros([self.letters[letter] for letter in shape.split()])

    def all(self, keys: _Keys, prefix: str) -> dict[str, Any]:
        """Take the tensors of a table; those that the spec excludes are None."""
        absent = _absent(self.spec)
        return {name: self.maybe(prefix + key, shape, name not in absent) for name, (key, shape) in keys.items()}

    def end(self, key: str, layers: int) -> None:
        if self.has(key):
            raise ModelError(f"weights of another architecture: {key!r} is there, but the model has {layers} blocks")


def from_open_clip(state: Mapping[str, Tensor], spec: ModelSpec) -> Weights:
    """Take the image tower out of an open_clip state dict (keys `visual.…`, of any dtype). Tensors are shared, not copied.

    A tower that open_clip takes from timm has timm's names behind `visual.trunk.`.

    Raises:
        ModelError: a tensor is missing, or its shape is not the spec's; the message names key and shapes.
    """
    taken = _State(state, spec)
    if any(name.startswith("visual.trunk.") for name in state):
        return _timm(taken)
    return _open_clip(taken)


def text_blocks(state: Mapping[str, Tensor], spec: ModelSpec) -> tuple[Block, ...]:
    """The blocks of an open_clip text tower (keys `transformer.…`), which are named like the image tower's.

    Raises:
        ModelError: a tensor is missing, or its shape is not the spec's.
    """
    taken = _State(state, spec)
    return tuple(Block(**taken.all(_OPEN_CLIP_BLOCK, f"transformer.resblocks.{i}.")) for i in range(spec.layers))


def _absent(spec: ModelSpec) -> set[str]:
    """The fields without tensors in a tower of this spec."""
    parts = {
        ("ln_pre_w", "ln_pre_b"): spec.ln_pre, ("ls1", "ls2"): spec.layer_scale,
        ("attn_norm_w", "attn_norm_b"): spec.attn_norm, ("mlp_norm_w", "mlp_norm_b"): spec.mlp_norm,
        ("q_norm_w", "q_norm_b", "k_norm_w", "k_norm_b"): spec.qk_norm,
        ("relative_in_w", "relative_in_b", "relative_out_w", "relative_out_b"): spec.relative > 0,
    }  # fmt: skip
    return {name for names, there in parts.items() if not there for name in names}


def _open_clip(taken: _State) -> Weights:
    spec = taken.spec
    for there, key in ((spec.fc_norm, "mlp.norm.weight"), (spec.relative > 0, "attn.rel_pos.mlp.fc1.weight")):
        if there:
            # only timm's names have such a part
            taken.take(f"visual.trunk.blocks.0.{key}", "C")
    keys = dict(_OPEN_CLIP_TOWER)
    pool = None
    if spec.pool == "attn":
        pool = _coca_pool(taken, "visual.attn_pool.")
        keys |= {"ln_post_w": ("attn_pool.ln_k.weight", "C"), "ln_post_b": ("attn_pool.ln_k.bias", "C"), "proj": ("proj", "E E")}
    tower = taken.all(keys, "visual.")
    blocks = tuple(Block(**taken.all(_OPEN_CLIP_BLOCK, f"visual.transformer.resblocks.{i}.")) for i in range(spec.layers))
    taken.end(f"visual.transformer.resblocks.{spec.layers}.ln_1.weight", spec.layers)
    prefix, pos = taken.take("visual.class_embedding", "C")[None], taken.take("visual.positional_embedding", "N C")
    return Weights(spec=spec, blocks=blocks, prefix=prefix, pos=pos, pool=pool, **tower)


def _coca_pool(taken: _State, start: str) -> Pool:
    """open_clip's AttentionalPooler; the image embedding reads its first query."""
    width = taken.letters["E"]
    query = taken.state.get(f"{start}query")
    latent = taken.take(f"{start}query", f"{_letter(taken, 'Q', len(query) if query is not None else 0)} E")[0]
    norm = taken.take(f"{start}ln_q.weight", "E"), taken.take(f"{start}ln_q.bias", "E")
    taken.letters["3E"] = 3 * width
    q_b, k_b, v_b = taken.take(f"{start}attn.in_proj_bias", "3E").chunk(3)
    if width == taken.spec.width:
        q_w, k_w, v_w = taken.take(f"{start}attn.in_proj_weight", "3E E").chunk(3)
    else:
        q_w, k_w, v_w = (
            taken.take(f"{start}attn.{letter}_proj_weight", f"E {side}") for letter, side in (("q", "E"), ("k", "C"), ("v", "C"))
        )
    normed = F.layer_norm(latent.double(), (width,), norm[0].double(), norm[1].double(), _NORM_EPS).to(latent.dtype)
    return Pool(
        normed, q_w, q_b, k_w, k_b, v_w, v_b,
        taken.take(f"{start}attn.out_proj.weight", "E E"), taken.take(f"{start}attn.out_proj.bias", "E"),
        taken.take("visual.ln_post.weight", "E"), taken.take("visual.ln_post.bias", "E"),
    )  # fmt: skip


def _letter(taken: _State, letter: str, value: int) -> str:
    taken.letters[letter] = value
    return letter


def _timm(taken: _State) -> Weights:
    spec, trunk = taken.spec, "visual.trunk."
    # fc_norm is the name of a last LayerNorm that comes after the mean
    keys = dict(_TIMM_TOWER)
    if spec.norm_after_pool:
        keys |= {"ln_post_w": ("fc_norm.weight", "C"), "ln_post_b": ("fc_norm.bias", "C")}
    tower = taken.all(keys, trunk)
    blocks = tuple(_timm_block(taken, f"{trunk}blocks.{i}.") for i in range(spec.layers))
    taken.end(f"{trunk}blocks.{spec.layers}.norm1.weight", spec.layers)
    prefix, pos = _timm_prefix(taken, trunk)
    pool = _map_pool(taken, f"{trunk}attn_pool.") if spec.pool == "attn" else None
    return Weights(spec=spec, blocks=blocks, prefix=prefix, pos=pos, pool=pool, **tower, **_timm_stem(taken, trunk), **_timm_head(taken))


def _timm_block(taken: _State, start: str) -> Block:
    spec = taken.spec
    parts = taken.all(_VITAMIN_BLOCK if spec.fc_norm else _TIMM_BLOCK, start)
    if taken.has(f"{start}attn.qkv.weight"):
        qkv_w = taken.take(f"{start}attn.qkv.weight", "3C C")
    else:
        qkv_w = torch.cat([taken.take(f"{start}attn.{letter}_proj.weight", "C C") for letter in "qkv"])
    if taken.has(f"{start}attn.qkv.bias"):
        qkv_b = taken.take(f"{start}attn.qkv.bias", "3C")
    else:
        # Eva's queries and values have one each, in one of two spellings, and its keys none
        names = [f"{start}attn.{letter}_bias" for letter in "qkv"]
        names = names if taken.has(names[0]) else [f"{start}attn.{letter}_proj.bias" for letter in "qkv"]
        qkv_b = torch.cat([taken.bias(name, "C") for name in names])
    halves = ("w0", "w1") if spec.fc_norm else ("fc1_g", "fc1_x")
    if spec.gated and taken.has(f"{start}mlp.{halves[0]}.weight"):
        fc_w = torch.cat([taken.take(f"{start}mlp.{half}.weight", "M C") for half in halves])
        fc_b = torch.cat([taken.take(f"{start}mlp.{half}.bias", "M") for half in halves])
    else:
        fc_w, fc_b = taken.take(f"{start}mlp.fc1.weight", "G C"), taken.take(f"{start}mlp.fc1.bias", "G")
    return Block(qkv_w=qkv_w, qkv_b=qkv_b.to(qkv_w), fc_w=fc_w, fc_b=fc_b, **parts)


def _timm_prefix(taken: _State, trunk: str) -> tuple[Tensor, Tensor]:
    """The tokens in front of the patches, and every token's position, zeros for tokens without one."""
    spec, tokens = taken.spec, []
    if spec.class_token:
        tokens.append(taken.take(f"{trunk}cls_token", "1 1 C")[0])
    if spec.registers:
        tokens.append(taken.take(f"{trunk}reg_token", "1 R C")[0])
    found = taken.state.get(f"{trunk}pos_embed")
    every = found is not None and found.ndim == 3 and found.shape[1] == taken.letters["N"]
    found = taken.maybe(f"{trunk}pos_embed", "1 N C" if every else "1 P C", spec.position)
    pos = torch.zeros(taken.letters["P"], spec.width) if found is None else found[0]
    prefix = torch.cat(tokens) if tokens else pos.new_zeros(0, spec.width)
    return prefix, pos if every else torch.cat([pos.new_zeros(spec.prefix, spec.width), pos])


def _timm_stem(taken: _State, trunk: str) -> dict[str, Any]:
    if taken.spec.stem == "patch":
        start = f"{trunk}patch_embed.proj."
        bias = taken.take(f"{start}bias", "C") if taken.has(f"{start}bias") else None
        return {"patch_w": taken.take(f"{start}weight", "C 3 h w"), "patch_b": bias}
    if taken.spec.stem == "mbconv":
        return map_stem(Take(taken.state, f"{trunk}patch_embed.backbone."), taken.spec.stem_width, taken.spec.width)
    return _conv_stem(taken, f"{trunk}patch_embed.backbone.")


def _conv_stem(taken: _State, start: str) -> dict[str, Any]:
    """MobileCLIP-B's stem: three convolutions, the first two followed by BatchNorm."""
    taken.letters |= {"Q": taken.spec.width // 4, "4": 4}
    first_w, first_b = _without_batch_norm(taken, f"{start}0.", "Q 3 4 4")
    second_w, second_b = _without_batch_norm(taken, f"{start}1.", "Q Q 2 2")
    last = Stem(taken.take(f"{start}2.conv.weight", "C Q 2 2"), taken.take(f"{start}2.conv.bias", "C"))
    return {"patch_w": first_w, "patch_b": first_b, "stem": (Stem(second_w, second_b), last)}


def _without_batch_norm(taken: _State, start: str, shape: str) -> tuple[Tensor, Tensor]:
    kernel = taken.take(f"{start}conv.weight", shape)
    weight, bias, mean, variance = (
        taken.take(f"{start}bn.{name}", "Q").double() for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight * torch.rsqrt(variance + _NORM_EPS)
    return (kernel.double() * scale[:, None, None, None]).to(kernel.dtype), (bias - mean * scale).to(kernel.dtype)


def _map_pool(taken: _State, start: str) -> Pool:
    """The pool of timm's AttentionPoolLatent."""
    hidden = taken.state.get(f"{start}mlp.fc1.bias")
    # the pool's MLP has another width than the trunk's
    taken.letters["Q"] = hidden.numel() if hidden is not None else taken.letters["M"]
    kv_w, kv_b = taken.take(f"{start}kv.weight", "2C C"), taken.bias(f"{start}kv.bias", "2C")
    (k_w, v_w), (k_b, v_b) = kv_w.chunk(2), kv_b.chunk(2)
    parts = {name: taken.take(start + key, shape) for name, (key, shape) in _TIMM_POOL.items()}
    return Pool(latent=taken.take(f"{start}latent", "1 1 C")[0, 0], k_w=k_w, k_b=k_b, v_w=v_w, v_b=v_b, **parts)


def _timm_head(taken: _State) -> dict[str, Any]:
    """The projection: timm's own classifier, or open_clip's behind the trunk; a tower that has none ends in the text's space."""
    for start in ("visual.trunk.head.", "visual.head.proj."):
        if taken.has(f"{start}weight"):
            weight = taken.take(f"{start}weight", "E C")
            return {"proj": weight.T, "proj_b": taken.take(f"{start}bias", "E") if taken.has(f"{start}bias") else None}
    unexpected = next((name for name in taken.state if name.startswith(("visual.head.", "visual.trunk.head."))), None)
    if unexpected is not None:
        raise ModelError(f"weights of another architecture: {unexpected!r} is there, and the model has no such part")
    if taken.spec.embed != taken.spec.width:
        raise ModelError(
            f"weights of another architecture: 'visual.trunk.head.weight' is missing, which makes {taken.spec.embed} channels of "
            f"{taken.spec.width}"
        )
    return {"proj": None, "proj_b": None}
