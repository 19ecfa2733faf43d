"""SigLIP checkpoints of big_vision, its training code: an .npz of JAX's parameters.

Kernels are transposed with respect to torch, attention's have an axis of heads, and all blocks may lie in one array.
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fastloc.checkpoints.foreign.renaming import Layout, Row, one
from fastloc.errors import ModelError
from fastloc.utils import npz

__all__ = ["LAYOUT", "read"]

# the most arrays of a file: about seven for each block of both towers
ARRAYS = 4096
# the prefix of all names of a training state
_ROOT = "params/"
_STACKED = re.compile(r"(.*/encoderblock)/(.+)")
# whole name -> axes, and the change to torch's layout
_KERNELS: tuple[tuple[str, int, Callable[[Tensor], Tensor]], ...] = (
    (r"img/embedding/kernel", 4, lambda kernel: kernel.permute(3, 2, 0, 1)),
    (r".*/(query|key|value)/kernel", 3, lambda kernel: kernel.flatten(1).T),
    (r".*/(query|key|value)/bias", 2, lambda bias: bias.flatten()),
    (r".*/out/kernel", 3, lambda kernel: kernel.permute(2, 0, 1).flatten(1)),
    (r".*/(Dense_\d|head)/kernel", 2, lambda kernel: kernel.T),
)


def _dense(to: str, of: str, shape: str) -> tuple[Row, ...]:
    return (*one(f"{to}.weight", f"{of}/kernel", shape), *one(f"{to}.bias", f"{of}/bias", shape[0]))


def _norm(to: str, of: str, width: str) -> tuple[Row, ...]:
    return (*one(f"{to}.weight", f"{of}/scale", width), *one(f"{to}.bias", f"{of}/bias", width))


_ATTENTION, _MLP = "MultiHeadDotProductAttention_0", "MlpBlock_0"
_IMAGE, _TEXT, _POOL = "img/Transformer/encoderblock_{i}", "txt/Encoder_0/encoderblock_{i}", "img/MAPHead_0"
_BLOCK, _TEXT_BLOCK, _HEAD = "visual.trunk.blocks.{i}", "text.transformer.resblocks.{i}", "visual.trunk.attn_pool"
LAYOUT = Layout(
    "a SigLIP of big_vision's", f"{_POOL}/probe",
    (
        *_dense("visual.trunk.patch_embed.proj", "img/embedding", "C 3 h w"), *one("visual.trunk.pos_embed", "img/pos_embedding", "1 P C"),
        *_norm(f"{_BLOCK}.norm1", f"{_IMAGE}/LayerNorm_0", "C"), *_norm(f"{_BLOCK}.norm2", f"{_IMAGE}/LayerNorm_1", "C"),
        *one(f"{_BLOCK}.attn.qkv.weight", f"{_IMAGE}/{_ATTENTION}/{{query,key,value}}/kernel", "C C"),
        *one(f"{_BLOCK}.attn.qkv.bias", f"{_IMAGE}/{_ATTENTION}/{{query,key,value}}/bias", "C"),
        *_dense(f"{_BLOCK}.attn.proj", f"{_IMAGE}/{_ATTENTION}/out", "C C"),
        *_dense(f"{_BLOCK}.mlp.fc1", f"{_IMAGE}/{_MLP}/Dense_0", "M C"), *_dense(f"{_BLOCK}.mlp.fc2", f"{_IMAGE}/{_MLP}/Dense_1", "C M"),
        *_norm("visual.trunk.norm", "img/Transformer/encoder_norm", "C"),
        *one(f"{_HEAD}.latent", f"{_POOL}/probe", "1 1 C"), *_norm(f"{_HEAD}.norm", f"{_POOL}/LayerNorm_0", "C"),
        *_dense(f"{_HEAD}.q", f"{_POOL}/{_ATTENTION}/query", "C C"),
        *one(f"{_HEAD}.kv.weight", f"{_POOL}/{_ATTENTION}/{{key,value}}/kernel", "C C"),
        *one(f"{_HEAD}.kv.bias", f"{_POOL}/{_ATTENTION}/{{key,value}}/bias", "C"),
        *_dense(f"{_HEAD}.proj", f"{_POOL}/{_ATTENTION}/out", "C C"),
        *_dense(f"{_HEAD}.mlp.fc1", f"{_POOL}/{_MLP}/Dense_0", "M C"), *_dense(f"{_HEAD}.mlp.fc2", f"{_POOL}/{_MLP}/Dense_1", "C M"),
        *one("text.token_embedding.weight", "txt/Embed_0/embedding", "V c"),
        *one("text.positional_embedding", "txt/pos_embedding", "1 L c", "without a batch"),
        *_norm(f"{_TEXT_BLOCK}.ln_1", f"{_TEXT}/LayerNorm_0", "c"), *_norm(f"{_TEXT_BLOCK}.ln_2", f"{_TEXT}/LayerNorm_1", "c"),
        *one(f"{_TEXT_BLOCK}.attn.in_proj_weight", f"{_TEXT}/{_ATTENTION}/{{query,key,value}}/kernel", "c c"),
        *one(f"{_TEXT_BLOCK}.attn.in_proj_bias", f"{_TEXT}/{_ATTENTION}/{{query,key,value}}/bias", "c"),
        *_dense(f"{_TEXT_BLOCK}.attn.out_proj", f"{_TEXT}/{_ATTENTION}/out", "c c"),
        *_dense(f"{_TEXT_BLOCK}.mlp.c_fc", f"{_TEXT}/{_MLP}/Dense_0", "m c"),
        *_dense(f"{_TEXT_BLOCK}.mlp.c_proj", f"{_TEXT}/{_MLP}/Dense_1", "c m"),
        *_norm("text.ln_final", "txt/Encoder_0/encoder_norm", "c"), *_dense("text.text_projection", "txt/head", "E c"),
        *one("logit_scale", "t", "1"), *one("logit_bias", "b", "1"),
    ),
)  # fmt: skip


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of an .npz by big_vision's names, one for each block, in torch's layout.

    Raises:
        ModelError: an array has other axes than its name implies. Otherwise as `fastloc.utils.npz.read`.
    """
    state: dict[str, Tensor] = {}
    for name, array in npz.read(path, None, ARRAYS).items():
        stacked = _STACKED.fullmatch(name)
        tensor = torch.from_numpy(array)
        for index, each in enumerate(tensor.unbind() if stacked is not None and tensor.ndim else (tensor,)):
            own = name if stacked is None else f"{stacked[1]}_{index}/{stacked[2]}"
            state[own.removeprefix(_ROOT)] = _turned(own.removeprefix(_ROOT), each)
    return state


def _turned(name: str, tensor: Tensor) -> Tensor:
    for pattern, axes, turn in _KERNELS:
        if re.fullmatch(pattern, name):
            if tensor.ndim != axes:
                raise ModelError(f"weights of another architecture: {name[:80]!r} must have {axes} axes, got {tensor.ndim}")
            return turn(tensor).contiguous()
    return tensor
