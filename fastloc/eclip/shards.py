"""WebDataset shards: tar files in which the files of one sample follow one another and share their name up to the first dot."""

import mmap
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastloc.errors import FastlocError
from fastloc.utils.schema import decode, first_line, shown

PICTURES = ("jpg", "jpeg", "png", "webp")
TEXTS = ("txt", "json")
# keys of a sample's .json
CAPTION_KEYS = ("caption", "text", "captions")

# name, a reader of the picture's bytes, captions
Row = tuple[str, Callable[[], bytes], list[str]]


def read_shards(paths: Sequence[Path], leave: Callable[[str, str], None]) -> Iterator[Row]:
    """Yield every sample of uncompressed tar files, in order.

    Headers and captions are read now; a picture is read from its shard when it is needed.

    leave: called with (reason, name) for a sample without a picture or without captions.

    Raises:
        FastlocError: a shard is missing, compressed or damaged.
    """
    for path in paths:
        key, files = "", dict[str, Callable[[], bytes]]()
        for name, read in _members(path):
            folder, _, base = name.rpartition("/")
            start, _, kind = base.partition(".")
            here = f"{path.name}/{folder}/{start}" if folder else f"{path.name}/{start}"
            if here != key:
                yield from _sample(key, files, leave)
                key, files = here, {}
            files[kind.lower()] = read
        yield from _sample(key, files, leave)


def _sample(key: str, files: dict[str, Callable[[], bytes]], leave: Callable[[str, str], None]) -> Iterator[Row]:
    if not files:
        return
    picture = next((files[kind] for kind in PICTURES if kind in files), None)
    if picture is None:
        leave(f"no picture ({', '.join(PICTURES)})", key)
    else:
        yield key, picture, _captions(key, files)


def _captions(key: str, files: dict[str, Callable[[], bytes]]) -> list[str]:
    if "txt" in files:
        return [files["txt"]().decode("utf-8", "replace")]
    if "json" not in files:
        return []
    content = decode(files["json"](), Any, f"{key}.json: is not JSON", error=FastlocError)
    found = next((content[name] for name in CAPTION_KEYS if name in content), "") if isinstance(content, dict) else ""
    texts = found if isinstance(found, list) else [found]
    return [text for text in texts if isinstance(text, str)]


def _members(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    try:
        # a read of a map is no longer than the file, whatever size a header says
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view, _tar(view) as archive:
            places = [(each.name, each.offset_data, each.size) for each in archive if each.isfile()]
        whole = path.stat().st_size
    except (OSError, tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise FastlocError(f"shard {str(path)!r} must be an uncompressed tar file, got another ({first_line(error)})") from error
    for name, offset, size in places:
        if not 0 <= offset <= offset + size <= whole:
            raise FastlocError(f"shard {str(path)!r} ends within {shown(name)}")
        yield name, _reader(path, name, offset, size)


def _tar(view: mmap.mmap) -> tarfile.TarFile:
    return tarfile.TarFile(fileobj=view)


def _reader(path: Path, name: str, offset: int, size: int) -> Callable[[], bytes]:
    def read() -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) != size:
            raise FastlocError(f"shard {str(path)!r} ends within {shown(name)}")
        return content

    return read
