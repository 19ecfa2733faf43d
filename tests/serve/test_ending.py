"""The service behind real sockets: clients that are slow, die or send rubbish, and an end that answers what it has taken."""

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx2")

import httpx2

from fastloc import Localizer
from fastloc.cli.live import bound
from fastloc.embedded import SAMPLES
from fastloc.serve.app import application
from fastloc.serve.server import ServiceServer
from fastloc.serve.settings import Settings
from live_server import PATIENCE, until

MARKET = (SAMPLES / "market.webp").read_bytes()


@contextmanager
def serving(settings: Settings) -> Iterator[tuple[str, int]]:
    app = application(Localizer("embedded"), settings)
    with bound("127.0.0.1", 0) as listening:
        server = ServiceServer(app, app.state.service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            until(lambda: server.started)
            yield listening.getsockname()
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


def ask(address: str) -> httpx2.Response:
    return httpx2.post(f"{address}/v1/locate", files={"image": ("picture", MARKET)}, data={"texts": ["cat"]}, timeout=60)


HEAD = b"POST /v1/locate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 900\r\n"


def test_clients_that_are_slow_die_or_send_rubbish_disturb_nobody() -> None:
    with serving(Settings(body=0.3, head=0.3)) as (host, port):
        sent = (b"\x16\x03\x01" + bytes(range(256)), b"POST /v1", HEAD, HEAD + b"\r\n{", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        made = [socket.create_connection((host, port), timeout=10) for _ in range(2 * len(sent))]
        for index, each in enumerate(made):
            each.sendall(sent[index // 2])
            # every second one dies
            if index % 2:
                each.close()
        assert [ask(f"http://{host}:{port}").status_code for _ in range(3)] == [200] * 3
        # a client that sends no more gets an answer, or is cut off
        slow = made[6].recv(1000)
        assert b" 408 " in slow.split(b"\r\n")[0]
        for each in (made[2], made[4]):
            assert each.recv(1000) == b""
        for each in made:
            each.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.slow("starts the command")
def test_sigterm_answers_what_was_taken_and_takes_no_more() -> None:
    # a picture waits so long for others that the signal comes meanwhile
    command = [sys.executable, "-P", "-m", "fastloc", "serve", "--port", "0", "--wait", "3000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environment
    ) as process:  # fmt: skip
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None and process.stderr is not None
        threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()], daemon=True).start()
        found = re.match(r"(http://127\.0\.0\.1:\d+)/ \(Ctrl-C ends\)$", lines.get(timeout=60).strip())
        assert found
        address, answers = found[1], []
        assert httpx2.get(f"{address}/readyz").status_code == 200
        asking = threading.Thread(target=lambda: answers.append(ask(address)), daemon=True)
        asking.start()
        until(lambda: "fastloc_queue_pictures 1.0" in httpx2.get(f"{address}/metrics").text)
        process.send_signal(signal.SIGTERM)
        until(lambda: httpx2.get(f"{address}/readyz").status_code == 503)
        refused = ask(address)
        assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
        asking.join(30)
        assert [answer.status_code for answer in answers] == [200]
        begun = time.monotonic()
        assert process.wait(15) == 143 and time.monotonic() - begun < 5
        words = [line for line in process.stderr.read().splitlines() if not line.startswith("fastloc: note")]
        assert words == ["fastloc: ended by SIGTERM"]
