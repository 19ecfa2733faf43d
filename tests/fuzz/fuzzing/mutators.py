"""Mutators: each makes a damaged copy of an input, by the structure of its format, and keeps checksums and outer lengths right.

A mutator is called with a random generator, an input and the other inputs of its target, and gives bytes. The same generator gives the same
bytes. What a format's own mutator cannot read goes to `edited`.
"""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from mutations import VALUES, byte_edits, places

__all__ = ["Mutator", "edited", "json_text", "parts_of", "png", "protobuf", "safetensors", "tar", "zipped"]

Mutator = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

# numbers at which lengths, counts and offsets turn over
EDGES = (0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**63, 2**64 - 1)
# levels of nesting that are added
DEEP = (2, 17, 65, 300, 3000)
# share of a format's inputs that are damaged below its structure
BELOW = 0.25


def edited(draw: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Bytes set, added, cut and repeated; numbers of 1 to 8 bytes at their edges; a part of another input."""
    kind = draw.randrange(4)
    if kind == 0 and len(content) > 8:
        code = draw.choice("<>") + draw.choice("BHIQ")
        size = struct.calcsize(code)
        at = draw.randrange(len(content) - size + 1)
        return content[:at] + struct.pack(code, draw.choice(EDGES) % (1 << 8 * size)) + content[at + size :]
    if kind == 1 and others:
        other = draw.choice(others)
        begin, at = draw.randrange(len(other) + 1), draw.randrange(len(content) + 1)
        return content[:at] + other[begin : begin + draw.choice((1, 8, 64, 1 << 20))] + content[at + draw.choice((0, 0, 8, 1 << 20)) :]
    return next(byte_edits(content or b"\0", draw.randrange(1 << 30), 1))[1]


def json_text(draw: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """JSON with a part replaced, left out, repeated, nested, or taken from another input; a quarter is edited as text."""
    try:
        made: Any = json.loads(content)
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            # a copy shares no parts with itself or with VALUES
            made = json.loads(json.dumps(_changed(draw, made, others)))
        text = json.dumps(made).encode()
    # nested inputs that are nested again become too deep to be read or written
    except (ValueError, RecursionError):
        return edited(draw, content, others)
    return edited(draw, text, others) if draw.random() < BELOW else text


def _changed(draw: random.Random, content: Any, others: Sequence[bytes]) -> Any:
    ways = list(places(content))
    if not ways:
        return _value(draw, content, others)
    *outer, last = draw.choice(ways)
    inner = content
    for part in outer:
        inner = inner[part]
    kind = draw.randrange(8)
    if kind == 0:
        del inner[last]
    elif kind == 1 and isinstance(inner, list):
        inner[last:last] = [inner[last]] * draw.choice((1, 3, 100))
    elif kind == 1:
        inner[draw.choice((f"{last}x", "", "__class__", str(last).upper()))] = inner.pop(last)
    else:
        inner[last] = _value(draw, inner[last], others)
    return content


def _value(draw: random.Random, old: Any, others: Sequence[bytes]) -> Any:
    kind = draw.randrange(6)
    if kind == 0 and isinstance(old, int | float):
        return draw.choice((-old, old + 1, old * 2, old * 1.5, float(old), str(old), -1, 0, *EDGES))
    if kind == 1 and isinstance(old, str):
        return draw.choice((old.upper(), old * 2, old[:-1], old + "\n", old + "\x1b[2J", old + "\0", "\ud800" + old, "é" * 400))
    if kind == 2:
        for _ in range(draw.choice(DEEP[:-1])):
            old = [old]
        return old
    if kind == 3 and others:
        try:
            other = json.loads(draw.choice(others))
            *outer, last = draw.choice(list(places(other)))
            for part in outer:
                other = other[part]
            return other[last]
        except (ValueError, IndexError, RecursionError):
            return None
    return draw.choice(VALUES)


def parts_of(first: Mutator, second: Mutator = edited, separator: bytes = b"\0\0\n") -> Mutator:
    """A mutator for inputs of two parts behind one another, such as a head and a body; one of them is changed."""

    def mutate(draw: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
        head, found, body = content.partition(separator)
        if not found:
            return edited(draw, content, others)
        halves = [other.partition(separator) for other in others]
        if draw.random() < 0.5:
            return first(draw, head, [half[0] for half in halves]) + separator + body
        return head + separator + second(draw, body, [half[2] for half in halves])

    return mutate


def protobuf(draw: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A message with one field changed, somewhere inside; the lengths of the messages around it are those of their content."""
    if draw.random() < BELOW:
        return edited(draw, content, others)
    return _message(draw, content, others, 0)


def _message(draw: random.Random, content: bytes, others: Sequence[bytes], depth: int) -> bytes:
    fields = _fields(content)
    if not fields:
        return edited(draw, content, others)
    at = draw.randrange(len(fields))
    number, wire, value = fields[at]
    kind = draw.randrange(10)
    if kind < 5 and wire == 2 and depth < 8 and value:
        fields[at] = (number, wire, _message(draw, value, others, depth + 1))
    elif kind == 5:
        fields[at:at] = [fields[at]] * draw.choice((1, 2, 50))
    elif kind == 6:
        del fields[at]
    elif kind == 7:
        fields[at] = (draw.choice((0, 1, number + 1, 1 << 28)), wire, value)
    elif kind == 8:
        for _ in range(draw.choice(DEEP)):
            value = _varint(number << 3 | 2) + _varint(len(value)) + value
        fields[at] = (number, 2, value)
    elif wire == 0:
        fields[at] = (number, 0, _varint(draw.choice(EDGES)))
    else:
        fields[at] = (number, wire, edited(draw, value, others))
    return b"".join(_varint(number << 3 | wire) + (_varint(len(value)) if wire == 2 else b"") + value for number, wire, value in fields)


def _varint(value: int) -> bytes:
    made = b""
    while True:
        made += bytes([(value & 127) | (128 if value > 127 else 0)])
        value >>= 7
        if not value:
            return made


def _fields(content: bytes) -> list[tuple[int, int, bytes]]:
    """(number, wire type, content) of each field, or none where the content is no message."""
    found, at = [], 0
    try:
        while at < len(content):
            key, at = _number(content, at)
            wire = key & 7
            begin = at
            if wire == 0:
                _, at = _number(content, at)
            elif wire == 2:
                size, begin = _number(content, at)
                at = begin + size
            elif wire in (1, 5):
                at += 8 if wire == 1 else 4
            else:
                return []
            if at > len(content) or not key >> 3:
                return []
            found.append((key >> 3, wire, content[begin:at]))
    except IndexError:
        return []
    return found


def _number(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def safetensors(draw: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A .safetensors file whose header is changed as JSON, behind the header's own length."""
    size = int.from_bytes(content[:8], "little")
    if draw.random() < BELOW or size > len(content) - 8:
        return edited(draw, content, others)
    heads = [other[8 : 8 + int.from_bytes(other[:8], "little")] for other in others]
    head = json_text(draw, content[8 : 8 + size], heads)
    return len(head).to_bytes(8, "little") + head + content[8 + size :]


def zipped(inner: Mutator = edited) -> Mutator:
    """A mutator for zip files (.npz, .pt): a part is changed by `inner`, left out, repeated, renamed, packed or said to be longer."""

    def mutate(draw: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
        if draw.random() < BELOW:
            return edited(draw, content, others)
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                parts = [(name, archive.read(name)) for name in archive.namelist()]
        except Exception:
            return edited(draw, content, others)
        if not parts:
            return edited(draw, content, others)
        at = draw.randrange(len(parts))
        name, part = parts[at]
        kind = draw.randrange(8)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts.append(draw.choice(parts))
        elif kind == 2:
            parts[at] = (draw.choice((name + "x", "../" + name, "", "a" * 300, name.upper())), part)
        elif kind == 3:
            # the largest takes a tenth of a second to pack
            parts[at] = (name, bytes(draw.choice((0, 1, 1 << 20)) if draw.randrange(20) else 1 << 25))
        else:
            parts[at] = (name, inner(draw, part, [each for _, each in parts]))
        made = io.BytesIO()
        packed = zipfile.ZIP_DEFLATED if kind == 3 or draw.random() < 0.1 else zipfile.ZIP_STORED
        with zipfile.ZipFile(made, "w", packed) as archive, warnings.catch_warnings():
            # of names that are there twice
            warnings.simplefilter("ignore")
            for each, value in parts:
                archive.writestr(zipfile.ZipInfo(each), value, packed)
        return made.getvalue()

    return mutate


def tar(draw: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A tar file with one field of a header changed, and its checksum right again."""
    starts = [at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"]
    if draw.random() < BELOW or not starts:
        return edited(draw, content, others)
    at = draw.choice(starts)
    head = bytearray(content[at : at + 512])
    # name, mode, size, time, kind, link, and GNU's numbers of 256
    begin, size = draw.choice(((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100)))
    values = (b"\x80" + b"\xff" * size, b"\xff" * size, b"7" * size, draw.randbytes(size), b"-1", b"", b"xgLKS12356")
    head[begin : begin + size] = draw.choice(values)[:size].ljust(size, b"\0")
    head[156:157] = head[156:157] if begin != 156 else draw.choice((b"x", b"g", b"L", b"K", b"S", b"1", b"2", b"5", b"\0"))
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return content[:at] + bytes(head[:512]) + content[at + 512 :]


def png(draw: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A PNG with a chunk changed, repeated, moved or taken from another, and its checksum right; other pictures are edited."""
    if draw.random() < BELOW or not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return edited(draw, content, others)
    chunks, at = [], 8
    while at + 8 <= len(content):
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        chunks.append((kind, content[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        return edited(draw, content, others)
    place = draw.randrange(len(chunks))
    kind, data = chunks[place]
    way = draw.randrange(6)
    if way == 0:
        chunks.append(chunks.pop(place))
    elif way == 1:
        chunks[place:place] = [chunks[place]] * draw.choice((1, 40))
    elif way == 2:
        named = draw.choice((b"iCCP", b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"zTXt", b"iTXt", b"PLTE"))
        chunks[place:place] = [(named, draw.choice((b"", data[:40], b"x\0\0" + zlib.compress(bytes(1 << 20)), draw.randbytes(20))))]
    else:
        chunks[place] = (kind, edited(draw, data, others))
    body = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return content[:8] + body
