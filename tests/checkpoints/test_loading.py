"""Loading models: the embedded one, files, folders and names, and everything that can be wrong with them."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from fastloc import embedded
from fastloc.checkpoints import loading, vit_layouts, vit_spec
from fastloc.checkpoints.families import timm_towers
from fastloc.checkpoints.sources import description, listing
from fastloc.errors import ModelError
from fastloc.functional.vit import forward
from fastloc.recipes import recipe

CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return open_clip.CLIP(**CONFIG).eval()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(CONFIG))
    return path


def saved(model: torch.nn.Module, path: Path) -> Path:
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def same_as_open_clip(source: loading.Source, model: Any) -> None:
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = forward(source.weights, pixels, recipe("itsm"), cls=True).cls
        torch.testing.assert_close(found, model.encode_image(pixels), rtol=0, atol=1e-5)
        tokens = source.text.tokenizer(["a photo of a cat."])
        expected = model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(source.text(["cat"], "gem"), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_configuration_and_a_file(model: torch.nn.Module, config: Path, tmp_path: Path, suffix: str):
    source = loading.load(str(config), str(saved(model, tmp_path / f"weights{suffix}")))
    same_as_open_clip(source, model)
    assert source.name == "tiny"


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_folder(model: torch.nn.Module, tmp_path: Path, prefix: str):
    content = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    saved(model, tmp_path / "open_clip_model.safetensors")
    source = loading.load(f"{prefix}{tmp_path}")
    same_as_open_clip(source, model)
    assert (source.spec.mean, source.spec.std, source.spec.interpolation) == ((0.5,) * 3, (0.25,) * 3, "bilinear")


def test_a_text_tower_in_open_clip_s_custom_layout(config: Path, tmp_path: Path):
    torch.manual_seed(1)
    custom = open_clip.CustomTextCLIP(**CONFIG).eval()
    config.write_text(json.dumps({**CONFIG, "custom_text": True}))
    same_as_open_clip(loading.load(str(config), str(saved(custom, tmp_path / "weights.pt"))), custom)


@pytest.mark.parametrize("way", ["file", "folder", "tag", "named file", "custom layout", "one number in a row"])
def test_every_way_of_loading_brings_the_scale_of_the_weights(way: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    made: Any = (open_clip.CustomTextCLIP if way == "custom layout" else open_clip.CLIP)(**CONFIG)
    state = {**made.state_dict(), "logit_scale": torch.tensor([50.0] if way == "one number in a row" else 50.0).log()}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "weights.safetensors")
    arguments: tuple[str, str | None] = (str(config), str(tmp_path / "weights.safetensors"))
    if way == "custom layout":
        config.write_text(json.dumps({**CONFIG, "custom_text": True}))
    elif way == "folder":
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
        arguments = str(tmp_path), None
    elif way in ("tag", "named file"):
        monkeypatch.setattr(description, "model_config", lambda name: CONFIG)
        monkeypatch.setattr(description, "_download", lambda *_: tmp_path / "weights.safetensors")
        arguments = "ViT-B-32", "openai" if way == "tag" else arguments[1]
    source = loading.load(*arguments)
    assert source.logit_scale == source.weights.logit_scale == pytest.approx(50)
    assert float(source.text.tower.logit_scale.exp()) == pytest.approx(50)
    assert source.weights.to(dtype=torch.float64).logit_scale == source.logit_scale


def test_the_embedded_models_scale():
    source = loading.load()
    assert source.logit_scale == pytest.approx(21.80, abs=0.01)
    assert float(source.text.tower.logit_scale.exp()) == pytest.approx(source.logit_scale)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1000.0, -float("inf")])
def test_a_scale_that_is_none(model: torch.nn.Module, config: Path, tmp_path: Path, value: float):
    torch.save({**model.state_dict(), "logit_scale": torch.tensor(value)}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="logit_scale of the weights must be the logarithm of a finite number, got"):
        loading.load(str(config), str(tmp_path / "weights.pt"))


def test_the_embedded_model_is_what_open_clip_computes():
    """Its compact file, expanded, fills open_clip's own network of its configuration, and both agree."""
    content = json.loads(embedded.CONFIG.read_text())
    network: Any = open_clip.CLIP(**content["model_cfg"]).eval()
    state = loading._expand_tokens(loading.read_state(embedded.MODEL), content["model_cfg"])
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    source, pixels = loading.load(), torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        found = forward(source.weights, pixels, recipe("itsm"), cls=True).cls
        torch.testing.assert_close(found, network.encode_image(pixels), rtol=0, atol=1e-4)
        tokens = source.text.tokenizer(["a photo of a red car."])
        torch.testing.assert_close(source.text(["red car"], "gem"), network.encode_text(tokens, normalize=True), rtol=0, atol=1e-5)
    # at most 10 MB in the package, weights and vocabulary together
    assert sum(path.stat().st_size for path in embedded.FOLDER.iterdir() if path.is_file()) < 10e6
    assert len(source.text.names) >= 250


def test_random_weights_are_seeded():
    first, second = (loading.load("ViT-S-32-alt", "random").weights for _ in range(2))
    assert torch.equal(first.patch_w, second.patch_w)


