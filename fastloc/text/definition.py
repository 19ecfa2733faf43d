"""Checks of a tokenizer's definition from elsewhere, before the library that runs it allocates the sizes that the definition asks for.

`tokenizers` fills texts up to whatever length is written there, and ends the process where that cannot be had.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastloc.errors import FastlocError, ModelError
from fastloc.utils.schema import count, decode, limited, one_of, shown

__all__ = ["check", "check_parts"]

# parts of a normalizer, a pre-tokenizer or a post-processor; pieces around a text; ids
PARTS, PIECES, IDS = 64, 64, 1 << 31
# parts of the whole definition, counted by the commas between them: the library makes 500 bytes of each, and the largest vocabulary there
# is, 901,629 words with a number each, has 1.8 million
ENTRIES = 3 << 20
# characters that one character may become
GROWTH = 4096
# a number above ENTRIES behind a name
_LARGE = re.compile(r'":\s*\d{7,}')


@dataclass
class _Truncation:
    max_length: int
    stride: int = 0


@dataclass
class _Padding:
    strategy: str | dict[str, int]
    pad_id: int = 0
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        count("pad_id", self.pad_id, IDS, 0)
        if self.pad_to_multiple_of is not None:
            raise FastlocError(f"pad_to_multiple_of must be null, got {shown(self.pad_to_multiple_of)}")


@dataclass
class _Special:
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count("ids of a special token", len(self.ids), PIECES, 0)


@dataclass
class _Part:
    """A normalizer, pre-tokenizer or post-processor, or several in a row."""

    type: str = ""
    content: str = ""
    prepend: str = ""
    normalizers: tuple[_Part, ...] = ()
    pretokenizers: tuple[_Part, ...] = ()
    processors: tuple[_Part, ...] = ()
    single: tuple[dict[str, Any], ...] = ()
    pair: tuple[dict[str, Any], ...] = ()
    special_tokens: dict[str, _Special] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # each time more, the cut-off pieces of a long text are combined with each other once more
        count("times that a text is put among its pieces", sum("Sequence" in piece for piece in self.single), 1, 0)
        for piece in (*self.single, *self.pair):
            token = piece.get("SpecialToken")
            name = token.get("id") if isinstance(token, dict) else None
            # the library looks it up only when it meets a text, and panics
            if isinstance(name, str) and name not in self.special_tokens:
                raise FastlocError(f"pieces around a text must be among special_tokens, got {shown(name)}")

    def every(self) -> Iterator[_Part]:
        """This part and the parts inside it."""
        yield self
        for each in (*self.normalizers, *self.pretokenizers, *self.processors):
            yield from each.every()


@dataclass
class _Definition:
    model: _Kind
    truncation: _Truncation | None = None
    padding: _Padding | None = None
    normalizer: _Part | None = None
    pre_tokenizer: _Part | None = None
    post_processor: _Part | None = None

    def __post_init__(self) -> None:
        for part in (self.normalizer, self.pre_tokenizer, self.post_processor):
            found = list(part.every()) if part else []
            count("number of a tokenizer's parts", len(found), PARTS, 0)
            count("pieces around a text", sum(len(each.single) for each in found), PIECES, 0)
            # each replacement may make this many characters of one, and the next one each of them more
            growth = math.prod(1 + len(each.content) + len(each.prepend) for each in found)
            count("length that the normalizer makes of one character", growth, GROWTH)


@dataclass
class _Kind:
    type: str = "BPE"

    def __post_init__(self) -> None:
        one_of("kind of tokenizer", self.type, ("BPE", "WordPiece", "WordLevel", "Unigram"))


@dataclass
class _Words:
    # of "Unigram" a list, in which a word's place is its id
    vocab: dict[str, int] | list[Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.vocab, dict):
            # the library lists every number below the largest that no word has
            count("largest id of a word", max(self.vocab.values(), default=0), ENTRIES, 0)


@dataclass
class _Vocabulary:
    model: _Words


def check(definition: str, context: int, name: str, limit: int) -> None:
    """Raise ModelError unless a definition cuts and pads texts to exactly `context` tokens, and keeps the output of a short text short.

    name: the file. limit: bytes of the definition.
    """
    found = check_parts(definition, name, limit)
    cut, filled = found.truncation or _Truncation(0), found.padding or _Padding("none")
    for part, got, expected in (
        ("truncation.max_length", cut.max_length, context),
        ("truncation.stride", cut.stride, 0),
        ("padding.strategy", filled.strategy, {"Fixed": context}),
    ):
        if got != expected:
            raise ModelError(f"{name}: its tokenizer is damaged ({part} must be {expected}, got {shown(got)})")


def check_parts(definition: str, name: str, limit: int) -> _Definition:
    """Read the outline of a definition, whatever its cutting and padding. Raises ModelError if a short text can become very long."""
    damaged = f"{name}: its tokenizer is damaged"
    limited(len(definition), limit, damaged)
    if definition.count(",") > ENTRIES:
        raise ModelError(f"{damaged} (it must have at most {ENTRIES:,} parts)")
    # most have no such number, and reading all words takes a second
    if _LARGE.search(definition):
        decode(definition, _Vocabulary, damaged, limit)
    return decode(definition, _Definition, damaged, limit)
