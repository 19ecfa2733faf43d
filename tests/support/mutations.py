"""Seeded small edits of files: every reader of one gives an answer, or one error of fastloc's in one line."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from fastloc.errors import FastlocError

__all__ = ["VALUES", "byte_edits", "json_edits", "outcome", "raw"]

DEEP: list[Any] = []
for _ in range(400):
    DEEP = [DEEP]
# in place of a leaf, or of a part
VALUES: tuple[Any, ...] = (
    None, True, "", "x", -1, 0, 1, 0.5, 2**31, 2**63, 10**30, 1e308, -1e308, [], {}, [None], {"x": None}, [[]], DEEP, "x" * 5000, "\ud800",
    "\x00\n\x1b[31m", "../../etc/passwd", [1, 2], [1, 2, 3], ["x"] * 3, [0.0] * 3, [-1, -1], [10**6, 10**6],
)  # fmt: skip


def places(content: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of JSON but the whole; of long lists the first two and the last."""
    parts: list[Any] = []
    if isinstance(content, dict):
        parts = list(content)
    elif isinstance(content, list):
        parts = sorted({0, 1, len(content) - 1} & set(range(len(content))))
    for part in parts:
        yield (*before, part)
        yield from places(content[part], (*before, part))


def json_edits(content: Any, seed: int, most: int | None = None) -> Iterator[tuple[str, Any]]:
    """(name, edited copy): every part replaced by each of VALUES, left out, or said twice; at random `most` of them."""
    every = [(where, value) for where in places(content) for value in (*VALUES, "left out", "twice")]
    draw = random.Random(seed)
    for where, value in every if most is None or most >= len(every) else draw.sample(every, most):
        made = copy.deepcopy(content)
        inner = made
        for part in where[:-1]:
            inner = inner[part]
        if isinstance(value, str) and value == "left out":
            del inner[where[-1]]
        elif isinstance(value, str) and value == "twice":
            inner[where[-1]] = [inner[where[-1]]] * 2
        else:
            inner[where[-1]] = value
        yield f"{'.'.join(map(str, where))} = {repr(value)[:40]}", made


def byte_edits(content: bytes, seed: int, most: int, span: int | None = None) -> Iterator[tuple[str, bytes]]:
    """(name, edited copy): bytes set, added, taken out, repeated, or all from one on, within the first `span`."""
    draw = random.Random(seed)
    for _ in range(most):
        made = bytearray(content)
        name = ""
        for _ in range(draw.choice((1, 1, 1, 3, 8))):
            at = draw.randrange(min(len(made), span or len(made)) or 1)
            kind = draw.randrange(6)
            if kind == 0:
                made[at : at + 1] = bytes([draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))])
            elif kind == 1:
                made[at:at] = draw.randbytes(draw.choice((1, 2, 9)))
            elif kind == 2:
                del made[at : at + draw.choice((1, 4, 100))]
            elif kind == 3:
                made[at : at + 8] = b"\xff" * 8
            elif kind == 4:
                made[at:at] = made[at : at + 40] * draw.choice((1, 20))
            elif draw.randrange(4) == 0:
                del made[at:]
            name += f"{'set add cut ones more end'.split()[kind]}@{at} "
        yield name, bytes(made)


def outcome(call: Callable[[], object]) -> str:
    """ "" for an answer, the line of fastloc's own error, or "RAW …" for any other and for one of several lines."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except FastlocError as error:
        return str(error) if "\n" not in str(error) else f"RAW lines of {error}"
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return f"RAW {type(error).__name__}: {str(error)[:200]}"
    return ""


def raw(edits: Iterator[tuple[str, Any]], call: Callable[[Any], object]) -> list[str]:
    """The edits that end in anything but an answer or one line of fastloc's."""
    ends = ((name, outcome(lambda made=made: call(made))) for name, made in edits)  # type: ignore[misc]  # bound at once
    return [f"{name}: {end}" for name, end in ends if end.startswith("RAW")]
