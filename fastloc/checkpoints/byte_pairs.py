"""CLIP's tokenizer: words to byte pairs, as open_clip's `SimpleTokenizer` does it, from its vocabulary file and without importing it."""

import gzip
import re
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints.open_clip_files import vocabulary_file
from fastloc.checkpoints.text.repair import repaired

__all__ = ["BytePairs"]

# the pairs to read from the file, after a line with its version; it holds more than CLIP was trained with
_PAIRS = 48894
# the end of a word's last piece
_END = "</w>"
_SPECIAL = ("<start_of_text>", "<end_of_text>")
# words whose pieces are kept
_WORDS = 1 << 14
# the pieces of text that are split separately: endings, runs of letters, single digits, runs of anything else
_WORD = "|".join((*_SPECIAL, "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "[{letter}]+", "[{digit}]", r"[^\s{letter}{digit}]+"))


class BytePairs:
    """Texts to token ids.

    Args:
        context_length: ids in a row; longer texts are cut and still end in the end-of-text token.
    """

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = context_length
        with gzip.open(vocabulary_file(), "rt", encoding="utf-8", newline="\n") as lines:
            # "first second", as a key and in the form of a definition for `tokenizers`
            self.merges = [line[:-1] for line in islice(lines, 1, 1 + _PAIRS)]
        self.ranks = dict(zip(self.merges, range(len(self.merges)), strict=True))
        characters = list(_characters().values())
        self._single = (*characters, *(each + _END for each in characters))
        first = len(self._single) + len(self.merges)
        self.sot_token_id, self.eot_token_id = self.all_special_ids = [first + index for index in range(len(_SPECIAL))]
        # a cache of pieces; making all of them costs a cold start more than reading the file
        self._numbers = {piece: number for number, piece in enumerate(self._single)}
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """The ids, int64 [n, context], zeros after a text's end."""
        texts = [texts] if isinstance(texts, str) else texts
        ids = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            # a cut text keeps its end token
            found = [self.sot_token_id, *self.encode(text)][: self.context_length - 1]
            row[: len(found) + 1] = torch.tensor([*found, self.eot_token_id])
        return ids

    def encode(self, text: str) -> list[int]:
        """The ids of a text, however long, without start and end."""
        plain = text.isascii() and text.isprintable() and "&" not in text
        text = " ".join(repaired(text).split()).lower()
        return [number for word in (_ascii() if plain else _unicode()).findall(text) for number in self._pieces(word)]

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids, with a space after each word; bytes that are no text become U+FFFD."""
        bytes_of = {character: byte for byte, character in _characters().items()}
        pieces = "".join(self.decoder[int(each)] for each in ids)
        return bytes(bytes_of[each] for each in pieces).decode(errors="replace").replace(_END, " ")

    @cached_property
    def encoder(self) -> dict[str, int]:
        """The id of each piece of a text: single bytes, those that end a word, byte pairs by rank, and the special ones."""
        pieces = (*self._single, *(pair.replace(" ", "") for pair in self.merges), *_SPECIAL)
        return {piece: number for number, piece in enumerate(pieces)}

    @cached_property
    def decoder(self) -> dict[int, str]:
        """The piece of a text that each id stands for."""
        return {number: piece for piece, number in self.encoder.items()}

    def _pieces(self, word: str) -> list[int]:
        """The ids of one word, cached; words are without number, so all are forgotten when there are very many."""
        found = self._known.get(word)
        if found is None and word in _SPECIAL:
            return [self.all_special_ids[_SPECIAL.index(word)]]
        if found is None:
            *first, last = (_characters()[byte] for byte in word.encode())
            pieces = [*first, last + _END]
            while (rank := min((self.ranks.get(" ".join(pair), _PAIRS) for pair in pairwise(pieces)), default=_PAIRS)) < _PAIRS:
                left, right = self.merges[rank].split(" ")
                pieces = _joined(pieces, left, right)
                self._numbers[left + right] = len(self._single) + rank
            found = [self._numbers[each] for each in pieces]
            if len(self._known) >= _WORDS:
                self._known.clear()
            self._known[word] = found
        return found


def _joined(pieces: list[str], first: str, second: str) -> list[str]:
    """The pieces with every pair (first, second) joined, from the left."""
    made: list[str] = []
    rest = iter(range(len(pieces)))
    for index in rest:
        if pieces[index : index + 2] == [first, second]:
            made.append(first + second)
            next(rest)
        else:
            made.append(pieces[index])
    return made


@cache
def _characters() -> dict[int, str]:
    """A character for each byte, in the vocabulary's order: printable bytes first, as themselves, then the others."""
    seen = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
    others = (byte for byte in range(256) if byte not in seen)
    return {**{byte: chr(byte) for byte in seen}, **{byte: chr(256 + index) for index, byte in enumerate(others)}}


@cache
def _ascii() -> Any:
    return re.compile(_WORD.format(letter="a-z", digit="0-9"))


@cache
def _unicode() -> Any:
    # `re` has no classes of letters and digits of all languages
    import regex

    return regex.compile(_WORD.format(letter=r"\p{L}", digit=r"\p{N}"), regex.IGNORECASE)
