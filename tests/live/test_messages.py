"""Messages over the live page's WebSocket: incoming ones are of the schema or refused, and outgoing ones are JSON."""

import json
import random
import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from starlette.testclient import TestClient

from fastloc.live.broadcast import Broadcast
from fastloc.live.limits import Limits, Violation
from fastloc.live.messages import Asked, Ping, Refused, Seen, read_words, written
from fastloc.live.protocol import Answer, read_answer, write_answer
from fastloc.live.settings import Settings, changed
from live_client import HOST, Bright, Film, live_of
from live_fixtures import bright_fixture, open_live_fixture  # noqa: F401


def strict(text: str | bytes) -> Any:
    """JSON as others read it: no NaN, and text that is UTF-8."""

    def no(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(text, parse_constant=no)
    json.dumps(found, ensure_ascii=False).encode()
    return found


def test_messages_of_the_page_are_read() -> None:
    assert read_words('{"type": "ping", "time": 12.5}') == Ping(12.5)
    assert read_words('{"type": "seen"}') == Seen()
    asked = read_words('{"type": "settings", "texts": ["a \\ud83d\\ude00"], "maps": [0, 1], "smooth": 1, "boxes": true}')
    assert isinstance(asked, Asked)
    assert asked.requested == {"texts": ["a 😀"], "maps": (0.0, 1.0), "smooth": 1.0, "boxes": True}
    assert read_words('{"type": "settings"}').requested == {}  # type: ignore[union-attr]


SEEDS = (
    '{"type":"ping","time":1.5}',
    '{"type":"seen"}',
    '{"type":"settings","texts":["cat"],"smooth":1,"maps":[0,1],"threshold":0.5,"boxes":true,"methods":["bright"],"background":["x"]}',
    '{"type":"settings","maps":"frame"}',
)
PIECES = (
    "null", "true", "NaN", "-Infinity", "1e999", "9" * 400, '"\\ud800"', '"\\u0000"', "[]", "{}", "[" * 3000, '""', "-1", '"type"',
    '{"a":{"b":[1]}}', '"' + "x" * 500 + '"', "\x00", "😀", "\ud800", ",", "}",
)  # fmt: skip


def mutated(rng: random.Random) -> str:
    text = rng.choice(SEEDS)
    for _ in range(rng.randint(0, 3)):
        places = [found.span() for found in re.finditer(r'"[^"]*"|-?[\d.]+|true|\[[^\]]*\]', text)]
        start, end = rng.choice(places) if places and rng.random() < 0.6 else [rng.randrange(len(text) + 1)] * 2
        text = text[:start] + rng.choice(PIECES) + text[end + rng.randrange(2) :]
    return text


def test_whatever_comes_is_a_message_or_refused_in_a_line() -> None:
    """2000 mutations of the page's messages. Those let through are within the limits, and can be sent to others."""
    rng, limits, now, outcomes = random.Random(11), Limits(), Settings(("cat",), ("bright",)), set()
    problems: list[str] = []
    for _ in range(2000):
        text = mutated(rng)
        try:
            found = read_words(text)
            if isinstance(found, Asked):
                strict(written(changed(now, found.requested, limits, ("bright",)).to_dict()))
            else:
                assert strict(written({"time": getattr(found, "time", 0.0)}))["time"] is not None
            outcomes.add(type(found))
        except (Refused, Violation) as error:
            problems.append(str(error))
            outcomes.add(type(error))
    assert all(len(line) < 300 and line.isprintable() for line in problems)
    assert outcomes == {Ping, Seen, Asked, Refused, Violation}


@pytest.mark.parametrize("kind", ["half a pair", "number", "numpy"])
def test_what_is_written_is_json(kind: str) -> None:
    content, found = {
        "half a pair": ({"name": "caf\udce9", "list": [("\ud800",)]}, {"name": "caf?", "list": [["?"]]}),
        "number": ({"a": float("nan"), "b": [float("-inf"), 1]}, {"a": None, "b": [None, 1]}),
        "numpy": ({"a": np.float32(0.5), "b": np.arange(2), "c": np.float64("nan")}, {"a": 0.5, "b": [0, 1], "c": None}),
    }[kind]
    assert strict(written(content)) == found


def test_answers_whose_heat_is_no_number_are_json() -> None:
    answer = read_answer(write_answer(Answer({"peaks": [[float("nan")] * 4]}, np.zeros((1, 1, 2, 3), np.uint8), b"")))
    assert answer.facts == {"peaks": [[None] * 4], "shape": [1, 1, 2, 3]}


def test_answers_that_are_broken_are_reported() -> None:
    whole = write_answer(Answer({}, np.zeros((1, 1, 2, 3), np.uint8), b""))
    for broken in (whole.replace(b"[1,1,2,3]", b"[1,1,2,4]"), whole.replace(b"shape", b"shepa"), whole.replace(b"{", b"[")):
        with pytest.raises(Violation, match="facts of an answer are broken"):
            read_answer(broken)


def test_state_is_json_whatever_clients_ask_for(open_live: Any, bright: Bright) -> None:
    live, join = open_live(bright)
    client = join()
    assert client.settings(texts=["\ud800"])["field"] == "texts"
    client.socket.send_text('{"type":"settings","maps":[0,' + "9" * 400 + "]}")
    assert client.words("problem")["field"] == "maps"
    client.socket.send_text('{"type":"ping","time":NaN}')
    assert "not JSON" in client.words("problem")["message"]
    with TestClient(live.app, base_url=f"http://{HOST}") as browser:
        assert strict(browser.get("/state").content)["fastloc"]


def test_state_is_json_whatever_the_source_is_called(bright: Bright) -> None:
    """Names of files need not be UTF-8."""
    film = Film(live=True)
    film.name = "/dev/caf\udce9"
    with TestClient(live_of(bright, hub=Broadcast(lambda: film, 30)).app, base_url=f"http://{HOST}") as browser:
        answer = browser.get("/state")
        assert answer.status_code == 200 and strict(answer.content)["source"]["name"] == "/dev/caf?"


def test_a_source_that_fails_in_any_way_is_reported(open_live: Any, bright: Bright) -> None:
    class Broken(Film):
        def frames(self) -> Any:
            raise IndexError("of a decoder")

    _, join = open_live(bright, hub=Broadcast(lambda: Broken(live=True), 30))
    answer = join().words("problem")
    assert answer["field"] == "source" and "film cannot be read: IndexError('of a decoder')" in answer["message"]
