"""Texts as open_clip's tokenizers clean them, ftfy's repair of broken encodings included."""

import html

from fastloc.text.cleaning import CLEANERS

__all__ = ["cleaned", "repaired"]


def cleaned(text: str, kind: str) -> str:
    """A text repaired and cleaned; `kind` is one of `fastloc.text.cleaning.CLEANERS`."""
    return CLEANERS[kind](repaired(text).strip())


def repaired(text: str) -> str:
    """A text without transmission faults: broken encodings, HTML entities, control characters."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    # imported only here: plain text, such as most prompts, needs no repair
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()
