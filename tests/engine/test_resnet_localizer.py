"""CLIP's ResNets through Localizer and the command line: the same calls as for ViTs, with random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip import CLIP
from PIL import Image

import miniature_more
from fastloc import Localizer
from fastloc.checkpoints import loading, resnet_spec, vit_spec
from fastloc.checkpoints.resnet_weights import ResNetWeights, from_open_clip
from fastloc.checkpoints.sources import listing
from fastloc.cli import main
from fastloc.errors import FastlocError, ModelError, PlanError, RecipeError
from fastloc.evaluation.running.evaluate import evaluate
from fastloc.functional import resnet
from fastloc.imaging.geometry import FITS
from fastloc.recipes import recipe
from fastloc.reference import resnet as reference_resnet
from resnet_towers import config
from towers import error

METHODS = list(resnet.FORMS)
CONFIGS = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
RESNETS = [name for name in CONFIGS if name.startswith("RN")]
TEXTS = ["a dog", "a cat", "grass"]


def picture(height: int = 60, width: int = 90, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of a small ResNet."""
    path = tmp_path_factory.mktemp("model") / "tiny.json"
    path.write_text(json.dumps(config()))
    return path


@pytest.fixture(scope="module")
def localizer(file: Path) -> Localizer:
    return Localizer(str(file), "random", "itsm", size=(64, 96), batch=2)


@pytest.mark.slow("all ten ResNets", quick=2)
@pytest.mark.parametrize("name", RESNETS)
def test_every_configuration_of_open_clip_fits(name: str) -> None:
    found = CONFIGS[name]
    spec = resnet_spec.from_open_clip(found)
    with torch.device("meta"):
        visual = CLIP(**found).visual
    assert (spec.heads, spec.embed, spec.channels) == (visual.attnpool.num_heads, visual.output_dim, visual.attnpool.v_proj.in_features)
    assert spec.head_width == 64, "the paper's form of CLIP Surgery is inv_temp=1.0 for 64 numbers a head"
    assert spec.image == (visual.image_size, visual.image_size) and spec.patch == (32, 32)
    tower = from_open_clip({f"visual.{key}": tensor for key, tensor in visual.state_dict().items()}, spec)
    assert [len(stage) for stage in tower.stages] == found["vision_cfg"]["layers"]
    with pytest.raises(ModelError, match="its image tower is a ResNet, not a ViT"):
        vit_spec.from_open_clip(found)


def test_the_list_of_models_has_them() -> None:
    rows = {row["name"]: row for row in listing.models()}
    assert len(RESNETS) == 10 and all(rows[name]["refused"] is None for name in RESNETS)
    assert "openai" in rows["RN50x64"]["pretrained"]


def test_a_source_holds_open_clip_s_numbers(file: Path) -> None:
    source = loading.load(str(file), "random")
    assert isinstance(source.weights, ResNetWeights)
    torch.manual_seed(0)
    model = CLIP(**config()).eval()
    pixels = torch.randn(2, 3, 64, 64)
    found = resnet.forward(source.weights, pixels, recipe("itsm"), cls=True).cls
    with torch.no_grad():
        assert found is not None and error(found, model.encode_image(pixels)) < 1e-5
        tokens = source.text.tokenizer(["a dog."])
        expected = torch.nn.functional.normalize(model.encode_text(tokens), dim=-1)
    assert error(source.text(["a dog"], "{}."), expected) < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_the_call(localizer: Localizer, method: str) -> None:
    other = localizer.with_method(method, fit="stretch")
    pictures = [picture(), picture(100, 30, 1), picture(seed=2)]
    results = other(pictures, TEXTS)
    for result, one in zip(results, pictures, strict=True):
        assert result.method == method and result.similarity.shape == (3, 2, 3) and result.heatmaps.shape == (3, one.height, one.width)
        assert result.scores is not None
        assert ((result.scores > 0) & (result.scores < 1)).all()
        assert np.abs(other(one, TEXTS).similarity - result.similarity).max() <= 1e-4 * np.abs(result.similarity).max()
        assert np.array_equal(other.submit(one, TEXTS).result().similarity, other(one, TEXTS).similarity)
        assert len(result.points()) == 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["torch", "pillow"])
