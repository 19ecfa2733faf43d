"""Relevance of words to a score: the text tower's against its literal statement, and on the embedded model."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor

from fastloc.analysis.text_relevance import _embedding, shares_of, text_relevance, text_weights
from fastloc.bench.peers.seeded import seeded_state, text_shapes, vision_shapes
from fastloc.engine.localizer import Localizer
from fastloc.errors import ModelError, RecipeError, TextError
from fastloc.reference import parts, relevance
from towers import array, config, error

TEXT = {"context_length": 12, "vocab_size": 40, "width": 32, "heads": 4, "layers": 3}


@cache
def tower(**kind: object) -> CLIP:
    model = {**config(**kind), "text_cfg": TEXT}  # type: ignore[arg-type]
    clip = CLIP(model["embed_dim"], model["vision_cfg"], model["text_cfg"], quick_gelu=model["quick_gelu"]).eval()
    state = seeded_state(vision_shapes(model) | text_shapes(model), 0)
    clip.load_state_dict({name: torch.from_numpy(each) for name, each in state.items()})
    return clip


def embedded(clip: CLIP, ids: Tensor) -> Tensor:
    return (clip.token_embedding(ids) + clip.positional_embedding[: len(ids)])[None].detach().double()


IDS = torch.tensor([38, 4, 17, 9, 30, 39])


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("start", [0, 1, -1])
def test_it_is_the_reference(start: int, activation: str) -> None:
    clip = tower(activation=activation)
    weights, image = text_weights(clip).to(dtype=torch.float64), array("image", 24, low=-1)
    found = shares_of(weights, embedded(clip, IDS), image, start, 50.0)
    expected = relevance.text_relevance(weights, embedded(clip, IDS), image, start, 50.0)
    assert found.shape == (4,) and abs(float(found.sum()) - 1) < 1e-12
    assert error(found, expected) < 1e-10


def test_it_reads_the_towers_own_embedding() -> None:
    """The tensors taken out of the module give its own answer."""
    clip = tower(activation="quick_gelu")
    weights = text_weights(clip).to(dtype=torch.float64)
    mask = torch.full((6, 6), -torch.inf, dtype=torch.float64).triu(1)
    end = relevance.through(weights, embedded(clip, IDS), mask=mask).end
    padded = torch.nn.functional.pad(IDS, (0, 6))[None]
    found = parts.project(weights, end[0, -1]).detach()
    assert error(found, clip.encode_text(padded)[0].detach()) < 1e-5


@cache
def localizer() -> Localizer:
    return Localizer(size=96)



def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)


@pytest.mark.parametrize("scale", [100.0, 300.0])
def test_the_logit_is_at_the_scale_of_the_checkpoint(scale: float, tmp_path: Path) -> None:
    """Shares depend on it: with 1/0.07, which every CLIP begins its training with, the larger one of two is smaller."""
    settings = {**config(), "text_cfg": {**TEXT, "vocab_size": 49408}}
    state = {name: torch.from_numpy(each) for name, each in seeded_state(vision_shapes(settings) | text_shapes(settings), 0).items()}
    (tmp_path / "tiny.json").write_text(json.dumps(settings))
    save_file({**state, "logit_scale": torch.tensor(scale).log()}, tmp_path / "tiny.safetensors")
    mine = Localizer(str(tmp_path / "tiny.json"), str(tmp_path / "tiny.safetensors"), size=32)
    found = text_relevance(mine, picture(), "one zebra")
    ids = mine.source.text.tokenizer(["one zebra"])[0]
    ids = ids[: int(ids.argmax()) + 1]
    clip = CLIP(settings["embed_dim"], settings["vision_cfg"], settings["text_cfg"], quick_gelu=settings["quick_gelu"]).eval()
    clip.load_state_dict(state)
    weights, start = text_weights(clip).to(dtype=torch.float64), _embedding(mine, picture()).double()
    expected, other = (relevance.text_relevance(weights, embedded(clip, ids), start, 0, each) for each in (scale, 1 / 0.07))
    assert np.abs(np.array([share for _, share in found]) - expected.numpy()).max() < 1e-5
    assert (expected - other).abs().max() > 1e-3


@pytest.mark.parametrize(("family", "end"), [("mt5", 1), ("xlm-v", 2)])
def test_the_token_that_ends_a_text_need_not_have_the_highest_id(family: str, end: int, tmp_path: Path) -> None:
    """MetaCLIP 2's towers read the first id of the end; mT5's tokenizer starts no text."""
    pytest.importorskip("tokenizers")
    from tokenizer_families import make

    text = {**TEXT, "vocab_size": 500, "pool_type": "eos", "eos_id": end, "hf_tokenizer_name": "x"}
    settings = {**config(), "text_cfg": text}
    state = {name: torch.from_numpy(each) for name, each in seeded_state(vision_shapes(settings) | text_shapes(settings), 0).items()}
    make(family, tmp_path)
    (tmp_path / "tiny.json").write_text(json.dumps(settings))
    save_file(state, tmp_path / "tiny.safetensors")
    mine = Localizer(str(tmp_path / "tiny.json"), str(tmp_path / "tiny.safetensors"), size=32)
    found = text_relevance(mine, picture(), "a red car")
    ids = mine.source.text.tokenizer(["a red car"])[0].tolist()
    ids = ids[: ids.index(end) + 1]
    starts = int(family == "xlm-v")
    assert [word for word, _ in found] == [mine.source.text.tokenizer.decode([each]).strip() for each in ids[starts:-1]]
    weights = text_weights(mine.source.text.tower)
    embeddings = (mine.source.text.tower.token_embedding(torch.tensor(ids)) + weights.pos[: len(ids)])[None]
    expected = relevance.text_relevance(
        weights.to(dtype=torch.float64), embeddings.double(), _embedding(mine, picture()).double(), 0, mine.logit_scale
    )
    # the reference leaves out the first token, be it a start or not
    shares = np.array([share for _, share in found])[1 - starts :]
    assert np.abs(shares / shares.sum() - expected.numpy()).max() < 1e-5 and abs(sum(share for _, share in found) - 1) < 1e-5


def test_words_of_the_embedded_model() -> None:
    found = text_relevance(localizer(), picture(), "a red circle")
    assert [word for word, _ in found] == ["a", "red", "circle"]
    assert abs(sum(share for _, share in found) - 1) < 1e-5 and all(share >= 0 for _, share in found)
    assert found != text_relevance(localizer(), picture(), "a red circle", start=-1)


def test_refusals() -> None:
    with pytest.raises(RecipeError, match=r"start must be a block of the text tower, 0 … .*, got 9"):
        text_relevance(localizer(), picture(), "a dog", start=9)
    with pytest.raises(TextError):
        text_relevance(localizer(), picture(), "")
    with pytest.raises(ModelError, match="no causal mask"):
        text_weights(open_clip.model.CLIP(8, {"image_size": 8, "layers": 1, "width": 8, "head_width": 8, "patch_size": 8}, {
            **TEXT, "no_causal_mask": True}))  # fmt: skip
