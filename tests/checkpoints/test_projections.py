"""Trained projections: folded exactly, refused by other models, in every command, and the recipe that needs them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import towers
from fastloc import cli
from fastloc.checkpoints import loading
from fastloc.checkpoints.digests import digest
from fastloc.checkpoints.loading import Source
from fastloc.checkpoints.projections import KEY, Projections
from fastloc.checkpoints.text.transformers_towers import ROWS, TransformersTower
from fastloc.checkpoints.text_encoder import TextEncoder
from fastloc.engine.localizer import Localizer
from fastloc.engine.projected_towers import ProjectedTowers
from fastloc.errors import ModelError
from fastloc.functional.readout import similarity
from fastloc.functional.vit import forward
from fastloc.recipes import RECIPES, recipe
from fastloc.reference import methods, readouts
from repo import SAMPLES

SAMPLE = SAMPLES / "market.webp"
TEXTS: dict[str, Any] = {
    "embed_dim": towers.EMBED, "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}  # fmt: skip


# how text towers of open_clip end
NO_END = {"proj_type": "none", "width": towers.EMBED}
ENDS: dict[str, dict[str, Any]] = {"clip": {}, "custom": {}, "linear": {"proj_bias": True}, "none": NO_END}


def text_tower(kind: str) -> torch.nn.Module:
    torch.manual_seed(3)
    network = open_clip.CLIP if kind == "clip" else open_clip.CustomTextCLIP
    made: torch.nn.Module = network(**{**TEXTS, "text_cfg": {**TEXTS["text_cfg"], **ENDS[kind]}}).double().eval()
    del made.visual
    return made.requires_grad_(False)


def source(kind: str = "clip", name: str = "tiny") -> Source:
    return Source(name, towers.tower(), TextEncoder(text_tower(kind), open_clip.SimpleTokenizer(context_length=16)))


def maps_of(image: Tensor, text: Tensor, of: Source) -> Projections:
    return Projections(image, text, of.name, digest(of.vit), of.text.digest, {"steps": 3})


def random_maps(of: Source, seed: int = 0) -> Projections:
    side = of.spec.embed
    return maps_of(towers.array(f"i{seed}", side, side, low=-1).float(), towers.array(f"t{seed}", side, side, low=-1).float(), of)


def encoded(of: Source, texts: list[str]) -> Tensor:
    with torch.no_grad():
        found: Tensor = of.text.tower.encode_text(of.text.tokenizer(texts))
    return found


@pytest.mark.parametrize("name", ["eclip", "itsm", "gem", "maskclip", "clip_surgery", "naclip"])
def test_folded_into_the_image_tower_is_the_map_behind_it(name: str) -> None:
    plain, pixels = source(), towers.pixels(2, (3, 5))
    made = random_maps(plain)
    found = forward(made.applied(plain).vit, pixels, RECIPES[name]).patches
    expected = methods.METHODS[name](towers.tower(), pixels) @ made.image.double().T
    assert towers.error(found, expected) < 1e-10


def test_eclip_is_its_literal_statement() -> None:
    plain, pixels, texts = source(), towers.pixels(2, (3, 5)), towers.texts(4)
    made = random_maps(plain)
    out = forward(made.applied(plain).vit, pixels, RECIPES["eclip"])
    projected = torch.nn.functional.normalize(texts @ made.text.double().T, dim=-1)
    found = similarity(out, projected, RECIPES["eclip"].readout).flatten(2).transpose(1, 2)
    expected = readouts.cosine(methods.eclip(towers.tower(), pixels, made.image.double()), projected)
    assert towers.error(found, expected) < 1e-10


@pytest.mark.parametrize("kind", ENDS)
def test_folded_into_any_text_tower(kind: str) -> None:
    plain = source(kind)
    made, texts = random_maps(plain), ["a cat", "two dogs in the rain"]
    before, digest_before = encoded(plain, texts), plain.text.digest
    folded = made.applied(plain)
    assert towers.error(encoded(folded, texts), before @ made.text.double().T) < 1e-10
    assert torch.equal(encoded(plain, texts), before), "the plain model was changed"
    assert folded.text.digest != digest_before and digest(folded.vit) != digest(plain.vit)


@pytest.mark.parametrize("steps", ["linear", "mlp"])
def test_folded_into_a_tower_of_transformers(steps: str) -> None:
    text = {"hf_model_name": "roberta-base", "hf_proj_type": steps, "context_length": 16}
    tower: Any = TransformersTower(replace(ROWS["roberta-base"], vocabulary=49408, width=64, layers=1, inner=48), text, towers.EMBED)
    numbers = torch.Generator().manual_seed(0)
    tower.load_state_dict({name: torch.randn(each.shape, generator=numbers) for name, each in tower.state_dict().items()}, assign=True)
    tower = tower.double().eval().requires_grad_(False)
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    plain = Source("tiny", towers.tower(), TextEncoder(tower, tokenizer))
    made, texts = random_maps(plain), ["a cat", "two dogs in the rain"]
    before, digest_before = encoded(plain, texts), plain.text.digest
    folded = made.applied(plain)
    assert towers.error(encoded(folded, texts), before @ made.text.double().T) < 1e-10
    assert torch.equal(encoded(plain, texts), before), "the plain model was changed"
    assert folded.text.digest != digest_before and set(folded.text.tower.state_dict()) == set(tower.state_dict())


def test_what_does_not_change_is_shared() -> None:
    plain = source()
    folded = random_maps(plain).applied(plain)
    ours, theirs = dict(plain.text.tower.named_parameters()), dict(folded.text.tower.named_parameters())
    assert [name for name in ours if theirs[name] is not ours[name]] == ["text_projection"]
    assert folded.vit.blocks is plain.vit.blocks


# the file


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_file(tmp_path: Path, dtype: torch.dtype) -> None:
    made = random_maps(source())
    made.save(tmp_path / "a.safetensors", dtype)
    found = Projections.load(tmp_path / "a.safetensors")
    assert torch.equal(found.image, made.image.to(dtype).float()) and torch.equal(found.text, made.text.to(dtype).float())
    assert replace(found, image=made.image, text=made.text) == made


def _written(path: Path, tensors: dict[str, Tensor], content: object = None) -> Path:
    fields = {"format": 1, "model": "tiny", "tower": "sha256:1", "text_tower": "sha256:2", "settings": {}} if content is None else content
    save_file(tensors, path, metadata={KEY: json.dumps(fields)} if fields else None)
    return path


EYE = torch.eye(4)
WRONG: dict[str, tuple[dict[str, Tensor], object, str]] = {
    "no metadata": ({"image": EYE, "text": EYE}, {}, "must hold projections, got another file; `python -m fastloc.eclip` trains them"),
    "newer": ({"image": EYE, "text": EYE}, {"format": 2, "version": "9.9"}, "metadata of format 2; this fastloc reads format 1"),
    "no model": ({"image": EYE, "text": EYE}, {"format": 1}, "'model' is missing"),
    "one alone": ({"image": EYE}, None, "must hold 'image' and 'text' of one shape [E, E]"),
    "two sizes": ({"image": EYE, "text": torch.eye(5)}, None, "of one shape [E, E], got {'image': (4, 4), 'text': (5, 5)}"),
    "not a number": ({"image": EYE, "text": EYE * torch.nan}, None, "'text' must be finite, got NaN or infinite numbers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_file(tmp_path: Path, case: str) -> None:
    tensors, content, message = WRONG[case]
    path = _written(tmp_path / "p.safetensors", {name: tensor.clone() for name, tensor in tensors.items()}, content)
    with pytest.raises(ModelError) as caught:
        Projections.load(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    (tmp_path / "torn.safetensors").write_bytes(b"\x99" * 40)
    for name in ("none.safetensors", "torn.safetensors"):
        with pytest.raises(ModelError, match=rf"projections file '.*{name}' cannot be read"):
            Projections.load(tmp_path / name)


def test_another_model_is_reported_with_both_names() -> None:
    made = random_maps(source(name="tiny"))
    other = replace(source(name="larger"), weights=towers.tower(seed=5))
    with pytest.raises(ModelError, match=r"must be trained on larger \(towers \w+ and \w+\), got those of tiny \(\w+ and \w+\)"):
        made.applied(other)


# in a localizer


def identity(scale: float = 1.0) -> Projections:
    of = loading.load()
    return maps_of(scale * torch.eye(of.spec.embed), torch.eye(of.spec.embed), of)


def test_eclip_needs_projections() -> None:
    bare = replace(source(name="bare"), projections=None)
    with pytest.raises(ModelError, match=r"'eclip' needs projections trained on bare: `python -m fastloc.eclip`"):
        ProjectedTowers(bare).source(recipe("eclip"))
    with pytest.raises(ModelError, match="projections='own' needs projections trained on bare"):
        ProjectedTowers(bare, "own")
    assert ProjectedTowers(bare).source(recipe("itsm")) is bare


def test_the_embedded_model_comes_with_its_own() -> None:
    """Each method has the towers that it asks for, whichever came first, and they share what they can."""
    plain, trained = Localizer(method="itsm"), Localizer(method="eclip")
    texts = ["cat", "pizza"]
    raw, projected = (each(SAMPLE, texts).similarity for each in (plain, trained))
    assert np.abs(raw - projected).max() > 0.05
    np.testing.assert_array_equal(plain.with_method("eclip")(SAMPLE, texts).similarity, projected)
    np.testing.assert_array_equal(trained.with_method("itsm")(SAMPLE, texts).similarity, raw)
    other = plain.with_method("eclip")
    assert other.weights.blocks is plain.weights.blocks and other.weights.proj is not plain.weights.proj  # type: ignore[union-attr]
    assert other.with_method("gem").weights is plain.weights and other.with_method("eclip").weights is other.weights
    own = Localizer(method="itsm", projections="own")
    np.testing.assert_array_equal(own(SAMPLE, texts).similarity, projected)
    assert own.with_method("rclip").source is own.source


def test_identity_projections_change_nothing() -> None:
    texts = ["cat", "red car"]
    raw = Localizer(method="itsm")(SAMPLE, texts).similarity
    np.testing.assert_allclose(Localizer(method="eclip", projections=identity(7.0))(SAMPLE, texts).similarity, raw, atol=1e-6)
    reversed_map = Localizer(method="rclip", projections=identity())(SAMPLE, texts)
    np.testing.assert_allclose(reversed_map.similarity, raw, atol=1e-6)


def test_the_trained_map_finds_the_things_of_the_samples() -> None:
    """The raw map peaks around things, ECLIP's on them."""
    index = json.loads((SAMPLE.parent / "samples.json").read_text())
    hits = dict.fromkeys(("itsm", "eclip"), 0)
    for name in hits:
        localizer = Localizer(method=name)
        for row in index.values():
            masks = np.asarray(Image.open(SAMPLE.parent / row["mask"]))
            points = localizer(SAMPLE.parent / row["file"], row["texts"]).points()
            hits[name] += sum(int(masks[point.y, point.x] == place) for place, point in enumerate(points, 1))
    assert hits["eclip"] >= hits["itsm"] + 3, hits


# on the command line


@pytest.mark.slow("exports and runs four commands")
def test_commands_take_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fastloc.runtime.localizer import OnnxLocalizer
    from fastloc.text.embeddings import TextEmbeddings

    graph, words = tmp_path / "e.onnx", tmp_path / "e.npz"
    assert cli.main(["export", "-o", str(graph), "--method", "eclip", "--count", "2"]) == 0
    assert cli.main(["embed", "cat", "pizza", "-o", str(words), "--projections", "own", "--template", "surgery85"]) == 0
    embeddings = TextEmbeddings.load(words)
    localizer = Localizer(method="eclip", size=(96, 96))
    assert embeddings.tower == localizer.source.text.digest
    found = OnnxLocalizer(graph, embeddings=embeddings)(SAMPLE).similarity
    np.testing.assert_allclose(found, localizer(SAMPLE, ["cat", "pizza"]).similarity, atol=1e-4)
    assert cli.main(["embed", "cat", "-o", str(words), "--projections", str(tmp_path / "no.safetensors")]) == 1
    assert "no.safetensors' cannot be read" in capsys.readouterr().err
