"""Scores of both engines: the literal definition, in every method; they leave maps as they are and separate present from absent texts."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastloc import Localizer, OnnxLocalizer, cli, embedded
from fastloc.engine.localizer import Localizer as Engine
from fastloc.errors import FastlocError, ModelError
from fastloc.recipes import RECIPES
from fastloc.recipes.presence import Calibration
from fastloc.reference import arithmetic, parts
from quality import quality_set
from repo import SAMPLES

MARKET = SAMPLES / "market.webp"
TEXTS = ["cat", "airplane", "elephant"]
# what is read of the picture changes with the method: features, a gradient, another block
SOME = ["itsm", "gem", "clip_surgery", "naclip", "tagclip", "grad_cam", "legrad", "grad_eclip", "rollout", "anchor_vv", "grad_cam_clip_es"]


@cache
def engine() -> Engine:
    return Localizer()


@cache
def exported() -> OnnxLocalizer:
    return OnnxLocalizer(providers="cpu")


def literal(localizer: Engine, path: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    """The definition, written out: what the encoder says of the picture, of the texts and of the template without a thing."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    source = localizer.source
    pixels = localizer.pixels(picture, localizer.geometry(picture.size[::-1]))[None].double()
    embedding, _ = parts.encoder(source.vit.to(dtype=torch.float64), pixels, localizer.recipe.position)
    words = torch.cat([source.text(texts, localizer.template), source.text.empty(localizer.template)[None]]).double()
    cosines = (arithmetic.unit(embedding) @ words.T)[0].detach().numpy()
    logits = source.logit_scale * (cosines[:-1] - cosines[-1])
    fit = source.calibrations["plain"]
    return 1 / (1 + np.exp(-(fit.slope * logits + fit.offset)))


@pytest.mark.parametrize("method", SOME)
def test_scores_are_the_definition(method: str) -> None:
    localizer = engine().with_method(method)
    result = localizer(MARKET, TEXTS)
    assert result.scores is not None and result.image_scores is not None and result.no_scores == ""
    np.testing.assert_allclose(result.scores, literal(localizer, MARKET, TEXTS), atol=1e-4)
    # a name alone, without a sentence, is further from what the model read
    assert result.scores[0] > (0.5 if localizer.template != "plain" else 0.4) > 0.1 > result.scores[1:].max()


@pytest.mark.parametrize("method", [name for name, row in RECIPES.items() if row.inv_temp != "matched"])
def test_maps_stay_as_they_are_bit_by_bit(method: str) -> None:
    """The background competes with no text: without scores the similarities are the same."""
    localizer = engine().with_method(method)
    with Image.open(MARKET) as opened:
        picture = opened.convert("RGB")
    geometry = localizer.geometry(picture.size[::-1])
    pixels = localizer.pixels(picture, geometry)[None]
    plain, _ = localizer.similarity(pixels, TEXTS)
    scored, cosines = localizer.scored_similarity(pixels, TEXTS)
    assert torch.equal(plain, scored) and cosines.shape == (1, 4)


def test_one_text_and_one_that_is_asked_twice() -> None:
    for method in ("gem", "clip_surgery", "naclip"):
        localizer = engine().with_method(method)
        alone, twice = localizer(MARKET, "cat"), localizer(MARKET, ["cat", "airplane", "cat"])
        several = localizer(MARKET, TEXTS)
        assert alone.scores is not None and twice.scores is not None and several.scores is not None
        assert alone.scores[0] == pytest.approx(several.scores[0], abs=1e-5)
        np.testing.assert_allclose(twice.scores, several.scores[[0, 1, 0]], atol=1e-5)


def test_the_exported_file_gives_the_same() -> None:
    for texts in (TEXTS, ["cat"], ["cat", "airplane", "cat"]):
        found, expected = exported()(MARKET, texts), engine()(MARKET, texts)
        assert found.scores is not None and expected.scores is not None
        assert found.image_scores is not None and expected.image_scores is not None
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(found.image_scores, expected.image_scores, atol=1e-4)
    found = exported()([MARKET, SAMPLES / "street.webp"], TEXTS)
    assert [len(each.scores) for each in found] == [3, 3] and not np.array_equal(found[0].scores, found[1].scores)


def test_raw_outputs_have_the_same_scores() -> None:
    from fastloc.adapters import result_of

    expected, size = exported()(MARKET, TEXTS), exported().manifest.input
    with Image.open(MARKET) as opened:
        pixels = engine().pixels(opened.convert("RGB"), expected.geometry).numpy()[None]
    raw = exported().run(pixels, TEXTS)
    assert size.kind == "pixels" and raw["background"].shape == (1, 1)
    for outputs in (raw, {name: each[0] for name, each in raw.items()}):
        found = result_of(outputs, exported().manifest, MARKET, texts=TEXTS)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.slow("exports two files")
