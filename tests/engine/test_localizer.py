"""The one call: pictures of every kind and size in, results over the original pictures out."""

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError, FastlocWarning, ImageError, ModelError, PlanError, RecipeError, TextError
from fastloc.functional.attention import inverse_temperatures
from fastloc.functional.op_set import TORCH
from fastloc.functional.vit import forward
from fastloc.recipes import RECIPES
from quality import quality_set
from repo import SAMPLES


@cache
def engine() -> Localizer:
    return Localizer()


def samples() -> list[tuple[Path, list[str], np.ndarray]]:
    """(picture, texts, masks) of the sample scenes."""
    rows = json.loads((SAMPLES / "samples.json").read_text())
    found = []
    for row in rows.values():
        indices = np.asarray(Image.open(SAMPLES / row["mask"]))
        found.append((SAMPLES / row["file"], row["texts"], np.stack([indices == k + 1 for k in range(len(row["texts"]))])))
    return found


def test_the_default_finds_most_things_of_the_samples():
    hits = [
        bool(mask[point.y, point.x])
        for picture, texts, masks in samples()
        for point, mask in zip(engine()(picture, texts).points(), masks, strict=True)
    ]
    assert np.mean(hits) >= 0.7, hits


@pytest.mark.parametrize("method", RECIPES)
def test_every_method_gives_maps_over_the_picture(method: str):
    picture, texts, _ = samples()[2]
    result = engine().with_method(method)(picture, texts)
    with Image.open(picture) as opened:
        assert result.heatmaps.shape == (len(texts), opened.height, opened.width)
    assert np.isfinite(result.heatmaps).all()
    assert result.method == method
    assert np.ptp(result.heatmaps, axis=(1, 2)).min() > 0


def test_pictures_of_every_kind_agree():
    path, texts, _ = samples()[0]
    picture = Image.open(path).convert("RGB")
    array = np.asarray(picture)
    expected = engine()(path, texts).similarity
    for source in (str(path), picture, array, array / 255.0, torch.from_numpy(array.copy()).permute(2, 0, 1)):
        np.testing.assert_allclose(engine()(source, texts).similarity, expected, atol=1e-5)


def test_a_list_of_mixed_sizes_is_answered_in_order_and_as_if_alone():
    pictures = [Image.open(path).convert("RGB") for path, _, _ in samples()]
    pictures = [pictures[0], pictures[2], pictures[1].resize((200, 333)), pictures[1]]
    together = engine()(pictures, ["cat", "dog"])
    assert len(together) == 4
    for picture, result in zip(pictures, together, strict=True):
        assert result.picture.size == picture.size
        np.testing.assert_allclose(result.similarity, engine()(picture, ["cat", "dog"]).similarity, atol=1e-5)


def test_one_text_is_one_map_and_feature_surgery_has_its_single_form():
    picture, _, _ = samples()[0]
    result = engine().with_method("clip_surgery")(picture, "cat")
    assert result.texts == ("cat",)
    assert result.scores is not None
    assert result.scores.shape == (1,)
    several = engine().with_method("clip_surgery")(picture, ["cat", "pizza"])
    assert several.scores is not None
    assert several.scores.shape == (2,)


def test_the_model_s_recommendation_is_used_unless_the_official_parameters_are_asked_for():
    recommended = engine().source.recommended["recipes"]["gem"]
    assert {field: getattr(engine().recipe, field) for field in recommended} == recommended
    assert engine().with_method("gem", official=True).recipe == RECIPES["gem"]
    assert engine().with_method("gem", inv_temp=3.0).recipe.inv_temp == 3.0


def test_gem_s_adaptive_temperature_is_near_uniform_on_this_narrow_model():
    """The README's figures for the quality set's square scenes: 2.1 to 2.3, and more than 95 % of the entropy of uniform attention."""
    chosen = engine().with_method("gem", official=True)
    pictures = [scene.picture for scene in quality_set() if scene.picture.size == (160, 160)][:32]
    pixels = torch.stack([chosen.pixels(picture, chosen.geometry((160, 160))) for picture in pictures])
    weights, layers = chosen.weights, range(chosen.source.spec.layers)
    inputs = ["embedded", *(f"block{i}" for i in layers[:-1])]
    found = forward(weights, pixels, chosen.recipe, capture=[*inputs, *(f"qkv{i}" for i in layers)]).captured
    for i, (name, block) in enumerate(zip(inputs, weights.blocks, strict=True)):
        _, _, lengths = TORCH.add_norm(found[name], None, block.ln1_w, block.ln1_b, chosen.source.spec.norm_eps, True)
        inverse = inverse_temperatures(chosen.recipe, None, lengths, 32, i)[-1]
        unit = torch.nn.functional.normalize(found[f"qkv{i}"], dim=-1)
        attention = torch.softmax(inverse[..., None, None] * unit @ unit.transpose(-1, -2), -1)
        entropy = -(attention * attention.log()).sum(-1).mean() / np.log(attention.shape[-1])
        assert 2.05 < float(inverse.mean()) < 2.35, i
        assert float(entropy) > 0.95, i


