"""Token ids without open_clip: the definition that travels in a file splits texts as open_clip does."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, get_clean_fn
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from fastloc.checkpoints import loading
from fastloc.errors import ModelError, TextError
from fastloc.export.text.tokenizer import tokenization, tokenizer_json
from fastloc.onnx_file.text_manifest import pack, unpack
from fastloc.text.cleaning import CLEANERS, clean
from fastloc.text.tokenizer import Tokens
from odd_texts import PLAIN, REPAIRED, TAGS


def wrapped(tokenizer: Any, name: str = "tiny") -> Any:
    """The part of a Source that a tokenizer's definition is made of."""
    return SimpleNamespace(name=name, text=SimpleNamespace(tokenizer=tokenizer))


def every_text() -> list[str]:
    names = list(loading.load().text.names)
    filled = [fill("yo-yo's 3 Big dogs") for fill in OPENAI_IMAGENET_TEMPLATES]
    return [*names, *IMAGENET_CLASSNAMES, *filled, *PLAIN]


def differing(texts: list[str], found: Any, expected: Any) -> list[str]:
    assert found.shape == expected.shape
    return [ascii(text) for text, same in zip(texts, (found == expected).all(1), strict=True) if not same]


def test_hundreds_of_texts_split_as_in_open_clip():
    tokenizer = SimpleTokenizer(context_length=77)
    made = tokenization(wrapped(tokenizer))
    texts = [*every_text(), *REPAIRED]
    found, lengths = Tokens(made.json, made.clean, made.zeroed)(texts)
    assert len(texts) > 1000
    assert not differing(texts, found, tokenizer(texts).numpy())
    # what a text would be uncut, start and end among it, which the warning of long texts says
    assert lengths == [len(tokenizer.encode(text)) + 2 for text in texts]
    assert max(lengths) > 77


def test_the_definition_alone_splits_what_needs_no_repair():
    tokenizer = SimpleTokenizer(context_length=24)
    alone = Tokenizer.from_str(tokenizer_json(wrapped(tokenizer)))
    texts = every_text()
    found = np.array([each.ids for each in alone.encode_batch(texts)])
    assert not differing(texts, found, tokenizer(texts).numpy())


@pytest.mark.parametrize("kind", CLEANERS)
def test_cleaning_is_open_clip_s(kind: str):
    reference: Callable[[str], str] = get_clean_fn(kind)
    # one of every block of 16 characters of the basic plane, between two letters
    characters = [f"a{chr(code)}b" for code in range(1, 0x10000, 7) if not 0xD800 <= code < 0xE000]
    wrong = [ascii(text) for text in [*PLAIN, *REPAIRED, *TAGS, *characters] if clean(text, kind) != reference(text)]
    assert not wrong
    assert clean("“A_b”, C.", kind) == {"lower": '"a_b", c.', "whitespace": '"A_b", C.', "canonicalize": "a b c"}[kind]


def test_what_is_not_repaired_and_an_unknown_cleaning():
    # text that was decoded in the wrong encoding stays as it is
    assert clean("cafÃ©") == "cafã©" != get_clean_fn("lower")("cafÃ©")
    with pytest.raises(TextError, match="unknown way to clean texts 'lowr': did you mean 'lower'"):
        clean("a", "lowr")


class HuggingFace:
    """Stands for transformers' fast tokenizers: a backend, and padding and truncation at each call."""

    pad_token_id, pad_token, padding_side, sep_token_id = 0, "[PAD]", "right", 3

    def __init__(self) -> None:
        words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "cat", "##s", "dog"])}
        backend = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
        backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        self.backend_tokenizer = backend

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> Any:
        self.backend_tokenizer.enable_truncation(max_length)
        self.backend_tokenizer.enable_padding(length=max_length)
        return SimpleNamespace(input_ids=torch.tensor([each.ids for each in self.backend_tokenizer.encode_batch(texts)]))


def hugging_face(strip: bool, kind: str = "whitespace", mode: str = "", inner: Any = None) -> HFTokenizer:
    # its constructor would ask the hub
    made: Any = HFTokenizer.__new__(HFTokenizer)
    made.tokenizer_mode, made.context_length, made.strip_sep_token = mode, 8, strip
    made.clean_fn, made.tokenizer = get_clean_fn(kind), inner or HuggingFace()
    return made


@pytest.mark.parametrize(("strip", "kind"), [(False, "whitespace"), (True, "whitespace"), (True, "canonicalize")])
def test_a_hugging_face_tokenizer_keeps_its_own_definition(strip: bool, kind: str):
    tokenizer = hugging_face(strip, kind)
    made = tokenization(wrapped(tokenizer))
    texts = ["a photo of a cat", "CATS, dogs", "", "a " * 20, "a_photo"]
    found, lengths = Tokens(made.json, made.clean, made.zeroed)(texts)
    assert not differing(texts, found, tokenizer(texts).numpy())
    assert made.zeroed == (3 if strip else None)
    assert (found == 3).any() != strip
    assert lengths[3] == 22


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (SimpleTokenizer(reduction_mask="simple"), "which drops words of long texts at random"),
        (hugging_face(False, mode="clips"), "has mode 'clips'"),
        (hugging_face(False, inner=SimpleNamespace(backend_tokenizer=None)), "is not a fast one"),
        (str.split, "tokenizer of tiny must be .*, got a method_descriptor"),
    ],
)
def test_tokenizers_that_are_not_data(tokenizer: Any, message: str):
    with pytest.raises(ModelError, match=message):
        tokenization(wrapped(tokenizer))


def test_a_definition_travels_as_text():
    definition = '{"a": "é"}'
    assert unpack(pack(definition)) == definition
    assert pack(definition) == pack(definition)
    for damaged in (pack(definition)[:-8], "!", "", "aGVsbG8="):
        with pytest.raises(ModelError, match=r"tower\.onnx: its tokenizer is damaged"):
            unpack(damaged, "tower.onnx")
    with pytest.raises(ModelError, match=r"tower\.onnx: its tokenizer is damaged"):
        Tokens("{}", name="tower.onnx")
