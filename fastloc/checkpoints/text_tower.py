"""The plain text transformers under open_clip's names, without open_clip: the same modules of torch in the same order, so the same numbers.

CLIP's own and those that differ from it in a field of their `text_cfg`: SigLIP's and SigLIP 2's, PE's, EVA's, MobileCLIP's, CLIPA's,
CoCa's, MetaCLIP 2's and TIPSv2's. It stands for open_clip's layouts `CLIP`, `CustomTextCLIP` and `CoCa`, wherever the text tower of a
configuration is such a transformer; `is_plain` tests that.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastloc.checkpoints.text.cut import Cut
from fastloc.checkpoints.text.layers import key_mask, masked_mean, sinusoids

__all__ = ["ADDED", "TextTower", "is_plain"]

# the fields of a text_cfg, with open_clip's defaults
_DEFAULTS: dict[str, Any] = {
    "context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0, "ls_init_value": None,
    "no_causal_mask": False, "pool_type": "argmax", "eos_id": 2, "pad_id": 0, "embed_cls": False, "proj_type": "linear", "proj_bias": False,
    "act_kwargs": None, "norm_kwargs": None,
}  # fmt: skip
# what fastloc adds for TIPSv2, which open_clip does not know: the activation, fixed positions (sines, then cosines), embeddings times the
# root of the width, and keys of padding that no token sees; its pool_type is "mean", over tokens that are no padding
ADDED: dict[str, Any] = {"activation": "gelu", "positions": "learned", "scale_embedding": False, "use_pad_mask": False}
# its fields for other parts: the tokenizer, a generative model's decoder, and fields that open_clip reads only for images
_UNREAD = {"hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "final_ln_after_pool", "output_tokens"}
# the fields that make another kind of tower, unless they are switched off
_OTHER = {
    "block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc", "hf_model_name",
}  # fmt: skip
# the fields of a whole configuration
_PARTS = {"embed_dim", "vision_cfg", "text_cfg", "multimodal_cfg", "quick_gelu", "custom_text", "init_logit_scale", "init_logit_bias"}
_POOLS = ("first", "last", "argmax", "eos", "mean")
# the initial value of every CLIP's training; weights bring their own
_LOGIT_SCALE = math.log(1 / 0.07)


def is_plain(config: Mapping[str, Any]) -> bool:
    """True if the text tower of an open_clip model configuration is a `TextTower`."""
    text = config["text_cfg"]
    return (
        set(config) <= _PARTS
        and set(text) <= {*_DEFAULTS, *ADDED, *_UNREAD, *_OTHER}
        and not any(text.get(name) for name in _OTHER)
        and text.get("pool_type", "argmax") in _POOLS
    )


class TextTower(nn.Module):
    """A text tower without weights: its tensors are on the meta device until `load_state_dict(…, assign=True)` brings them.

    Args:
        config: an open_clip model configuration for which `is_plain` is true.
    """

    attn_mask: Tensor | None
    positional_embedding: Tensor
    text_projection: nn.Parameter | nn.Module | None

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        text = {**_DEFAULTS, **ADDED, **config["text_cfg"]}
        width, embed = text["width"], config["embed_dim"]
        self.context_length, self.text_pool_type, self.text_eos_id = text["context_length"], text["pool_type"], text["eos_id"]
        self.heads, self.pad_id, self.pad_mask = text["heads"], text["pad_id"], text["use_pad_mask"] and text["no_causal_mask"]
        self.embed_scale = math.sqrt(width) if text["scale_embedding"] else None
        self.cls_emb = _parameter(width) if text["embed_cls"] else None
        # CoCa's class token stands after the context
        rows = self.context_length + bool(text["embed_cls"])
        if text["positions"] == "learned":
            self.positional_embedding = _parameter(rows, width)
        else:
            self.register_buffer("positional_embedding", sinusoids(rows, width), persistent=False)
        if text["proj_type"] == "none" or not embed:
            self.text_projection = None
        elif not text["proj_bias"]:
            self.text_projection = _parameter(width, embed)
        else:
            self.text_projection = nn.Linear(width, embed, device="meta")
        self.logit_scale = nn.Parameter(torch.tensor(_scale(config.get("init_logit_scale"))))
        bias = config.get("init_logit_bias")
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(float(bias)))
        self.transformer = _Transformer(text, bool(config.get("quick_gelu")))
        self.token_embedding = nn.Embedding(text["vocab_size"], width, _weight=torch.empty(text["vocab_size"], width, device="meta"))
        self.ln_final = _norm(text)
        mask = None if text["no_causal_mask"] else torch.full((rows, rows), -torch.inf).triu_(1)
        self.register_buffer("attn_mask", mask, persistent=False)

    @property
    def vocabulary(self) -> int:
        """The number of rows of the table of tokens."""
        return len(self.token_embedding.weight)

    @property
    def cut(self) -> Cut | None:
        """The rule for the columns that this tower reads; None if it reads all, including padding, as a tower without a mask does."""
        if self.cls_emb is not None:
            # its class token sees one column of padding
            return Cut("filled", self.pad_id, 1)
        if self.attn_mask is not None:
            return {"argmax": Cut("highest"), "eos": Cut("first", self.text_eos_id)}.get(self.text_pool_type)
        return Cut("filled", self.pad_id) if self.pad_mask and self.text_pool_type == "mean" else None

    def encode_text(self, tokens: Tensor) -> Tensor:
        """The embeddings [n, E] of tokens, int64 [n, N], as projected; N is the context, or at least the columns of `cut`."""
        x = self.token_embedding(tokens)
        if self.embed_scale is not None:
            x = x * self.embed_scale
        x = x + self.positional_embedding[: tokens.shape[1]]
        if self.cls_emb is not None:
            last = self.cls_emb + self.positional_embedding[-1]
            x = torch.cat([x, last.expand(x.shape[0], 1, -1)], 1)
        x = self.transformer(x, attn_mask=self._mask(tokens, x))
        x = self.ln_final(x[:, -1]) if self.cls_emb is not None else self._pooled(self.ln_final(x), tokens)
        projection: Any = self.text_projection
        out: Tensor = x if projection is None else projection(x) if isinstance(projection, nn.Linear) else x @ projection
        return out

    def _mask(self, tokens: Tensor, x: Tensor) -> Tensor | None:
        """The mask to add to logits: [N, N], or [n * heads, N, N] if each text has its own; None for no mask."""
        count = x.shape[1]
        causal = None if self.attn_mask is None else self.attn_mask[:count, :count].to(x.dtype)
        if self.cls_emb is None and not self.pad_mask:
            return causal
        seen = tokens != self.pad_id
        if self.cls_emb is not None:
            # trained CoCas have the mask shifted by one column: the first is always seen, and the class token sees padding once
            seen = torch.cat([torch.ones_like(seen[:, :1]), seen], 1)
        mask = key_mask(seen, x.dtype)[:, None]
        mask = mask.expand(-1, -1, count, -1) if causal is None else causal + mask
        return mask.expand(-1, self.heads, -1, -1).reshape(-1, count, count)

    def _pooled(self, x: Tensor, tokens: Tensor) -> Tensor:
        if self.text_pool_type in ("first", "last"):
            return x[:, 0 if self.text_pool_type == "first" else -1]
        if self.text_pool_type == "mean":
            return masked_mean(x, tokens != self.pad_id)
        # the end-of-text token has the highest id of CLIP's vocabulary, and an id of its own in others
        ends = tokens if self.text_pool_type == "argmax" else (tokens == self.text_eos_id).int()
        return x[torch.arange(x.shape[0], device=x.device), ends.argmax(dim=-1)]


class _Transformer(nn.Module):
    def __init__(self, text: Mapping[str, Any], quick: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([_Block(text, quick) for _ in range(text["layers"])])

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, attn_mask)
        return x


class _Block(nn.Module):
    """Attention and an MLP, each on the LayerNorm of the stream, and added to it."""

    def __init__(self, text: Mapping[str, Any], quick: bool) -> None:
        super().__init__()
        width, scale = text["width"], text["ls_init_value"]
        inner = int(width * text["mlp_ratio"])
        self.ln_1 = _norm(text)
        self.attn = nn.MultiheadAttention(width, text["heads"], batch_first=True, device="meta")
        self.ls_1 = nn.Identity() if scale is None else _Scale(width)
        self.ln_2 = _norm(text)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, inner, device="meta"))
        activation = nn.ReLU if text["activation"] == "relu" else QuickGELU if quick else nn.GELU
        self.mlp.add_module("gelu", activation(**(text["act_kwargs"] or {})))
        self.mlp.add_module("c_proj", nn.Linear(inner, width, device="meta"))
        self.ls_2 = nn.Identity() if scale is None else _Scale(width)

    def forward(self, x: Tensor, attn_mask: Tensor | None) -> Tensor:
        x = x + self.ls_1(self._attended(self.ln_1(x), attn_mask))
        out: Tensor = x + self.ls_2(self.mlp(self.ln_2(x)))
        return out

    def _attended(self, y: Tensor, attn_mask: Tensor | None) -> Tensor:
        # the same tensor three times takes torch's faster path
        found: Tensor = self.attn(y, y, y, need_weights=False, attn_mask=None if attn_mask is None else attn_mask.to(y.dtype))[0]
        return found


class QuickGELU(nn.Module):
    """OpenAI's cheap approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation to a tensor of any shape."""
        return x * torch.sigmoid(1.702 * x)


class _Scale(nn.Module):
    """A factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = _parameter(width)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def _norm(text: Mapping[str, Any]) -> nn.LayerNorm:
    return nn.LayerNorm(text["width"], device="meta", **(text["norm_kwargs"] or {}))


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, device="meta"))


def _scale(given: float | None) -> float:
    # an int would make an integer tensor, which cannot be a parameter
    return _LOGIT_SCALE if given is None else float(given)
