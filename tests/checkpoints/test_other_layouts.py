"""Files of PE and of Apple's MobileCLIP-B, and single files of transformers: names in open_clip's, as timm and open_clip turn them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from open_clip.convert import convert_mobile_clip_state_dict
from safetensors.torch import save_file
from torch import Tensor

from fastloc.bench.peers.seeded import seeded_state
from fastloc.checkpoints import loading, vit_layouts
from fastloc.checkpoints.foreign import layouts
from fastloc.checkpoints.foreign.renaming import Layout, renamed
from fastloc.checkpoints.vit_weights import named_tensors
from fastloc.errors import ModelError
from transformers_folders import golden

LAYERS = 2
# small ones; figures stand for themselves
SIZES = {"C": 32, "K": 96, "M": 48, "E": 20, "N": 17, "h": 8, "w": 8, "c": 24, "k": 72, "m": 40, "V": 60, "L": 9, "Q": 8}


def state_of(layout: Layout, seed: int, skip: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Tensors of every row of a layout, with blocks."""
    shapes = {}
    for row in layout.rows:
        for index in range(LAYERS if "{i}" in row.of else 1):
            for name in row.sources():
                shapes[name.replace("{i}", str(index))] = tuple(SIZES.get(each) or int(each) for each in row.shape.split())
    state = {name: torch.from_numpy(array) for name, array in seeded_state(shapes, seed).items() if name not in skip}
    return {name: tensor.abs() + 0.1 if name.endswith("running_var") else tensor for name, tensor in state.items()}


def layout_named(name: str) -> Layout:
    return next(layout for layout in layouts.LAYOUTS if layout.name == name)


@pytest.mark.parametrize("skip", [(), ("visual.class_embedding",)])
def test_pe_is_as_timm_turns_it(skip: tuple[str, ...]):
    state = state_of(layout_named("a PE"), 0, skip)
    found = layouts.as_open_clip(state)
    expected: dict[str, Tensor] = timm.models.eva.checkpoint_filter_fn(state, SimpleNamespace())
    # a bias of zeros is left out
    assert torch.equal(expected.pop("head.bias"), torch.zeros(SIZES["E"]))
    assert {name.removeprefix("visual.trunk.") for name in found if name.startswith("visual.")} == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[f"visual.trunk.{name}"], tensor), name
    texts = {name.removeprefix("text."): tensor for name, tensor in found.items() if not name.startswith("visual.")}
    assert set(texts) == {name for name in state if not name.startswith("visual.")}
    assert all(torch.equal(tensor, state[name]) for name, tensor in texts.items())


def test_mobileclip_is_as_open_clip_turns_it():
    state = state_of(layout_named("Apple's MobileCLIP-B"), 1)
    more = {f"image_encoder.model.patch_emb.{n}.block.norm.num_batches_tracked": torch.tensor(5) for n in (0, 1)}
    found = layouts.as_open_clip({**state, **more})
    trunk = SimpleNamespace(visual=SimpleNamespace(trunk=SimpleNamespace(pos_embed=None)))
    expected: dict[str, Tensor] = convert_mobile_clip_state_dict(trunk, state, fastvit=False)
    assert torch.equal(expected.pop("visual.trunk.head.bias"), torch.zeros(SIZES["E"]))
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


FIELDS = {"width": 32, "layers": LAYERS, "heads": 2, "hidden": 48, "image": 32, "patch": 8}
VITS: dict[str, dict[str, Any]] = {
    "a PE": {**FIELDS, "pool": "attn", "pool_heads": 2, "rope": {"first": "columns", "offset": 1.0}},
    "Apple's MobileCLIP-B": {**FIELDS, "stem": "conv", "image": 64, "patch": 16, "ln_pre": False, "norm_eps": 1e-6},
}


@pytest.mark.parametrize("name", VITS)
def test_a_file_loads_with_its_configuration(name: str, tmp_path: Path):
    text = {"context_length": 9, "vocab_size": 60, "width": 24, "heads": 2, "layers": LAYERS, "mlp_ratio": 40.5 / 24}
    config = {"embed_dim": 20, "custom_text": True, "vision_cfg": {"vit": VITS[name]}, "text_cfg": text}
    (tmp_path / "model.json").write_text(json.dumps(config))
    state = state_of(layout_named(name), 2)
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, tmp_path / "native.pt")
    source = loading.load(str(tmp_path / "model.json"), str(tmp_path / "native.pt"))
    plain = vit_layouts.from_open_clip({key: each for key, each in layouts.as_open_clip(state).items() if "visual" in key}, source.vit.spec)
    expected = named_tensors(plain)
    found = named_tensors(source.vit)
    assert set(found) == set(expected) and all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    first = "visual.conv1.weight" if name == "a PE" else "text_encoder.projection_layer"
    torch.save({key: tensor for key, tensor in state.items() if key != first}, tmp_path / "native.pt")
    with pytest.raises(ModelError, match=f"weights of another architecture: '{first}' is missing, which {name} has"):
        loading.load(str(tmp_path / "model.json"), str(tmp_path / "native.pt"))


def test_a_single_file_of_transformers_with_a_configuration_of_open_clip_s(tmp_path: Path):
    found = golden("clip")
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "mlp_ratio": 56 / 32}
    text = {"context_length": 9, "vocab_size": 60, "width": 24, "heads": 3, "layers": 2, "mlp_ratio": 40.5 / 24}
    (tmp_path / "model.json").write_text(json.dumps({"embed_dim": 20, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}))
    save_file({key: tensor.contiguous() for key, tensor in found.state.items()}, tmp_path / "pytorch_model.safetensors")
    source = loading.load(str(tmp_path / "model.json"), str(tmp_path / "pytorch_model.safetensors"))
    with torch.no_grad():
        text_embeddings = source.text.tower.encode_text(found.tokens)
    torch.testing.assert_close(text_embeddings, found.text, rtol=0, atol=1e-5)


def test_sizes_of_one_letter_agree_throughout_a_file():
    layout = layout_named("a PE")
    state = state_of(layout, 3)
    state["visual.ln_post.bias"] = torch.zeros(31)
    with pytest.raises(ModelError, match=r"'visual.ln_post.bias' must have shape \(32,\), got \(31,\)"):
        renamed(state, layout, {}, {})


def test_open_clip_s_own_names_are_left_alone():
    state = {"visual.conv1.weight": torch.ones(1), "visual.trunk.x": torch.ones(1)}
    assert layouts.as_open_clip(state) is state

