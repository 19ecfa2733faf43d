"""ECLIP's trainer: its mathematics against loops, its steps, and its settings."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import families
from eclip_pairs import NAMES, encoded, picture
from fastloc.eclip import features as eclip_features
from fastloc.eclip.features import Features
from fastloc.eclip.loss import contrastive
from fastloc.eclip.masks import free_attention, mask, pooled
from fastloc.eclip.pairs import Left, Pair
from fastloc.eclip.settings import Settings
from fastloc.eclip.steps import State, batch_of, beginnings, rate_at, take
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError
from fastloc.functional.vit import forward
from fastloc.reference import arithmetic
from towers import array, error

LIKE = Settings(batch=8, steps=6, keep=0.25)


@cache
def encoder() -> Localizer:
    return Localizer(method="itsm", size=48, fit="stretch", device="cpu")


def features(settings: Settings = LIKE, room: int = 1 << 30, file: Path | None = None, count: int = 10) -> Features:
    pairs = [Pair(str(index), encoded(index), (f"a photo of a {name}", name)) for index, name in enumerate(NAMES[:count])]
    made = Features(encoder(), pairs, settings, Left(), room, file, 1)
    assert len(list(made.fill())) > 0 or room == 0
    return made


# masks, pooling, loss: against loops


def _literal_attention(qkv: Tensor, kind: str, query: str, prefix: int = 1) -> Tensor:
    batch, _, heads, tokens, width = qkv.shape
    out = torch.zeros(batch, tokens - prefix, dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            ours, others = qkv[b, "qkv".index(kind[0]), h], qkv[b, "qkv".index(kind[1]), h]
            rows = torch.stack([arithmetic.softmax(ours[i] @ others.T / math.sqrt(width)) for i in range(tokens)])
            out[b] += (rows[0, prefix:] if query == "cls" else rows[prefix:, prefix:].mean(0)) / heads
    return out * (tokens - prefix)


@pytest.mark.parametrize("query", ["cls", "mean"])
@pytest.mark.parametrize("kind", ["qk", "qq", "kk", "vv"])
def test_free_attention(kind: str, query: str) -> None:
    qkv = array("qkv", 2, 3, 4, 7, 8, low=-2, high=2)
    assert error(free_attention(qkv, kind, query), _literal_attention(qkv, kind, query)) < 1e-5
    assert torch.equal(free_attention(qkv, "none", query), torch.ones(2, 6, dtype=torch.float64))


@pytest.mark.parametrize(("query", "prefix"), [("cls", 2), ("mean", 0), ("mean", 2)])
def test_free_attention_behind_any_number_of_tokens(query: str, prefix: int) -> None:
    qkv = array("qkv", 2, 3, 4, 7, 8, low=-2, high=2)
    found = free_attention(qkv, "qq", query, prefix)
    assert error(found, _literal_attention(qkv, "qq", query, prefix)) < 1e-5
    assert free_attention(qkv, "none", query, prefix).shape == found.shape


@pytest.mark.parametrize("query", ["cls", "mean"])
def test_free_attention_with_the_towers_own_bias(query: str) -> None:
    qkv, bias = array("qkv", 2, 3, 4, 7, 8, low=-2, high=2), array("bias", 1, 4, 7, 7, low=-3)
    q, k = qkv[:, 0], qkv[:, 1]
    maps = arithmetic.softmax(arithmetic.logits(q, k) + bias)[..., 1:].mean(1)
    expected = 6 * (maps[:, 0] if query == "cls" else maps[:, 1:].mean(1))
    assert error(free_attention(qkv, "qk", query, 1, bias), expected) < 1e-5
    # it belongs to no other product
    assert torch.equal(free_attention(qkv, "qq", query, 1, bias), free_attention(qkv, "qq", query, 1))


def test_a_class_token_that_is_not_there_does_not_ask() -> None:
    spec = families.spec("siglip")
    made = SimpleNamespace(source=SimpleNamespace(vit=SimpleNamespace(spec=spec), name="a tower"))
    with pytest.raises(FastlocError, match="query must be 'mean' for a tower, which has no class token, got 'cls'; set it to 'mean'"):
        eclip_features._check(made, replace(LIKE, query="cls"))  # type: ignore[arg-type]
    eclip_features._check(made, replace(LIKE, query="mean"))  # type: ignore[arg-type]


ATTENTION = torch.tensor([[0.1, 0.4, 0.2, 0.9], [0.5, 0.5, 0.5, 0.5]])
MASKS: list[tuple[dict[str, Any], list[float]]] = [
    ({"mask": "top", "keep": 0.5, "reverse": False}, [0, 1, 0, 1]),
    ({"mask": "top", "keep": 0.5, "reverse": True}, [1, 0, 1, 0]),
    ({"mask": "top", "keep": 0.0, "reverse": False}, [0, 0, 0, 1]),
    ({"mask": "mean", "keep": 1.0, "reverse": False}, [0, 1, 0, 1]),
    ({"mask": "mean", "keep": 9.0, "reverse": False}, [0, 0, 0, 1]),
    ({"mask": "minmax", "keep": 0.8, "reverse": True}, [1, 0, 1, 0]),
    ({"mask": "soft", "reverse": False}, [0, 0.375, 0.125, 1]),
    ({"mask": "soft", "reverse": True}, [1, 0.625, 0.875, 0]),
    ({"attention": "none"}, [1, 1, 1, 1]),
]


@pytest.mark.parametrize(("changes", "expected"), MASKS, ids=[str(row[0]) for row in MASKS])
def test_mask(changes: dict[str, Any], expected: list[float]) -> None:
    found = mask(ATTENTION, replace(LIKE, **changes))
    torch.testing.assert_close(found[0], torch.tensor(expected, dtype=torch.float32))
    assert (found.amax(1) > 0).all(), "a picture has no patch left"


@pytest.mark.parametrize("how", ["max", "mean"])
def test_pooled(how: str) -> None:
    tokens, phi = array("tokens", 2, 5, 4, low=-1), array("phi", 4, 4, low=-1)
    weights = torch.tensor([[1, 0, 0.5, 0, 0], [1, 1, 1, 0, 1]], dtype=torch.float64)
    rows = []
    for picture_tokens, row in zip(tokens, weights, strict=True):
        kept = torch.stack([weight * (phi @ token) for token, weight in zip(picture_tokens, row, strict=True) if weight > 0])
        rows.append(arithmetic.unit(kept.amax(0) if how == "max" else kept.sum(0) / row.sum()))
    assert error(pooled(tokens, weights, phi, how), torch.stack(rows)) < 1e-12


def test_contrastive() -> None:
    images, texts = (arithmetic.unit(array(name, 5, 8, low=-1)) for name in "it")
    logits = 7.0 * images @ texts.T
    expected = sum(-math.log(arithmetic.softmax(logits[i])[i]) - math.log(arithmetic.softmax(logits.T[i])[i]) for i in range(5)) / 10
    loss, accuracy = contrastive(images, texts, torch.tensor(7.0))
    assert abs(float(loss) - expected) < 1e-10
    assert float(accuracy) == pytest.approx(float((logits.argmax(1) == torch.arange(5)).double().mean()))


@pytest.mark.parametrize("init", ["identity", "orthogonal", "shared"])
def test_beginnings(init: str) -> None:
    image, text = beginnings(init, 6, torch.Generator().manual_seed(0))
    for phi in (image, text):
        torch.testing.assert_close(phi @ phi.T, torch.eye(6), atol=1e-5, rtol=0)
    assert torch.equal(image, text) == (init != "orthogonal") and torch.equal(image, torch.eye(6)) == (init == "identity")


def test_every_epoch_sees_every_pair_once_in_an_order_of_its_own() -> None:
    settings = replace(LIKE, batch=5)
    epochs = [[*batch_of(2 * epoch, 10, settings)[1], *batch_of(2 * epoch + 1, 10, settings)[1]] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs) and epochs[0] != epochs[1] != epochs[2]
    assert [batch_of(step, 10, settings)[0] for step in range(5)] == [0, 0, 1, 1, 2]
    assert sorted(batch_of(3, 4, settings)[1]) == [0, 1, 2, 3]


def test_rate() -> None:
    settings = replace(LIKE, steps=100, warm_up=0.1, rate=1.0)
    rates = [rate_at(step, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)]) and rates[10] == 1.0 and rates[99] < 1e-3
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rate_at(99, replace(settings, schedule="constant")) == 1.0


# features


def test_features_are_the_encoder_s(tmp_path: Path) -> None:
    """Kept in memory, in a file, in part or not at all: the same rows."""
    kept = features()
    tokens, attention, there = kept.tokens([2, 5])
    pixels = torch.stack([encoder().pixels(picture(i), encoder().geometry((40, 40))) for i in (2, 5)])
    out = forward(encoder().source.vit, pixels, encoder().recipe, capture=["qkv5"])
    assert error(tokens, out.patches) < 1e-3 and there.all()
    assert error(attention, _literal_attention(out.captured["qkv5"].double(), "qq", "cls")) < 1e-3
    row = 2 * attention.shape[1] * (tokens.shape[2] + 1)
    for other in (features(room=0), features(room=4 * row), features(file=tmp_path / "f16")):
        again = other.tokens([2, 5])
        assert error(again[0], tokens) < 1e-3 and error(again[1], attention) < 1e-3
        assert error(other.sentences(["cat", "a photo of a owl"]), kept.sentences(["cat", "a photo of a owl"])) < 1e-3


def test_a_broken_picture_is_left_out_of_its_batch() -> None:
    whole, broken = features(count=9), features(count=10)
    broken.pairs[9] = replace(broken.pairs[9], read=lambda: b"no picture")  # type: ignore[index]
    for _ in broken.fill():
        pass
    assert broken.tokens([8, 9])[2].tolist() == [True, False] and broken.left.names == {"not a picture": ["9"]}
    settings = replace(LIKE, batch=10)
    taken = take(State(settings, 192, torch.device("cpu")), broken)
    assert math.isfinite(taken.loss)
    with pytest.raises(FastlocError, match="9: not a picture; without --strict it is left out"):
        Features(encoder(), broken.pairs, settings, Left(strict=True), 0, None, 1).tokens([9])
    assert whole.tokens([8])[2].all()


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    state = State(LIKE, 192, torch.device("cpu"))
    state.image.data[0, 0] = torch.inf
    with pytest.raises(FastlocError, match=r"step 1: the loss is nan; a smaller rate than 0\.005 may help"):
        take(state, features())


def test_training_learns_which_caption_is_whose() -> None:
    settings = replace(LIKE, batch=10, steps=30)
    state, seen = State(settings, 192, torch.device("cpu")), features()
    steps = [take(state, seen) for _ in range(30)]
    assert steps[-1].loss < steps[0].loss / 4 and steps[-1].accuracy == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": "kq"}, "unknown attention 'kq'"),
        ({"pool": "maximum"}, "unknown pool 'maximum'"),
        ({"steps": 0}, "steps must be a number at least 1, got 0"),
        ({"batch": 2.5}, "batch must be a whole number, got 2.5"),
        ({"rate": 0.0}, "rate must be a number above 0, got 0.0"),
        ({"rate": math.nan}, "rate must be a finite number, got nan"),
        ({"warm_up": 1.5}, "warm_up must be a number at least 0 and at most 1, got 1.5"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FastlocError, match=message.replace(".", r"\.")):
        replace(LIKE, **changes)
