"""Inputs that people give `fastloc locate` because every other tool takes them, and what exported files need beside themselves."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from command_line import Run, run_fixture  # noqa: F401
from fastloc.cli import locate
from fastloc.embedded import GEM_ONNX, GEM_TEXT_ONNX, SAMPLES
from fastloc.imaging.reduced_picture import ReducedPicture
from fastloc.results.batch_choice import SAMPLE, BatchChoice

MARKET = SAMPLES / "market.webp"


def found(out: str) -> list[str]:
    return [each["name"] for each in json.loads(out)["pictures"]]


def test_a_folder_a_pattern_and_a_list(run: Run, tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        Image.open(MARKET).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("b.png\n")
    asked = ("-t", "cat", "--model", GEM_ONNX, "--text-tower", GEM_TEXT_ONNX, "--json")
    for source, expected in ((".", ["./a.png", "./b.png"]), ("*.png", ["a.png", "b.png"]), ("list.txt", ["b.png"])):
        status, out, _ = run("locate", source, *asked)
        assert status == 0 and found(out) == expected


@pytest.mark.slow("a model is loaded twice")
def test_batches_answer_as_single_pictures_do(run: Run, tmp_path: Path) -> None:
    for number in range(4):
        Image.open(MARKET).rotate(20 * number).resize((96, 64) if number % 2 else (64, 96)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    asked = ("locate", ".", "-t", "cat", "--model", GEM_ONNX, "--text-tower", GEM_TEXT_ONNX, "--json", "--batch")
    answers = []
    # which is 1 for so few
    for batch in ("auto", 3):
        status, out, err = run(*asked, batch)
        assert status == 1 and "1 of 4 pictures could not be used" in err
        assert ("batch 1: fewer than 16 pictures" in err) == (batch == "auto")
        answers.append([(each["name"], each["texts"][0]["peak"]) for each in json.loads(out)["pictures"]])
    assert [name for name, _ in answers[0]] == ["./0.png", "./2.png", "./3.png"]
    for alone, beside in zip(*answers, strict=True):
        assert (alone[0], *(alone[1][axis] for axis in "xy")) == (beside[0], *(beside[1][axis] for axis in "xy"))
        assert alone[1]["similarity"] == pytest.approx(beside[1]["similarity"], abs=3e-6)


def test_one_picture_that_fits_nowhere_does_not_stop_the_others(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (281, 8)).save(tmp_path / "long.png")
    status, out, err = run("locate", "long.png", MARKET, "-t", "cat", "--json")
    assert status == 1 and found(out) == [str(MARKET)]
    assert "long.png: a picture of 8 x 281 is too long for fit 'aspect'" in err and "use 'stretch' or 'letterbox'" in err
    # and the advice is right
    assert run("locate", "long.png", "-t", "cat", "--fit", "letterbox")[0] == 0


def test_a_limit_of_pixels(run: Run) -> None:
    status, _, err = run("locate", MARKET, "-t", "cat", "--max-pixels", "1000")
    assert status == 1 and "must have at most max_pixels = 1,000 pixels" in err


def test_a_reduced_scale(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are of the full picture; its pixels are not decoded where nobody looks at them, from standard input neither."""
    Image.open(MARKET).convert("RGB").resize((1200, 800)).save(tmp_path / "large.jpg", quality=95)
    asked = ("-t", "cat", "pizza", "--json", "--model", GEM_ONNX, "--text-tower", GEM_TEXT_ONNX)
    full = json.loads(run("locate", "large.jpg", *asked).out)["pictures"][0]
    decoded: list[int] = []
    monkeypatch.setattr(ReducedPicture, "load", lambda self: decoded.append(1))
    for source in ("large.jpg", "-"):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO((tmp_path / "large.jpg").read_bytes())))
        found = json.loads(run("locate", source, *asked, "--decode", "reduced").out)["pictures"][0]
        assert found["picture"] == full["picture"] == {"height": 800, "width": 1200}
        for one, other in zip(full["texts"], found["texts"], strict=True):
            assert abs(one["peak"]["x"] - other["peak"]["x"]) <= 10 and abs(one["peak"]["y"] - other["peak"]["y"]) <= 10
            assert one["peak"]["similarity"] == pytest.approx(other["peak"]["similarity"], abs=0.01)
    assert not decoded
    assert run("locate", "large.jpg", "-t", "cat", "--decode", "half").status == 2


