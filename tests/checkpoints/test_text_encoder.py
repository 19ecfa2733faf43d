"""Prompts: checked, put into templates, encoded once, and warned about where the model cannot know them."""

import warnings
from typing import Any

import open_clip
import pytest
import torch
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

from fastloc.checkpoints.text_encoder import TextEncoder, encode_tokens
from fastloc.checkpoints.text_loading import text_tower
from fastloc.errors import FastlocWarning, TextError
from fastloc.text.prompts import nearest
from fastloc.text.templates import TEMPLATES, sentences


class Counting:
    """A text tower of random weights, open_clip's and fastloc's own with the same, that counts the sentences it encodes."""

    def __init__(self, **text: Any) -> None:
        torch.manual_seed(0)
        settings = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2, **text}
        vision = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 16}
        self.model = open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=settings).eval()
        self.own = text_tower({"embed_dim": 24, "vision_cfg": vision, "text_cfg": settings}, self.model.state_dict())
        self.tokenizer = open_clip.SimpleTokenizer(context_length=16)
        self.encoded = 0

    def encoder(self, **options: Any) -> TextEncoder:
        def tokens(texts: list[str]) -> torch.Tensor:
            self.encoded += len(texts)
            return self.tokenizer(texts)

        return TextEncoder(self.own, tokens, **options)


def test_cut_sentences_are_encoded_as_open_clip_does():
    tower = Counting()
    tokens = tower.tokenizer(["a cat", "a photo of a very big red car.", "", "one two three four five six seven eight"])
    with torch.no_grad():
        torch.testing.assert_close(encode_tokens(tower.own, tokens), tower.model.encode_text(tokens), rtol=0, atol=1e-5)


def test_a_tower_that_sees_the_whole_context_is_not_cut():
    tower = Counting(no_causal_mask=True)
    # a pooled position that depends on what is behind it
    whole = tower.tokenizer(["a cat", "a photo of a dog"])
    with torch.no_grad():
        torch.testing.assert_close(encode_tokens(tower.own, whole), tower.model.encode_text(whole))


def test_each_text_is_encoded_once_and_repeats_keep_their_place():
    tower = Counting()
    encoder = tower.encoder()
    first = encoder(["cat", "dog", "cat"], "gem")
    assert tower.encoded == 2
    assert first.shape == (3, 24)
    torch.testing.assert_close(first[0], first[2], rtol=0, atol=0)
    assert not torch.allclose(first[0], first[1])
    again = encoder([" dog "], "gem")
    assert tower.encoded == 2
    torch.testing.assert_close(again[0], first[1], rtol=0, atol=0)
    # another template is another embedding
    other = encoder(["dog"], "plain")
    assert tower.encoded == 3
    assert not torch.allclose(other, again)


def test_an_ensemble_is_the_unit_mean_of_unit_sentences():
    tower = Counting()
    encoder = tower.encoder()
    with torch.no_grad():
        rows = tower.model.encode_text(tower.tokenizer([line.replace("{}", "cat") for line in sentences("openai80")]), normalize=True)
    expected = torch.nn.functional.normalize(rows.mean(0), dim=-1)
    torch.testing.assert_close(encoder(["cat"], "openai80")[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("template", "count"), [("plain", 1), ("gem", 1), ("openai80", 80), ("surgery85", 85), ("a drawing of a {}", 1)])
def test_templates(template: str, count: int):
    lines = sentences(template)
    assert len(lines) == count == len(set(lines))
    assert all(line.count("{}") == 1 for line in lines)


def test_the_eighty_sentences_are_openai_s_in_their_order():
    assert sentences("openai80") == tuple(fill("{}") for fill in OPENAI_IMAGENET_TEMPLATES)


def test_an_unknown_template_names_the_nearest():
    with pytest.raises(TextError, match="unknown template 'openai8': did you mean 'openai80'"):
        sentences("openai8")
    assert set(TEMPLATES) == {"plain", "gem", "openai80", "surgery85", "cliper15"}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no prompts"),
        (["cat", ""], "prompt 1 must not be empty"),
        (["  "], "prompt 0 must not be empty"),
        (["cat", 3], "prompt 1 must be a string, got int: 3"),
        ([None], "prompt 0 must be a string, got NoneType"),
    ],
)
def test_prompts_that_cannot_be_used(texts: list[Any], message: str):
    with pytest.raises(TextError, match=message):
        Counting().encoder()(texts, "gem")


def test_a_word_never_seen_is_warned_about_with_near_names():
    encoder = Counting().encoder(words=("red", "car", "cat", "a"), names=("red car", "cat", "caterpillar"))
    with pytest.warns(FastlocWarning, match=r"never saw the word 'cats' \(in 'red cats'\).*near it: cat"):
        encoder(["red cats"], "gem")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder(["Red car", "cat"], "gem")


def test_nearest_names():
    names = ("bicycle", "motorcycle", "red car", "cat", "butterfly")
    assert nearest("bycicle", names)[0] == "bicycle"
    assert nearest("butter", names) == ["butterfly"]
    assert nearest("xyzzy", names) == []


def test_a_prompt_beyond_the_context_is_warned_about():
    tower = Counting()
    encoder = TextEncoder(tower.model, tower.tokenizer)
    with pytest.warns(FastlocWarning, match="tokens in its template; the model reads the first 16"):
        encoder(["a " * 30 + "cat"], "gem")
