"""Clients of a service in a forked child: connections of its own, and the parent's go on."""

import threading

import pytest

pytest.importorskip("httpx2")
pytest.importorskip("starlette")

from fastloc.client.client import Client
from forked import forked, needs_fork
from service import serving
from stand_in import StandIn, frame, value_of


@pytest.mark.slow("two children, each with a server's answers")
@needs_fork
def test_a_child_asks_by_connections_of_its_own() -> None:
    with serving(StandIn(0.01)) as address, Client(address) as client:
        assert value_of(client(frame(3), ["cat"])) == 3
        kept = client._http
        done: list[int] = []
        asking = threading.Thread(target=lambda: done.extend(value_of(client(frame(number), ["cat"])) for number in range(20)))
        asking.start()
        there = [forked(lambda first=first: [value_of(client(frame(first + each), ["cat"])) for each in range(10)]) for first in (50, 100)]
        asking.join(30)
        assert there == [list(range(50, 60)), list(range(100, 110))] and done == list(range(20))
        assert client._http is kept
        assert forked(lambda: client._http is None and client._connections is not kept)


@needs_fork
def test_a_client_that_is_closed_is_so_in_a_child_and_says_so() -> None:
    from fastloc.errors import ServiceError

    client = Client("http://127.0.0.1:9")
    client.close()
    for call in (lambda: client(frame(1), ["cat"]), client.ready, client.models):
        with pytest.raises(ServiceError, match="the client must be open for a call, and it is closed; make another one"):
            call()
    with pytest.raises(ServiceError, match="it is closed"):
        forked(client.ready)
    client.close()