def test_half_precision_agrees_with_float32():
    picture, texts, _ = samples()[0]
    expected = engine()(picture, texts).similarity
    for dtype, tolerance in (("bfloat16", 6e-2), ("float64", 1e-5)):
        found = Localizer(dtype=dtype)(picture, texts).similarity
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max(), dtype


def test_size_and_fit():
    wide = Localizer(size=(64, 128))
    assert wide.fit == "stretch" == wide.with_method("naclip").fit
    result = wide(samples()[0][0], "cat")
    assert result.similarity.shape == (1, 8, 16)
    aspect = Localizer(size=128, fit="aspect")(samples()[0][0], "cat")
    assert aspect.similarity.shape == (1, 16, 21)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "gme"}, RecipeError, "unknown method 'gme': did you mean 'gem'"),
        ({"blocks": 7}, RecipeError, "blocks must be at most the 6 of embedded, got 7"),
        ({"block": 3}, RecipeError, "unknown recipe field 'block': did you mean 'blocks'"),
        ({"model": "embeded"}, ModelError, "unknown model 'embeded': did you mean 'embedded'"),
        ({"template": "gme"}, TextError, "unknown template 'gme'"),
        ({"size": 100}, FastlocError, "100"),
        ({"size": 0}, FastlocError, "0"),
        ({"fit": "strech"}, FastlocError, "unknown fit 'strech': did you mean 'stretch'"),
        ({"dtype": "float8"}, FastlocError, "unknown dtype 'float8'"),
        ({"device": "gpu"}, FastlocError, "got 'gpu'"),
    ],
)
def test_bad_options(options: dict[str, object], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        Localizer(**options)  # type: ignore[arg-type]


def test_bad_pictures_and_texts():
    with pytest.raises(TextError, match="no prompts"):
        engine()(samples()[0][0], [])
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        engine()("nowhere.png", "cat")
    with pytest.raises(ImageError, match="NaN"):
        engine()(np.full((8, 8, 3), np.nan), "cat")


def test_a_word_it_never_saw_is_warned_about():
    with pytest.warns(FastlocWarning, match="never saw the word 'zeppelin'"):
        engine()(samples()[0][0], ["zeppelin"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", FastlocWarning)
        engine()(samples()[0][0], ["pizza", "red car", "animal"])


# frames on the device


def frames(count: int = 2) -> torch.Tensor:
    picture = Image.open(samples()[0][0]).convert("RGB").resize((90, 70))
    shifted = [np.roll(np.asarray(picture), 7 * i, axis=1) for i in range(count)]
    return torch.from_numpy(np.stack(shifted))


@pytest.mark.slow("every method", quick=4)
@pytest.mark.parametrize("method", RECIPES)
def test_frames_give_what_pictures_give(method):
    localizer, texts = engine().with_method(method), ["cat", "pizza", "red car"]
    results = localizer([frame.numpy() for frame in frames()], texts)
    grids, _ = localizer.similarity(frames(), texts)
    heat, chosen = localizer.heatmaps(frames(), texts), localizer.labels(frames(), texts)
    for i, result in enumerate(results):
        assert np.abs(grids[i].numpy() - result.similarity).max() < 1e-5
        assert np.abs(heat[i].numpy() - result.heatmaps).max() < 1e-3
        assert (chosen[i].numpy() == result.labels()).mean() > 0.999
    whole = localizer.heatmaps(frames(), texts, dtype=torch.uint8)
    assert whole.dtype == torch.uint8 and whole.shape == (2, 3, 70, 90)
    assert (whole.float() - 255 * heat).abs().max() <= 0.5 + 1e-3


def test_frames_of_a_camera_are_blue_first():
    found = engine().similarity(frames().flip(-1), ["cat"], bgr=True)[0]
    assert torch.equal(found, engine().similarity(frames(), ["cat"])[0])


def test_what_is_no_frame():
    for wrong in (frames().float(), frames()[0], frames().permute(0, 3, 1, 2)):
        with pytest.raises(ImageError, match=r"frames must be torch\.uint8 \[B, H, W, 3\]"):
            engine().heatmaps(wrong, ["cat"])
        with pytest.raises(FastlocError):
            engine().similarity(wrong, ["cat"])


def test_the_plan_is_reported_and_can_be_asked_for():
    assert "plan for gem, batch 1, 96 x 96 on" in engine().plan.explain()
    assert Localizer(device="cpu", plan={"attention": "bmm"}).plan.attention == "bmm"
    with pytest.raises(PlanError, match="launch 'graph' is not possible here"):
        Localizer(device="cpu", plan={"launch": "graph"})
    # the plan changes speed, not results
    picture, texts, _ = samples()[0]
    other = Localizer(device="cpu", plan={"attention": "bmm", "projection": "joint", "schedule": "deferred", "frames": "torch"})
    assert np.abs(other(picture, texts).similarity - Localizer(device="cpu")(picture, texts).similarity).max() < 1e-5
