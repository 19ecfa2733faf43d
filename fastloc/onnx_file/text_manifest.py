"""The manifest in the metadata of a text tower's file: all that is needed to turn texts into embeddings without open_clip.

One JSON object under the key `fastloc_text` of an ONNX file's metadata, and the tokenizer beside it. The file takes `tokens`, int64
[n, context], and gives `embeddings`, float32 [n, E], unit length.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fastloc.errors import FastlocError, ModelError, unknown
from fastloc.onnx_file import limits
from fastloc.text.cleaning import CLEANERS
from fastloc.text.templates import TEMPLATES, sentences
from fastloc.utils.schema import count, limited, one_line, one_of
from fastloc.utils.versioned_json import read

__all__ = ["FORMAT", "KEY", "TOKENIZER", "TOKENIZER_BYTES", "TextManifest", "pack", "unpack"]

KEY = "fastloc_text"
# the tokenizer's definition as Hugging Face's `tokenizers` reads it: base64 of gzip of JSON
TOKENIZER = "fastloc_tokenizer"
# of the definition: the largest of the models that fastloc runs have 34 MB, of 256,000 words. A program can set another number
TOKENIZER_BYTES = 64 << 20
# sentences of all templates together; the authors' own have 80
MOST_SENTENCES = 1 << 12
# raised when a reader of an older version would misread a file
FORMAT = 1


@dataclass(frozen=True)
class TextManifest:
    """The manifest of a text tower's file.

    Attributes:
        digest: of the tower's weights, see `fastloc.utils.hashing`: image files are bound to it
        context: tokens that a sentence is cut or filled up to
        embed: width E of an embedding
        clean: the cleaning of texts before they are split, see `fastloc.text.cleaning`
        zeroed: a token whose id becomes 0 after splitting, or None
        words: every word the model was trained on, where these are few; names: things it knows by name
        templates: the sentences of each named template
        dtype: of the stored weights, "float32" or "float16"; the arithmetic is float32
    """

    version: str
    model: str
    digest: str
    context: int
    embed: int
    clean: str
    zeroed: int | None
    words: tuple[str, ...]
    names: tuple[str, ...]
    templates: Mapping[str, tuple[str, ...]]
    dtype: str
    opset: int
    licence: str = ""
    format: int = field(default=FORMAT)

    def __post_init__(self) -> None:
        for name in ("version", "model", "digest"):
            one_line(name, getattr(self, name))
        count("context", self.context, limits.CONTEXT)
        count("embed", self.embed, limits.EMBED)
        count("opset", self.opset, 1000)
        one_of("clean", self.clean, CLEANERS)
        one_of("dtype", self.dtype, ("float32", "float16"))
        if self.zeroed is not None:
            count("zeroed", self.zeroed, (1 << 31) - 1, 0)
        count("sentences of the templates", sum(map(len, self.templates.values())), MOST_SENTENCES, 0)
        for name, frames in self.templates.items():
            if not frames or not all("{}" in frame for frame in frames):
                raise FastlocError(f"sentences of template {name[:60]!r} must hold {{}} each, at least one")

    def sentences(self, template: str) -> tuple[str, ...]:
        """The sentences of a template by name, or of a custom one.

        Raises:
            TextError: neither a known name nor a text with {}. ModelError: a known one that the file does not hold.
        """
        if template in self.templates:
            return tuple(self.templates[template])
        if template in TEMPLATES:
            raise ModelError(unknown("template of this file", template, self.templates) + "; export the text tower again")
        return sentences(template)

    def dumps(self) -> str:
        """The manifest as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def loads(cls, text: str, name: str = "the file") -> TextManifest:
        """Read a manifest that `dumps` wrote, from any source.

        Raises:
            ModelError: not such JSON, of a newer version of fastloc, or with a field that is out of its range. `name` is what the message
                calls the file.
        """
        return read(text, KEY, FORMAT, name, cls)

    @classmethod
    def of(cls, metadata: Mapping[str, str], name: str, shipped: bool = False) -> TextManifest:
        """The manifest in an ONNX file's metadata. Raises ModelError for a file that is no text tower of fastloc's, and as `loads`.

        shipped: it came with fastloc and is read without the schema, which needs msgspec.
        """
        if KEY not in metadata or TOKENIZER not in metadata:
            raise ModelError(f"{name} is not a text tower that fastloc exported: it has no {KEY!r} metadata; see `fastloc export-text`")
        return _manifest(json.loads(metadata[KEY])) if shipped else cls.loads(metadata[KEY], name)


def _manifest(content: dict[str, Any]) -> TextManifest:
    known = {each.name for each in fields(TextManifest)}
    plain: dict[str, Any] = {key: value for key, value in content.items() if key in known}
    plain |= {key: tuple(plain[key]) for key in ("words", "names")}
    plain["templates"] = {key: tuple(value) for key, value in content["templates"].items()}
    return TextManifest(**plain)


def pack(definition: str) -> str:
    """A tokenizer's definition packed for metadata; the same definition always gives the same bytes."""
    return base64.b64encode(gzip.compress(definition.encode(), 9, mtime=0)).decode()


def unpack(packed: str, name: str = "the file") -> str:
    """The definition that `pack` packed. Raises ModelError if it is damaged, or longer than TOKENIZER_BYTES; no more bytes are unpacked."""
    limited(len(packed), TOKENIZER_BYTES, f"{name}: its tokenizer is damaged")
    reader = zlib.decompressobj(wbits=31)
    try:
        content = reader.decompress(base64.b64decode(packed, validate=True), TOKENIZER_BYTES + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise ModelError(f"{name}: its tokenizer is damaged ({type(error).__name__})") from error
    limited(len(content), TOKENIZER_BYTES, f"{name}: its tokenizer is damaged")
    if not reader.eof or reader.unused_data:
        raise ModelError(f"{name}: its tokenizer is damaged (it {'is truncated' if not reader.eof else 'goes on behind its end'})")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"{name}: its tokenizer is damaged (it is not text)") from error
