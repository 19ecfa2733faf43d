"""Commands at odd terminals: names with control characters, locales that are not UTF-8, readers that go away."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastloc import cli
from fastloc.embedded import GEM_ONNX, SAMPLES

# as a minimal container has it
C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LOCATE = ["locate", "--model", str(GEM_ONNX), "--json"]


def run(folder: Path, *argv: Any, **environment: str) -> subprocess.CompletedProcess[bytes]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-m", "fastloc", *argv], cwd=folder, capture_output=True, check=False, env=env, timeout=60)


def test_a_text_in_a_locale_that_is_not_utf8_reaches_the_model_as_text(tmp_path: Path) -> None:
    (tmp_path / "ü.webp").symlink_to(SAMPLES / "market.webp")
    ended = run(tmp_path, *LOCATE, "ü.webp", "-t", "猫", "-o", "maps-ü", **C)
    assert ended.returncode == 0, ended.stderr
    (found,) = json.loads(ended.stdout)["pictures"]
    assert [each["text"] for each in found["texts"]] == ["猫"] and b"Traceback" not in ended.stderr
    assert os.listdir(os.fsencode(tmp_path / "maps-ü")) == ["ü.gem.png".encode()]


@pytest.mark.slow("runs every method")
def test_a_page_of_a_text_in_a_locale_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "ü.webp").symlink_to(SAMPLES / "market.webp")
    ended = run(tmp_path, "explain", "ü.webp", "-t", "猫", "--methods", "gem", "-o", "c.png", "--html", "c.html", **C)
    assert ended.returncode == 0, ended.stderr
    assert "<h1>ü.webp: “猫”</h1>" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_bytes_that_are_no_text_are_refused_as_a_text_and_taken_as_a_file(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.webp")
    (tmp_path / name).symlink_to(SAMPLES / "market.webp")
    ended = run(tmp_path, "locate", name, "-t", name)
    assert ended.returncode == 2 and b"must be UTF-8" in ended.stderr and b"Traceback" not in ended.stderr
    taken = run(tmp_path, "locate", "--model", GEM_ONNX, name, "-t", "cat", "-o", "maps")
    assert taken.returncode == 0 and rb"caf\xe9.webp" in taken.stdout, taken.stderr
    assert os.listdir(os.fsencode(tmp_path / "maps")) == [b"caf\xe9.gem.png"]


@pytest.mark.parametrize(
    "argv",
    [
        ["locate", "{}.png", "-t", "cat", "--model", str(GEM_ONNX)],
        ["locate", "a{}.png", "b{}.png", "-t", "cat", "--model", str(GEM_ONNX)],
        ["locate", "a.png", "-t", "cat", "--model", "{}.onnx"],
        ["locate", "a.png", "-t", "cat", "--{}"],
        ["locate", "a.png", "-t", "cat", "--size", "{}"],
        ["embed", "--texts-file", "{}", "-o", "a.npz"],
        ["inspect", "{}.onnx"],
        ["verify", "{}.onnx"],
        ["video", "{}.mp4", "-t", "cat"],
        ["pipeline", "{}.onnx", "--for", "triton"],
        ["{}"],
    ],
)
def test_control_characters_of_names_do_not_reach_the_terminal(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main([each.replace("{}", "\x1b]0;owned\x07\r\u202e") for each in argv])
    except SystemExit as end:
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    assert status in (1, 2) and not out
    assert r"\x1b]0;owned\x07" in err and not set("\x1b\x07\r\u202e") & set(err), ascii(err)


def test_control_characters_of_a_picture_and_a_text_that_are_there(tmp_path: Path) -> None:
    name = "\x1b[2J.webp"
    (tmp_path / name).symlink_to(SAMPLES / "market.webp")
    ended = run(tmp_path, "locate", "--model", GEM_ONNX, name, "-t", "\x1b[31mcat", "-o", "maps")
    assert ended.returncode == 0 and b"\x1b" not in ended.stdout + ended.stderr
    assert rb"\x1b[2J.webp" in ended.stdout and rb"\x1b[31mcat" in ended.stdout
    assert [each.name for each in (tmp_path / "maps").iterdir()] == ["\x1b[2J.gem.png"]


@pytest.mark.parametrize("argv", [["methods"], ["methods", "--json"], ["--help"]])
def test_a_reader_that_has_gone_is_quiet(tmp_path: Path, argv: list[str]) -> None:
    command = f'"{sys.executable}" -m fastloc {" ".join(argv)} | true'
    ended = subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert ended.stderr == b""


def test_standard_input_is_utf8_whatever_the_locale_is(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastloc", "embed", "--text", GEM_ONNX.with_name("gem.text.onnx"), "--texts-file", "-", "-o", "t.npz"]
    ended = subprocess.run(
        command, cwd=tmp_path, input="猫\n".encode(), capture_output=True, check=False, env={"PATH": "", **C}, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    from fastloc import TextEmbeddings

    assert TextEmbeddings.load(tmp_path / "t.npz").names == ("猫",)
