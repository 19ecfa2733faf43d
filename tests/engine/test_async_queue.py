"""Submitting pictures: results as from a call, in any order of asking, a bounded number under way, errors where they belong."""

import threading
from functools import cache
from typing import Any

import numpy as np
import pytest

from fastloc.engine.localizer import Localizer
from fastloc.errors import ImageError, TextError
from fastloc.results.result import Result


@cache
def engine() -> Localizer:
    return Localizer(size=64)


def frame(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def test_results_are_those_of_a_call() -> None:
    handles = [engine().submit(frame(seed), ["cat", "dog"]) for seed in range(5)]
    # asked for out of order
    for seed in (3, 0, 4, 1, 2):
        found, expected = handles[seed].result(), engine()(frame(seed), ["cat", "dog"])
        assert isinstance(found, Result) and found.texts == ("cat", "dog")
        assert np.array_equal(found.similarity, expected.similarity), seed
        assert handles[seed].done() and handles[seed].result() is found


def test_no_more_than_a_few_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    localizer, gate = Localizer(size=64), threading.Event()
    began: list[int] = []
    usual = localizer.locate

    def slow(*args: Any) -> list[Result]:
        began.append(1)
        gate.wait(30)
        return usual(*args)

    monkeypatch.setattr(localizer, "locate", slow)
    handles = [localizer.submit(frame(seed), "cat") for seed in range(localizer._queue.depth)]
    assert not any(handle.done() for handle in handles)
    third: list[Any] = []
    waiting = threading.Thread(target=lambda: third.append(localizer.submit(frame(9), "cat")))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and not third and len(began) == 1
    gate.set()
    waiting.join(30)
    assert third[0].result().texts == ("cat",) and all(handle.result() for handle in handles)


def test_what_is_wrong_is_reported_at_once_or_with_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError):
        engine().submit("no such picture.png", "cat")
    with pytest.raises(TextError):
        engine().submit(frame(0), [])
    localizer = Localizer(size=64)

    def broken(*args: Any) -> list[Result]:
        raise ImageError("broken on the way")

    monkeypatch.setattr(localizer, "locate", broken)
    handles = [localizer.submit(frame(seed), "cat") for seed in range(4)]
    for handle in handles:
        for _ in range(2):
            with pytest.raises(ImageError, match="broken on the way"):
                handle.result()


def test_methods_share_the_queue_and_keep_their_recipes() -> None:
    other = engine().with_method("naclip")
    first, second = engine().submit(frame(1), ["cat", "dog"]), other.submit(frame(1), ["cat", "dog"])
    assert (first.result().method, second.result().method) == ("gem", "naclip")
