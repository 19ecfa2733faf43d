"""The command `fastloc serve`: one clear line for what cannot be served."""

import socket
import sys

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from fastloc.cli import main


def error_line(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert main(["serve", *command]) == 1
    line = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("fastloc: note")]
    assert len(line) == 1 and line[0].startswith("fastloc: error: ")
    return line[0]


BAD_COMMANDS = [
    (["--port", "70000"], "--port must be a number from 0 to 65535, got 70000"),
    (["--port", "0", "--token", "short"], "--token must have 12 letters or more, got 5"),
    (["--port", "0", "--methods", "gmm"], "did you mean 'gem'"),
    (["--port", "0", "--wait", "-1"], "wait must be"),
    (["--port", "0", "--timeout", "nan"], "seconds must be"),
    (["--keyfile", "key.pem"], "must come with --certfile"),
]


@pytest.mark.parametrize(("command", "words"), BAD_COMMANDS, ids=[" ".join(row[0]) for row in BAD_COMMANDS])
def test_bad_commands_are_reported_in_a_line(capsys: pytest.CaptureFixture[str], command: list[str], words: str) -> None:
    if "--methods" in command:
        # a file has one method, and says so
        pytest.importorskip("torch")
    assert words in error_line(capsys, *command)


def test_a_port_that_is_taken_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "cannot be served on" in error_line(capsys, "--port", str(taken.getsockname()[1]))


@pytest.mark.parametrize("missing", ["prometheus_client", "python_multipart"])
def test_missing_packages_are_reported_with_their_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert f'this needs {missing}, which is not installed: pip install "fastloc[serve]"' in error_line(capsys)
