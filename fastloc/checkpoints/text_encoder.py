"""Texts to unit embeddings, once each: prompts are checked, put into their templates, encoded, averaged and cached."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastloc.checkpoints.text.cut import Cut
from fastloc.errors import ModelError
from fastloc.text.prompts import HAS_WORD, checked, warn_of_length, warn_of_nothing, warn_of_unknown_words
from fastloc.text.templates import sentences
from fastloc.utils.hashing import tower_digest
from fastloc.utils.lru_cache import RowCache
from fastloc.utils.schema import shown

# the number of sentences in one pass through the text tower
CHUNK = 256


class TextEncoder:
    """One model's text side. Embeddings are cached by (template, text), so each text is encoded once.

    Args:
        tower: a text tower or an open_clip model, with `encode_text`.
        tokenizer: list of str -> int64 [n, context].
        words: for a model with a small vocabulary, every word it was trained on; others give a warning.
        names: the things that it knows by name, for the warning's suggestions.

    Raises:
        ModelError: the tokenizer has ids that the tower has no rows for, or fills texts up with another id than the tower leaves out.
    """

    def __init__(
        self, tower: nn.Module, tokenizer: Callable[[list[str]], Tensor], words: Sequence[str] = (), names: Sequence[str] = ()
    ) -> None:
        self.tower, self.tokenizer = tower, tokenizer
        _check_pair(tower, tokenizer)
        self.words, self.names = frozenset(words), tuple(names)
        self.cache = RowCache[tuple[str, str], Tensor](_blank, torch.stack)

    def __call__(self, texts: Sequence[str], template: str) -> Tensor:
        """Embed `texts` with a named or custom template: float32 [T, E], unit length, in the order given, repeats included.

        Raises:
            TextError: no texts, one that is empty or not a string, an unknown template.
        """
        prompts = checked(texts)
        keys = [(template, text) for text in prompts]
        for _, text in self.cache.missing(keys):
            warn_of_unknown_words(text, self.words, self.names)
        return self.cache.all(keys, self._embedded)

    def empty(self, template: str) -> Tensor:
        """The embedding of the empty string in the same template, [E], unit length: CLIP Surgery's redundant feature."""
        return self.cache.all([(template, "")], self._embedded)[0]

    @cached_property
    def digest(self) -> str:
        """The digest of this text tower, see `fastloc.utils.hashing.tower_digest`."""
        return tower_digest({name: tensor.float().cpu().numpy() for name, tensor in text_state(self.tower).items()})

    def _embedded(self, key: tuple[str, str]) -> Tensor:
        template, text = key
        filled = [frame.replace("{}", text) for frame in sentences(template)]
        self._warn_of_length(text, filled)
        # letters and digits are tokens of any tokenizer
        if text and not self.words and not HAS_WORD.search(text) and torch.equal(self.tokenizer([text]), self.tokenizer([""])):
            warn_of_nothing(text, stacklevel=6)
        rows = torch.cat([self._encode(filled[i : i + CHUNK]) for i in range(0, len(filled), CHUNK)])
        return F.normalize(rows.mean(0), dim=-1)

    def _encode(self, filled: list[str]) -> Tensor:
        device = next(self.tower.parameters()).device
        with torch.inference_mode():
            rows = encode_tokens(self.tower, self.tokenizer(filled).to(device)).float()
        lengths = rows.norm(dim=-1)
        # a text without a word may also have no token, and then equals no other text
        silent = torch.tensor([not HAS_WORD.search(sentence) for sentence in filled], device=device)
        good = lengths.isfinite() & ((lengths > 0) | silent)
        if not good.all():
            worst = int(good.int().argmin())
            raise ModelError(
                f"the text tower's embedding of {shown(filled[worst])} must be finite and not all zero, got length "
                f"{float(lengths[worst]):g}; use a template with words if the tower reads no token of the text, "
                "otherwise the weights are damaged"
            )
        return F.normalize(rows, dim=-1)

    def _warn_of_length(self, text: str, filled: list[str]) -> None:
        length: Any = getattr(self.tokenizer, "length", None)
        encode: Any = getattr(self.tokenizer, "encode", None)
        limit: int | None = getattr(self.tokenizer, "context_length", None)
        if (length is None and encode is None) or limit is None:
            return
        longest = max(len(encode(sentence)) + 2 if length is None else length(sentence) for sentence in filled)
        warn_of_length(text, longest, limit, stacklevel=7)


# whatever mode the first caller is in, others may write to it
@torch.inference_mode(False)
def _blank(rows: int, like: Tensor) -> Tensor:
    return torch.empty((rows, *like.shape), dtype=like.dtype, device=like.device)


def _check_pair(tower: Any, tokenizer: Any) -> None:
    """Raise ModelError for a tokenizer of another tower, as far as the two allow the check."""
    rows, words = getattr(tower, "vocabulary", None), getattr(tokenizer, "vocabulary", None)
    if rows is not None and words is not None and words > rows:
        raise ModelError(
            f"the tokenizer's vocabulary must be at most the text tower's table of tokens, {rows:,}, got {words:,}; "
            f"the tokenizer of {str(tokenizer.folder)!r} is another model's"
        )
    pad, cut = getattr(tokenizer, "pad", None), getattr(tower, "cut", None)
    if pad is not None and cut is not None and cut.kind == "filled" and pad != cut.token:
        raise ModelError(
            f"the tokenizer must fill texts up with id {cut.token}, which the text tower leaves out, got {pad}; "
            f"the tokenizer of {str(tokenizer.folder)!r} or its pad_token is another model's"
        )


def text_state(tower: nn.Module) -> dict[str, Tensor]:
    """The text tower's tensors by the names of open_clip's `CLIP`, for every class of tower; only tensors that texts pass through."""
    state = {name.removeprefix("text."): tensor for name, tensor in tower.state_dict().items()}
    return {name: tensor for name, tensor in state.items() if not name.startswith(("visual.", "logit_"))}


def encode_tokens(tower: Any, tokens: Tensor) -> Tensor:
    """Run a tower's `encode_text`, [n, context] -> [n, E], without the columns that no text of the batch needs.

    Cutting is exact: a causal tower never looks past the token that is read, and a tower that masks padding never looks at padding.
    Towers that read everything, as SigLIP's do, and open_clip's own modules run on all columns.
    """
    cut: Cut | None = getattr(tower, "cut", None)
    embeddings: Tensor = tower.encode_text(tokens if cut is None else tokens[:, : cut.columns(tokens)])
    return embeddings


def causal(tower: Any) -> Any | None:
    """The part of a text tower that encodes texts, fastloc's or open_clip's, or None unless it is causal and read at the end.

    Causal: no token sees a later one. Read at the end: the result is that of the token that ends the text.
    """
    inner = getattr(tower, "text", tower)
    pool = getattr(inner, "text_pool_type", getattr(inner, "pool_type", ""))
    ends = pool in ("argmax", "eos") and getattr(inner, "cls_emb", None) is None
    return inner if ends and getattr(inner, "attn_mask", None) is not None else None
