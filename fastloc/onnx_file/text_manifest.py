"""What a text tower's file says of itself, in its metadata: what it needs to turn texts into embeddings, without open_clip.

One JSON object under the key `fastloc_text` of an ONNX file's metadata, and the tokenizer beside it. The file takes `tokens`, int64
[n, context], and gives `embeddings`, float32 [n, E], unit length.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fastloc.errors import ModelError, unknown
from fastloc.text.templates import TEMPLATES, sentences
from fastloc.utils.versioned_json import read

__all__ = ["FORMAT", "KEY", "TOKENIZER", "TextManifest", "pack", "unpack"]

KEY = "fastloc_text"
# the tokenizer's definition as Hugging Face's `tokenizers` reads it: base64 of gzip of JSON
TOKENIZER = "fastloc_tokenizer"
# raised when a reader of an older version would misread a file
FORMAT = 1


@dataclass(frozen=True)
class TextManifest:
    """All that a text tower's file says of itself.

    digest      of the tower's weights, see `fastloc.utils.hashing`: image files are bound to it
    context     tokens that a sentence is cut or filled up to
    embed       width E of an embedding
    clean       how texts are cleaned before they are split, see `fastloc.text.cleaning`
    zeroed      a token whose id becomes 0 after splitting, or None
    words       every word the model was trained on, where these are few; names: things it knows by name
    templates   the sentences of each named template
    dtype       of the stored weights, "float32" or "float16"; the arithmetic is float32
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
        """As JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def loads(cls, text: str, name: str = "the file") -> TextManifest:
        """Read what `dumps` wrote.

        Raises:
            ModelError: not such JSON, or of a newer version of fastloc. `name` is what the message calls the file.
        """
        content = read(text, KEY, FORMAT, name)
        try:
            known = {each.name for each in fields(cls)}
            plain: dict[str, Any] = {key: value for key, value in content.items() if key in known}
            plain |= {key: tuple(plain[key]) for key in ("words", "names")}
            plain["templates"] = {key: tuple(value) for key, value in content["templates"].items()}
            return cls(**plain)
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{name}: its {KEY!r} metadata is damaged ({error})") from error

    @classmethod
    def of(cls, metadata: Mapping[str, str], name: str) -> TextManifest:
        """The manifest in an ONNX file's metadata. Raises ModelError for a file that is no text tower of fastloc's, and as `loads`."""
        if KEY not in metadata or TOKENIZER not in metadata:
            raise ModelError(f"{name} is not a text tower that fastloc exported: it has no {KEY!r} metadata; see `fastloc export-text`")
        return cls.loads(metadata[KEY], name)


def pack(definition: str) -> str:
    """A tokenizer's definition as it travels in metadata; the same bytes on every day."""
    return base64.b64encode(gzip.compress(definition.encode(), 9, mtime=0)).decode()


def unpack(packed: str, name: str = "the file") -> str:
    """What `pack` was given. Raises ModelError if it is damaged."""
    try:
        # of nothing gzip makes nothing
        return gzip.decompress(base64.b64decode(packed, validate=True) or b"?").decode()
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ModelError(f"{name}: its tokenizer is damaged ({type(error).__name__})") from error
