"""Texts to unit embeddings, once each: prompts are checked, put into their templates, encoded, averaged and remembered."""

import difflib
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastloc.errors import FastlocWarning, TextError
from fastloc.templates import sentences

# sentences that go through the text tower at once
CHUNK = 256


class TextEncoder:
    """One model's text side. Embeddings are kept by (template, text), so a text costs its encoding once.

    Args:
        tower: an open_clip model with `encode_text`.
        tokenizer: list of str -> int64 [n, context].
        words: for a model with a small vocabulary, every word it was trained on; others are warned about.
        names: things it knows by name, for the warning's suggestions.
    """

    def __init__(
        self, tower: nn.Module, tokenizer: Callable[[list[str]], Tensor], words: Sequence[str] = (), names: Sequence[str] = ()
    ) -> None:
        self.tower, self.tokenizer = tower, tokenizer
        self.words, self.names = frozenset(words), tuple(names)
        self.cache: dict[tuple[str, str], Tensor] = {}

    def __call__(self, texts: Sequence[str], template: str) -> Tensor:
        """Embed `texts` with a named or custom template: float32 [T, E], unit length, in the order given, repeats included.

        Raises:
            TextError: no texts, one that is empty or not a string, an unknown template.
        """
        prompts = checked(texts)
        fresh = [text for text in dict.fromkeys(prompts) if (template, text) not in self.cache]
        for text in fresh:
            self._warn_of_unknown_words(text)
        self._remember(fresh, template)
        return torch.stack([self.cache[template, text] for text in prompts])

    def empty(self, template: str) -> Tensor:
        """The embedding of the empty string in the same template, [E], unit length: CLIP Surgery's redundant feature."""
        if (template, "") not in self.cache:
            self._remember([""], template)
        return self.cache[template, ""]

    def _remember(self, texts: Sequence[str], template: str) -> None:
        frames = sentences(template)
        for text in texts:
            filled = [frame.replace("{}", text) for frame in frames]
            self._warn_of_length(text, filled)
            rows = torch.cat([self._encode(filled[i : i + CHUNK]) for i in range(0, len(filled), CHUNK)])
            self.cache[template, text] = F.normalize(rows.mean(0), dim=-1)

    def _encode(self, filled: list[str]) -> Tensor:
        device = next(self.tower.parameters()).device
        with torch.inference_mode():
            return F.normalize(encode_tokens(self.tower, self.tokenizer(filled).to(device)).float(), dim=-1)

    def _warn_of_unknown_words(self, text: str) -> None:
        unseen = [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in self.words] if self.words else []
        for word in dict.fromkeys(unseen):
            near = nearest(word, self.names)
            guess = f"; near it: {', '.join(near)}" if near else ""
            message = f"this model never saw the word {word!r} (in {text!r}), so its map means little{guess}"
            warnings.warn(message, FastlocWarning, stacklevel=4)

    def _warn_of_length(self, text: str, filled: list[str]) -> None:
        encode: Any = getattr(self.tokenizer, "encode", None)
        limit: int | None = getattr(self.tokenizer, "context_length", None)
        if encode is None or limit is None:
            return
        longest = max(len(encode(sentence)) for sentence in filled) + 2
        if longest > limit:
            shown = text if len(text) < 60 else text[:57] + "…"
            warnings.warn(f"{shown!r} is {longest} tokens in its template; the model reads the first {limit}", FastlocWarning, stacklevel=5)


def encode_tokens(tower: Any, tokens: Tensor) -> Tensor:
    """open_clip's `encode_text`, [n, context] -> [n, E], without the columns behind the longest text.

    A causal tower that reads its result at the end-of-text token never looks at them, so cutting is exact, and short
    prompts cost what they are long. Other towers run whole.
    """
    plain = getattr(tower, "text_pool_type", "") == "argmax" and getattr(tower, "attn_mask", None) is not None
    if not plain:
        whole: Tensor = tower.encode_text(tokens)
        return whole
    # the end-of-text token has the highest id
    end = tokens.argmax(-1)
    length = int(end.max()) + 1
    x = tower.token_embedding(tokens[:, :length]) + tower.positional_embedding[:length]
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
    x = x[torch.arange(len(x), device=x.device), end]
    projection = tower.text_projection
    out: Tensor = x if projection is None else projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return out


def checked(texts: Sequence[str]) -> list[str]:
    """The prompts, stripped of outer white space.

    Raises:
        TextError: there is none, or one is empty or not a string.
    """
    given = [texts] if isinstance(texts, str) else list(texts)
    if not given:
        raise TextError('no prompts: give at least one text, such as "a cat"')
    for i, text in enumerate(given):
        if not isinstance(text, str):
            raise TextError(f"prompt {i} is {text!r}, of type {type(text).__name__}; a text is wanted")
        if not text.strip():
            raise TextError(f"prompt {i} is empty; say what to look for")
    return [text.strip() for text in given]


def nearest(word: str, names: Sequence[str]) -> list[str]:
    """Up to three known names near a word: those spelled alike, or that share a beginning with it."""
    alike = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    sharing = [name for name in names if any(_akin(word, part) for part in name.split())]
    return list(dict.fromkeys([*alike, *sharing]))[:3]


def _akin(word: str, part: str) -> bool:
    return len(part) > 3 and (part.startswith(word[:4]) or word.startswith(part))
