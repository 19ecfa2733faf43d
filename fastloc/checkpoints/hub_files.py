"""One file from the Hugging Face hub: from its cache without a request, or by a resumable download.

The cache, the progress bar and the requests are those of huggingface_hub. Three things are added: the first contact has a short
timeout, because the hub's client tries for a minute; a partial file stays when the process ends, whereas the client deletes it; and
every failure is one line.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import queue
import re
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import huggingface_hub.utils
from huggingface_hub import _CACHED_NO_EXIST, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import logging as hub_logging

from fastloc.checkpoints.hub_repository import Repository
from fastloc.errors import FastlocError, ModelError
from fastloc.utils.atomic_write import no_follow, write_text
from fastloc.utils.system import files
from fastloc.utils.system.exhaustion import pass_on

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata


# seconds for the first contact: look-up of the name, connection and answer together; with imports a command fails within 5
PATIENCE = 2.5
# an ETag becomes a file's name, so its form is checked
_ETAG = re.compile(r"[A-Za-z0-9][\w.+=-]*", re.ASCII)
# the ETag of a file in the large storage is its sha256, of any other file git's object id
_SHA256, _GIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
# its names are public but made on demand, which a type checker does not see
_utils: Any = huggingface_hub.utils


def fetch(repository: Repository, names: Sequence[str]) -> Path | None:
    """Get one file. Arguments, result and errors as for `fastloc.checkpoints.hub.fetch`."""
    found = cached(repository, names)
    if found is not None:
        return found
    names = [name for name in names if try_to_load_from_cache(repository.name, name, revision=repository.revision) is not _CACHED_NO_EXIST]
    if not names:
        return None
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"{repository.subject} must be downloaded once, and HF_HUB_OFFLINE forbids it; unset it, or give {repository.instead}"
        )
    with _quiet():
        for name in names:
            try:
                return _download(repository, name)
            except EntryNotFoundError as error:
                _note_absence(repository, name, error)
    return None


def _note_absence(repository: Repository, name: str, error: EntryNotFoundError) -> None:
    """Record in the cache, as the hub's client does, that a commit has no such file, which saves later requests."""
    response: Any = getattr(error, "response", None)
    commit = response.headers.get("X-Repo-Commit") if response is not None else None
    if commit is None or not _GIT.fullmatch(commit):
        return
    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository.name, repo_type="model"))
    with suppress(OSError, FastlocError):
        for path, text in ((folder / ".no_exist" / commit / name, ""), (folder / "refs" / repository.revision, commit)):
            files.make_folder(path.parent, parents=True, exist_ok=True)
            if text != repository.revision and not path.exists():
                write_text(path, text)


def cached(repository: Repository, names: Sequence[str]) -> Path | None:
    """The first of these files that is in the hub's cache, or None. Makes no request."""
    for name in names:
        path = try_to_load_from_cache(repository.name, name, revision=repository.revision)
        if isinstance(path, str):
            return Path(path)
    return None


def _download(repository: Repository, name: str) -> Path:
    """Download one file. Raises EntryNotFoundError if the repository has no such file, and ModelError for any other failure."""
    about = _first_contact(repository, name)
    if about.commit_hash is None or about.etag is None or not _ETAG.fullmatch(about.etag):
        raise _failed(repository, f"{_host()} does not answer as a hub does; is a login page or a proxy in between?")
    blobs = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository.name, repo_type="model"), "blobs")
    lock = Path(constants.HF_HUB_CACHE, ".locks", blobs.parent.name, f"{about.etag}.lock")
    blob = blobs / about.etag
    try:
        files.make_folder(blobs, parents=True, exist_ok=True)
        files.make_folder(lock.parent, parents=True, exist_ok=True)
        with _utils.WeakFileLock(lock):
            if not blob.exists():
                _complete(repository, name, blob, about)
        # the content is cached: this adds the file's name and the revision to the cache
        path = Path(hf_hub_download(repository.name, name, revision=repository.revision))
        if not path.is_symlink():
            # without links the cache makes a copy
            files.remove(blob)
    except ModelError:
        raise
    except Exception as error:
        pass_on(error)
        raise _error_line(repository, error, about.size or 0) from error
    return path


