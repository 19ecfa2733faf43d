"""A connection to Ray: to a cluster that runs, or to a Ray of this machine that starts and ends with the run."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fastloc.errors import FastlocError
from fastloc.utils.schema import first_line

__all__ = ["AUTO", "LOCAL", "check", "connected"]

# addresses that are words: a Ray of this run's own, and the cluster that this machine belongs to
LOCAL, AUTO = "local", "auto"
# of Ray, from the first on and below the second, which takes no numbers of retries
VERSIONS = (2, 40), (2, 64)
# bytes of the object store of a Ray of one's own: descriptions of shards lie in it, no pictures
STORE = 256 * 2**20
# seconds within which a cluster's port must answer; Ray itself would ask for two minutes
PATIENCE = 5.0
# read when Ray is imported or starts: no report home, no copy of the folder, no messages of its inner parts
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


@contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """The module `ray`, connected; the connection ends with the block, unless the caller had one before.

    Args:
        address: "local" starts Ray on this machine; "auto" is the cluster that this machine belongs to, and "host:port" the one whose head
            listens there. None is RAY_ADDRESS if that is set, else "local".

    Raises:
        FastlocError: an address that is none, where no cluster answers, or one of another version of Ray or Python.
        ModuleNotFoundError: without Ray.
    """
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    address = _address(address)
    # Ray puts a handler of its own in place of the command line's
    handler = signal.getsignal(signal.SIGTERM)
    with _quiet():
        try:
            _start(ray, address)
            with suppress(ValueError):
                signal.signal(signal.SIGTERM, handler)
            yield ray
        finally:
            ray.shutdown()


def check(address: str | None = None) -> None:
    """Raise what `connected` does where that can be seen without connecting."""
    _ray()
    _address(address)


def _ray() -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    found = tuple(map(int, re.findall(r"\d+", ray.__version__)[:2]))
    first, end = VERSIONS
    if not first <= found < end:
        rule = f"{first[0]}.{first[1]} or later and below {end[0]}.{end[1]}"
        raise FastlocError(f'ray must be {rule}, got {ray.__version__}; pip install "fastloc[ray]"')
    return ray


def _address(given: str | None) -> str:
    """The address of a Ray cluster. Raises FastlocError for a text that is no address, and where nothing listens."""
    address = given or os.environ.get("RAY_ADDRESS") or LOCAL
    if address in (LOCAL, AUTO):
        return address
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 2**16) or "/" in host:
        fix = "run the command on the cluster, by `ray job submit`" if "://" in address else "write sources before --ray"
        raise FastlocError(f"the address of Ray must be HOST:PORT, {AUTO} or {LOCAL}, got {address!r}; {fix}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except OSError as error:
        raise FastlocError(f"{address}: no Ray answers there ({error.strerror or error}); `ray start --head` starts a cluster") from None
    return address


def _start(ray: Any, address: str) -> None:
    options: dict[str, Any] = {"object_store_memory": STORE, "include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
    # Ray ends the process where the cluster does not answer
    except (Exception, SystemExit) as error:
        reason = first_line(error) if isinstance(error, Exception) else "no answer"
        raise FastlocError(f"{address}: cannot connect to Ray ({reason})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data's progress and reports to itself; the caller has a progress of its own."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    shown = context.enable_progress_bars, context.print_on_execution_start, logger.level
    context.enable_progress_bars = context.print_on_execution_start = False
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start, level = shown
        logger.setLevel(level)