@pytest.mark.parametrize(
    ("model_name", "pretrained", "message"),
    [
        ("ViT-B-61", "openai", "unknown model 'ViT-B-61': did you mean 'ViT-B-16'"),
        ("ViT-B-16", "openia", "unknown pretrained tag of ViT-B-16 'openia': did you mean 'openai'"),
        ("ViT-B-16", None, "needs weights: give pretrained, a path or one of openai, "),
        ("ViT-B-16", "nowhere/weights.pt", "weights file 'nowhere/weights.pt' does not exist"),
        ("local-dir:/nowhere", None, "model directory '/nowhere' does not exist"),
        (str(embedded.FOLDER), "weights.pt", "a folder with weights of its own, got 'weights.pt'; leave it out"),
        ("nowhere.json", "random", "model configuration 'nowhere.json' cannot be read"),
    ],
)
def test_models_that_cannot_be_loaded(model_name: str, pretrained: str | None, message: str):
    with pytest.raises(ModelError, match=message):
        loading.load(model_name, pretrained)


def test_weights_of_another_architecture(model: torch.nn.Module, config: Path, tmp_path: Path):
    wider = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "width": 64}}
    config.write_text(json.dumps(wider))
    with pytest.raises(ModelError, match=r"'visual.conv1.weight' must have shape \(64, 3, 8, 8\), got \(32, 3, 8, 8\)"):
        loading.load(str(config), str(saved(model, tmp_path / "weights.pt")))
    config.write_text(json.dumps({**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "layers": 2}}))
    with pytest.raises(ModelError, match=r"'transformer.resblocks.1.ln_1.weight' is missing"):
        loading.load(str(config), str(tmp_path / "weights.pt"))


def test_a_pickle_with_code_is_refused_and_not_run(config: Path, tmp_path: Path):
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "trap.pt"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError, match="is not a plain state dict"):
        loading.load(str(config), str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("name", "content"), [("empty.pt", b""), ("text.safetensors", b"hello, this is no tensor"), ("text.pt", b"hello")])
def test_damaged_weights(config: Path, tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        loading.load(str(config), str(tmp_path / name))


def test_a_file_without_tensors(config: Path, tmp_path: Path):
    torch.save({"epoch": 3}, tmp_path / "notes.pt")
    with pytest.raises(ModelError, match="holds no tensors by name"):
        loading.load(str(config), str(tmp_path / "notes.pt"))


def test_the_list_of_models_says_which_are_refused_and_why(monkeypatch: pytest.MonkeyPatch):
    rows = {row["name"]: row for row in listing.models()}
    assert list(rows)[:2] == ["embedded", "embedded-device"]
    assert rows["ViT-B-16"]["refused"] is None
    assert "openai" in rows["ViT-B-16"]["pretrained"]
    assert rows["RN50"]["refused"] is None
    assert rows["convnext_base"]["refused"] is None
    # every configuration of open_clip is run
    assert len(rows) > 140 and not [name for name, row in rows.items() if row["refused"]]
    monkeypatch.setattr(timm_towers, "_ROWS", ())
    rows = {row["name"]: row for row in listing.models()}
    assert rows["ViT-B-16-SigLIP"]["refused"].startswith("its image tower is timm's vit_base_patch16_siglip_224, and of timm's the plain")
    assert list(rows)[-1] in {name for name, row in rows.items() if row["refused"]} and rows["ViT-B-16"]["refused"] is None


def test_a_tower_that_is_not_run_is_named(config: Path):
    vision = {"timm_model_name": "vit_srelpos_small_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    config.write_text(json.dumps({**CONFIG, "vision_cfg": vision}))
    with pytest.raises(ModelError, match="is not supported: its image tower is timm's vit_srelpos_small_patch16_224, and of timm's"):
        loading.load(str(config), "random")


def test_parts_that_only_timms_names_have_are_asked_for_by_these(config: Path):
    """Field by field a tower may have such a part, and tensors of open_clip's names do not hold it."""
    fields = {"width": 32, "layers": 2, "heads": 4, "patch": 8, "image": 32}
    for part, key in (({"relative": 6}, "attn.rel_pos.mlp.fc1.weight"), ({"fc_norm": True}, "mlp.norm.weight")):
        spec = vit_spec.from_open_clip({"embed_dim": 24, "vision_cfg": {"vit": {**fields, **part}}})
        with pytest.raises(ModelError, match=re.escape(f"'visual.trunk.blocks.0.{key}' is missing")):
            vit_layouts.from_open_clip({"visual.conv1.weight": torch.zeros(32, 3, 8, 8)}, spec)


@pytest.mark.parametrize(("name", "tag", "quick"), [("ViT-B-32", "openai", True), ("ViT-B-32", "laion2b_s34b_b79k", False)])
def test_a_tag_brings_the_activation_and_statistics_of_its_training(monkeypatch: pytest.MonkeyPatch, name: str, tag: str, quick: bool):
    monkeypatch.setattr(description, "_download", lambda *_: Path("weights.safetensors"))
    described = description.describe(name, tag)
    spec = vit_spec.from_open_clip(described.config, described.preprocess)
    assert (spec.activation == "quick_gelu") == quick
    assert spec.mean == vit_spec.OPENAI_MEAN


def test_a_download_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def offline(*_: Any) -> str:
        raise OSError("no route to host")

    # a tag whose weights are not on the hub
    monkeypatch.setattr(open_clip.pretrained, "get_pretrained_cfg", lambda *_: {"url": "https://example.org/weights.pt"})
    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", offline)
    with pytest.raises(ModelError, match="weights 'openai' of ViT-B-32 could not be downloaded: no route to host"):
        loading.load("ViT-B-32", "openai")
