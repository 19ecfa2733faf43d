"""The text towers of transformers that open_clip's configurations name, without transformers: RoBERTa, XLM-RoBERTa, mT5 and NLLB's M2M100.

Tensors have the names that open_clip's `HFTextEncoder` gives them, `transformer.…` and `proj.…`. Sizes come from the weights; facts
that the weights do not contain are a row of a table.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastloc.checkpoints.text.cut import Cut
from fastloc.checkpoints.text.layers import key_mask, masked_mean, sinusoids
from fastloc.errors import ModelError, unknown

__all__ = ["ROWS", "Row", "TransformersTower", "row", "sized"]

POOLERS = ("mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler")
PROJECTIONS = ("linear", "mlp")
# mT5's number of buckets of distances, half for each direction, and the distance from which on all share the last bucket
_BUCKETS, _FAR = 32, 128
# the rows of M2M100's table of positions that are no positions
_OFFSET = 2


@dataclass(frozen=True)
class Row:
    """One text encoder.

    Attributes:
        kind: "roberta" (norms behind the blocks' parts), "mt5" (no biases, positions as a bias of distances) or "m2m_100"
        vocabulary: rows of its table of tokens; width: of the stream; layers: number of blocks; inner: width of the MLP; positions: rows of
            that table
        head: width of an attention head
        pad: the id that no token sees
        eps: of its norms
    """

    kind: str
    vocabulary: int
    width: int
    layers: int
    inner: int
    positions: int
    pad: int
    eps: float = 1e-5
    head: int = 64


ROWS = {
    "roberta-base": Row("roberta", 50265, 768, 12, 3072, 514, 1),
    "xlm-roberta-base": Row("roberta", 250002, 768, 12, 3072, 514, 1),
    "xlm-roberta-large": Row("roberta", 250002, 1024, 24, 4096, 514, 1),
    "google/mt5-base": Row("mt5", 250112, 768, 12, 2048, 0, 0, 1e-6),
    "google/mt5-xl": Row("mt5", 250112, 2048, 24, 5120, 0, 0, 1e-6),
    "facebook/nllb-200-distilled-600M": Row("m2m_100", 256206, 1024, 12, 4096, 1024, 1),
    "facebook/nllb-200-distilled-1.3B": Row("m2m_100", 256206, 1024, 24, 8192, 1024, 1),
}
# under the hub's present names
_RENAMED = {f"FacebookAI/{name}": name for name in ("roberta-base", "xlm-roberta-base", "xlm-roberta-large")}
# kind -> its table of tokens, the weight of the MLP's first step, and its blocks
_NAMES = {
    "roberta": ("embeddings.word_embeddings", "encoder.layer.0.intermediate.dense.weight", "encoder.layer"),
    "mt5": ("embed_tokens", "block.0.layer.1.DenseReluDense.wi_0.weight", "block"),
    "m2m_100": ("embed_tokens", "layers.0.fc1.weight", "layers"),
}


def row(text: Mapping[str, Any]) -> Row:
    """The row of a text_cfg that has an `hf_model_name`. Raises ModelError for an encoder, a pooler or a projection that is not known."""
    name = text["hf_model_name"]
    found = ROWS.get(_RENAMED.get(name, name))
    if found is None:
        raise ModelError(unknown("text tower of transformers", name, ROWS))
    for what, value, known in (
        ("hf_pooler_type", text.get("hf_pooler_type", POOLERS[0]), POOLERS), ("hf_proj_type", text.get("hf_proj_type", "mlp"), PROJECTIONS)
    ):  # fmt: skip
        if value not in known and not (what == "hf_proj_type" and value is None):
            raise ModelError(unknown(what, value, known))
    return found


def sized(found: Row, state: Mapping[str, Tensor], start: str) -> Row:
    """A row with the sizes of weights, whose names begin with `start`. Raises ModelError for weights of another encoder."""
    start = f"{start}transformer."
    table, first, blocks = _NAMES[found.kind]
    for name in (f"{table}.weight", first):
        if f"{start}{name}" not in state or state[f"{start}{name}"].ndim != 2:
            raise ModelError(f"weights of another architecture: {f'{start}{name}'!r} is missing")
    (vocabulary, width), inner = state[f"{start}{table}.weight"].shape, len(state[f"{start}{first}"])
    layers = {name.removeprefix(f"{start}{blocks}.").partition(".")[0] for name in state if name.startswith(f"{start}{blocks}.")}
    positions = state.get(f"{start}embeddings.position_embeddings.weight")
    head = found.head
    bias = state.get(f"{start}block.0.layer.0.SelfAttention.relative_attention_bias.weight")
    if bias is not None:
        head = len(state.get(f"{start}block.0.layer.0.SelfAttention.q.weight", ())) // max(bias.shape[-1], 1)
    if not head or width % head:
        raise ModelError(f"weights of another architecture: {table!r} must be a multiple of {head or found.head} wide, got {width}")
    rows = found.positions if positions is None else len(positions)
    return replace(found, vocabulary=vocabulary, width=width, layers=len(layers), inner=inner, positions=rows, head=head)


class TransformersTower(nn.Module):
    """An encoder, its pooling and its projection. Tensors are on the meta device until `load_state_dict(…, assign=True)` brings them.

    Args:
        found: the encoder.
        text: an open_clip text_cfg with an `hf_model_name`: the pooling and the projection.
        embed: width of embeddings.
    """

    def __init__(self, found: Row, text: Mapping[str, Any], embed: int) -> None:
        super().__init__()
        self.context_length, self.pad_id, self.vocabulary = text.get("context_length", 77), found.pad, found.vocabulary
        self.pool, kind = text.get("hf_pooler_type", POOLERS[0]), text.get("hf_proj_type", "mlp")
        pooled = self.pool == "cls_pooler" and found.kind == "roberta"
        self.transformer: nn.Module = _KINDS[found.kind](found, pooled) if pooled else _KINDS[found.kind](found)
        inner = (found.width + embed) // 2
        self.proj: nn.Module = nn.Linear(found.width, embed, bias=False, device="meta")
        if kind is None and found.width == embed:
            self.proj = nn.Identity()
        elif kind == "mlp":
            self.proj = nn.Sequential(
                nn.Linear(found.width, inner, bias=False, device="meta"), nn.GELU(), nn.Linear(inner, embed, bias=False, device="meta")
            )

    @property
    def cut(self) -> Cut:
        """The rule for the columns that are read: no token sees padding, and no pooling counts it."""
        return Cut("filled", self.pad_id)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """The embeddings [n, E] of tokens, int64 [n, N], as projected; N is the context, or at least the columns of `cut`."""
        seen = tokens != self.pad_id
        x = self.transformer(tokens, seen)
        if self.pool == "mean_pooler":
            x = masked_mean(x, seen)
        else:
            pooler = getattr(self.transformer, "pooler", None)
            x = x[:, 0] if pooler is None else pooler.dense(x[:, 0]).tanh()
        out: Tensor = self.proj(x)
        return out


class _Roberta(nn.Module):
    """RoBERTa and XLM-RoBERTa: post-norm blocks, learned positions that count from the padding's id + 1."""

    def __init__(self, found: Row, pooled: bool = False) -> None:
        super().__init__()
        width, inner, self.pad, self.heads = found.width, found.inner, found.pad, found.width // found.head
        self.embeddings = nn.ModuleDict({
            "word_embeddings": _table(found.vocabulary, width),
            "position_embeddings": _table(found.positions, width),
            "token_type_embeddings": _table(1, width),
            "LayerNorm": _norm(width, found.eps),
        })  # fmt: skip
        layers = [
            _nested({
                **{f"attention.self.{name}": _linear(width, width) for name in ("query", "key", "value")},
                "attention.output.dense": _linear(width, width), "attention.output.LayerNorm": _norm(width, found.eps),
                "intermediate.dense": _linear(width, inner),
                "output.dense": _linear(inner, width), "output.LayerNorm": _norm(width, found.eps),
            })
            for _ in range(found.layers)
        ]  # fmt: skip
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        if pooled:
            self.pooler = nn.ModuleDict({"dense": _linear(width, width)})

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        parts: Any = self.embeddings
        x: Tensor = parts.word_embeddings(tokens) + parts.token_type_embeddings.weight[0]
        x = parts.LayerNorm(x + parts.position_embeddings(_positions(seen, self.pad)))
        mask = key_mask(seen, x.dtype)[:, None]
        layers: Any = self.encoder["layer"]
        for layer in layers:
            own, out = layer.attention.self, layer.attention.output
            x = out.LayerNorm(x + out.dense(_attended(own.query(x), own.key(x), own.value(x), self.heads, mask)))
            x = layer.output.LayerNorm(x + layer.output.dense(F.gelu(layer.intermediate.dense(x))))
        return x


class _M2M100(nn.Module):
    """M2M100's encoder: pre-norm blocks with ReLU, fixed positions, embeddings times the root of the width."""

    positions: Tensor

    def __init__(self, found: Row) -> None:
        super().__init__()
        width, inner, self.pad, self.heads = found.width, found.inner, found.pad, found.width // found.head
        self.embed_tokens = _table(found.vocabulary, width)
        positions = sinusoids(found.positions + _OFFSET, width)
        positions[self.pad] = 0
        self.register_buffer("positions", positions, persistent=False)
        self.layers = nn.ModuleList(
            _nested({
                **{f"self_attn.{name}": _linear(width, width) for name in ("q_proj", "k_proj", "v_proj", "out_proj")},
                "self_attn_layer_norm": _norm(width, found.eps), "fc1": _linear(width, inner), "fc2": _linear(inner, width),
                "final_layer_norm": _norm(width, found.eps),
            })
            for _ in range(found.layers)
        )  # fmt: skip
        self.layer_norm = _norm(width, found.eps)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        x = x * math.sqrt(x.shape[-1]) + self.positions[_positions(seen, self.pad)]
        mask = key_mask(seen, x.dtype)[:, None]
        layers: Any = self.layers
        for layer in layers:
            y, own = layer.self_attn_layer_norm(x), layer.self_attn
            x = x + own.out_proj(_attended(own.q_proj(y), own.k_proj(y), own.v_proj(y), self.heads, mask))
            x = x + layer.fc2(layer.fc1(layer.final_layer_norm(x)).relu())
        out: Tensor = self.layer_norm(x)
        return out


class _MT5(nn.Module):
    """mT5's encoder: RMS norms before each part, no biases, logits that are not scaled, and the first block's bias for each distance."""

    def __init__(self, found: Row) -> None:
        super().__init__()
        width, inner = found.width, found.inner
        self.heads = width // found.head
        self.embed_tokens = _table(found.vocabulary, width)
        self.block = nn.ModuleList(
            _nested({
                **{f"layer.0.SelfAttention.{name}": _linear(width, width, False) for name in "qkv"},
                "layer.0.SelfAttention.o": _linear(width, width, False),
                **({} if index else {"layer.0.SelfAttention.relative_attention_bias": _table(_BUCKETS, self.heads)}),
                "layer.0.layer_norm": _RMSNorm(width, found.eps),
                "layer.1.DenseReluDense.wi_0": _linear(width, inner, False), "layer.1.DenseReluDense.wi_1": _linear(width, inner, False),
                "layer.1.DenseReluDense.wo": _linear(inner, width, False), "layer.1.layer_norm": _RMSNorm(width, found.eps),
            })
            for index in range(found.layers)
        )  # fmt: skip
        self.final_layer_norm = _RMSNorm(width, found.eps)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        blocks: Any = self.block
        far = blocks[0].layer["0"].SelfAttention.relative_attention_bias(_buckets(tokens.shape[1], tokens.device))
        mask = key_mask(seen, x.dtype)[:, None] + far.permute(2, 0, 1)
        for block in blocks:
            first, second = block.layer["0"], block.layer["1"]
            y, own, mlp = first.layer_norm(x), first.SelfAttention, second.DenseReluDense
            x = x + own.o(_attended(own.q(y), own.k(y), own.v(y), self.heads, mask, 1.0))
            y = second.layer_norm(x)
            x = x + mlp.wo(F.gelu(mlp.wi_0(y), approximate="tanh") * mlp.wi_1(y))
        out: Tensor = self.final_layer_norm(x)
        return out


_KINDS: dict[str, Callable[..., nn.Module]] = {"roberta": _Roberta, "mt5": _MT5, "m2m_100": _M2M100}


class _RMSNorm(nn.Module):
    """A norm without mean and bias."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.empty(width, device="meta")), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def _attended(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor, scale: float | None = None) -> Tensor:
    """Attention of [n, N, C], with a mask to add to logits, [n or 1, heads or 1, N or 1, N]."""
    count, length = q.shape[:2]
    q, k, v = (each.view(count, length, heads, -1).transpose(1, 2) for each in (q, k, v))
    mask = mask.expand(-1, -1, length, -1)
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale).transpose(1, 2).reshape(count, length, -1)


def _positions(seen: Tensor, pad: int) -> Tensor:
    """The row of each token in the table of positions: tokens count from the padding's id + 1, and padding has that id."""
    return seen.long().cumsum(1) * seen + pad


def _buckets(length: int, device: torch.device) -> Tensor:
    """The bucket of each distance [N, N] from query to key: single distances for a quarter of the buckets, then logarithmic ranges."""
    half, exact = _BUCKETS // 2, _BUCKETS // 4
    places = torch.arange(length, device=device)
    away = places[None] - places[:, None]
    distance = away.abs()
    wide = exact + ((distance.clamp_min(1).float() / exact).log() / math.log(_FAR / exact) * (half - exact)).long()
    return (away > 0).long() * half + torch.where(distance < exact, distance, wide.clamp_max(half - 1))


def _nested(modules: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """Modules by dotted names as modules of modules."""
    found: dict[str, Any] = {}
    for name, module in modules.items():
        first, _, rest = name.partition(".")
        if rest:
            found.setdefault(first, {})[rest] = module
        else:
            found[first] = module
    return nn.ModuleDict({name: each if isinstance(each, nn.Module) else _nested(each) for name, each in found.items()})


def _table(rows: int, width: int) -> nn.Embedding:
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width, device="meta"))


def _linear(width: int, out: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(width, out, bias=bias, device="meta")


def _norm(width: int, eps: float) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps, device="meta")
