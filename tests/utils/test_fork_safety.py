"""Locks and cached values in a forked child, whatever other threads of the parent held just then."""

import gc
import inspect
import threading
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloc.imaging.geometry import fit
from fastloc.results.result import Result
from fastloc.utils import fork_safety
from fastloc.utils.lru_cache import LruCache
from forked import forked, held, needs_fork

pytestmark = needs_fork


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock, threading.Condition, threading.Event])
def test_what_the_standard_library_offers_for_this_is_there(kind: Any) -> None:
    assert callable(kind()._at_fork_reinit)


def test_a_cache_whose_lock_was_held() -> None:
    cache = LruCache[str, int]()
    cache.all(["a"], len)
    with held(cache._lock):
        assert forked(lambda: cache.all(["a", "bb"], len), patience=5) == [1, 2]


def test_a_result_while_another_one_makes_its_maps() -> None:
    """Up to Python 3.11 all objects of a class share one lock for each cached property."""
    similarity = np.linspace(0, 1, 4, dtype=np.float32).reshape(1, 2, 2)
    found = Result(picture=Image.new("RGB", (8, 8)), texts=("cat",), similarity=similarity, geometry=fit((8, 8), 8, 4), order="picture")
    heatmaps = inspect.getattr_static(Result, "heatmaps")
    assert isinstance(heatmaps, cached_property)
    lock = getattr(heatmaps, "lock", threading.RLock())
    with held(lock):
        assert forked(lambda: found.heatmaps.shape, patience=5) == (1, 8, 8)


def test_locks_come_before_the_objects_that_need_them() -> None:
    class Owner:
        def __init__(self) -> None:
            self.lock, self.renewed = threading.Lock(), False
            fork_safety.renewed_after_fork(self)
            fork_safety.renewed_after_fork(self.lock)

        def _at_fork_reinit(self) -> None:
            with self.lock:
                self.renewed = True

    owners = [Owner() for _ in range(8)]
    with held(owners[0].lock), held(owners[7].lock):
        assert forked(lambda: [each.renewed for each in owners], patience=5) == [True] * 8
    assert not owners[0].renewed, "the parent goes on as it was"


def test_nothing_is_kept_alive_by_being_registered() -> None:
    before = len(fork_safety._registered)
    caches = [LruCache[str, int]() for _ in range(100)]
    assert len(fork_safety._registered) == before + 100
    del caches
    gc.collect()
    assert len(fork_safety._registered) <= before


def test_what_is_kept_for_ever_is_never_destroyed() -> None:
    gone: list[str] = []

    class Session:
        def __del__(self) -> None:
            gone.append("destroyed")

    session = Session()
    fork_safety.keep_for_ever(session)
    del session
    gc.collect()
    assert gone == []
