"""CLIP's text transformer without open_clip: embeddings, names and digests are those of open_clip's modules."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fastloc import embedded
from fastloc.analysis.text_relevance import text_weights
from fastloc.checkpoints import loading
from fastloc.checkpoints.open_clip_files import folder, model_config
from fastloc.checkpoints.sources import listing
from fastloc.checkpoints.text_encoder import TextEncoder, causal, encode_tokens, text_state
from fastloc.checkpoints.text_loading import text_tower
from fastloc.checkpoints.text_tower import TextTower, is_plain
from fastloc.errors import ModelError
from fastloc.utils.hashing import tower_digest
from peaks import peak

TEXT: dict[str, Any] = {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 4, "layers": 3}
VISION = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 16}
# what a configuration says besides, and what its text_cfg does
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "quick": ({"quick_gelu": True}, {}),
    "custom": ({"custom_text": True}, {}),
    "no mask": ({}, {"no_causal_mask": True}),
    "first": ({}, {"pool_type": "first", "no_causal_mask": True}),
    "last": ({"custom_text": True}, {"pool_type": "last", "no_causal_mask": True, "proj_bias": True}),
    "eos": ({}, {"pool_type": "eos", "eos_id": 7}),
    "tanh": ({"custom_text": True, "init_logit_bias": -10}, {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-6}}),
    "no projection": ({}, {"proj_type": "none", "width": 24, "heads": 2}),
    "projection of a module": ({}, {"proj_bias": True}),
    "scaled layers": ({}, {"ls_init_value": 0.5, "mlp_ratio": 2.5}),
}


def config(kind: str) -> dict[str, Any]:
    whole, text = KINDS[kind]
    return {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": {**TEXT, **text}, **whole}


def theirs(settings: dict[str, Any]) -> Any:
    """open_clip's module with weights none of which is zero or one."""
    torch.manual_seed(0)
    settings = dict(settings)
    made: Any = (open_clip.CustomTextCLIP if settings.pop("custom_text", False) else open_clip.CLIP)(**settings)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made.eval().requires_grad_(False)


def tokens(count: int = 5) -> Tensor:
    """Random ids that end in the highest one, and hold the end-of-text id 7 once, at different places."""
    ids = torch.randint(8, 90, (count, 16), generator=torch.Generator().manual_seed(1))
    for row in range(count):
        ids[row, 3 + 2 * row :] = 0
        ids[row, 3 + 2 * row], ids[row, 2] = 99, 7
    return ids


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_open_clip_s(kind: str, dtype: torch.dtype):
    network = theirs(config(kind))
    tower: Any = text_tower(config(kind), network.state_dict())
    assert type(tower) is TextTower
    network, tower, ids = network.to(dtype), tower.to(dtype), tokens()
    atol = 1e-6 if dtype == torch.float32 else 1e-12
    for mode in (torch.inference_mode, torch.enable_grad):
        with mode():
            expected, found = network.encode_text(ids), tower.encode_text(ids)
            torch.testing.assert_close(found, expected, rtol=0, atol=atol)
            # without the columns behind the texts sums have another order, and what is used is of unit length
            torch.testing.assert_close(normalize(encode_tokens(tower, ids)), normalize(expected), rtol=0, atol=atol)
    # rows differ, so that equality means something
    assert (found[0] - found[1]).abs().max() > 1e-2


