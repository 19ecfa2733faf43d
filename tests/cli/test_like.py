"""`--like`: an example in place of a text, on the command line."""

import json
from pathlib import Path

import pytest

from command_line import Run, run_fixture  # noqa: F401
from fastloc.embedded import GEM_ONNX, GEM_TEXT_ONNX, SAMPLES
from fastloc.text.embeddings import TextEmbeddings

MARKET, GARDEN = SAMPLES / "market.webp", SAMPLES / "garden.webp"


def test_an_example_alone_and_beside_a_text(run: Run) -> None:
    alone = run("locate", MARKET, "--like", f"{GARDEN}:10,10,80,80", "--json")
    assert alone.status == 0 and [each["text"] for each in json.loads(alone.out)["pictures"][0]["texts"]] == ["garden.webp:10,10,80,80"]
    both = run("locate", MARKET, "-t", "cat", "--like", f"{GARDEN}:10,10,80,80=a flower", "--json")
    found = json.loads(both.out)["pictures"][0]
    assert [each["text"] for each in found["texts"]] == ["cat", "garden.webp:10,10,80,80"] and "calibrated for texts" in found["no_scores"]


def test_embeddings_of_examples_go_into_a_file(run: Run, tmp_path: Path) -> None:
    made = run("embed", "cat", "--like", f"{GARDEN}:10,10,80,80", "-o", tmp_path / "like.npz")
    assert made.status == 0 and TextEmbeddings.load(tmp_path / "like.npz").names == ("cat", "garden.webp:10,10,80,80")
    found = run("locate", MARKET, "-t", "garden.webp:10,10,80,80", "--model", GEM_ONNX, "--embeddings", tmp_path / "like.npz", "--json")
    assert found.status == 0 and len(json.loads(found.out)["pictures"][0]["texts"]) == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("locate", MARKET, "--like", "nowhere.png:1,2,3,4"), "nowhere.png"),
        (("locate", MARKET, "--like", f"{GARDEN}:1,2,3000,4"), "box must lie in the picture of"),
        (("locate", MARKET, "--like", GARDEN, "--model", GEM_ONNX, "--text-tower", GEM_TEXT_ONNX),
         "--like cannot be given with"),
        (("embed", "--like", GARDEN, "--text", GEM_TEXT_ONNX, "-o", "a.npz"), "--like must come with --model"),
        (("embed", "cat", "--method", "gem", "-o", "a.npz"), "--method must come with --like"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_reported_in_one_line(run: Run, argv: tuple[object, ...], message: str) -> None:
    ended = run(*argv)
    assert ended.status == 1 and message in ended.err and "Traceback" not in ended.err and not ended.out
    assert ended.err.strip().count("\n") == 0 and not Path("a.npz").exists()
