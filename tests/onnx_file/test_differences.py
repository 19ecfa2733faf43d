"""Notes of a file whose defaults bring pictures to the model in another way than the model's own localizer does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fastloc import Localizer, OnnxLocalizer, cli
from fastloc.embedded import GEM_ONNX, GEM_TEXT_ONNX, SAMPLES
from fastloc.export.pipelines.table import PIPELINES
from fastloc.onnx_file import header
from fastloc.onnx_file.differences import PIPELINES as RESIZERS
from fastloc.onnx_file.differences import differences

TEXTS = ["cat", "pizza"]


@pytest.mark.parametrize(
    ("fit", "model", "size", "words"),
    [
        ("stretch", "aspect", (96, 96), "fit is 'stretch' at 96 x 96, and Localizer's is 'aspect'"),
        ("stretch", "letterbox", None, "--fit letterbox keeps it"),
        ("aspect", "aspect", None, None),
        ("stretch", "", (96, 96), None),
    ],
)
def test_another_fit_is_reported(fit: str, model: str, size: tuple[int, int] | None, words: str | None) -> None:
    manifest = header.read(GEM_ONNX).manifest()
    found = differences(replace(manifest, input=replace(manifest.input, fit=fit, model_fit=model, size=size)))
    assert (words is None and not found) or words in found[0]


def test_every_pipeline_says_what_its_resizer_does() -> None:
    assert set(RESIZERS) == {*PIPELINES, "web"}


@pytest.mark.slow("exports two files")
def test_export_and_inspect_say_it_and_the_advice_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = "fit is 'stretch' at 96 x 96, and Localizer's is 'aspect'"
    assert cli.main(["export", "-o", str(tmp_path / "a.onnx")]) == 0 and message in capsys.readouterr().err
    assert cli.main(["inspect", str(tmp_path / "a.onnx")]) == 0 and message in capsys.readouterr().out
    assert cli.main(["export", "-o", str(tmp_path / "b.onnx"), "--size", "dynamic"]) == 0 and "Localizer's" not in capsys.readouterr().err
    file, model = OnnxLocalizer(tmp_path / "b.onnx", text=GEM_TEXT_ONNX), Localizer()
    for name in ("market", "street"):
        points = [[(p.x, p.y) for p in each(SAMPLES / f"{name}.webp", TEXTS).points()] for each in (file, model)]
        assert points[0] == points[1]
