"""`fastloc evaluate` as it is typed: a table in one command, what goes on after a kill, and one line for everything that is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import Run, run_fixture  # noqa: F401  # a fixture
from fastloc.embedded import GEM_ONNX, GEM_TEXT_ONNX
from miniature_sets import Miniature, write
from onnx_files import tiny_model

FILES = {"run.json", "rows.jsonl", "result.json"}


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in which every column has room."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return named(write("voc21", tmp_path_factory.mktemp("voc"), 3))


def named(made: Miniature) -> Miniature:
    """The set, with the names of its classes in the file things.txt."""
    (made.root / "things.txt").write_text("".join(f"{name}\n" for name in made.names), encoding="utf-8")
    return made


def kept(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.name in FILES}


def test_one_method_of_the_embedded_model(run: Run, voc: Miniature, tmp_path: Path) -> None:
    ended = run("evaluate", "voc21", "--data", voc.root, "--names", voc.root / "things.txt", "--protocol", "plain", "-o", "out")
    assert ended.status == 0, ended.err
    assert "mIoU" in ended.out and "embedded" in ended.err
    assert set(kept(tmp_path / "out")) == {f"gem/{name}" for name in FILES}
    assert {path.name for path in (tmp_path / "out/gem").iterdir()} == FILES | {"report.html", "report.md"}
    rows = (tmp_path / "out/gem/rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["key"] for row in rows] == list(voc.labels)
    # every pixel that is not ignored
    for row, labels in zip(rows, voc.labels.values(), strict=True):
        assert sum(count for _, _, count in json.loads(row)["counts"]) == (labels >= 0).sum()


@pytest.mark.slow("three methods under their papers' protocols")
def test_several_methods_go_on_to_the_same_bytes_and_other_settings_are_refused(
    run: Run, voc: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["evaluate", "voc21", "--data", voc.root, "--method", "gem", "clearclip", "naclip", "-o", "out", "--names",
               voc.root / "things.txt", "--set", "short_side=96"]  # fmt: skip
    ended = run(*command)
    assert ended.status == 0
    # its own figure, those of papers, and what differs, of each
    differs = ("model: embedded here, ViT-B-16 there", "short_side: 96 here, 336 there")
    for line in ("less gem", "64.07", "46.20", *differs, "written: out/naclip"):
        assert line in ended.out
    whole = kept(tmp_path / "out")
    assert len(whole) == 9 and (tmp_path / "out/report.html").is_file()
    (tmp_path / "out/gem/rows.jsonl").write_bytes(whole["gem/rows.jsonl"][:200])
    (tmp_path / "out/naclip/result.json").unlink()
    ended = run(*command)
    assert ended.status == 0 and kept(tmp_path / "out") == whole
    monkeypatch.setenv("COLUMNS", "80")
    table = run(*command).out.partition("gem: ")[0]
    assert all(f"\n{name} " in table for name in ("gem", "clearclip", "naclip"))
    assert "less first" in table and ": mIoU\n" in table and "64.07" in table
    for other, line in (
        (["--set", "probability=0.3"], "the protocol's probability must be 0.0"),
        (["--limit", "2"], "pictures must be 3"),
        (["--template", "plain"], "the protocol's template must be 'gem'"),
    ):
        ended = run(*command, *other)
        assert (ended.status, ended.out) == (1, "") and line in ended.err.splitlines()[-1], ended.err
        assert kept(tmp_path / "out") == whole


@pytest.mark.slow("a method twice")
def test_a_method_whose_letter_does_not_fit_the_model_runs_as_its_row_and_reports_it(run: Run, voc: Miniature, tmp_path: Path) -> None:
    names = ("--names", voc.root / "things.txt", "--set", "short_side=64")
    ended = run("evaluate", "voc21", "--data", voc.root, *names, "--method", "sc_clip", "-o", "out")
    assert ended.status == 0 and "sc_clip runs as its row, not to the letter of its authors' code" in ended.err
    assert json.loads((tmp_path / "out/sc_clip/run.json").read_bytes())["settings"]["official"] is False


@pytest.mark.slow("starts processes and kills them")
def test_a_command_that_is_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    made = named(write("voc21", tmp_path / "voc", 10))
    command = [sys.executable, "-P", "-m", "fastloc", "evaluate", "voc21", "--data", str(made.root), "--protocol", "plain", "--names",
               str(made.root / "things.txt"), "--method", "gem", "itsm", "--no-reports"]  # fmt: skip
    subprocess.run([*command, "-o", tmp_path / "whole"], check=True, capture_output=True, timeout=120)
    rows = tmp_path / "out/gem/rows.jsonl"
    with subprocess.Popen([*command, "-o", tmp_path / "out"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (rows.exists() and rows.stat().st_size):
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert rows.read_bytes() and not (tmp_path / "out/gem/result.json").exists()
    ended = subprocess.run([*command, "-o", tmp_path / "out"], check=False, capture_output=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert kept(tmp_path / "out") == kept(tmp_path / "whole")


@pytest.mark.slow("four runs")
def test_a_broken_picture_and_a_broken_mask_are_counted_named_and_tried_again(run: Run, tmp_path: Path) -> None:
    made = named(write("voc21", tmp_path / "voc", 3))
    first, second, _ = made.labels
    whole = made.picture(first).read_bytes(), made.mask(second).read_bytes()
    made.picture(first).write_bytes(whole[0][:100])
    made.mask(second).write_bytes(b"no mask")
    command = ["evaluate", "voc21", "--data", made.root, "--names", made.root / "things.txt", "--protocol", "plain", "-o", "out"]
    ended = run(*command)
    assert ended.status == 1 and "2 of 3 pictures could not be used" in ended.err.splitlines()[-1]
    assert made.picture(first).name in ended.out + ended.err and made.mask(second).name in ended.out + ended.err
    made.picture(first).write_bytes(whole[0])
    made.mask(second).write_bytes(whole[1])
    assert run(*command).status == 1, "what failed stays so"
    assert run(*command, "--retry-failed").status == 0
    assert run(*command[:-1], "fresh").status == 0
    assert kept(tmp_path / "out") == kept(tmp_path / "fresh")


# what is typed behind `evaluate voc21 --data VOC -o out`, and what is answered in one line
WRONG = {
    "a method": (["--method", "gme"], "unknown method 'gme': did you mean 'gem'?"),
    "a protocol": (["--protocol", "sclp"], "unknown protocol 'sclp': did you mean 'sclip'"),
    "a field": (["--set", "crops=3"], "unknown protocol field 'crops': did you mean 'crop'?"),
    "a value": (["--set", "crop=wide"], "crop must be a whole number"),
    "a template": (["--template", "nice"], "unknown template 'nice'"),
    "an option": (["--option", "mask=x"], "unknown voc21 option 'mask'"),
    "a classifier": (["--model", "torchvision:resnet18"], "model must be a CLIP or an exported .onnx file"),
    "a file that is none": (["--model", "none.onnx"], "none.onnx"),
    "what it is compared with": (["--against", "ViT-B-16"], "against must be an exported .onnx file"),
    "an option of files": (["--providers", "cpu"], "--providers must come with an exported .onnx file"),
    "names that are not there": (["--names", "none.txt"], "none.txt"),
    "the method of a file": (["--model", str(GEM_ONNX), "--method", "naclip"], "method must be the file's"),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_line_and_no_file_where_something_is_wrong(run: Run, voc: Miniature, tmp_path: Path, case: str) -> None:
    arguments, line = WRONG[case]
    ended = run("evaluate", "voc21", "--data", voc.root, "-o", "out", *arguments)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines()[-1].startswith("fastloc: error: ") and line in ended.err.splitlines()[-1], ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_size_is_refused_with_what_to_type(run: Run, voc: Miniature, tmp_path: Path) -> None:
    tiny_model(tmp_path / "tiny.onnx", size=(64, 64))
    for arguments, size in ((["--protocol", "sclip"], "224"), (["--protocol", "naclip"], "dynamic"), (["--protocol", "gem"], "448")):
        ended = run("evaluate", "voc21", "--data", voc.root, "--model", "tiny.onnx", "-o", "out", *arguments)
        assert ended.status == 1 and f"`fastloc export --size {size} --batch dynamic`" in ended.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_a_folder_of_something_else_is_left_alone(run: Run, voc: Miniature, tmp_path: Path) -> None:
    (tmp_path / "out/gem").mkdir(parents=True)
    # the second as a killed write of a run would leave one
    for name in ("mine.txt", ".mine.part"):
        (tmp_path / "out/gem" / name).write_text("mine", encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for output, line in (("out", "must be a new folder or a run's"), ("file", "cannot be made")):
        ended = run("evaluate", "voc21", "--data", voc.root, "--protocol", "plain", "-o", output)
        assert ended.status == 1 and line in ended.err.splitlines()[-1]
    assert {path.name for path in (tmp_path / "out/gem").iterdir()} == {"mine.txt", ".mine.part"}


def test_check_reports_what_is_missing_before_anything_runs(run: Run, voc: Miniature, tmp_path: Path) -> None:
    ended = run("evaluate", "check", "voc21", "--data", voc.root)
    assert ended.status == 0 and "3 pictures, of 1,449 published, nothing is missing" in ended.out
    shutil.copytree(voc.root, tmp_path / "voc")
    made = Miniature("voc21", tmp_path / "voc", voc.things, voc.labels)
    first, second, _ = made.labels
    made.picture(first).unlink()
    made.mask(second).unlink()
    ended = run("evaluate", "check", "voc21", "--data", made.root)
    assert ended.status == 1 and made.picture(first).name in ended.out and made.mask(second).name in ended.out
    assert "2 parts are missing or wrong; see `fastloc evaluate list voc21`" in ended.err
    assert run("evaluate", "voc21", "--data", made.root).status == 1
    assert "unknown data set 'voc22'" in run("evaluate", "check", "voc22", "--data", ".").err


def test_lists_of_sets_protocols_and_what_is_published(run: Run) -> None:
    every = run("evaluate", "list")
    assert every.status == 0 and "coco-stuff" in every.out and "naclip" in every.out
    one = run("evaluate", "list", "voc21")
    assert "SegmentationClass" in one.out and "64.07" in one.out and "0.1, area 0.1" in one.out
    found = json.loads(run("evaluate", "list", "voc21", "--json").out)
    assert found["pictures"] == 1449 and {row["paper"] for row in found["protocols"]} >= {"sclip", "naclip"}
    assert json.loads(run("evaluate", "list", "--json").out)["sets"]["ade20k"]["classes"] == 150


@pytest.mark.slow("an exported file and the model it was made of")
def test_an_exported_file_and_another_on_the_same_pictures(run: Run, voc: Miniature, tmp_path: Path) -> None:
    shutil.copy(GEM_ONNX, tmp_path / "other.onnx")
    shutil.copy(GEM_ONNX.with_name("model.safetensors"), tmp_path)
    command = ["evaluate", "voc21", "--data", voc.root, "--names", voc.root / "things.txt", "--protocol", "plain"]
    ended = run(*command, "--model", GEM_ONNX, "--against", "other.onnx", "--text-tower", GEM_TEXT_ONNX, "-o", "out")
    assert ended.status == 0, ended.err
    found = kept(tmp_path / "out")
    assert found["gem/rows.jsonl"] == found["other/rows.jsonl"]
    assert run(*command, "-o", "torch").status == 0
    ours, theirs = ([json.loads(row) for row in (tmp_path / path / "gem/rows.jsonl").read_text().splitlines()] for path in ("out", "torch"))
    assert [row["key"] for row in ours] == [row["key"] for row in theirs]
    assert "+0.00 to +0.00" in ended.out
    pair = run("evaluate", "compare", "out/gem", "torch/gem", "-o", "pair.md")
    assert pair.status == 0 and "3 pictures that both have" in pair.out and "model: " in pair.out and (tmp_path / "pair.md").is_file()
    for argv, line in ((["out/gem", "out"], "run.json"), (["out/gem", "torch/gem", "-o", "pair.txt"], "must be a file in .html or .md")):
        wrong = run("evaluate", "compare", *argv)
        assert (wrong.status, wrong.out) == (1, "") and line in wrong.err
