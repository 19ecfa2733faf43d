"""Folders of transformers that are damaged, mixed up or contradict themselves: one line each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastloc.checkpoints import loading
from fastloc.checkpoints.sources import description
from fastloc.errors import ModelError
from mutations import byte_edits, json_edits, raw
from transformers_folders import SIDE, golden, preprocessor, write

pytest.importorskip("tokenizers")


def error_line(folder: Path, pretrained: str | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        loading.load(str(folder), pretrained)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


def changed(name: str, part: str, **fields: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(golden(name).config))
    return {part: {**config[part], **fields}}


CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "another kind": ("clip", {"model_type": "clop"}, "unknown model_type 'clop': did you mean 'clip'? known model_types: clip, metaclip_2"),
    "no kind": ("clip", {"model_type": None}, "unknown model_type 'None'"),
    "a number": ("clip", {"model_type": 3}, "unknown model_type '3'"),
    "no object": ("clip", {"vision_config": []}, "is damaged (vision_config must be an object, got list)"),
    "channels": ("clip", changed("clip", "vision_config", num_channels=1), "num_channels must be 3, red, green and blue, got 1"),
    "layers": ("clip", changed("clip", "vision_config", num_hidden_layers=2**40), "num_hidden_layers must be a whole number from 1 to 256"),
    "heads": ("clip", changed("clip", "vision_config", num_attention_heads=3), "heads must divide the width, 32, into a whole number"),
    "text heads": ("clip", changed("clip", "text_config", num_attention_heads=5), "must divide the hidden_size, 24, got 5"),
    "activation": ("clip", changed("clip", "vision_config", hidden_act="mish"), "unknown hidden_act 'mish'"),
    "patch": ("clip", changed("clip", "vision_config", patch_size=64), "image must be one patch or more, 64, got 32"),
    "three sides": ("clip", changed("clip", "vision_config", image_size=[1, 2, 3]), "vision_config"),
    "projection": ("clip", {"projection_dim": "x"}, "projection_dim must be a whole number from 1 to 16384, got 'x'"),
    "no head": ("siglip", changed("siglip", "vision_config", vision_use_head=False), "vision_use_head must be true"),
    "spaces": (
        "siglip", changed("siglip", "text_config", projection_size=16),
        "projection_size of text_config must be the hidden_size of vision_config, 32, got 16",
    ),
    "patches": ("siglip2", changed("siglip2", "vision_config", num_patches=15), "num_patches must be a square number, got 15"),
    "widths": (
        "tipsv2", changed("tipsv2", "text_config", hidden_size=16), "hidden_size of text_config must be that of vision_config, 32, got 16",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
def test_configurations(case: str, tmp_path: Path):
    name, changes, message = CONFIGS[case]
    found = error_line(write(tmp_path, name, **changes))
    assert message in found and str(tmp_path) in found


PROCESSORS: dict[str, tuple[str, dict[str, Any], str]] = {
    "size": ("siglip", {"size": {"height": 48, "width": 48}}, "size must be the model's image_size, 32x32, got 48x48; it is"),
    "no multiple": ("siglip", {"size": {"height": 30, "width": 32}}, "got 30x32, no multiple of its patch, 8x8; it is another"),
    "crop": (
        "clip", {"size": {"shortest_edge": SIDE}, "crop_size": {"height": 24, "width": 24}},
        "crop_size must be the model's image_size, 32x32, got 24x24",
    ),
    "old size": ("clip", {"size": 24}, "size must be the model's image_size, 32x32, got 24x24"),
    "damaged size": ("clip", {"size": {"height": "x", "width": 3}}, "size must be height and width, or shortest_edge, got {'height'"),
    "mean": ("clip", {"image_mean": [0.5]}, "image_mean must be 3 numbers, one for each channel, got 1"),
    "std": ("clip", {"image_std": [0.5] * 4}, "image_std must be 3 numbers, one for each channel, got 4"),
    "zero": ("clip", {"image_std": 0.0}, "image_std must be a number from 1e-06"),
    "resample": ("clip", {"resample": 5}, "resample must be among 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic), got 5"),
    "kind": ("clip", {"resample": "bicubic"}, "resample must be int"),
    "patch": ("siglip2", {"patch_size": 16, "max_num_patches": 256}, "patch_size must be the model's, 8x8, got 16x16"),
    "nested": ("clip", {"image_processor": []}, "image_processor must be an object, got list"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROCESSORS)
def test_processors(case: str, tmp_path: Path):
    name, fields, message = PROCESSORS[case]
    preprocessor(write(tmp_path, name), **fields)
    found = error_line(tmp_path)
    assert message in found and "preprocessor_config.json" in found


def test_files_that_are_not_there(tmp_path: Path):
    write(tmp_path, "siglip")
    (tmp_path / "tokenizer.json").unlink()
    assert error_line(tmp_path) == (
        f"model directory {str(tmp_path)!r} must hold the tokenizer of its SiglipModel, tokenizer.json, got none; put the file there"
    )
    write(tmp_path, "siglip")
    (tmp_path / "model.safetensors").unlink()
    assert error_line(tmp_path) == (
        f"model directory {str(tmp_path)!r} holds no model.safetensors or model.safetensors.index.json or pytorch_model.bin or "
        "pytorch_model.bin.index.json"
    )


def edited(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    file = folder / "model.safetensors"
    state = load_file(file)
    edit(state)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    return folder


TENSORS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "missing": (
        lambda state: state.pop("vision_model.encoder.layers.1.self_attn.k_proj.bias"),
        "'vision_model.encoder.layers.1.self_attn.k_proj.bias' is missing, which a CLIPModel has",
    ),
    "no text": (
        lambda state: [state.pop(name) for name in list(state) if name.startswith("text_model")],
        "'text_model.embeddings.token_embedding.weight' is missing",
    ),
    "shape": (
        lambda state: state.update({"vision_model.encoder.layers.0.self_attn.q_proj.weight": torch.zeros(16, 32)}),
        "'vision_model.encoder.layers.0.self_attn.q_proj.weight' must have shape (32, 32), got (16, 32)",
    ),
    "axes": (lambda state: state.update({"visual_projection.weight": torch.zeros(20)}), "must have shape (20, 32), got (20,)"),
    "vocabulary": (
        lambda state: state.update({"text_model.embeddings.token_embedding.weight": torch.zeros(61, 24)}), "must have shape (60, 24)",
    ),
    "another block": (
        lambda state: state.update({"vision_model.encoder.layers.2.layer_norm1.weight": torch.zeros(32)}),
        "'vision_model.encoder.layers.2.layer_norm1.weight' is there, and a CLIPModel of this size has no such part",
    ),
    "adapter": (lambda state: state.update({"visual_projection.bias": torch.zeros(20)}), "'visual_projection.bias' is there"),
    "scale": (lambda state: state.update({"logit_scale": torch.zeros(2)}), "'logit_scale' must have shape (), got (2,)"),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(case: str, tmp_path: Path):
    edit, message = TENSORS[case]
    found = error_line(edited(write(tmp_path, "clip"), edit))
    assert found.startswith("weights of another architecture: ") and message in found


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("clip", "siglip", "weights must be those of a CLIPModel, as '{}' says, got a SiglipModel's, by 'vision_model.head.probe'"),
        ("siglip", "clip", "weights must be those of a SiglipModel, as '{}' says, got a CLIPModel's"),
        ("siglip", "siglip2", "weights must be those of a SiglipModel, as '{}' says, got a Siglip2Model's"),
        ("siglip2", "siglip", "weights must be those of a Siglip2Model, as '{}' says, got a SiglipModel's"),
        ("metaclip_2", "tipsv2", "weights must be those of a CLIPModel, as '{}' says, got a Tipsv2Model's"),
    ],
)
def test_weights_of_another_class(name: str, other: str, message: str, tmp_path: Path):
    write(tmp_path, name)
    save_file({key: tensor.contiguous() for key, tensor in golden(other).state.items()}, tmp_path / "model.safetensors")
    assert error_line(tmp_path).startswith(message.format(tmp_path / "config.json"))
    # open_clip's own names
    save_file({"visual.proj": torch.zeros(3)}, tmp_path / "model.safetensors")
    assert "got names such as 'visual.proj'; these files do not belong together" in error_line(tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "weight_map must be an object of names, got {}"), ([], "weight_map must be an object of names, got []"),
        ({"a": "../model.safetensors"}, "a file must be a .safetensors or .bin beside it, got '../model.safetensors'"),
        ({"a": "config.json"}, "a file must be a .safetensors or .bin beside it, got 'config.json'"),
        ({"a": 3}, "beside it, got 3"),
        ({"a": ["b"]}, "beside it, got ['b']"), ({"a": "model-00007-of-00009.safetensors"}, "does not exist"),
    ],
)  # fmt: skip
def test_an_index_of_weights(table: object, message: str, tmp_path: Path):
    write(tmp_path, "clip", shards=2)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    assert message in error_line(tmp_path)


def test_pins_and_tags_of_a_folder(tmp_path: Path):
    write(tmp_path, "clip", shards=2)
    pin = "sha256:" + 64 * "0"
    assert error_line(tmp_path, pin) == f"a pin must be of one file, and the weights of {tmp_path.name} lie in several; leave the pin out"
    (tmp_path / "one").mkdir()
    assert "must have sha256 0000" in error_line(write(tmp_path / "one", "clip"), pin)


def test_weights_from_elsewhere(tmp_path: Path):
    folder = write(tmp_path, "clip")
    assert error_line(folder, "other.pt").endswith("a folder with weights of its own, got 'other.pt'; leave it out")
    by_field = "describes its tower field by field, which no random weights are made for"
    assert error_line(folder, "random").startswith(f"{tmp_path.name} {by_field}")
    vit = {"width": 32, "layers": 1, "heads": 2, "patch": 8, "image": 32}
    (tmp_path / "model.json").write_text(json.dumps({"embed_dim": 32, "vision_cfg": {"vit": vit}, "text_cfg": {}}))
    assert by_field in error_line(tmp_path / "model.json", "random")


def test_no_edit_of_its_files_ends_in_a_traceback(tmp_path: Path):
    write(tmp_path, "siglip")
    preprocessor(tmp_path, size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, resample=2)
    for name in ("config.json", "preprocessor_config.json"):
        file = tmp_path / name
        original = file.read_bytes()

        def loaded(made: bytes, file: Path = file) -> object:
            file.write_bytes(made)
            return description.describe(str(tmp_path), None)

        assert raw(byte_edits(original, 3, 60), loaded) == []
        assert raw(json_edits(json.loads(original), 3, 150), lambda made, loaded=loaded: loaded(json.dumps(made).encode())) == []
        file.write_bytes(original)
