"""The cache is bounded, and no thread waits for another key's value."""

import threading

from fastloc.utils.lru_cache import LruCache


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
