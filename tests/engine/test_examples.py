"""A picture, or a box in one, in a text's place: what its embedding is, and that everything which takes texts takes it."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import fastloc
from fastloc import Example
from fastloc.embedded import SAMPLES
from fastloc.engine import examples
from fastloc.engine.examples import example_embedding
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError, ImageError, TextError
from fastloc.functional.vit import forward
from fastloc.imaging.example import cell_shares
from fastloc.imaging.geometry import fit

GARDEN, MARKET = SAMPLES / "garden.webp", SAMPLES / "market.webp"
SCENES = {name: each["texts"] for name, each in json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8")).items()}


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer(method="gem_calibrated")


def box_of(scene: str, thing: str) -> tuple[int, int, int, int]:
    """The tight box of a thing's exact mask."""
    where = np.argwhere(mask_of(scene, thing))
    (y0, x0), (y1, x1) = where.min(0), where.max(0) + 1
    return int(x0), int(y0), int(x1), int(y1)


def mask_of(scene: str, thing: str) -> np.ndarray:
    labels = np.asarray(Image.open(SAMPLES / f"{scene}.png"))
    return labels == SCENES[scene].index(thing) + 1


def found_by(localizer: Localizer, weights: str) -> int:
    """The number of things in the sample scenes that are pointed at by their own box."""
    count = 0
    for scene, things in SCENES.items():
        for thing in things:
            example = Example(SAMPLES / f"{scene}.webp", box_of(scene, thing), weights=weights)
            result = localizer(SAMPLES / f"{scene}.webp", example)
            assert result.texts == (str(example),) and type(result.texts[0]) is str
            count += bool(mask_of(scene, thing)[result.points()[0].y, result.points()[0].x])
    return count


def test_a_thing_is_found_by_its_own_picture(localizer: Localizer) -> None:
    # of 11; by their names it is 9
    assert found_by(localizer, "contrast") >= 8 > found_by(localizer, "box")


def test_the_embedding_is_the_mean_of_the_box(localizer: Localizer) -> None:
    box = box_of("garden", SCENES["garden"][0])
    found = example_embedding(localizer, Example(GARDEN, box, weights="box"))
    picture = Image.open(GARDEN).convert("RGB")
    geometry = localizer.geometry(picture.size[::-1])
    out = forward(localizer.source.vit, localizer.pixels(picture, geometry)[None], localizer.recipe)
    scale = geometry.input[1] / picture.width, geometry.input[0] / picture.height
    total = torch.zeros(out.patches.shape[-1], dtype=torch.float64)
    patch = localizer.source.spec.patch[0]
    for row in range(out.grid[0]):
        for column in range(out.grid[1]):
            wide = min((column + 1) * patch, box[2] * scale[0]) - max(column * patch, box[0] * scale[0])
            high = min((row + 1) * patch, box[3] * scale[1]) - max(row * patch, box[1] * scale[1])
            if wide > 0 and high > 0:
                total += wide * high * F.normalize(out.patches[0, row * out.grid[1] + column].double(), dim=0)
    torch.testing.assert_close(found.double(), F.normalize(total, dim=0), atol=1e-5, rtol=0)


def test_its_own_heat_weighs_the_box(localizer: Localizer) -> None:
    whole = [example_embedding(localizer, Example(GARDEN, weights=weights)) for weights in ("box", "map", "contrast")]
    assert torch.equal(whole[0], whole[2]), "without an outside there is no contrast"
    boxed = [example_embedding(localizer, Example(GARDEN, (0, 0, 60, 60), weights=weights)) for weights in ("box", "map", "contrast")]
    for one, other in ((whole[0], whole[1]), (boxed[0], boxed[1]), (boxed[0], boxed[2])):
        assert not torch.allclose(one, other, atol=1e-4)
    plain = example_embedding(localizer, Example(Image.new("RGB", (64, 64), "grey"), (0, 0, 32, 32)))
    for each in (*whole, *boxed, plain):
        assert each.dtype == torch.float32 and abs(float(each.norm()) - 1) < 1e-6


def test_words_are_mixed_in(localizer: Localizer) -> None:
    alone, words = example_embedding(localizer, Example(GARDEN)), localizer.source.text(["a dog"], localizer.template)[0]
    for share in (0.25, 1.0):
        mixed = example_embedding(localizer, Example(GARDEN, words="a dog", share=share))
        torch.testing.assert_close(mixed, F.normalize(share * alone + (1 - share) * words, dim=0), atol=1e-5, rtol=0)


def test_texts_and_examples_go_together(localizer: Localizer) -> None:
    thing = SCENES["garden"][0]
    example = Example(GARDEN, box_of("garden", thing))
    both = localizer([GARDEN, MARKET], [thing, example, "cat", example])
    for result, picture in zip(both, (GARDEN, MARKET), strict=True):
        words, alone = localizer(picture, [thing, "cat"]), localizer(picture, example)
        assert result.texts == (thing, str(example), "cat", str(example))
        expected = words.similarity[0], alone.similarity[0], words.similarity[1], alone.similarity[0]
        np.testing.assert_allclose(result.similarity, expected, atol=1e-5)
        assert result.scores is None and "calibrated for texts" in result.no_scores and words.scores is not None


