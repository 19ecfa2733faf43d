"""A source that the live page's server has: one film for all clients, at its own pace, and only while somebody looks."""

import io
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from fastloc.live.broadcast import Broadcast
from live_client import HEAT, Bright, Film, joined, sent
from live_fixtures import bright_fixture, open_live_fixture  # noqa: F401
from live_server import serving, until


def test_a_file_runs_in_a_circle_for_all_clients(open_live: Any, bright: Bright) -> None:
    opened: list[Film] = []

    def film() -> Film:
        opened.append(Film())
        return opened[-1]

    live, join = open_live(bright, hub=Broadcast(film, 100))
    clients = {name: join() for name in ("cat", "bird")}
    clients["bird"].settings(texts=["bird"])
    for name, client in clients.items():
        seen = []
        while len(seen) < 7:
            answer = client.answer()
            client.socket.send_json({"type": "seen"})
            with Image.open(io.BytesIO(answer.picture)) as shown:
                assert shown.format == "JPEG" and shown.size == (64, 48)
                # the picture that comes with the heat is the one that it was made of
                row = np.asarray(shown.convert("L"), np.float32).sum(0)
            column = answer.heat[0, 0].sum(0).argmax()
            assert abs((row.argmax() + 0.5) / 64 - (column + 0.5) / HEAT[1]) < 0.15
            if name in answer.facts["texts"]:
                seen.append(answer.facts["time"])
        assert seen == sorted(seen), "time goes on when the film begins anew"
    assert len(opened) > 1 and all(each.closed for each in opened[:-1])
    assert live.state["source"] == {"name": "film", "live": False, "corrupt": 0, "reconnects": 0}


def test_a_file_keeps_its_pace_and_waits_for_somebody_to_look(open_live: Any, bright: Bright) -> None:
    film = Film(count=1000, rate=40)
    _, join = open_live(bright, hub=Broadcast(lambda: film, 100))
    time.sleep(0.1)
    assert film.sent <= 1
    client = join()
    times = []
    for _ in range(8):
        times.append(client.answer().facts["time"])
        client.socket.send_json({"type": "seen"})
    assert times[0] <= 50, "it did not run on while nobody looked"
    assert min(np.diff(times)) >= 20, "frames come at the film's pace, 25 ms apart or more"


def test_answers_that_were_not_seen_hold_up_the_server(open_live: Any, bright: Bright) -> None:
    live, join = open_live(bright, hub=Broadcast(lambda: Film(live=True, rate=200), 1000))
    client = join()
    until(lambda: live.state["clients"][0]["dropped"] >= 5)
    assert live.state["clients"][0]["answered"] == 2
    numbers = [client.answer().facts["id"] for _ in range(2)]
    client.socket.send_json({"type": "seen"})
    newest = client.answer().facts["id"]
    assert newest > numbers[1] + 3, "what comes then is the newest"


def test_a_source_that_ends_or_fails_is_reported(open_live: Any, bright: Bright) -> None:
    _, join = open_live(bright, hub=Broadcast(lambda: Film(count=0), 30))
    answer = join().words("problem")
    assert (answer["field"], answer["message"]) == ("source", "film has no frames")


def test_frames_of_a_client_are_not_taken_where_the_server_has_a_source(open_live: Any, bright: Bright) -> None:
    _, join = open_live(bright, hub=Broadcast(lambda: Film(live=True), 30))
    client = join()
    client.frame(sent(1))
    assert client.closed() == (1008, "frames come from the server's own source here")


def test_killed_clients_are_off_the_source_too(bright: Bright) -> None:
    hub = Broadcast(lambda: Film(live=True), 30)
    with serving(bright, hub=hub) as (live, address):
        with joined(address) as client:
            until(lambda: hub.clients == 1)
            client.socket.close()
        until(lambda: not hub.clients and not live.state["clients"])
