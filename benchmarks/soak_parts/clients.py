"""Clients of the service and of the live page, in one process: askers who check their answers, and visitors who leave in the middle."""

import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from fastloc.client.client import Client
from fastloc.errors import FastlocError
from fastloc.live.protocol import Answer, Sent, read_answer, write_frame
from scale_parts import pictures
from scale_parts.load import answer_of, same
from soak_parts.calls import COLOURS, WORDS
from soak_parts.tally import Tally

__all__ = ["run"]

# pictures with known answers, (height, width)
KNOWN, SIZE = 6, (120, 160)
ASKERS = 2
# seconds for an answer, and frames of a visit to the page
PATIENCE, VISIT = 60.0, 60
# more distinct texts than a text tower remembers
FILL, TOGETHER = 4200, 60
METHODS = ("gem", "naclip", "itsm")


def run(tally: Tally, seconds: float, pause: float, serve: str, live: str, fill: bool) -> None:
    """All clients for so many seconds, each in a thread of its own.

    fill: first ask the service for more texts than it remembers, so that its memory is what it will be.
    """
    if fill:
        _filled(tally, serve)
    until = time.monotonic() + seconds
    jobs = [lambda number=number: _asker(tally, until, pause, serve, number) for number in range(ASKERS)]
    jobs += [lambda: _visitor(tally, until, pause, live), lambda: _rude(tally, until, serve, live)]
    threads = [threading.Thread(target=_kept, args=(tally, job)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _kept(tally: Tally, job: Callable[[], None]) -> None:
    try:
        job()
    except Exception as error:
        tally.problem(f"clients: {type(error).__name__}: {error}")


def _pair(number: int) -> str:
    """One of 4900 texts of words that the embedded model knows."""
    things = [f"{colour} {word}".strip() for colour in COLOURS for word in WORDS]
    return f"{things[number % len(things)]} and {things[number // len(things) % len(things)]}"


def _jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    pictures.picture(seed, SIZE).save(file, "JPEG", quality=pictures.QUALITY)
    return file.getvalue()


def _filled(tally: Tally, serve: str) -> None:
    with Client(serve, timeout=PATIENCE) as client:
        for first in range(0, FILL, TOGETHER):
            client(_jpeg(0), [_pair(number) for number in range(first, first + TOGETHER)])
            tally.add("texts in advance", TOGETHER)


def _asker(tally: Tally, until: float, pause: float, serve: str, number: int) -> None:
    """Ask for known pictures in turn, and check that answers stay; every few requests one that must be refused, and one of new texts."""
    random, known = np.random.default_rng(number), [_jpeg(seed) for seed in range(KNOWN)]
    first: dict[tuple[int, int], Any] = {}
    with Client(serve, timeout=PATIENCE) as client:
        for turn in itertools.count():
            if time.monotonic() > until:
                return
            which, texts = turn % KNOWN, turn % 3
            found = answer_of(client(known[which], [_pair(71 * text) for text in range(texts + 1)]).to_dict())
            if not same(found, first.setdefault((which, texts), found)):
                tally.problem(f"serve: picture {which} has another answer: {found} after {first[which, texts]}")
            tally.add("answers of serve")
            if turn % 10 == 0:
                client([known[0], known[1]], [f"the {random.integers(10**6)}th thing", _pair(int(random.integers(4900)))])
                tally.add("answers of serve", 2)
            if turn % 10 == 5:
                _refused(tally, client, turn)
            time.sleep(pause)


def _refused(tally: Tally, client: Client, turn: int) -> None:
    wrong: tuple[Callable[[], Any], ...] = (
        lambda: client(_jpeg(0)[:300], "cat"), lambda: client(_jpeg(0), "cat", "no such method"), lambda: client(_jpeg(0), ["cat"] * 70),
        lambda: client(_jpeg(0), "x" * 5000),
    )  # fmt: skip
    try:
        wrong[turn // 10 % len(wrong)]()
    except FastlocError:
        tally.add("requests refused")
    else:
        tally.problem("serve: a wrong request was answered")


def _visitor(tally: Tally, until: float, pause: float, live: str) -> None:
    """Visit the page again and again: frames with settings in between, until the visit is over; every other one ends without a word."""
    random, frames = np.random.default_rng(3), [_jpeg(seed) for seed in range(KNOWN)]
    for visit in itertools.count():
        if time.monotonic() > until:
            return
        page = connect(live.replace("http", "ws") + "/ws", origin=live, compression=None, max_size=None)  # type: ignore[arg-type]
        try:
            for number in range(VISIT):
                if time.monotonic() > until:
                    break
                if number % 15 == 7:
                    page.send(json.dumps({"type": "settings", **_settings(random)}))
                page.send(write_frame(Sent(number, 40.0 * number, SIZE[1], frames[number % KNOWN])))
                for answer in _answers(page, number):
                    _check(tally, answer, number)
                tally.add("frames of live")
                time.sleep(max(pause, 0.05))
        finally:
            with suppress(ConnectionClosed, OSError):
                if visit % 2:
                    page.socket.shutdown(socket.SHUT_RDWR)
                page.close()
        tally.add("visits")


def _settings(random: np.random.Generator) -> dict[str, Any]:
    texts = [_pair(int(random.integers(70))) for _ in range(int(random.integers(1, 5)))]
    asked: dict[str, Any] = {"texts": texts, "methods": [str(random.choice(METHODS))], "smooth": float(random.choice([0.0, 0.5]))}
    if random.random() < 0.3:
        # refused, with a word
        asked["maps"] = "no such maps"
    return asked


def _answers(page: ClientConnection, number: int) -> Iterator[Answer]:
    """Answers up to that of this frame, past all words. Raises what ends the connection, or TimeoutError."""
    while True:
        message = page.recv(PATIENCE)
        if isinstance(message, bytes):
            answer = read_answer(message)
            yield answer
            if answer.facts["id"] >= number:
                return


def _check(tally: Tally, answer: Answer, number: int) -> None:
    shape = answer.heat.shape
    if answer.facts["id"] > number or min(shape) < 1 or int(answer.heat.max()) == 0:
        tally.problem(f"live: the answer to frame {number} is of {answer.facts['id']}, heat of {shape}, at most {answer.heat.max()}")
    tally.add("answers of live")


def _rude(tally: Tally, until: float, serve: str, live: str) -> None:
    """Connections that send half a request, rubbish or nothing, and hang up."""
    random, body = np.random.default_rng(4), _jpeg(1)
    half = (f"POST /v1/locate HTTP/1.1\r\nHost: {serve.removeprefix('http://')}\r\nContent-Type: image/jpeg\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body[: len(body) // 2]  # fmt: skip
    for number in itertools.count():
        if time.monotonic() > until:
            return
        address, content = ((serve, half), (live, b"GET /ws HTTP/1.1\r\n"), (serve, random.bytes(200)), (live, b""))[number % 4]
        host, _, port = address.removeprefix("http://").partition(":")
        with suppress(OSError), socket.create_connection((host, int(port)), PATIENCE) as connection:
            connection.sendall(content)
            time.sleep(float(random.uniform(0, 0.3)))
        if number % 8 == 0:
            with suppress(ConnectionClosed, OSError), connect(live.replace("http", "ws") + "/ws", origin=live) as page:  # type: ignore[arg-type]
                page.send(random.bytes(40))
                page.recv(PATIENCE)
        tally.add("visitors who hang up")
        time.sleep(0.5)
