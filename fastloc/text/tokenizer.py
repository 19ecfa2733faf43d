"""Tokenizer from texts to token ids by the definition in a text tower's file, without open_clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError, ModelError
from fastloc.text.cleaning import clean
from fastloc.utils.schema import first_line

__all__ = ["Tokens", "parsed"]


class Tokens:
    """A tokenizer.

    Args:
        definition: JSON that `tokenizers` reads, which cuts and fills texts up to the context.
        kind: the cleaning of texts before, see `fastloc.text.cleaning`.
        zeroed: a token whose id becomes 0, or None.
        name: its file's name in messages.

    Raises:
        ModelError: not such a definition. FastlocError: `tokenizers` is not installed.
    """

    def __init__(self, definition: str, kind: str = "lower", zeroed: int | None = None, name: str = "the file") -> None:
        self._hold(parsed(definition, name), partial(clean, kind=kind), zeroed, name)

    @classmethod
    def around(cls, inner: Any, cleaner: Callable[[str], str], zeroed: int | None, name: str) -> Tokens:
        """Tokens from a tokenizer of the library, which cuts and pads texts, and a cleaning function."""
        made = cls.__new__(cls)
        made._hold(inner, cleaner, zeroed, name)
        return made

    def _hold(self, inner: Any, cleaner: Callable[[str], str], zeroed: int | None, name: str) -> None:
        self.inner, self.cleaner, self.zeroed, self.name = inner, cleaner, zeroed, name

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], list[int]]:
        """The ids, int64 [n, context], and each text's number of tokens before cutting, start and end among them."""
        cleaned = [self.cleaner(text) for text in texts]
        # one by one, which is as quick: a batch starts threads, and a process that has these is warned of when it forks
        try:
            found = [self.inner.encode(each) for each in cleaned]
        except BaseException as error:
            raise _failed(error, f"{self.name}: its tokenizer cannot split {texts[0]!r}") from error
        ids = np.array([each.ids for each in found], np.int64)
        return ids if self.zeroed is None else np.where(ids == self.zeroed, 0, ids), [self._length(each) for each in found]

    def _length(self, encoding: Any) -> int:
        """A text's tokens before cutting; the cut-off part comes in pieces, each between start and end tokens of its own."""
        framing = int(self.inner.num_special_tokens_to_add(False))
        return int(sum(encoding.attention_mask)) + sum(int(sum(piece.attention_mask)) - framing for piece in encoding.overflowing)


def parsed(definition: str, name: str) -> Any:
    """The library's tokenizer of a definition. Raises ModelError for an invalid one, FastlocError if `tokenizers` is not installed."""
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise FastlocError("tokenizers is not installed, and encoding texts needs it: pip install 'fastloc[onnx-cpu]'") from error
    try:
        return Tokenizer.from_str(definition)
    except BaseException as error:
        raise _failed(error, f"{name}: its tokenizer is damaged") from error


def _failed(error: BaseException, what: str) -> BaseException:
    """The error to raise for an error of the library: it raises nothing narrower than Exception, and its panics are BaseExceptions."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        return error
    return ModelError(f"{what} ({first_line(error)})")
