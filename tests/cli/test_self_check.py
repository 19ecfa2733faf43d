"""`--self-check` of the commands: what it prints, and where it is refused."""

import argparse
import json
from pathlib import Path

import pytest

from command_line import Run, run_fixture  # noqa: F401
from fastloc.diagnostics import verify
from fastloc.errors import ModelError
from fastloc.utils.argument_types import share
from onnx_files import tiny_model
from repo import SAMPLES
from tiny_localizer import NAMES

MARKET = SAMPLES / "market.webp"


def test_locate_says_at_the_end_what_was_checked(run: Run) -> None:
    ended = run("locate", MARKET, SAMPLES / "garden.webp", "-t", "cat", "--size", "96", "--json", "--self-check", "1")
    assert ended.status == 0 and len(json.loads(ended.out)["pictures"]) == 2
    assert "fastloc: self-check of gem: 2 of 2 calls were answered again by another plan; 0 differ (largest difference" in ended.err
    assert "self-check" not in run("locate", MARKET, "-t", "cat", "--size", "96", "--json").err


def test_an_exported_file(run: Run, tmp_path: Path) -> None:
    tiny_model(tmp_path / "tiny.onnx", names=NAMES)
    ended = run("locate", MARKET, "--model", tmp_path / "tiny.onnx", "--json", "--self-check", "1")
    assert ended.status == 0 and "self-check of gem: 1 of 1 calls" in ended.err


def test_a_tenth_where_no_share_is_given(run: Run) -> None:
    ended = run("locate", MARKET, "-t", "cat", "--size", "96", "--json", "--self-check")
    assert ended.status == 0 and "of 1 calls were answered again" in ended.err


@pytest.mark.parametrize("text", ["0", "-0.1", "1.1", "nan", "many", "inf"])
def test_what_is_no_share(text: str, run: Run) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"must be a share above 0 and at most 1, such as 0.1, got '{text}'"):
        share(text)
    assert run("locate", MARKET, "-t", "cat", f"--self-check={text}").status == 2


def test_shares() -> None:
    assert [share(text) for text in ("1", "0.1", "1e-3")] == [1.0, 0.1, 1e-3]


def test_a_classifier_has_none(run: Run) -> None:
    ended = run("locate", MARKET, "-t", "cat", "--model", "torchvision:resnet18", "--self-check")
    assert ended.status == 1 and "--self-check cannot be given with torchvision:resnet18" in ended.err


def test_verify_compares_with_another_plan(run: Run, tmp_path: Path) -> None:
    tiny_model(tmp_path / "tiny.onnx")
    ended = run("verify", tmp_path / "tiny.onnx", "--self-check", "--json")
    (check,) = (each for each in json.loads(ended.out)["checks"] if each["name"] == "onnxruntime on the CPU, unoptimised")
    assert ended.status == 0 and check["passed"] is True and check["found"].startswith("the same")
    assert len(json.loads(run("verify", tmp_path / "tiny.onnx", "--json").out)["checks"]) == 2


def test_verify_says_whose_fault_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that is wrong is told from a file that is: the plain plan agrees with the golden, or it does not."""
    tiny_model(tmp_path / "tiny.onnx")
    made = verify.open_session

    def wrong(*given: object, **more: object) -> object:
        session = made(*given, **more)
        run = session.run
        monkeypatch.setattr(session, "run", lambda feeds: {name: each * 1.01 for name, each in run(feeds).items()})
        return session

    monkeypatch.setattr(verify, "open_session", wrong)
    found = verify.verify(tmp_path / "tiny.onnx", "cpu", self_check=True)
    assert not found.good and any("that plan agrees with the golden: the fault is not the file's" in each for each in found.wrong)
    # another weight: both plans are wrong in the same way
    monkeypatch.setattr(verify, "open_session", made)
    from onnx_files import change_weight

    change_weight(tmp_path / "tiny.onnx", by=0.05)
    found = verify.verify(tmp_path / "tiny.onnx", "cpu", self_check=True)
    assert not found.good and found.checks[-1].passed is True


def test_verify_goes_on_where_the_cpu_cannot_run_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model(tmp_path / "tiny.onnx")

    def refuses(*given: object) -> object:
        raise ModelError("a compiled engine")

    monkeypatch.setattr(verify, "plain_session", refuses)
    found = verify.verify(tmp_path / "tiny.onnx", "cpu", self_check=True)
    assert found.good and found.checks[-1].passed is None and found.checks[-1].found == "not compared: a compiled engine"
