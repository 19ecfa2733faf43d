"""Quoted patterns of files on a command line, which no shell has expanded."""

from __future__ import annotations

import glob
import os

__all__ = ["is_pattern", "matching"]


def is_pattern(source: str) -> bool:
    """True for "shots/*.jpg"; False for an address, and for a file of that very name."""
    return glob.has_magic(source) and "://" not in source and not os.path.exists(source)


def matching(pattern: str) -> list[str]:
    """The files that match, by name; `**` stands for folders in folders too."""
    return sorted(each for each in glob.glob(pattern, recursive=True) if os.path.isfile(each))
