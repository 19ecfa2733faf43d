"""Submitted pictures under many threads: right answers, few in flight, and nothing left behind."""

import gc
import threading
import time
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from PIL import Image

from fastloc.engine.async_queue import AsyncQueue, Handle
from fastloc.errors import ImageError
from stand_in import BROKEN, StandIn, frame, value_of
from watchdog import SEEDS, clean, dice, in_threads, in_time

THREADS, EACH = 16, 12


class OnCpu(StandIn):
    """The stand-in, as a queue sees it."""

    device = torch.device("cpu")


def submitted(queue: AsyncQueue, localizer: OnCpu, number: int) -> Handle:
    return queue.submit(localizer, Image.fromarray(frame(number)), ["cat"], str(number))  # type: ignore[arg-type]


@pytest.mark.slow("more seeds", quick=2)
@pytest.mark.parametrize("seed", SEEDS)
def test_threads_share_one_queue(seed: int) -> None:
    """Each asks for some of its handles, in any order, some twice; pictures that fail raise at their own handles."""
    localizer = OnCpu(0.0005)

    def one(queue: AsyncQueue, thread: int) -> list[tuple[int, Any]]:
        random, found, handles = dice(1000 * seed + thread), [], []
        for _ in range(EACH):
            number = random.choice([BROKEN, *range(20, 250)])
            handles.append((number, submitted(queue, localizer, number)))
            if random.random() < 0.3:
                found += [asked(*handles.pop(random.randrange(len(handles))))]
        random.shuffle(handles)
        return found + [asked(*each) for each in handles if random.random() < 0.8]

    def asked(number: int, handle: Handle) -> tuple[int, Any]:
        try:
            first, second = handle.result(), handle.result()
            assert first is second and handle.done() and first.name == str(number)
            return number, value_of(first)
        except ImageError:
            return number, ImageError

    def all_of_them(queue: AsyncQueue) -> list[list[tuple[int, Any]]]:
        return in_threads([lambda thread=thread: one(queue, thread) for thread in range(THREADS)])

    with clean():
        answers = all_of_them(AsyncQueue())
    for number, value in [pair for each in answers for pair in each]:
        assert value is ImageError if number == BROKEN else value == number
    # one thread computes, whoever submitted first
    assert localizer.most == 1


def test_no_more_than_the_depth_are_in_flight_whatever_the_number_of_threads() -> None:
    localizer, queue, gate = OnCpu(), AsyncQueue(), threading.Event()
    usual = localizer.locate
    localizer.locate = lambda *arguments: (gate.wait(), usual(*arguments))[1]  # type: ignore[method-assign]
    handed: list[Handle] = []
    threads = [threading.Thread(target=lambda: handed.append(submitted(queue, localizer, 7)), daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    assert len(handed) == queue.depth
    gate.set()
    in_time(lambda: [thread.join() for thread in threads])
    assert len(handed) == THREADS and all(value_of(each.result()) == 7 for each in handed)


def test_an_interruption_while_a_submission_waits_leaves_the_queue_as_it_was() -> None:
    localizer, queue, interrupted = OnCpu(), AsyncQueue(), [True]

    def wait() -> Any:
        if interrupted.pop():
            raise KeyboardInterrupt
        return None

    queue.under_way.extend([Handle(lambda: False, wait), *(submitted(queue, localizer, 1) for _ in range(queue.depth - 1))])
    with pytest.raises(KeyboardInterrupt):
        submitted(queue, localizer, 2)
    assert len(queue.under_way) == queue.depth, "the picture that it waited for is still in flight"
    interrupted.append(False)
    assert value_of(in_time(lambda: submitted(queue, localizer, 3).result())) == 3


def test_a_result_is_read_once_by_however_many_threads() -> None:
    """On a GPU reading twice could read the next picture's buffers."""
    reads: list[int] = []

    def wait() -> Any:
        reads.append(1)
        time.sleep(0.05)
        return object()

    handle = Handle(lambda: True, wait)
    found = in_threads([handle.result] * 8)
    assert len(reads) == 1 and len({id(each) for each in found}) == 1


def test_a_queue_that_is_dropped_with_pictures_in_flight_ends_its_thread() -> None:
    with clean():
        localizer, queue = OnCpu(0.01), AsyncQueue()
        handles = [submitted(queue, localizer, number) for number in range(2)]
        del queue
        gc.collect()
        assert [value_of(in_time(each.result)) for each in handles] == [0, 1]
