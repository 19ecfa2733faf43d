"""Text between the program and its terminal: encodings, closed streams, control characters."""

import io
import subprocess
import sys

import pytest
from rich.table import Table
from rich.text import Text

from fastloc.utils import console, terminal
from fastloc.utils.argument_types import Parser, words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode, 猫, 👩‍👩‍👧 and\ttabs", "plain, ünïcode, 猫, 👩‍👩‍👧 and\ttabs"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("over\rwritten", r"over\x0dwritten"),
        ("\x9b31m \x7f \x00", r"\x9b31m \x7f \x00"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        # a UTF-8 name under LC_ALL=C, and bytes that are no text anywhere
        ("\udcc3\udcbc.png", "ü.png"),
        ("bad\udcff.png", r"bad\xff.png"),
        ("\ud83d", r"\ud83d"),
    ],
)
def test_control_characters_and_bytes_are_shown(text: str, shown: str) -> None:
    assert terminal.printable(text) == shown
    assert terminal.printable(shown) == shown


def test_a_path_is_one_line() -> None:
    assert console.shown("a\nfastloc: error: no") == r"a\nfastloc: error: no"


def test_tables_and_lines_of_the_console_are_printable() -> None:
    assert isinstance(console.console(), console.PrintableConsole)
    for coloured in (False, True):
        out = console.PrintableConsole(
            file=io.StringIO(), force_terminal=coloured, color_system="standard" if coloured else None, markup=False, highlight=False
        )
        rows: Table = console.table("text")
        rows.add_row(Text("\x1b]0;owned\x07cat"))
        out.print(rows)
        out.print("written: \x1b[2Jmaps", soft_wrap=True)
        out.print(Text("bold", "bold"))
        assert isinstance(out.file, io.StringIO)
        printed = out.file.getvalue()
        assert r"\x1b]0;owned" in printed and r"\x1b[2Jmaps" in printed and "\x1b]0" not in printed and "\x1b[2J" not in printed
        assert ("\x1b[1mbold" in printed) == coloured, "the console's own styles stay"


def test_errors_of_the_parser_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        Parser(prog="fastloc").parse_args(["\x1b[31mred"])
    assert capsys.readouterr().err.endswith("fastloc: error: unrecognized arguments: \\x1b[31mred\n")


def test_texts_are_characters_whatever_the_locale_is() -> None:
    assert words("caf\udcc3\udca9") == "café" and words("café") == "café" and words("plain") == "plain"
    for wrong in ("caf\udce9", "\ud83d"):
        with pytest.raises(Exception, match=r"must be UTF-8, got .*; set a UTF-8 locale"):
            words(wrong)


PROGRAM = """
import sys
from fastloc.utils.exit_status import exit_status
def work():
    print("\\u732b \\udcff")
    print("note", file=sys.stderr)
    open("opened.txt", "w", encoding="utf-8").fileno() > 2 or sys.exit("a file took the place of a closed stream")
    return 0
sys.exit(exit_status("fastloc", work))
"""


def run(redirect: str, folder: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **environment}
    command = f'"{sys.executable}" -c "$0" {redirect}'
    return subprocess.run(["/bin/sh", "-c", command, PROGRAM], cwd=str(folder), capture_output=True, check=False, env=env, timeout=30)


@pytest.mark.parametrize(
    ("redirect", "environment", "status", "out", "err"),
    [
        ("", {"PYTHONIOENCODING": "utf-8"}, 0, "猫 \\udcff\n".encode(), b"note\n"),
        ("", {"PYTHONIOENCODING": "latin-1"}, 0, b"\\u732b \\udcff\n", b"note\n"),
        ("", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 0, b"\\u732b \\udcff\n", b"note\n"),
        ("", {"PYTHONIOENCODING": "cp1252"}, 0, b"\\u732b \\udcff\n", b"note\n"),
        (">&-", {}, 1, b"", b"fastloc: error: standard output is closed; send it to a file or to /dev/null\n"),
        # notes must not go to standard output, which may be JSON
        ("2>&-", {"PYTHONIOENCODING": "utf-8"}, 0, "猫 \\udcff\n".encode(), b""),
        ("<&- 2>&-", {"PYTHONIOENCODING": "utf-8"}, 0, "猫 \\udcff\n".encode(), b""),
        (">&- 2>&-", {}, 1, b"", b""),
        (">/dev/full", {}, 1, b"", b"note\nfastloc: error: standard output cannot be written (No space left on device)\n"),
    ],
)  # fmt: skip
def test_streams_of_any_kind(tmp_path: object, redirect: str, environment: dict[str, str], status: int, out: bytes, err: bytes) -> None:
    ended = run(redirect, tmp_path, **environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, out, err)


def test_streams_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "latin-1", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    with terminal.streams():
        print("猫")
        assert stream.errors == "backslashreplace"
    assert stream.errors == "strict" and sys.stdout is stream
