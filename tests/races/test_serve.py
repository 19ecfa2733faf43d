"""A service whose requests are cancelled, and which is closed, at any moment: right answers, no hang, nothing that nobody saw."""

import asyncio
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from PIL import Image

from fastloc.errors import FastlocError, ImageError
from fastloc.serve.service import Service
from fastloc.serve.settings import Refused, Settings
from stand_in import BROKEN, StandIn, frame, value_of
from watchdog import SEEDS, clean, dice, in_threads, run_async

REQUESTS = 30


async def request(service: Service, numbers: list[int]) -> list[int]:
    found = await service.locate([Image.fromarray(frame(number)) for number in numbers], ["cat", "dog"])
    return [value_of(each) for each in found]


@pytest.mark.slow("more seeds", quick=2)
@pytest.mark.parametrize("seed", SEEDS)
def test_requests_that_are_cancelled_change_no_other(seed: int) -> None:
    random = dice(seed)
    service = Service(StandIn(0.001), Settings(wait=0.002, queue=1000))

    async def one(number: int) -> Any:
        await asyncio.sleep(random.uniform(0, 0.02))
        numbers = [random.choice([BROKEN, *range(20, 250)]) for _ in range(random.randint(1, 3))]
        try:
            return numbers, await request(service, numbers)
        except ImageError:
            return numbers, ImageError

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(one(number)) for number in range(REQUESTS)]
        cancelled = random.sample(tasks, REQUESTS // 3)
        for task in cancelled:
            await asyncio.sleep(random.uniform(0, 0.002))
            task.cancel()
        for task, end in zip(tasks, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            if isinstance(end, asyncio.CancelledError):
                assert task in cancelled
            else:
                numbers, values = end
                assert values is ImageError if BROKEN in numbers else values == numbers
        assert service.inside == 0
        await asyncio.to_thread(service.close)

    with clean():
        run_async(all_of_them)


@pytest.mark.slow("more seeds", quick=2)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_service_that_is_closed_in_the_middle_answers_or_refuses_all(seed: int) -> None:
    """The end comes from another thread, as a server's does."""
    random, ends = dice(seed), list[str]()
    # of those that wait for others for so long none is answered
    wait = random.choice([0.0, 0.01, 60.0])
    service = Service(StandIn(0.002), Settings(wait=wait, queue=1000))

    async def one(number: int) -> None:
        await asyncio.sleep(random.uniform(0, 0.03))
        try:
            assert await request(service, [number]) == [number]
            ends.append("answered")
        except Refused as error:
            ends.append("refused" if error.status == 503 else repr(error))

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(one(20 + number)) for number in range(REQUESTS)]
        await asyncio.sleep(random.uniform(0, 0.03))
        await asyncio.to_thread(service.close)
        await asyncio.gather(*tasks)
        with pytest.raises(Refused, match="about to end"):
            await request(service, [1])

    with clean():
        run_async(all_of_them)
    assert len(ends) == REQUESTS and ("refused" in ends or wait < 1) and set(ends) <= {"answered", "refused"}


def test_a_closed_batcher_refuses_what_waits_at_once() -> None:
    """Not after the time that a request may take."""
    service = Service(StandIn(), Settings(wait=60.0, seconds=60.0))

    async def waiting() -> None:
        task = asyncio.create_task(request(service, [1]))
        while not service.batcher._groups:
            await asyncio.sleep(0.001)
        begun = asyncio.get_running_loop().time()
        await asyncio.to_thread(service.close)
        with pytest.raises(Refused, match="the service is about to end; ask another one"):
            await task
        assert asyncio.get_running_loop().time() - begun < 5
        service.close()

    with clean():
        run_async(waiting)


@pytest.mark.slow("more seeds", quick=2)
@pytest.mark.parametrize("seed", range(3))
def test_clients_of_a_server_in_threads_and_tasks_some_of_which_hang_up(seed: int) -> None:
    """Every call that is not cancelled has its own answer; once the server has ended the next one says so."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("httpx2")
    from fastloc.client.async_client import AsyncClient
    from fastloc.client.client import Client
    from service import serving

    random, localizer = dice(seed), StandIn(0.002)

    def thread(number: int) -> None:
        with Client(address, retries=0) as client:
            for turn in range(6):
                assert value_of(client(frame(50 + 10 * number + turn), ["cat"])) == 50 + 10 * number + turn

    async def tasks() -> None:
        async with AsyncClient(address, retries=0) as client:

            async def one(number: int) -> int:
                return value_of(await client(frame(20 + number), ["cat"])) - 20

            made = [asyncio.create_task(one(number)) for number in range(12)]
            for task in random.sample(made, 5):
                await asyncio.sleep(random.uniform(0, 0.01))
                task.cancel()
            for number, end in enumerate(await asyncio.gather(*made, return_exceptions=True)):
                assert end == number or isinstance(end, asyncio.CancelledError), repr(end)

    # libuv keeps a pipe for signals from its first loop on
    with serving(localizer):
        pass
    with clean():
        with serving(localizer) as address:
            in_threads([*(lambda number=number: thread(number) for number in range(4)), lambda: run_async(tasks)])
        with Client(address, retries=0) as client, pytest.raises(FastlocError, match="cannot be reached"):
            client(frame(100), ["cat"])
