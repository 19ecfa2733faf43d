"""Every text tower that open_clip names, and TIPSv2's: embeddings are those of open_clip's modules, and transformers' own."""

import copy
import json
from dataclasses import replace
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from fastloc.checkpoints.text.cut import Cut
from fastloc.checkpoints.text.stand_in import StandIn
from fastloc.checkpoints.text.transformers_towers import ROWS, TransformersTower, row
from fastloc.checkpoints.text_encoder import encode_tokens
from fastloc.checkpoints.text_loading import network, text_tower
from fastloc.checkpoints.text_tower import TextTower, is_plain
from fastloc.errors import ModelError

# sizes, and what tokenizers read: nothing that makes a tower of another kind
_SIZES = ("width", "heads", "layers", "vocab_size", "hf_tokenizer_name", "tokenizer_kwargs")
_VISION = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 16}


def groups() -> dict[str, str]:
    """One name for each set of text settings among open_clip's configurations, by those settings; transformers' towers left out."""
    found: dict[str, str] = {}
    for name in open_clip.list_models():
        config: Any = open_clip.get_model_config(name)
        text = {key: value for key, value in config["text_cfg"].items() if key not in _SIZES}
        kind = {key: config[key] for key in ("quick_gelu", "custom_text", "init_logit_bias") if key in config}
        if "hf_model_name" not in text:
            found.setdefault(json.dumps([text, kind, "multimodal_cfg" in config], sort_keys=True), name)
    return found


GROUPS = sorted(groups().values())


def small(name: str) -> dict[str, Any]:
    """The configuration with two blocks of two heads, 300 words, and next to no image tower."""
    config: Any = copy.deepcopy(open_clip.get_model_config(name))
    text = config["text_cfg"]
    text |= {"layers": 2, "vocab_size": 300, "width": 2 * text["width"] // text["heads"], "heads": 2}
    config |= {"embed_dim": text["width"] if text.get("proj_type") == "none" else 48, "vision_cfg": dict(_VISION)}
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] |= {"layers": 1, "width": 64, "heads": 2}
        config["vision_cfg"] |= {"output_tokens": True, "attentional_pool": True, "attn_pooler_heads": 2}
    return config


def theirs(config: dict[str, Any]) -> Any:
    """open_clip's module with weights none of which is zero or one."""
    torch.manual_seed(0)
    made = network(config)
    for parameter in made.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    return made


def ids(context: int, end: int = 2, count: int = 5) -> Tensor:
    """Random ids up to 290 that end in 299 with `end` before it; then padding, id 0, one of which is amid the last text."""
    found = torch.randint(3, 290, (count, context), generator=torch.Generator().manual_seed(1))
    for index in range(count):
        last = min(4 + 2 * index, context - 1)
        found[index, last:] = 0
        found[index, last], found[index, last - 1] = 299, end
    found[-1, 1] = 0
    return found


