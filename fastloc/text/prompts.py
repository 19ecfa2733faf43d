"""Checks of prompts before they reach a text tower: errors for unusable ones, warnings for those that the model hardly understands."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

from fastloc.errors import TextError, warn
from fastloc.imaging.example import Example

__all__ = ["HAS_WORD", "checked", "nearest", "warn_of_length", "warn_of_nothing", "warn_of_unknown_words"]

# a letter or a digit
HAS_WORD = re.compile(r"[^\W_]")
# characters of a prompt that a warning shows
SHOWN = 60


def checked(texts: str | Sequence[str], *, examples: bool = False) -> list[str]:
    """The prompts, stripped of outer white space. Half a surrogate pair, which no encoding can write, becomes U+FFFD, with a warning.

    examples: a `fastloc.Example` may stand among them, and stays unchanged.

    Raises:
        TextError: there is none, or one is empty or not a string; an example where none can be used.
    """
    given = [texts] if isinstance(texts, str) else list(texts)
    if not given:
        raise TextError('no prompts: give at least one text, such as "a cat"')
    for i, text in enumerate(given):
        if not isinstance(text, str):
            raise TextError(f"prompt {i} must be a string, got {type(text).__name__}: {text!r}")
        if not text.strip():
            raise TextError(f"prompt {i} must not be empty; say what to look for")
        if isinstance(text, Example) and not examples:
            raise TextError(f"prompt {i} must be a text, got the example {str(text)!r}; `fastloc embed --like` makes an embedding of it")
    return [text if isinstance(text, Example) else _writable(text.strip()) for text in given]


def _writable(text: str) -> str:
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        return text
    # pairs are one character each; what is left over belongs to none
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "\ufffd" in whole:
        warn(f"{text!a} holds half a surrogate pair, which no text does: read as {whole!r}", stacklevel=4)
    return whole


def warn_of_nothing(text: str, stacklevel: int = 4) -> None:
    """Warn of a prompt that reads like an empty one."""
    warn(f"{text!r} holds nothing that the model reads, so its map means nothing", stacklevel=stacklevel)


def warn_of_unknown_words(text: str, words: Collection[str], names: Sequence[str], stacklevel: int = 4) -> None:
    """Warn of each word of a prompt outside a small vocabulary's `words`, with the nearest `names`; an empty vocabulary warns of none."""
    if not words:
        return
    found = re.findall(r"[^\W_]+", text.lower())
    if not found:
        message = f"{text!r} holds no word, and this model reads words alone: its map means nothing"
        warn(message, stacklevel=stacklevel)
    unseen = [word for word in found if word not in words]
    for word in dict.fromkeys(unseen):
        near = nearest(word, names)
        guess = f"; near it: {', '.join(near)}" if near else ""
        message = f"this model never saw the word {word!r} (in {text!r}), so its map means little{guess}"
        warn(message, stacklevel=stacklevel)


def warn_of_length(text: str, tokens: int, limit: int, stacklevel: int = 5) -> None:
    """Warn of a prompt whose longest sentence is more tokens, start and end among them, than the model reads."""
    if tokens > limit:
        shown = text if len(text) < SHOWN else text[: SHOWN - 3] + "…"
        message = f"{shown!r} is {tokens} tokens in its template; the model reads the first {limit}"
        warn(message, stacklevel=stacklevel)


def nearest(word: str, names: Sequence[str]) -> list[str]:
    """Up to three known names near a word: names of similar spelling, or with the same beginning."""
    alike = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    sharing = [name for name in names if any(_akin(word, part) for part in name.split())]
    return list(dict.fromkeys([*alike, *sharing]))[:3]


def _akin(word: str, part: str) -> bool:
    return len(part) > 3 and (part.startswith(word[:4]) or word.startswith(part))
