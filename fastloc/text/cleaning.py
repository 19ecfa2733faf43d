"""Cleaning of texts before a tokenizer splits them, as open_clip does it, without open_clip or ftfy.

open_clip repairs a text with ftfy, decodes HTML entities, collapses white space and writes it in lower case. Here is all of that but
ftfy's repair of mojibake (text that was decoded in the wrong encoding, such as "cafÃ©"), which stays as it is given.
"""

from __future__ import annotations

import html
import re
import string
import unicodedata
from collections.abc import Callable
from functools import cache

from fastloc.errors import TextError, unknown

__all__ = ["CLEANERS", "clean"]

_ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
_ESCAPE = re.compile("\033\\[[0-9;]*[a-zA-Z]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LONE = re.compile("[\ud800-\udfff]")
_SINGLE_QUOTES = (0x02BC, *range(0x2018, 0x201C))
_DOUBLE_QUOTES = range(0x201C, 0x2020)
_CONTROLS = (*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD))
# Latin letters that Unicode writes as one: those that its compatibility form takes apart, and the two old ones that it spells with more
_LIGATURES = (*"ĲĳǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬆ",)
_SPELLED = {"ŉ": "ʼn", "ﬅ": "ſt"}


def clean(text: str, kind: str = "lower") -> str:
    """Clean a text as open_clip's cleaning of this kind does: "lower", "whitespace" (case is kept) or "canonicalize" (no punctuation).

    Raises:
        TextError: an unknown kind.
    """
    if kind not in CLEANERS:
        raise TextError(unknown("way to clean texts", kind, CLEANERS))
    return CLEANERS[kind](html.unescape(html.unescape(_repaired(text))).strip())


def _lower(text: str) -> str:
    return _collapsed(text).lower()


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def _canonical(text: str) -> str:
    return _collapsed(text.replace("_", " ").translate(str.maketrans("", "", string.punctuation)).lower())


CLEANERS: dict[str, Callable[[str], str]] = {"lower": _lower, "whitespace": _collapsed, "canonicalize": _canonical}


def _repaired(text: str) -> str:
    """ftfy's repairs except that of mojibake, line by line; from the first "<" on, entities are kept, since they may be intended."""
    lines, plain = [], True
    for line in re.split(r"(?<=\n)", text):
        plain = plain and "<" not in line
        lines.append(_line(line, plain))
    return "".join(lines)


def _line(line: str, plain: bool) -> str:
    before = None
    while line != before:
        before = line
        line = _ENTITY.sub(_decoded, line) if plain else line
        line = _ESCAPE.sub("", line).translate(_table())
        line = _LONE.sub("\ufffd", _PAIR.sub(_joined, line))
        line = unicodedata.normalize("NFC", line)
    return line


def _decoded(entity: re.Match[str]) -> str:
    """The character that an entity stands for; an entity that html reads only in part is left unchanged."""
    found = html.unescape(entity[0])
    return entity[0] if ";" in found else found


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


@cache
def _table() -> dict[int, str | None]:
    """Replacements of single characters: ligatures and wide forms become usual letters, quotes straight ones, Windows' punctuation itself;
    control characters are removed."""
    wide = {code: form for code in range(0xFF01, 0xFFF0) if (form := unicodedata.normalize("NFKC", chr(code))) != chr(code)}
    return {
        **{ord(each): unicodedata.normalize("NFC", unicodedata.normalize("NFKD", each)) for each in _LIGATURES},
        **{ord(each): spelled for each, spelled in _SPELLED.items()},
        **wide,
        0x3000: " ",
        **dict.fromkeys(_SINGLE_QUOTES, "'"),
        **dict.fromkeys(_DOUBLE_QUOTES, '"'),
        **{code: form for code in range(0x80, 0xA0) if (form := bytes([code]).decode("cp1252", "ignore"))},
        **dict.fromkeys(_CONTROLS, None),
    }