@pytest.mark.parametrize("decode", ["full", "reduced"])
def test_a_batch_is_measured_on_pictures_as_they_will_be(decode: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the scale at which all are decoded."""
    for number in range(locate.FEW):
        Image.open(MARKET).convert("RGB").resize((600, 400)).save(tmp_path / f"{number:02}.jpg")
    kinds: list[type] = []

    def chosen(localizer: Any, pictures: list[Image.Image], texts: Any) -> BatchChoice:
        kinds.extend(type(each) for each in pictures)
        localizer.batch = 4
        return BatchChoice(4, {}, "measured")

    monkeypatch.setattr(locate, "choose_batch", chosen)
    asked = ("-t", "cat", "--json", "--model", GEM_ONNX, "--text-tower", GEM_TEXT_ONNX, "--batch", "auto", "--decode", decode)
    status, out, err = run("locate", ".", *asked)
    assert status == 0 and "batch 4: measured" in err and len(found(out)) == locate.FEW
    assert kinds == [ReducedPicture if decode == "reduced" else Image.Image] * SAMPLE


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input(name: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "fastloc", "locate", name, "-t", "cat", "-o", tmp_path, "--json", "--model", GEM_ONNX, "--text-tower",
         GEM_TEXT_ONNX], input=MARKET.read_bytes(), capture_output=True, check=True,
    )  # fmt: skip
    assert found(ran.stdout.decode()) == [name] and [each.name for each in tmp_path.iterdir()] == ["stdin.gem.png"]


def test_an_address_keeps_its_name(run: Run) -> None:
    status, _, err = run("locate", "https://127.0.0.1:9/a.jpg", "-t", "cat")
    assert status == 1 and "https://127.0.0.1:9/a.jpg: cannot be fetched" in err


def test_a_pipe_is_refused_and_the_others_go_on(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    status, out, err = run("locate", "pipe.png", MARKET, "-t", "cat", "--json")
    assert status == 1 and found(out) == [str(MARKET)] and "got a named pipe" in err


@pytest.mark.slow("exports two files")
def test_the_advice_about_texts_can_be_followed(run: Run) -> None:
    assert run("export", "-o", "baked.onnx", "--batch", "1", "--texts", "cat", "pizza")[0] == 0
    status, _, err = run("locate", MARKET, "-t", "cat", "--model", "baked.onnx")
    assert status == 1 and "texts must be left out" in err
    status, out, _ = run("locate", MARKET, "--model", "baked.onnx", "--json")
    assert status == 0 and [each["text"] for each in json.loads(out)["pictures"][0]["texts"]] == ["cat", "pizza"]
    assert run("export", "-o", "open.onnx", "--batch", "1")[0] == 0 and run("embed", "cat", "-o", "words.npz")[0] == 0
    status, _, err = run("locate", MARKET, "-t", "cat", "--model", "open.onnx")
    assert status == 1 and "--embeddings" in err and "--text-tower" in err
    assert run("locate", MARKET, "-t", "cat", "--model", "open.onnx", "--embeddings", "words.npz")[0] == 0
    assert run("locate", MARKET, "-t", "cat", "--model", "open.onnx", "--text-tower", GEM_TEXT_ONNX)[0] == 0


def test_options_of_files_are_not_for_models(run: Run) -> None:
    status, _, err = run("locate", MARKET, "-t", "cat", "--embeddings", "words.npz")
    assert status == 1 and "--embeddings must come with an exported .onnx file" in err


@pytest.mark.slow("exports a file")
def test_an_export_into_a_pipe(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe.onnx").read_bytes()))
    reader.start()
    assert run("export", "-o", "pipe.onnx", "--batch", "1", "--texts", "cat")[0] == 0
    reader.join(30)
    (tmp_path / "whole.onnx").write_bytes(read[0])
    assert run("locate", MARKET, "--model", "whole.onnx", "--json")[0] == 0 and (tmp_path / "pipe.onnx").is_fifo()


@pytest.mark.parametrize(("command", "word"), [(("locate", "a.png", "-t", "cat"), "auto"), (("export", "-o", "a.onnx"), "dynamic")])
def test_a_number_that_may_be_a_word_names_the_word(run: Run, command: tuple[str, ...], word: str) -> None:
    ended = run(*command, "--batch", "0")
    assert ended.status == 2 and f"--batch: must be a whole number, 1 or more, or {word}, got '0'" in ended.err