@pytest.mark.slow("the profiler takes a second to start")
def test_the_peak_of_memory_is_open_clip_s(tmp_path: Path):
    network = theirs(config("plain"))
    tower, ids = text_tower(config("plain"), network.state_dict()), tokens()
    # the attention's branch beside the MLP would be a twelfth more
    assert peak(lambda: tower.encode_text(ids), tmp_path) <= 1.02 * peak(lambda: network.encode_text(ids), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_names_digests_and_what_is_read_of_a_tower_are_open_clip_s(kind: str):
    network = theirs(config(kind))
    tower = text_tower(config(kind), network.state_dict())
    assert {name: tensor.shape for name, tensor in text_state(tower).items()} == {
        name: tensor.shape for name, tensor in text_state(network).items()
    }
    digests = {tower_digest({name: tensor.numpy() for name, tensor in text_state(each).items()}) for each in (tower, network)}
    assert digests == {TextEncoder(tower, lambda texts: tokens(len(texts))).digest}
    assert (causal(tower) is None) == (causal(network) is None)
    assert not tower.training and not any(parameter.requires_grad for parameter in tower.parameters())
    assert not [name for name, tensor in tower.state_dict().items() if tensor.device.type != "cpu"]
    if causal(tower) is not None:
        assert text_weights(tower).spec == text_weights(network).spec


def test_weights_are_the_tower_s_own():
    state = theirs(config("plain")).state_dict()
    # as some files hold it
    state["text_projection"] = state["text_projection"].T.contiguous().T
    tower: Any = text_tower(config("plain"), state)
    assert tower.text_projection.is_contiguous()
    before = tower.encode_text(tokens())
    for tensor in state.values():
        tensor.zero_()
    assert torch.equal(tower.encode_text(tokens()), before)


def test_half_precision_and_weights_of_before_the_custom_layout():
    network = theirs(config("plain"))
    halves = {name: tensor.half() for name, tensor in network.state_dict().items()}
    network.load_state_dict(halves)
    expected = network.encode_text(tokens())
    torch.testing.assert_close(text_tower(config("plain"), halves).encode_text(tokens()), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(text_tower(config("custom"), halves).encode_text(tokens()), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["plain", "custom", "tanh", "hugging"])
def test_the_scale_and_bias_are_those_of_the_weights(kind: str):
    """Not 1/0.07, which every CLIP begins its training with."""
    settings = {**config("plain"), "nonscalar_logit_scale": True} if kind == "hugging" else config(kind)
    state = {**theirs(settings).state_dict(), "logit_scale": torch.tensor(50.0).log().half()}
    if kind == "tanh":
        state["logit_bias"] = torch.tensor(-3.25)
    tower: Any = text_tower(settings, state)
    assert isinstance(tower, TextTower) == (kind != "hugging")
    assert float(tower.logit_scale.exp()) == pytest.approx(50, rel=1e-3)
    assert tower.logit_scale.dtype == torch.float32 and (kind != "tanh" or float(tower.logit_bias) == -3.25)
    del state["logit_scale"]
    # weights that were cut out of a model
    assert float(text_tower(settings, state).logit_scale.exp()) == pytest.approx(100)


def test_weights_of_another_architecture():
    state = theirs(config("custom")).state_dict()
    with pytest.raises(ModelError, match="weights of another architecture: 'positional_embedding' is missing"):
        text_tower(config("plain"), state)
    del state["text.ln_final.weight"]
    with pytest.raises(ModelError, match=r"weights of another architecture: 'text\.ln_final\.weight' is missing"):
        text_tower(config("custom"), state)
    state["text.ln_final.weight"] = torch.zeros(5)
    with pytest.raises(ModelError, match=r"'text\.ln_final\.weight' must have shape \(32,\), got \(5,\)"):
        text_tower(config("custom"), state)


@pytest.mark.parametrize(
    ("whole", "text"),
    [
        ({"nonscalar_logit_scale": True}, {}), ({}, {"hf_model_name": "roberta-base"}), ({}, {"qk_norm": True}),
        ({}, {"block_type": "custom"}), ({}, {"pool_type": "none"}), ({}, {"a_field_of_tomorrow": False}),
    ],
)  # fmt: skip
def test_other_towers_are_left_to_open_clip(whole: dict[str, Any], text: dict[str, Any]):
    plain = config("plain")
    assert is_plain(plain)
    assert not is_plain({**plain, **whole, "text_cfg": {**plain["text_cfg"], **text}})


def test_a_tower_of_another_kind_is_open_clip_s_module():
    settings = config("plain")
    settings["text_cfg"] |= {"qk_norm": True, "scale_attn": True}
    network = theirs(settings)
    tower = text_tower(settings, network.state_dict())
    assert isinstance(tower, open_clip.CLIP) and not hasattr(tower, "visual")
    assert torch.equal(tower.encode_text(tokens()), network.encode_text(tokens()))


def test_configurations_are_read_without_open_clip_s_own_reader():
    """Each is the same, and those whose image tower fits are plain but for the few with other text towers."""
    names = {file.stem for file in (folder() / "model_configs").glob("*.json")}
    assert names == set(open_clip.list_models())
    read = {name: json.loads((folder() / "model_configs" / f"{name}.json").read_text()) for name in names}
    assert read == {name: open_clip.get_model_config(name) for name in names}
    assert model_config("ViT-B-16") == read["ViT-B-16"]
    assert model_config("vit-b-16") is None
    fit = [row["name"] for row in listing.models() if row["name"] not in embedded.FOLDERS and row["refused"] is None]
    assert len(fit) > 50
    assert {read[name]["text_cfg"].get("hf_model_name") for name in fit if not is_plain(read[name])} == {
        "roberta-base", "xlm-roberta-base", "xlm-roberta-large", "google/mt5-base", "google/mt5-xl", "facebook/nllb-200-distilled-600M",
        "facebook/nllb-200-distilled-1.3B",
    }  # fmt: skip


def test_the_embedded_tower_is_bound_to_its_files():
    """The digest that exports and trained projections of the embedded model carry, of a tower that open_clip had no part in."""
    from safetensors import safe_open

    with safe_open(embedded.ECLIP, "pt") as file:
        metadata = file.metadata()
    source = loading.load()
    assert type(source.text.tower) is TextTower
    assert source.text.digest in json.dumps(metadata)