def test_a_file_with_baked_texts_and_one_of_several_pictures(tmp_path: Path) -> None:
    from fastloc.export.to_onnx import Options, export

    manifest = export(engine(), tmp_path / "baked.onnx", Options(size=(48, 48), batch=2, texts=("cat", "airplane")))
    assert manifest.outputs == ("similarity", "scores", "background") and manifest.calibration == engine().calibration != Calibration()
    found, expected = OnnxLocalizer(tmp_path / "baked.onnx", providers="cpu")(MARKET), Localizer(size=(48, 48))(MARKET, ["cat", "airplane"])
    assert found.scores is not None and expected.scores is not None
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_scores_tell_what_is_there_better_than_peaks() -> None:
    """Twenty scenes of the quality set, each asked for its own things and for another's; peaks of the maps are all 1."""
    scenes = quality_set()[:20]
    there, scores, peaks = [], [], []
    for scene, other in zip(scenes, scenes[1:] + scenes[:1], strict=True):
        absent = [thing for thing in other.things if thing not in scene.things]
        result = engine()(scene.picture, [*scene.things, *absent])
        assert result.scores is not None
        there += [True] * len(scene.things) + [False] * len(absent)
        scores += result.scores.tolist()
        peaks += [point.value for point in result.points()]
    right = np.array(there)
    values = np.array(scores)
    area = float((values[right][:, None] > values[~right][None]).mean())
    assert area > 0.85 and min(peaks) == max(peaks) == 1
    assert (values[right] >= 0.5).mean() > 0.7 and (values[~right] >= 0.5).mean() < 0.35


def test_boxes_and_points_by_score() -> None:
    result = engine()(MARKET, TEXTS)
    assert {box.text for box in result.boxes()} == set(TEXTS)
    assert {box.text for box in result.boxes(score=0.5)} == {"cat"} == {point.text for point in result.points(score=0.5)}
    assert result.boxes(score=0.0) == result.boxes() and result.points(0.5, score=0.0) == result.points(0.5)
    report = result.to_dict(score=0.5)
    assert [bool(each["boxes"]) for each in report["texts"]] == [True, False, False] and report["min_score"] == 0.5
    assert [each["score"] for each in report["texts"]] == pytest.approx(result.scores.tolist()) and report["no_scores"] is None
    json.dumps(report)


def test_the_command_prints_scores_beside_peaks_and_leaves_boxes_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["locate", str(MARKET), "-t", "cat", "-t", "airplane", "-o", str(tmp_path)]
    assert cli.main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "peak" in line).split()[-3:] == ["peak", "score", "similarity"]
    cat, airplane = (next(line for line in lines if line.lstrip().startswith(text)).split() for text in ("cat", "airplane"))
    assert cat[-3] == airplane[-3] == "1.00" and float(cat[-2]) > 0.5 > float(airplane[-2]) == 0
    assert cli.main([*asked, "--json", "--min-score", "0.5"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["pictures"]
    assert [bool(each["boxes"]) for each in report["texts"]] == [True, False]


def test_without_scores_a_result_says_why() -> None:
    """A file of before there were any."""
    from dataclasses import replace

    from fastloc.runtime.outputs import prediction

    manifest, result = exported().manifest, exported()(MARKET, TEXTS)
    raw = {"similarity": result.similarity[None], "scores": result.image_scores[None]}
    older = replace(manifest, outputs=("similarity", "scores"), golden=None)
    old = prediction(older, result.geometry, result.texts, raw, 0).result(result.picture)
    assert old.scores is None and old.image_scores is not None
    assert old.no_scores == "the file has no output 'background': export it again, with --outputs similarity scores background"
    assert old.to_dict()["no_scores"] == old.no_scores and old.boxes()
    with pytest.raises(FastlocError, match=r"score must be left out without scores, got 0\.5; the file has no output 'background'"):
        old.boxes(score=0.5)


def test_projections_of_ones_own_are_not_calibrated(tmp_path: Path) -> None:
    assert engine().with_method("eclip").calibration == engine().source.calibrations["projected"]
    localizer = Localizer(projections=str(embedded.FOLDER / "eclip.safetensors"))
    assert localizer.calibration == Calibration()


def test_a_damaged_calibration_of_a_model_is_one_line(tmp_path: Path) -> None:
    content = json.loads(embedded.CONFIG.read_text())
    (tmp_path / "model.safetensors").symlink_to(embedded.MODEL)
    for broken in ({"plain": {"slope": "1"}}, {"plain": 3}, {"plain": {"slope": 0}}, 7):
        content["fastloc"]["presence"] = broken
        (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
        with pytest.raises(ModelError, match=r"presence|slope") as caught:
            Localizer(str(tmp_path))
        assert "\n" not in str(caught.value)
