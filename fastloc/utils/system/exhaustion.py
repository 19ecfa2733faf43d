"""Errors of libraries that mean that the machine has no more of something: memory, threads, or files that may be open."""

from __future__ import annotations

import errno

from fastloc.errors import FastlocError

__all__ = ["exhausted", "pass_on", "ran_out"]

# how libraries say it in errors of no class of their own: PyTorch's allocators on Linux and Windows, C++, the loader, Python's threads
_SAID = {
    "can't allocate memory": "memory",
    "not enough memory": "memory",
    "Cannot allocate memory": "memory",
    "can't allocate lock": "memory",
    "bad_alloc": "memory",
    "bad allocation": "memory",
    # PyTorch's `load_state_dict`, of an error without words as a tensor is copied: a MemoryError
    "an exception occurred : ()": "memory",
    # PyTorch's of objects around numbers that are there, and its reading of such an object without memory for a number
    "Failed to allocate a": "memory",
    "could not determine the shape of object type 'torch.storage.UntypedStorage'": "memory",
    # glibc says no more, and the same of a folder without execution
    "failed to map segment from shared object": "library",
    "can't start new thread": "threads",
    "Too many open files": "files",
}
_WORDS = {
    "memory": "there is not enough memory; give fewer or smaller pictures at once, a smaller model, or more memory",
    "GPU memory": "there is not enough memory on the GPU; give fewer or smaller pictures at once, a smaller model, or --device cpu",
    "library": "there is not enough memory to load a library, or its folder is mounted noexec; give this process more memory",
    "files": "this process may open no more files; raise the limit (ulimit -n)",
    "threads": "the system starts no more threads; end other programs, or raise the limit of processes (ulimit -u)",
}


# errors of the system that pass as others give back what they have: memory, open files, room on a disk
_PASSING = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT}


def exhausted(error: BaseException) -> str | None:
    """A line that says what ran out, where an error means that: MemoryError, torch's OutOfMemoryError, and RuntimeErrors, ImportErrors and
    ValueErrors that say so; and a library's error that was raised for one of these, as of an archive that could not be closed after it,
    or of the reader around the reader that had no memory. Else None; also for a FastlocError, which has its own words.

    >>> exhausted(RuntimeError("can't start new thread"))
    'the system starts no more threads; end other programs, or raise the limit of processes (ulimit -u)'
    """
    each: BaseException | None = error
    while each is not None and not isinstance(each, FastlocError):
        if (kind := _kind(each)) is not None:
            return _WORDS[kind]
        each = each.__cause__ or each.__context__
    return None


def _kind(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, (RuntimeError, ImportError, ValueError)):
        usual = "GPU memory" if type(error).__name__ == "OutOfMemoryError" else None
        return next((kind for said, kind in _SAID.items() if said in str(error)), usual)
    return None


def pass_on(error: BaseException) -> None:
    """Raise an error again where it means that something ran out (see `exhausted`): that says nothing about the file, picture or model.

    It is the first line of a handler that takes every exception of a library, and names the input that the library refused.
    """
    if exhausted(error) is not None:
        raise error


def ran_out(error: BaseException) -> bool:
    """True where an error, or one that it was raised for, means that something ran out: the same work may succeed another time.

    >>> ran_out(OSError(errno.EMFILE, "Too many open files")), ran_out(OSError(errno.EIO, "Input/output error"))
    (True, False)
    """
    each: BaseException | None = error
    while each is not None:
        if exhausted(each) is not None or (isinstance(each, OSError) and each.errno in _PASSING):
            return True
        each = each.__cause__ or each.__context__
    return False
