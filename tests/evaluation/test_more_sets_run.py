"""Sets of your own and of questions, evaluated end to end with the embedded model on miniatures of their layouts."""

from collections.abc import Callable
from pathlib import Path

import pytest

import miniature_more as miniature
from fastloc.cli.app import main
from fastloc.evaluation.running.evaluate import evaluate

SCENES = miniature.scenes()
ASKED = sum(len(scene.things) for scene in SCENES)
# set, its miniature, options, the figure that its protocol reports first, and how many questions there are
SETS: list[tuple[str, Callable[[Path], object], dict[str, str], str, int]] = [
    ("folder", lambda root: miniature.write_folder(root, SCENES), {}, "miou", 0),
    ("coco-json", lambda root: miniature.write_coco(root, SCENES), {"unlabelled": "ignore"}, "miou", 0),
    ("coco-boxes", lambda root: miniature.write_coco(root, SCENES), {}, "hit", ASKED),
    ("refcoco", lambda root: miniature.write_phrases(root, SCENES, "refs"), {}, "hit", ASKED),
    ("open-images", lambda root: miniature.write_open_images(root, SCENES), {}, "point_iou", ASKED),
    ("imagenet-segmentation", lambda root: miniature.write_imagenet_segmentation(root, SCENES), {}, "two_class_iou", len(SCENES)),
]  # fmt: skip


@pytest.mark.slow("runs the embedded model")
@pytest.mark.parametrize(("name", "write", "options", "measure", "questions"), SETS, ids=[row[0] for row in SETS])
def test_a_set_is_evaluated_and_a_repaired_map_is_better_there_than_the_raw_one(
    name: str, write: Callable[[Path], object], options: dict[str, str], measure: str, questions: int, tmp_path: Path
) -> None:
    write(tmp_path / "set")
    raw, repaired = evaluate(name, tmp_path / "set", methods=("itsm", "gem"), set_options=options, output=tmp_path / "runs")
    for run in (raw, repaired):
        assert (run.summary.measure, run.summary.pictures, run.summary.failed) == (measure, len(SCENES), 0)
        lines = (run.folder / "rows.jsonl").read_text(encoding="utf-8")
        assert lines.count("\n") == len(SCENES) and lines.count('"label"') == questions
        # a picture of each scene at least, whatever is asked of it
        assert (run.folder / "report.html").read_text(encoding="utf-8").count("data:image/webp") >= len(SCENES)
    assert repaired.summary.figures[measure].value > raw.summary.figures[measure].value


@pytest.mark.slow("runs the embedded model")
def test_classes_of_a_label_set_are_asked_one_by_one_and_shown(tmp_path: Path) -> None:
    miniature.write_folder(tmp_path / "set", SCENES)
    [run] = evaluate("folder", tmp_path / "set", methods="gem", protocol="explanation", output=tmp_path / "runs")
    assert (run.summary.measure, run.summary.pictures, run.summary.failed) == ("iou", len(SCENES), 0)
    assert {"auc", "ap", "msc", "hit", "hit_near"} <= set(run.summary.figures)
    assert (tmp_path / "runs/gem/report.html").read_text(encoding="utf-8").count("data:image/webp") >= len(SCENES)


@pytest.mark.slow("runs the embedded model")
def test_the_command_checks_and_evaluates_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    miniature.write_folder(tmp_path / "set", SCENES[:2])
    arguments = ["folder", "--data", str(tmp_path / "set")]
    assert main(["evaluate", "check", *arguments]) == 0
    assert main(["evaluate", *arguments, "--method", "gem", "-o", str(tmp_path / "runs")]) == 0
    assert (tmp_path / "runs" / "gem" / "rows.jsonl").read_bytes().count(b"\n") == 2
    capsys.readouterr()
    (tmp_path / "set" / "masks" / "000000000002.png").unlink()
    assert main(["evaluate", "check", *arguments]) == 1
    assert "000000000002.png is missing" in capsys.readouterr().out
    assert main(["evaluate", *arguments, "-o", str(tmp_path / "others")]) == 1
    assert "000000000002.png is missing" in capsys.readouterr().err and not (tmp_path / "others").exists()
    assert main(["evaluate", *arguments, "--option", "only=list.txt"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "list.txt").write_text("000000000001\n", encoding="utf-8")
    assert main(["evaluate", *arguments, "--method", "gem", "--option", "only=../list.txt"]) == 0
