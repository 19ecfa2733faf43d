"""Types of command-line arguments: functions from a typed text to its value, each of which raises ArgumentTypeError in one line."""

import argparse
import math
from collections.abc import Callable
from typing import NoReturn, TypeVar

from fastloc.utils.schema import shown
from fastloc.utils.terminal import from_bytes, printable

T = TypeVar("T")
# of a number that is typed: more than any count or size has
DIGITS = 18


class Parser(argparse.ArgumentParser):
    """A parser whose errors quote the typed text in printable characters."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and print the error in one line."""
        super().error(printable(message))


def prompt(text: str) -> str:
    """A text to look for."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must be a text to look for, got an empty one")
    return words(text)


def words(text: str) -> str:
    """A text in characters, also where the locale has it as bytes."""
    found = from_bytes(text)
    if any("\ud800" <= each <= "\udfff" for each in found):
        raise argparse.ArgumentTypeError(f"must be UTF-8, got {text!r}; set a UTF-8 locale, such as LC_ALL=C.UTF-8")
    return found


def size(text: str) -> int | tuple[int, int]:
    """One number, or height x width."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(_whole(part) for part in parts):
        raise argparse.ArgumentTypeError(f"must be one number such as 336, or height x width such as 336x448, got {shown(text)}")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


def count(text: str) -> int:
    """A number from 1 on."""
    return _count(text)


def _count(text: str, word: str = "") -> int:
    if not _whole(text):
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more{word and ', or ' + word}, got {shown(text)}")
    return int(text)


def _whole(text: str) -> bool:
    """True for the decimal digits of a number from 1 on; Python reads no number of thousands of digits."""
    return text.isdecimal() and len(text) <= DIGITS and int(text) > 0


def setting(text: str) -> tuple[str, str]:
    """A field of the plan and its chosen value."""
    field, equals, choice = text.partition("=")
    if not (field and equals and choice):
        raise argparse.ArgumentTypeError(f"must be FIELD=CHOICE, such as attention=sdpa, got {text!r}")
    return field, choice


def inv_temp(text: str) -> float | str:
    """A number above 0, or `adaptive`."""
    if text == "adaptive":
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a number above 0, or adaptive, got {text!r}")
    return value


def share(text: str) -> float:
    """A number above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share above 0 and at most 1, such as 0.1, got {text!r}")
    return value


def sides(text: str) -> tuple[int, int]:
    """(height, width) of N or HxW."""
    both = size(text)
    return both if isinstance(both, tuple) else (both, both)


def pair(text: str) -> tuple[int, int]:
    """Height x width."""
    both = size(text)
    if not isinstance(both, tuple):
        raise argparse.ArgumentTypeError(f"must be height x width, such as 720x1280, got {text!r}")
    return both


def count_or_auto(text: str) -> int | str:
    """A number from 1 on, or `auto`."""
    return text if text == "auto" else _count(text, "auto")


def count_or_dynamic(text: str) -> int | None:
    """A number from 1 on, or None for `dynamic`."""
    return None if text == "dynamic" else _count(text, "dynamic")


def size_or_dynamic(text: str) -> int | tuple[int, int] | str:
    """A size, or `dynamic`."""
    return text if text == "dynamic" else size(text)


def span(part: Callable[[str], T]) -> Callable[[str], tuple[T, T, T]]:
    """A range: SMALLEST:USUAL:LARGEST, or one for all three."""

    def read(text: str) -> tuple[T, T, T]:
        parts = [part(each) for each in text.split(":")]
        if len(parts) not in (1, 3):
            raise argparse.ArgumentTypeError(f"must be SMALLEST:USUAL:LARGEST, or one number for all three, got {text!r}")
        return (parts[0], parts[len(parts) // 2], parts[-1])

    return read
