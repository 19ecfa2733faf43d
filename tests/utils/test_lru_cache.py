"""Caches are bounded, and no thread waits for another key's value."""

import sys
import threading
from typing import Any

import numpy as np

from fastloc.utils.lru_cache import ROWS, LruCache, RowCache


def test_values_are_made_once_and_come_in_order():
    made: list[int] = []
    memory = LruCache[int, int]()

    def square(key: int) -> int:
        made.append(key)
        return key * key

    assert memory.all([3, 1, 3], square) == [9, 1, 9] and made == [3, 1]
    assert memory.missing([1, 2, 2, 3]) == [2]
    assert memory.all([1, 2], square) == [1, 4] and made == [3, 1, 2]


def test_those_asked_for_last_stay():
    memory = LruCache[int, int](most=4)
    for key in range(20):
        memory.all([0, key], abs)
    assert len(memory) == 4 and memory.missing([0, 19, 18, 17]) == [] and memory.missing([16]) == [16]


def test_a_long_list_is_not_made_anew_every_time():
    memory, keys = LruCache[int, int](most=4), list(range(100))
    memory.all(keys, abs)
    assert memory.missing(keys) == []
    memory.all([5], abs)
    assert len(memory) == 4


def test_an_error_leaves_what_there_was():
    memory = LruCache[int, int]()
    memory.all([1], abs)
    try:
        memory.all([1, 0], lambda key: 1 // key)
    except ZeroDivisionError:
        assert memory.missing([1, 0]) == [0]
    else:
        raise AssertionError("no error")


def test_a_value_in_the_making_holds_up_nobody():
    memory, going, begun = LruCache[str, str](), threading.Event(), threading.Event()
    memory.all(["here"], str.upper)

    def slow(key: str) -> str:
        begun.set()
        assert going.wait(10)
        return key.upper()

    other = threading.Thread(target=memory.all, args=(["slow"], slow))
    other.start()
    assert begun.wait(10) and memory.all(["here"], str.upper) == ["HERE"]
    going.set()
    other.join(10)
    assert memory.missing(["slow", "here"]) == []


def rows(most: int = 4096) -> RowCache[int, Any]:
    return RowCache(lambda count, like: np.empty((count, *like.shape), like.dtype), np.stack, most)


def row_of(key: int) -> Any:
    return np.array([key, -key, key * key], np.float32)


def stated(keys: list[int]) -> Any:
    return np.stack([row_of(key) for key in keys])


def test_rows_are_those_of_their_keys_whatever_is_dropped():
    random, kept, expected = np.random.default_rng(0), rows(most=20), LruCache[int, Any](most=20)
    for _ in range(300):
        keys = random.integers(0, 60, random.integers(1, 15)).tolist()
        assert kept.missing(keys) == expected.missing(keys)
        np.testing.assert_array_equal(kept.all(keys, row_of), stated(keys))
        expected.all(keys, row_of)
        assert len(kept) == len(expected)


def test_an_answer_is_the_caller_s_own():
    kept = rows()
    kept.all([1, 2], row_of)[:] = 0
    np.testing.assert_array_equal(kept.all([2, 1], row_of), stated([2, 1]))


def test_rows_take_blocks_and_not_an_array_each():
    kept = rows(most=ROWS)
    for first in range(0, 20 * ROWS, 50):
        kept.all(list(range(first, first + 50)), row_of)
    # those kept, and those of the call before they are dropped
    assert len(kept) == ROWS and len(kept._blocks) <= 2


def test_blocks_of_a_large_call_are_given_back():
    kept = rows(most=8)
    large = list(range(10 * ROWS))
    kept.all(large, row_of)
    assert len(kept) == len(large) and kept.missing(large) == []
    kept.all([3, 4], row_of)
    assert len(kept) == 8 and len(kept._blocks) == 1
    left = [key for key in large if key not in kept.missing(large)]
    assert {3, 4} <= set(left)
    np.testing.assert_array_equal(kept.all(left, row_of), stated(left))


def test_threads_never_read_another_key_s_row():
    kept, wrong = rows(most=10), []

    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(300):
            keys = random.integers(0, 40, 6).tolist()
            if not np.array_equal(kept.all(keys, row_of), stated(keys)):
                wrong.append(keys)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
    finally:
        sys.setswitchinterval(usual)
    assert not wrong and len(kept) <= 12
