"""Sources of an exported file's texts: baked in, given as embeddings, or encoded by a text tower. One class for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError, ModelError, TextError, unknown
from fastloc.onnx_file.manifest import Manifest
from fastloc.text.prompts import checked
from fastloc.utils.hashing import short
from fastloc.utils.schema import first_line

__all__ = [
    "BakedTexts", "EncodedTexts", "FixedEmbeddings", "NoTexts", "Selection", "TextSource", "check_embeddings", "fixed_embeddings",
    "text_source",
]  # fmt: skip

Floats = NDArray[np.float32]
# how far from 1 a unit vector's length may be; float16 files of embeddings are within this
UNIT = 2e-3


@dataclass(frozen=True)
class Selection:
    """The texts of one call, and their embeddings [T, E], or None where they are baked in."""

    names: tuple[str, ...]
    vectors: Floats | None


class TextSource(Protocol):
    """A source of texts. `names`: its texts, or None if it takes any."""

    @property
    def names(self) -> tuple[str, ...] | None: ...

    def select(self, texts: str | Sequence[str] | None) -> Selection:
        """Select the texts of a call; None for all there are. Raises TextError for a text that this source does not have."""
        ...


@dataclass(frozen=True)
class BakedTexts:
    """Texts that are part of the graph."""

    names: tuple[str, ...]

    def select(self, texts: str | Sequence[str] | None) -> Selection:
        if texts is not None and tuple(checked(texts)) != self.names:
            raise TextError(f"texts must be left out, or be those baked into the file, in order: {', '.join(self.names)}")
        return Selection(self.names, None)


@dataclass(frozen=True, eq=False)
class FixedEmbeddings:
    """Precomputed embeddings, [T, E] float32, unit length."""

    names: tuple[str, ...]
    vectors: Floats

    def select(self, texts: str | Sequence[str] | None) -> Selection:
        names = self.names if texts is None else tuple(checked(texts))
        for text in names:
            if text not in self.names:
                raise TextError(unknown("text", text, self.names) + "; embeddings are given for these alone")
        return Selection(names, np.ascontiguousarray(self.vectors[[self.names.index(text) for text in names]]))


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """A text tower's encoder, with the template of the file."""

    encoder: Callable[[Sequence[str], str], Floats]
    template: str
    names: None = None

    def select(self, texts: str | Sequence[str] | None) -> Selection:
        if texts is None:
            raise TextError('no prompts: give at least one text, such as "a cat"')
        names = checked(texts)
        return Selection(tuple(names), np.ascontiguousarray(self.encoder(names, self.template), np.float32))


@dataclass(frozen=True)
class NoTexts:
    """No source of texts: only calls that bring embeddings of their own can be answered."""

    hint: str
    names: None = None

    def select(self, texts: str | Sequence[str] | None) -> Selection:
        raise TextError(self.hint)


def text_source(path: Path, manifest: Manifest, text: str | os.PathLike[str] | None, embeddings: Any) -> TextSource:
    """The source of an exported file's texts.

    Args:
        text: a text tower's file; by default `<stem>.text.onnx` beside the file, where there is one.
        embeddings: see `fastloc.OnnxLocalizer`.

    Raises:
        FastlocError: both are given, or either with a vocabulary that is baked in. ModelError: those of another text tower.
    """
    if manifest.texts.baked:
        for what, given in (("text", text), ("embeddings", embeddings)):
            if given is not None:
                raise FastlocError(f"{what} must be left out for {path}, whose texts are baked in: {', '.join(manifest.texts.names)}")
        return BakedTexts(manifest.texts.names)
    if text is not None and embeddings is not None:
        raise FastlocError("texts must come from text or from embeddings, got both; leave one out")
    if embeddings is not None:
        return fixed_embeddings(embeddings, manifest)
    beside = path.with_name(f"{path.stem}.text.onnx")
    if text is None and not os.path.exists(beside):
        return NoTexts(
            f"{path} takes text embeddings, and nothing makes them: give embeddings='file.npz' (--embeddings), or text='tower.text.onnx' "
            f"(--text-tower; {beside.name} beside the file is found by itself)"
        )
    return _encoded(beside if text is None else Path(text), manifest)


def _encoded(path: Path, manifest: Manifest) -> EncodedTexts:
    from fastloc.runtime.text_encoder import OnnxTextEncoder

    encoder = OnnxTextEncoder(path, "cpu")
    _same_tower(str(path), encoder.digest, manifest)
    return EncodedTexts(encoder, manifest.texts.template)


def fixed_embeddings(given: Any, manifest: Manifest) -> FixedEmbeddings:
    """Embeddings from a file, from {text: vector [E]}, from (texts, array [T, E]), or from a `fastloc.text.embeddings.TextEmbeddings`.

    Raises:
        ModelError: of another text tower. FastlocError: none of these, or vectors of another width or not of unit length.
    """
    if isinstance(given, (str, os.PathLike)):
        from fastloc.text.embeddings import TextEmbeddings

        given = TextEmbeddings.load(given, manifest.model.text)
    if isinstance(given, Mapping):
        names, vectors = list(given), list(given.values())
    elif isinstance(given, (tuple, list)) and len(given) == 2:
        names, vectors = list(given[0]), given[1]
    elif hasattr(given, "names") and hasattr(given, "vectors"):
        _same_tower("embeddings", given.tower, manifest)
        names, vectors = list(given.names), given.vectors
    else:
        raise FastlocError(f"embeddings must be a file, {{text: vector}} or (texts, array [T, E]), got a {type(given).__name__}")
    return FixedEmbeddings(tuple(checked(names)), check_embeddings(vectors, len(names), manifest.model.embed))


def check_embeddings(vectors: Any, count: int, width: int) -> Floats:
    """Embeddings as the graph takes them: float32 [count, width], contiguous. Raises FastlocError for another shape or length."""
    try:
        array = np.ascontiguousarray(np.asarray(vectors, np.float32))
    except (TypeError, ValueError) as error:
        raise FastlocError(f"embeddings must be numbers, one row a text, got another array ({first_line(error)})") from error
    if array.shape != (count, width):
        raise FastlocError(f"embeddings must be [{count}, {width}], one row a text of the file's width, got {list(array.shape)}")
    lengths = np.linalg.norm(array.astype(np.float64), axis=1)
    if not (np.abs(lengths - 1) <= UNIT).all():
        raise FastlocError(f"embeddings must be unit vectors, got lengths from {lengths.min():.4g} to {lengths.max():.4g}")
    return array


def _same_tower(name: str, digest: str, manifest: Manifest) -> None:
    if digest != manifest.model.text:
        raise ModelError(
            f"{name} must come from text tower {short(manifest.model.text)} of the file's model {manifest.model.name}, got "
            f"{short(digest)}; similarities of two models mean nothing"
        )
