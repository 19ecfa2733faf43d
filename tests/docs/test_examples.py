"""Every example runs as its first lines say, and every cell of the notebooks does, one after the other."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embedded_model.moving_scenes import clip, write
from repo import REPO

EXAMPLES = REPO / "examples"
MARKET = REPO / "fastloc" / "embedded" / "samples" / "market.webp"
TEXTS = ["cat", "pizza", "red car"]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write(clip(seed=2, seconds=0.5, things=("cat", "pizza"), size=(96, 128)), tmp_path / "clip.mp4")


def run(name: str, *options: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", [name, *options])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_the_folder_holds_what_is_tested_here() -> None:
    tested = (REPO / "tests" / "docs" / "test_examples.py").read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in tested] == []
    assert len(list(EXAMPLES.glob("*.ipynb"))) == 2


def test_a_folder_becomes_lines_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(MARKET, tmp_path / "photos")
    run("folder_to_json.py", str(tmp_path / "photos"), "-t", *TEXTS, "airplane", "-o", str(tmp_path / "out.jsonl"), monkeypatch=monkeypatch)
    [line] = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    boxes = {row["text"]: row["boxes"] for row in json.loads(line)["texts"]}
    assert boxes["cat"] and boxes["pizza"] and not boxes["airplane"]


@pytest.mark.slow("runs the embedded model on a clip")
def test_a_video_becomes_tracks(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run("video_to_tracks.py", str(video), "-t", "cat", "pizza", "-o", str(tmp_path / "tracks"), monkeypatch=monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list((tmp_path / "tracks").glob("*.jpg"))) == 15
    # one cat moves through all frames: most of them give it the same number
    numbers = [word for line in lines for word in line.partition(": ")[2].split(", ") if word.startswith("cat ")]
    assert max(map(numbers.count, numbers)) >= 10, lines


@pytest.mark.slow("imports supervision")
def test_a_tracker_keeps_numbers_and_texts_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import supervision as sv

    tracker = runpy.run_path(str(EXAMPLES / "video_to_tracks.py"), run_name="example")["Tracker"]()

    def numbers(*boxes: tuple[int, int]) -> list[int]:
        """Of boxes of 10 x 10 pixels by (left edge, text)."""
        xyxy = np.array([(x, 0, x + 10, 10) for x, _ in boxes], np.float32).reshape(-1, 4)
        found = sv.Detections(xyxy=xyxy, class_id=np.array([text for _, text in boxes], int))
        return list(tracker.update(found).tracker_id)

    assert numbers((0, 0), (20, 1)) == [1, 2]
    assert numbers((21, 1), (1, 0)) == [2, 1]
    # another text at the same place is another object
    assert numbers((1, 1), (21, 1)) == [3, 2]
    assert numbers() == [] and numbers((21, 1)) == [4]


class Capture:
    """OpenCV's reader of two frames, blue, green, red."""

    def __init__(self, source: int | str) -> None:
        assert source == 0
        self.frames = 2 * [np.asarray(Image.open(MARKET).convert("RGB"))[..., ::-1].copy()]

    def read(self) -> tuple[bool, Any]:
        return (True, self.frames.pop()) if self.frames else (False, None)

    def release(self) -> None:
        assert not self.frames


def test_a_camera_loop_draws_on_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    fake = ModuleType("cv2")
    # what the example calls of OpenCV, which is not installed for tests
    vars(fake).update(
        VideoCapture=Capture, FONT_HERSHEY_SIMPLEX=0, waitKey=lambda _: -1, imshow=lambda *_: drawn.append("frame"),
        rectangle=lambda *_: None, putText=lambda _, text, *rest: drawn.append(text),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cv2", fake)
    run("camera_loop.py", "0", "-t", *TEXTS, monkeypatch=monkeypatch)
    assert drawn.count("frame") == 2 and drawn.count("cat") >= 2


def test_a_device_needs_no_torch() -> None:
    code = f"""
import runpy, sys
sys.modules["torch"] = None
sys.argv = ["onnx_on_a_device.py", {str(MARKET)!r}, "-t", *{TEXTS!r}]
runpy.run_path({str(EXAMPLES / "onnx_on_a_device.py")!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == TEXTS


def test_a_method_of_one_s_own_answers_differently(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from fastloc.recipes import RECIPES

    # what the example puts there goes again with the test
    monkeypatch.setitem(RECIPES, "mine", RECIPES["naclip"])
    row = run("own_method.py", str(MARKET), "-t", *TEXTS, monkeypatch=monkeypatch)["RECIPES"]["mine"]
    lines = capsys.readouterr().out.splitlines()
    assert row.terms == ("kk", "qq") and [line.partition(":")[0] for line in lines] == 3 * ["naclip"] + 3 * ["mine"]


@pytest.mark.slow("runs the embedded model by several methods")
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
    if path.stem == "choose_a_method":
        assert names["shares"]["gem"] > names["shares"]["itsm"], names["shares"]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4 and len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in content["cells"] if cell["cell_type"] == "code")