def _first_contact(repository: Repository, name: str) -> HfFileMetadata:
    url = hf_hub_url(repository.name, name, revision=repository.revision)
    # a timeout that you set for the hub's client takes precedence
    own = constants.HF_HUB_ETAG_TIMEOUT
    patience = PATIENCE if own == constants.DEFAULT_ETAG_TIMEOUT else float(own)
    answers: queue.SimpleQueue[HfFileMetadata | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(get_hf_file_metadata(url, timeout=patience))
        except Exception as error:
            answers.put(error)

    # the look-up of a host name takes no timeout, so it runs in a thread that can be abandoned
    threading.Thread(target=ask, daemon=True, name="fastloc-hub").start()
    try:
        answer = answers.get(timeout=patience)
    except queue.Empty:
        answer = TimeoutError()
    if isinstance(answer, EntryNotFoundError):
        raise answer
    if isinstance(answer, HfHubHTTPError):
        raise _error_line(repository, answer) from answer
    if isinstance(answer, Exception):
        raise ModelError(
            f"{repository.subject} must be downloaded once, and {_host()} cannot be reached ({_reason(answer, patience)}); "
            f"connect, or give {repository.instead}"
        ) from answer
    return answer


def _complete(repository: Repository, name: str, blob: Path, about: HfFileMetadata) -> None:
    """Download the missing part of a file, and give it its name in the cache once it is complete."""
    partial = blob.with_name(f"{blob.name}.incomplete")
    if partial.is_symlink():
        # no download leaves such a file
        files.remove(partial)
    have = partial.stat().st_size if partial.exists() else 0
    if about.size is not None and have > about.size:
        files.remove(partial)
        have = 0
    free = shutil.disk_usage(blob.parent).free
    if about.size is not None and free < about.size - have:
        raise _full(repository, about.size - have, free)
    headers = _utils.build_hf_headers(library_name="fastloc")
    # content compressed in transit has no size to compare with, and no ranges
    headers["Accept-Encoding"] = "identity"
    url = hf_hub_url(repository.name, name, revision=about.commit_hash)
    try:
        with files.opened(partial, "ab", opener=no_follow) as file:
            http_get(url, file, resume_size=have, headers=headers, expected_size=about.size, displayed_filename=name)
    except HfHubHTTPError:
        raise
    except Exception as error:
        pass_on(error)
        if isinstance(error, OSError) and error.errno is not None:
            raise
        came = partial.stat().st_size
        raise _failed(
            repository,
            f"{name} broke off after {came:,} of {about.size or 0:,} bytes ({_reason(error)}); another try goes on from there",
        ) from error
    kind = "sha256" if _SHA256.fullmatch(blob.name) else "sha1" if _GIT.fullmatch(blob.name) else None
    if kind is not None and _digest(partial, kind) != blob.name:
        files.remove(partial)
        raise _failed(repository, f"{name} came damaged (its {kind} is not the hub's) and is deleted; try again")
    # its digest is not looked at again
    files.sync_file(partial)
    files.rename(partial, blob)


def _digest(path: Path, kind: str) -> str:
    """The sha256 of a file, or git's object id of its content: the sha1 with the size in front."""
    with path.open("rb") as file:
        if kind == "sha256":
            return hashlib.file_digest(file, "sha256").hexdigest()
        found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        while chunk := file.read(1 << 20):
            found.update(chunk)
        return found.hexdigest()


def _error_line(repository: Repository, error: Exception, size: int = 0) -> ModelError:
    """The one-line error for a refusal by the hub or a disk error."""
    if isinstance(error, GatedRepoError):
        page = f"{constants.ENDPOINT}/{repository.name}"
        return _failed(repository, f"repository {repository.name!r} is gated; accept its terms on {page} and log in with `hf auth login`")
    if isinstance(error, RevisionNotFoundError):
        return _failed(repository, f"repository {repository.name!r} has no revision {repository.revision!r}")
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        return _failed(
            repository,
            f"{_host()} has no repository {repository.name!r}, or it is private; check the name, or log in with `hf auth login`",
        )
    if status:
        return _failed(repository, f"{_host()} answers {status}; try again later, or give {repository.instead}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(repository, size)
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return _failed(
            repository, f"its cache {constants.HF_HUB_CACHE!r} cannot be written ({error.strerror}); set HF_HOME to a folder that can"
        )
    return _failed(repository, _reason(error))


def _full(repository: Repository, needed: int, free: int | None = None) -> ModelError:
    left = "is full" if free is None else f"has {free:,} free"
    return _failed(
        repository,
        f"{needed:,} bytes are needed, and the disk of {constants.HF_HUB_CACHE!r} {left}; make space, or set HF_HOME to a folder elsewhere",
    )


def _failed(repository: Repository, why: str) -> ModelError:
    return ModelError(f"{repository.subject} could not be downloaded: {why}")


def _reason(error: BaseException, patience: float | None = None) -> str:
    """The reason of a failed request in a few words: clients wrap the system's message several times."""
    causes = [error]
    while (inner := causes[-1].__cause__ or causes[-1].__context__) is not None and inner not in causes:
        causes.append(inner)
    if any(isinstance(each, socket.gaierror) for each in causes):
        return "its name does not resolve"
    if any("Timeout" in type(each).__name__ for each in causes):
        return "no answer" if patience is None else f"no answer within {patience:g} s, HF_HUB_ETAG_TIMEOUT=30 waits longer"
    system = [each.strerror for each in causes if isinstance(each, OSError) and each.errno is not None and each.strerror]
    # the client's size check
    said = system[-1] if system else "the hub sent no more" if type(error) is OSError else str(error)
    return said.strip().splitlines()[0] if said.strip() else type(error).__name__


def _host() -> str:
    return urlsplit(constants.ENDPOINT).netloc


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the hub's warnings about its own retries, unless you set a more verbose level than warnings."""
    level = hub_logging.get_verbosity()
    if level == logging.WARNING:
        hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub_logging.set_verbosity(level)
