"""The manifest of a batch's folder: the sources and settings of its rows, and at the end the pictures that came in, came out and failed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from fastloc._version import __version__
from fastloc.errors import FastlocError
from fastloc.scale.rows import FORMAT, Settings, errors_table
from fastloc.scale.shards import Counts, parts, write_table
from fastloc.utils.atomic_write import write_whole
from fastloc.utils.schema import decode, read_file, shown
from fastloc.utils.system import files

__all__ = ["MANIFEST", "Manifest", "begin", "finish", "present", "read"]

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class _Format:
    format: int
    fastloc: str = "of an unknown version"


@dataclass(frozen=True)
class Manifest:
    """One folder's manifest; `counts` are those of a run that came to its end, else None."""

    format: int
    fastloc: str
    sources: tuple[str, ...]
    shard: int
    settings: Settings
    hash: str
    counts: Counts | None = None
    shards: int | None = None


def read(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where there is none. Raises FastlocError for a damaged one, and one of another format."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    content = read_file(path, str(path), error=FastlocError)
    found = decode(content, _Format, str(path), error=FastlocError)
    if found.format != FORMAT:
        raise FastlocError(
            f"{path} must be of format {FORMAT}, got {shown(found.format)} of fastloc {shown(found.fastloc)}; give another folder with -o"
        )
    return decode(content, Manifest, str(path), error=FastlocError)


def present(folder: Path) -> Manifest | None:
    """The manifest of a folder that rows may go to; None for a new one.

    Raises FastlocError as `read` does, and for a folder that is not a batch's.
    """
    if folder.exists() and not folder.is_dir():
        raise FastlocError(f"--output must be a folder, got the file {folder}")
    before = read(folder)
    if before is None and folder.exists() and not all(map(_begun, folder.iterdir())):
        raise FastlocError(f"{folder} must be a new folder or a batch's, got one that holds something else; give another with -o")
    return before


def _begun(path: Path) -> bool:
    """True for what a run leaves that was killed before it had a manifest: folders with nothing in them, and an unfinished file."""
    if path.name in ("rows", "errors") and path.is_dir():
        return not any(path.iterdir())
    return path.name.startswith(f".{MANIFEST}.") and path.suffix == ".part"


def begin(folder: Path, settings: Settings, sources: Sequence[str], shard: int) -> Manifest:
    """Make a batch's folder, or go on with one of the same settings, sources and shards.

    Raises FastlocError for a folder of other settings, which it names, and for one that is not a batch's.
    """
    manifest = Manifest(FORMAT, __version__, tuple(sources), shard, settings, settings.hash())
    before = present(folder)
    if before is not None:
        _check(folder, before, manifest)
        return before
    try:
        for part in ("rows", "errors"):
            files.make_folder(folder / part, parents=True, exist_ok=True)
    except OSError as error:
        raise FastlocError(f"{folder}: cannot be made ({error.strerror})") from None
    _write(folder, manifest)
    return manifest


def finish(folder: Path, manifest: Manifest, counts: Counts, shards: int) -> None:
    """Write errors.parquet and the manifest with its counts, and remove shards beyond the source's end.

    Raises FastlocError where the files do not hold what was counted.
    """
    import pyarrow.parquet as pq

    surplus = [path for part in ("rows", "errors") for path in parts(folder / part) if int(path.stem[5:]) >= shards]
    # and what a killed write left under its random name
    halves = [path for part in ("rows", "errors") for path in (folder / part).glob(".part-*.part")]
    for path in (*surplus, *halves):
        try:
            files.remove(path)
        except OSError as error:
            raise FastlocError(f"{path}: cannot be removed ({error.strerror or error})") from error
    rows = sum(pq.read_metadata(path).num_rows for path in parts(folder / "rows"))
    errors = [error for path in parts(folder / "errors") for error in pq.read_table(path).to_pylist()]
    texts = len(manifest.settings.texts)
    if rows != counts.located * texts or len(errors) != counts.failed or counts.located + counts.failed != counts.pictures:
        raise FastlocError(
            f"{folder}: {counts.pictures} pictures came in, {rows / texts:g} came out and {len(errors)} failed, which does not add up; "
            "run the same command again"
        )
    write_table(folder / "errors.parquet", errors_table(errors, manifest.settings.metadata()))
    _write(folder, replace(manifest, counts=counts, shards=shards))


def _write(folder: Path, manifest: Manifest) -> None:
    content = json.dumps(asdict(manifest), indent=2, ensure_ascii=False, sort_keys=True).encode()
    write_whole(folder / MANIFEST, lambda file: file.write(content), sync=True)


def _check(folder: Path, before: Manifest, now: Manifest) -> None:
    pairs = [(name, getattr(before, name), getattr(now, name)) for name in ("sources", "shard")]
    pairs += [(field.name, getattr(before.settings, field.name), getattr(now.settings, field.name)) for field in fields(Settings)]
    for name, old, new in pairs:
        if old != new:
            raise FastlocError(f"{name} must be {shown(old)}, as for the rows in {folder}, got {shown(new)}; give another folder with -o")