@pytest.mark.parametrize("method", ["itsm", "clip_surgery", "naclip", "legrad", "grad_cam", "bi_modal", "rollout", "anchor_vv"])
def test_every_kind_of_method_takes_one(localizer: Localizer, method: str) -> None:
    result = localizer.with_method(method)(GARDEN, [Example(GARDEN, (0, 0, 80, 80)), "cat"])
    assert np.isfinite(result.heatmaps).all() and len(result.points()) == 2


def test_a_method_of_gradients_takes_the_crops_embedding(localizer: Localizer) -> None:
    other, example = localizer.with_method("legrad"), Example(GARDEN, (10, 20, 90, 100))
    crop = Image.open(GARDEN).convert("RGB").crop((10, 20, 90, 100))
    found = forward(localizer.source.vit, other.pixels(crop, other.geometry((80, 80)))[None], fastloc.recipes.recipe("itsm"), cls=True).cls
    assert found is not None
    torch.testing.assert_close(example_embedding(other, example), F.normalize(found[0], dim=0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["gem", "legrad"])
def test_several_go_through_the_tower_together(localizer: Localizer, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures, or crops, of one input size in one pass; kept ones in none; each as alone."""
    sizes, forward_ = [], examples._forward

    def counted(one: object, recipe: object, pixels: torch.Tensor, cls: bool) -> object:
        sizes.append(len(pixels))
        return forward_(one, recipe, pixels, cls)

    other = localizer.with_method(method)
    asked = [Example(GARDEN, (8 * each, 0, 60 + 8 * each, 80), words="a dog" if each else "") for each in range(3)]
    asked.append(Example(MARKET, (0, 0, 60, 80)))
    alone = [example_embedding(other, each) for each in asked]
    monkeypatch.setattr(examples, "_forward", counted)
    found = other._encoded([asked[0], "cat", *asked, asked[1]])
    assert sizes == [4]
    for place, each in enumerate([asked[0], None, *asked, asked[1]]):
        if each is not None:
            torch.testing.assert_close(found[place], alone[asked.index(each)], atol=1e-6, rtol=0)
    sizes.clear()
    other._encoded(asked[:2])
    assert not sizes
    monkeypatch.setattr(examples, "BATCH", 2)
    assert len(examples.example_embeddings(other, asked[1:])) == 3 and sizes == [2, 1]


def test_an_exported_file_takes_its_embedding(localizer: Localizer, tmp_path: Path) -> None:
    example, gem = Example(GARDEN, box_of("garden", SCENES["garden"][0])), Localizer()
    made = gem.embeddings(["dog", example])
    made.save(tmp_path / "made.npz")
    from fastloc.embedded import GEM_ONNX

    exported = fastloc.OnnxLocalizer(GEM_ONNX, embeddings=tmp_path / "made.npz", providers="cpu")
    found, expected = exported(GARDEN, [str(example)]), gem(GARDEN, example)
    assert np.corrcoef(found.similarity.ravel(), expected.similarity.ravel())[0, 1] > 0.999
    with pytest.raises(TextError, match=r"prompt 0 must be a text, got the example 'garden.*`fastloc embed --like`"):
        exported(GARDEN, [example])


def test_what_it_is() -> None:
    example = Example.typed(f"{GARDEN}:1,2,30,40=a dog")
    assert (example, example.box, example.words) == (Example(GARDEN, (1, 2, 30, 40), words="a dog"), (1, 2, 30, 40), "a dog")
    assert str(Example(GARDEN)) == "garden.webp" and Example(GARDEN, (0, 0, 5, 5)) != Example(MARKET, (0, 0, 5, 5))
    assert example != str(example) and str(example) != example and len({example, str(example), Example(GARDEN, (1, 2, 30, 40))}) == 3
    again = pickle.loads(pickle.dumps(example))
    assert type(again) is Example and again == example and again.share == example.share
    assert str(Example(Image.new("RGB", (20, 20)), name="a mug")) == "a mug"


@pytest.mark.parametrize(
    ("box", "more", "message"),
    [
        ((0, 0, 5000, 10), {}, r"box must lie in the picture of \d+ x \d+ pixels, x0 < x1 and y0 < y1, got \(0, 0, 5000, 10\)"),
        ((10, 0, 10, 10), {}, "box must lie in the picture"),
        ((float("nan"), 0, 10, 10), {}, "box must lie in the picture"),
        ((0, 0, 10), {}, r"box must be four numbers \(x0, y0, x1, y1\), got \(0, 0, 10\)"),
        ("abcd", {}, "box must be four numbers"),
        (None, {"share": 0}, r"share must be above 0 and at most 1, got 0; "),
        (None, {"weights": "heat"}, "unknown weights of an example 'heat'"),
    ],
)
def test_what_cannot_be_is_refused(box: object, more: dict[str, object], message: str) -> None:
    with pytest.raises(FastlocError, match=message):
        Example(GARDEN, box, **more)  # type: ignore[arg-type]


def test_a_picture_that_is_not_there() -> None:
    with pytest.raises(ImageError, match="nowhere"):
        Example.typed("nowhere.jpg:1,2,3,4")


def test_cells_are_covered_in_part() -> None:
    geometry = fit((100, 200), (20, 40), 10)
    np.testing.assert_allclose(cell_shares(geometry, (2, 4), (25, 0, 100, 50)), [[0.5, 1, 0, 0], [0, 0, 0, 0]])
    with pytest.raises(FastlocError, match=r"box must lie where the model looks, got .*, which fit 'crop' cuts off"):
        cell_shares(fit((100, 200), (20, 20), 10, "crop"), (2, 2), (0, 0, 20, 100))
