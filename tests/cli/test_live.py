"""The command `fastloc live`: one clear line for what cannot be served, a quiet end, and https."""

import os
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from websockets.sync.client import connect

from fastloc.cli import main
from live_client import Bright, joined, sent
from live_fixtures import bright_fixture  # noqa: F401
from live_process import live_process
from live_server import serving


def error_line(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert main(["live", *command]) == 1
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if not line.startswith("fastloc: note")]
    assert len(lines) == 1 and lines[0].startswith("fastloc: error: "), error
    return lines[0]


def test_a_taken_port_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} cannot be served on (Address already in use): name another one, such as --port {port % 65535 + 1}" in (
            error_line(capsys, "--port", str(port))
        )


BAD_COMMANDS = [
    (["--port", "65536"], "--port must be a number from 0 to 65535, got 65536"),
    (["--port", "-1"], "--port must be a number from 0 to 65535, got -1"),
    (["--host", "192.0.2.1"], "--host 192.0.2.1 is not an address of this machine"),
    (["--host", "no such host"], "--host must be an address of this machine, such as 127.0.0.1 or 0.0.0.0, got 'no such host'"),
    (["--token", "short", "--port", "0"], "--token must have 12 letters or more, got 5"),
    (["--keyfile", "key.pem"], "--keyfile must come with --certfile, got key.pem alone"),
    (["--certfile", "nowhere.pem"], "--certfile nowhere.pem cannot be used for https: No such file"),
    (["--port", "0", "-t", "x" * 201], "at most 200 letters"),
    (["--port", "0", "--methods", "gme"], "unknown method 'gme'"),
]


@pytest.mark.parametrize(("command", "expected"), BAD_COMMANDS, ids=[" ".join(row[0])[:30] for row in BAD_COMMANDS])
def test_bad_commands_are_reported_in_a_line(capsys: pytest.CaptureFixture[str], command: list[str], expected: str) -> None:
    assert expected in error_line(capsys, *command)


def test_a_certificate_that_is_none_is_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("not a certificate")
    assert f"--certfile {file} cannot be used for https" in error_line(capsys, "--certfile", str(file))


@pytest.mark.parametrize("missing", ["uvicorn", "starlette", "websockets"])
def test_missing_packages_are_reported_with_their_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert f'this needs {missing}, which is not installed: pip install "fastloc[live]"' in error_line(capsys)


def test_a_source_that_cannot_be_opened_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fastloc.video.sources.open_source")
    assert "nowhere.mp4" in error_line(capsys, "nowhere.mp4", "--port", "0")


TERMINATED = ("SIGTERM", 143, ["fastloc: ended by SIGTERM"])
ENDS = [("SIGINT", 130, []), pytest.param(*TERMINATED, marks=pytest.mark.slow("starts the command a second time"))]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("name", "status", "words"), ENDS, ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_quietly_with_a_client_connected(name: str, status: int, words: list[str]) -> None:
    command = [sys.executable, "-P", "-m", "fastloc", "live", "--port", "0", "--token", "correct-horse-battery", "-t", "cat"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None and process.stderr is not None
        threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()], daemon=True).start()
        line = lines.get(timeout=60)
        found = re.match(r"(http://127\.0\.0\.1:\d+)/\?token=correct-horse-battery \(Ctrl-C ends\)$", line.strip())
        assert found, line
        with joined(found[1], additional_headers={"Authorization": "Bearer correct-horse-battery"}) as client:
            client.send(sent(1))
            while not isinstance(client.recv(timeout=30), bytes):
                pass
            began = time.monotonic()
            process.send_signal(getattr(signal, name))
            assert process.wait(15) == status
            assert time.monotonic() - began < 10
        # no word of the token, which was in an address and in a header
        assert [line for line in process.stderr.read().splitlines() if not line.startswith("fastloc: note")] == words
        assert lines.empty()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_camera_is_let_go_of_when_the_server_is_ended(tmp_path: Path) -> None:
    with live_process(tmp_path / "errors", camera=True) as (process, address), joined(address) as client:
        client.recv(timeout=10)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None and process.stdout.read() == "closed\n"
        # by the signal that uvicorn raises again; the command makes 143 of it
        assert process.wait(10) == -signal.SIGTERM and time.monotonic() - began < 5
    assert (tmp_path / "errors").read_text() == ""


def test_https_is_spoken_with_a_certificate(bright: Bright, tmp_path: Path) -> None:
    """The context that the command checks with is the one that uvicorn makes."""
    from fastloc.cli.live import check_certificate

    openssl = pytest.importorskip("shutil").which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run([openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key),
                    "-out", str(certificate), "-days", "1", "-subj", "/CN=localhost"], check=True, capture_output=True)  # fmt: skip
    check_certificate(certificate, key)
    with serving(bright, secure=True, certificate=(certificate, key)) as (_, address):
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False
        with connect(address.replace("https", "wss") + "/ws", origin=address, ssl=context) as client:
            assert '"welcome"' in client.recv(timeout=10)
