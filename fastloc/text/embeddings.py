"""Files of text embeddings: made once with a text tower, used without one, refused by another model's image tower."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError, ModelError, TextError, unknown
from fastloc.utils import npz
from fastloc.utils.atomic_write import replacing
from fastloc.utils.hashing import short
from fastloc.utils.schema import decode, first_line, one_line, shown
from fastloc.utils.system import files
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["FORMATS", "TextEmbeddings", "ending"]

Floats = NDArray[np.float32]
# raised when a reader of an older version would misread a file
FORMAT = 1
# of the names, as JSON
NAMES_BYTES = 64 << 20
# how far from 1 the length of a vector may be
UNIT = 1e-3


@dataclass(frozen=True, eq=False)
class TextEmbeddings:
    """Texts and their embeddings.

    Attributes:
        names: the encoded texts, in order
        vectors: float32 [T, E], unit length
        template: the template they were put into, by name or as a sentence with {}
        tower: digest of the text tower, see `fastloc.utils.hashing`

    Raises:
        TextError: no names; vectors that are not float32 [T, E], not finite, or not of unit length.
    """

    names: tuple[str, ...]
    vectors: Floats
    template: str
    tower: str

    def __post_init__(self) -> None:
        _check(self.names, self.vectors)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to .npz or .safetensors, by the path's ending.

        Raises:
            FastlocError: another ending, a file that cannot be written, or safetensors is not installed.
        """
        target = Path(path)
        write = FORMATS[ending(target)][0]
        try:
            with replacing(target) as part:
                write(self, part)
        except FastlocError:
            raise
        except (OSError, ValueError) as error:
            pass_on(error)
            raise FastlocError(f"{target}: cannot be written ({getattr(error, 'strerror', None) or error})") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str], tower: str | None = None) -> TextEmbeddings:
        """Read a file that `save` wrote; with `tower`, only embeddings of that text tower.

        Raises:
            ModelError: no such file, a damaged one, one of another kind or of a newer version; embeddings of another text tower.
            FastlocError: another ending than .npz or .safetensors, or safetensors is not installed.
        """
        source = Path(path)
        read = FORMATS[ending(source)][1]
        if not os.path.isfile(source):
            raise ModelError(f"{source}: " + ("is a folder" if os.path.isdir(source) else "no such file"))
        found = _read(source, *read(source))
        if tower is not None:
            found.check(tower, str(source))
        return found

    def check(self, tower: str, name: str = "these text embeddings") -> None:
        """Raise ModelError unless the text tower of this digest made the embeddings."""
        if self.tower != tower:
            raise ModelError(
                f"{name}: made by text tower {short(self.tower)}, and the model's is {short(tower)}: "
                "encode the texts with the model's own, see `fastloc embed`"
            )


def _check(names: tuple[str, ...], vectors: Floats) -> None:
    if not names:
        raise TextError("text embeddings must be of one text or more, got none")
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(names):
        raise TextError(f"text embeddings must be float32 [{len(names)}, E], got {vectors.dtype} {list(vectors.shape)}")
    if not np.isfinite(vectors).all():
        broken = names[int(np.argmin(np.isfinite(vectors).all(1)))]
        raise TextError(f"the embedding of {broken!r} must be finite, got NaN or infinite numbers")
    lengths = np.linalg.norm(vectors, axis=1)
    worst = int(np.abs(lengths - 1).argmax())
    if abs(lengths[worst] - 1) > UNIT:
        raise TextError(f"the embedding of {names[worst]!r} must have unit length, got {lengths[worst]:.4g}")


def _read(path: Path, about: Mapping[str, str], vectors: NDArray[Any]) -> TextEmbeddings:
    """The embeddings of a file, checked. `about` is everything but the vectors."""
    try:
        number, text, template, tower = (about[name] for name in ("format", "names", "template", "tower"))
    except KeyError as error:
        raise ModelError(f"{path}: holds no text embeddings of fastloc's (it has no {error})") from error
    if not number.isdecimal() or len(number) > 9:
        raise ModelError(f"{path}: holds no text embeddings of fastloc's (format must be a number, got {shown(number)})")
    if int(number) != FORMAT:
        raise ModelError(f"{path}: text embeddings of format {number}; this fastloc reads format {FORMAT}: install a newer one")
    try:
        one_line("template", template)
        one_line("tower", tower)
    except FastlocError as error:
        raise ModelError(f"{path}: holds no text embeddings of fastloc's ({error})") from error
    names = decode(text, tuple[str, ...], f"{path}: holds no text embeddings of fastloc's: names", NAMES_BYTES)
    try:
        return TextEmbeddings(names, vectors, template, tower)
    except TextError as error:
        raise ModelError(f"{path}: {error}") from error


def _about(embeddings: TextEmbeddings) -> dict[str, str]:
    names = json.dumps(embeddings.names, ensure_ascii=False)
    return {"format": str(FORMAT), "names": names, "template": embeddings.template, "tower": embeddings.tower}


def _write_npz(embeddings: TextEmbeddings, path: Path) -> None:
    about: dict[str, Any] = {key: np.array(value) for key, value in _about(embeddings).items()}
    with files.opened(path) as file:
        np.savez(file, vectors=embeddings.vectors, **about)


def _read_npz(path: Path) -> tuple[dict[str, str], NDArray[Any]]:
    try:
        arrays = npz.read(path, ("vectors", "format", "names", "template", "tower"))
        about = {name: str(array) for name, array in arrays.items() if name != "vectors" and array.ndim == 0 and array.dtype.kind == "U"}
    except Exception as error:
        pass_on(error)
        # what is no archive fails in as many ways as there are parts of one
        raise ModelError(f"{path}: is not an .npz file, or is damaged ({first_line(error)})") from error
    if "vectors" not in arrays:
        raise ModelError(f"{path}: holds no text embeddings of fastloc's (it has no 'vectors')")
    return about, arrays["vectors"]


def _write_safetensors(embeddings: TextEmbeddings, path: Path) -> None:
    files.write_bytes(path, _safetensors().save({"vectors": np.ascontiguousarray(embeddings.vectors)}, _about(embeddings)))


def _read_safetensors(path: Path) -> tuple[dict[str, str], NDArray[Any]]:
    library = _safetensors()
    try:
        with library.safe_open(path, "np") as content:
            return content.metadata() or {}, content.get_tensor("vectors")
    except Exception as error:
        pass_on(error)
        # the library's own exception has no base but this one
        raise ModelError(f"{path}: is not a .safetensors file of text embeddings, or is damaged ({first_line(error)})") from error


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise FastlocError("safetensors is not installed: pip install safetensors, or use an .npz file") from error
    return safetensors.numpy


# ending -> how to write, how to read
FORMATS = {".npz": (_write_npz, _read_npz), ".safetensors": (_write_safetensors, _read_safetensors)}


def ending(path: Path) -> str:
    """The path's ending. Raises FastlocError unless it names a format."""
    if path.suffix not in FORMATS:
        raise FastlocError(f"{path}: " + unknown("file ending", path.suffix, FORMATS))
    return path.suffix