@pytest.mark.parametrize("name", GROUPS)
def test_embeddings_are_open_clip_s(name: str):
    config = small(name)
    theirs_, text = theirs(config), config["text_cfg"]
    tower: Any = text_tower(config, theirs_.state_dict())
    assert type(tower) is TextTower
    tokens = ids(text["context_length"], text.get("eos_id", 2))
    # a text that fills the context leaves no padding to cut
    for rows in (tokens, ids(text["context_length"], text.get("eos_id", 2), 40)):
        with torch.inference_mode():
            # CoCa's are of unit length unless it is set otherwise
            expected, found, cut = theirs_.encode_text(rows, normalize=False), tower.encode_text(rows), encode_tokens(tower, rows)
        size = expected.abs().max()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(cut / size, expected / size, rtol=0, atol=1e-6)
    assert (found[0] - found[1]).abs().max() > 1e-2
    with torch.inference_mode():
        found, expected = tower.double().encode_text(tokens), theirs_.double().encode_text(tokens, normalize=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_columns_that_are_left_out_are_those_that_nothing_reads():
    tokens = ids(30, 7)
    for name, cut, columns in (
        ("ViT-B-16", Cut("highest"), 13),
        ("ViT-H-14-worldwide", Cut("first", 2), 1),
        ("coca_ViT-B-32", Cut("filled", 0, 1), 14),
    ):
        tower: Any = TextTower(small(name))
        assert tower.cut == cut and cut.columns(tokens) == columns
    # id 2 does not occur in these, and padding does: 7 does, one column before the end
    assert Cut("first", 7).columns(tokens) == 12
    for name in ("ViT-B-16-SigLIP2", "ViT-L-14-CLIPA", "MobileCLIP2-L-14"):
        assert TextTower(small(name)).cut is None
    # nothing but padding: all columns
    assert Cut("filled").columns(torch.zeros(2, 9, dtype=torch.long)) == 9


def test_every_configuration_has_a_tower():
    """A new open_clip that brings one of another kind fails here."""
    for name in open_clip.list_models():
        config: Any = open_clip.get_model_config(name)
        assert row(config["text_cfg"]) in ROWS.values() if "hf_model_name" in config["text_cfg"] else is_plain(config), name


# transformers' towers

KINDS = {
    "roberta": "roberta-base",
    "mt5": "google/mt5-base",
    "m2m_100": "facebook/nllb-200-distilled-600M",
}
# of open_clip's HFTextEncoder around transformers 5.24's modules with the weights of `weights`: mean pooling with the projection of two
# steps, and the first token with the linear one; the first numbers of the first and of the last text
GOLDENS = {
    ("roberta", "mean_pooler"): [[-0.088144, 0.353968, -0.395065, 0.185342], [-0.295479, 0.518896, -0.412875, 0.044728]],
    ("roberta", "cls_pooler"): [[0.460112, 0.529475, 0.027063, -0.504575], [0.176811, 0.842025, 0.597943, -0.291853]],
    ("mt5", "mean_pooler"): [[-0.002009, 0.000753, 0.000982, -0.002093], [-0.000724, 0.000143, 0.000529, -0.000865]],
    ("mt5", "cls_pooler"): [[0.136833, -0.076202, -0.206947, -0.114212], [-0.031479, -0.234278, -0.184082, 0.064902]],
    ("m2m_100", "mean_pooler"): [[-0.014654, 0.166216, -0.212251, 0.123531], [-0.466495, 0.349036, -0.00998, -0.335412]],
    ("m2m_100", "cls_pooler"): [[-0.422087, -1.629088, -1.076849, 0.638271], [-1.400804, -1.459013, 0.058355, 1.512706]],
}
SMALL = {"vocabulary": 60, "width": 128, "inner": 96, "positions": 40, "layers": 2}


def settings(kind: str, pooler: str) -> dict[str, Any]:
    text = {"hf_model_name": KINDS[kind], "hf_pooler_type": pooler, "hf_proj_type": "mlp" if pooler == "mean_pooler" else "linear"}
    return {"embed_dim": 48, "vision_cfg": {}, "custom_text": True, "text_cfg": text}


def weights(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Numbers that depend on a tensor's name and place alone; vectors are near 1, so that norms are no zeros."""
    made = {}
    for name, shape in sorted(shapes.items()):
        numbers = torch.arange(shape.numel(), dtype=torch.float64) * 1.6180339887 + sum(map(ord, name)) * 0.37
        made[name] = (0.12 * (12.9898 * numbers).sin() + (0.8 if len(shape) == 1 else 0)).reshape(shape).float()
    return made


def texts(kind: str) -> Tensor:
    """Ids of a short text, one that fills the context of 24, and one between."""
    pad = ROWS[KINDS[kind]].pad
    found = 2 + (torch.arange(3)[:, None] * 17 + torch.arange(24) * 13) % 57
    found[0, 5:] = found[2, 11:] = pad
    return found


def their_shapes(kind: str, pooler: str) -> dict[str, torch.Size]:
    found, text = ROWS[KINDS[kind]], settings(kind, pooler)["text_cfg"]
    tower = TransformersTower(replace(found, **SMALL), text, 48)
    return {f"text.{name}": tensor.shape for name, tensor in tower.state_dict().items()}


@pytest.mark.parametrize(("kind", "pooler"), GOLDENS)
def test_embeddings_are_transformers(kind: str, pooler: str):
    tower: Any = text_tower(settings(kind, pooler), weights(their_shapes(kind, pooler)))
    with torch.inference_mode():
        found, cut = tower.encode_text(texts(kind)), encode_tokens(tower, texts(kind)[[0, 2]])
    torch.testing.assert_close(found[[0, 2], :4], torch.tensor(GOLDENS[kind, pooler]), rtol=0, atol=2e-6)
    torch.testing.assert_close(cut, found[[0, 2]], rtol=0, atol=1e-6)
    assert tower.cut.columns(texts(kind)[[0, 2]]) == 11


@pytest.mark.parametrize(("kind", "pooler"), GOLDENS)
def test_embeddings_are_those_of_transformers_own_modules(kind: str, pooler: str, monkeypatch: pytest.MonkeyPatch):
    """The same with random weights, where transformers is installed."""
    transformers: Any = pytest.importorskip("transformers")
    from open_clip import hf_model

    common = {"vocab_size": 60, "pad_token_id": ROWS[KINDS[kind]].pad}
    config = {
        "roberta": lambda: transformers.RobertaConfig(
            hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96, max_position_embeddings=40,
            layer_norm_eps=1e-5, type_vocab_size=1, **common),
        "mt5": lambda: transformers.MT5Config(
            d_model=128, d_kv=64, num_heads=2, num_layers=2, d_ff=96, feed_forward_proj="gated-gelu", **common),
        "m2m_100": lambda: transformers.M2M100Config(
            d_model=128, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=96,
            decoder_ffn_dim=96, max_position_embeddings=40, **common),
    }[kind]()  # fmt: skip
    monkeypatch.setattr(hf_model.AutoConfig, "from_pretrained", lambda _: config)
    whole = settings(kind, pooler)
    torch.manual_seed(0)
    encoder: Any = hf_model.HFTextEncoder("x", 48, pooler_type=pooler, proj_type=whole["text_cfg"]["hf_proj_type"], pretrained=False).eval()
    with torch.inference_mode():
        for parameter in encoder.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        tower: Any = text_tower(whole, {f"text.{name}": tensor for name, tensor in encoder.state_dict().items()})
        torch.testing.assert_close(tower.encode_text(texts(kind)), encoder(texts(kind)), rtol=0, atol=2e-6)


def test_rows_are_the_sizes_that_the_hub_s_configurations_have():
    """Of a whole tower's tensors, so that a checkpoint of the real size fits; counted without making any."""
    for name, millions in (("roberta-base", 124.1), ("xlm-roberta-large", 559.9), ("google/mt5-base", 276.9), ("google/mt5-xl", 1670)):
        tower = TransformersTower(ROWS[name], {"hf_proj_type": None}, ROWS[name].width)
        assert sum(each.numel() for each in tower.parameters()) / 1e6 == pytest.approx(millions, rel=0.003)


def test_towers_and_weights_that_cannot_be():
    config = settings("roberta", "mean_pooler")
    state = weights(their_shapes("roberta", "mean_pooler"))
    for text, message in (
        ({"hf_model_name": "bert-base-cased"}, "unknown text tower of transformers 'bert-base-cased'"),
        ({"hf_pooler_type": "max_pooler"}, "unknown hf_pooler_type 'max_pooler': .* known hf_pooler_types: mean_pooler"),
        ({"hf_proj_type": "none"}, "unknown hf_proj_type 'none'"),
        ({"hf_model_name": "google/mt5-base"}, r"weights of another architecture: 'text\.transformer\.embed_tokens\.weight' is missing"),
        ({"hf_proj_type": "linear"}, r"weights of another architecture: 'text\.proj\.weight' is missing"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            text_tower({**config, "text_cfg": {**config["text_cfg"], **text}}, state)
        assert "\n" not in str(caught.value)
    name = "text.transformer.encoder.layer.1.output.dense.weight"
    with pytest.raises(ModelError, match=r"output\.dense\.weight' must have shape \(128, 96\), got \(3, 3\)"):
        text_tower(config, {**state, name: torch.zeros(3, 3)})
    assert row({"hf_model_name": "FacebookAI/xlm-roberta-large"}) == ROWS["xlm-roberta-large"]


@pytest.mark.parametrize("kind", [*KINDS, "tips"])
def test_random_weights_are_made_without_transformers(kind: str, monkeypatch: pytest.MonkeyPatch):
    text = TIPS if kind == "tips" else {"hf_model_name": KINDS[kind], "context_length": 24}
    if kind != "tips":
        monkeypatch.setitem(ROWS, KINDS[kind], replace(ROWS[KINDS[kind]], **SMALL))
    config = {"embed_dim": 64, "vision_cfg": _VISION, "text_cfg": text}
    made: Any = network(config)
    state = made.state_dict()
    assert {name.partition(".")[0] for name in state} == {"visual", "text", "logit_scale"}
    tower: Any = text_tower({**config, "custom_text": True}, state)
    tokens = StandIn(text)(["a cat", "a dog"])
    found = tower.encode_text(tokens)
    assert torch.isfinite(found).all() and (found[0] - found[1]).abs().max() > 1e-6
    torch.testing.assert_close(encode_tokens(tower, tokens), found, rtol=0, atol=1e-6)


def test_a_stand_in_ends_texts_where_towers_read_them():
    for name in GROUPS:
        text = small(name)["text_cfg"]
        ids, end = StandIn(text)(["a cat", "", "x" * 100]), text.get("eos_id", 2) if text.get("pool_type") == "eos" else 299
        assert ids.shape == (3, text["context_length"]) and [int((row == end).int().argmax()) for row in ids] == [5, 0, len(ids[0]) - 1]
        assert int(ids.max()) < 300 and (ids[1, 1:] == 0).all()


# TIPSv2

TIPS = {
    "context_length": 16, "vocab_size": 60, "width": 64, "heads": 4, "layers": 2, "mlp_ratio": 1.5, "no_causal_mask": True,
    "use_pad_mask": True, "pool_type": "mean", "proj_type": "none", "activation": "relu", "positions": "sinusoidal",
    "scale_embedding": True,
}  # fmt: skip
# of transformers 5.24's Tipsv2TextModel with the weights of `weights`, by its own names and order
TIPS_GOLDEN = [[0.210057, 0.214877, 0.10207, -0.066093], [0.520224, 0.02627, -0.343521, -0.015291]]


def test_tips_embeddings_are_transformers():
    config = {"embed_dim": 64, "vision_cfg": {}, "custom_text": True, "text_cfg": TIPS}
    shapes = {f"text.{name}": tensor.shape for name, tensor in TextTower(config).state_dict().items() if "logit" not in name}
    tower: Any = text_tower(config, weights(shapes))
    tokens = texts("mt5")[:, :16]
    with torch.inference_mode():
        found, cut = tower.encode_text(tokens), encode_tokens(tower, tokens[[0, 2]])
        nothing = tower.encode_text(torch.zeros(1, 16, dtype=torch.long))
    torch.testing.assert_close(found[[0, 2], :4], torch.tensor(TIPS_GOLDEN), rtol=0, atol=2e-6)
    torch.testing.assert_close(cut, found[[0, 2]], rtol=0, atol=1e-6)
    # a text without tokens has no direction, and no NaN
    assert torch.equal(nothing, torch.zeros(1, 64))