def test_frames_give_what_pictures_give(file: Path, method: str, how: str) -> None:
    run = Localizer(str(file), "random", method, size=(96, 64), fit="stretch", dtype="float64", plan={"frames": how})
    expected = run(picture(), TEXTS)
    frames = torch.from_numpy(np.array(picture()))[None].repeat(2, 1, 1, 1)
    grids, _ = run.similarity(frames, TEXTS)
    # Pillow's path rounds pixels to float32
    assert error(grids[:1], torch.from_numpy(expected.similarity)[None]) < 2e-5
    assert error(run.similarity(frames.flip(3), TEXTS, bgr=True)[0], grids) == 0
    assert error(run.heatmaps(frames, TEXTS)[0], torch.from_numpy(expected.heatmaps.copy())) < 1e-2
    assert run.labels(frames, TEXTS).shape == (2, 60, 90)


@pytest.mark.parametrize("fit", FITS)
def test_every_fit(file: Path, fit: str) -> None:
    result = Localizer(str(file), "random", "maskclip", size=64, fit=fit)(picture(60, 120), TEXTS)
    assert result.heatmaps.shape == (3, 60, 120) and result.geometry.fit == fit


@pytest.mark.parametrize("size", [(32, 32), (32, 256), (192, 64), (224, 160)])
@pytest.mark.parametrize("method", METHODS)
def test_any_multiple_of_the_stride_is_a_size(file: Path, method: str, size: tuple[int, int]) -> None:
    run = Localizer(str(file), "random", method, size=size, dtype="float64")
    result = run(picture(), TEXTS)
    assert result.geometry.input == size and result.similarity.shape == (3, size[0] // 32, size[1] // 32)
    weights, texts = run.source.weights.to(dtype=torch.float64), run.source.text(TEXTS, run.template).double()
    expected = reference_resnet.scores(weights, run.pixels(picture(), result.geometry)[None].double(), texts, run.recipe)
    assert error(torch.from_numpy(result.similarity).flatten(1).T[None], expected) < 1e-6


def test_the_usual_size_is_a_multiple_of_the_stride(file: Path) -> None:
    assert Localizer(str(file), "random", "itsm").input_size == 448


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "'gem' is one of transformers, and tiny is a ResNet; on ResNets there are: itsm, rclip, maskclip, clip_surgery, grad_cam"),
        ({"method": "legrad"}, "'legrad' is one of transformers"),
        ({"method": "clip_surgery", "blocks": 3}, "blocks means nothing to 'clip_surgery' on a ResNet"),
        ({"method": "itsm", "size": 100}, "size must be a multiple of the patch 32 x 32, got 100 x 100; instead of 100 use 96 or 128"),
        ({"method": "itsm", "plan": {"norm": "triton"}}, "unknown norm choice 'triton'"),
        ({"method": "itsm", "plan": {"launch": "graph"}, "device": "cpu"}, "launch 'graph' is not possible here"),
    ],
)
def test_what_does_not_fit_is_one_line(file: Path, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises((RecipeError, PlanError, FastlocError)) as caught:
        Localizer(str(file), "random", **kwargs)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_weights_of_another_architecture(file: Path, tmp_path: Path) -> None:
    torch.save(CLIP(**config(layers=[1, 1, 1, 1])).state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"'visual.layer2.1.bn1.weight' is missing"):
        loading.load(str(file), str(tmp_path / "w.pt"))


def test_the_command_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture().save(tmp_path / "a.png")
    model = ["--model", str(file), "--pretrained", "random"]
    base = ["locate", str(tmp_path / "a.png"), "-t", "a dog", *model, "--size", "64"]
    assert main([*base, "--method", "clip_surgery", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"][0]["grid"] == {"height": 2, "width": 2}
    # --size may be any multiples of the stride, in pixels
    wide = [*base[:-1], "64x160", "--method", "maskclip", "--json"]
    assert main(wide) == 0
    assert json.loads(capsys.readouterr().out)["pictures"][0]["grid"] == {"height": 2, "width": 5}
    assert main([*base, "-o", str(tmp_path / "none")]) != 0
    assert "'gem' is one of transformers" in capsys.readouterr().err and not (tmp_path / "none").exists()
    assert main(["plan", *model, "--method", "grad_cam"]) == 0
    assert "a ResNet has one attention" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["maskclip", "clip_surgery", "itsm"])
def test_an_evaluation(file: Path, tmp_path: Path, method: str) -> None:
    miniature_more.write_folder(tmp_path / "set", miniature_more.scenes()[:2])
    [run] = evaluate(
        "folder", tmp_path / "set", methods=method, model=file, pretrained="random", size=96, fit="aspect", output=tmp_path / "runs"
    )
    assert (run.summary.pictures, run.summary.failed) == (2, 0)
    assert 0 <= run.summary.figures["miou"].value <= 1
