"""Tokenizers from elsewhere: what would end the process, fill the memory or never end is refused before the library sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastloc import embedded
from fastloc.errors import ModelError
from fastloc.onnx_file import header
from fastloc.onnx_file.text_manifest import TOKENIZER, unpack
from fastloc.text import tokenizer
from fastloc.text.definition import ENTRIES, check
from fastloc.text.tokenizer import Tokens
from mutations import json_edits, raw

CONTEXT = 24
LIMIT = 1 << 26
WHOLE = unpack(header.read(embedded.GEM_TEXT_ONNX).metadata[TOKENIZER])


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """The embedded model's, with as many words as edits can be made of."""
    content: dict[str, Any] = json.loads(WHOLE)
    vocabulary = dict(list(content["model"]["vocab"].items())[:512]) | {"<start_of_text>": 49406, "<end_of_text>": 49407}
    content["model"] |= {"vocab": vocabulary, "merges": []}
    return content


def test_the_embedded_model_s_is_taken() -> None:
    check(WHOLE, CONTEXT, "a.onnx", LIMIT)
    with pytest.raises(ModelError, match="at most 1,000 bytes"):
        check(WHOLE, CONTEXT, "a.onnx", 1000)


def test_what_models_of_this_kind_have_is_taken(small: dict[str, Any]) -> None:
    t5 = {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": ""}, {"type": "Strip"},
          {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]}, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁"},
          "post_processor": None, "model": {"type": "Unigram", "vocab": []}}  # fmt: skip
    bert = {"normalizer": {"type": "BertNormalizer"}, "model": {"type": "WordPiece", "vocab": {}}, "decoder": None, "added_tokens": []}
    for changes in (t5, bert, {"normalizer": None}):
        check(json.dumps({**small, **changes}), CONTEXT, "a.onnx", LIMIT)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "filled up to 2^31": ({"padding": {"strategy": {"Fixed": 2**31}, "pad_id": 0}}, "padding.strategy must be {'Fixed': 24}, got"),
    "filled up to a multiple": (
        {"padding": {"strategy": {"Fixed": 24}, "pad_id": 0, "pad_to_multiple_of": 2**40}},
        "padding: pad_to_multiple_of must be null",
    ),
    "filled up to the longest": ({"padding": {"strategy": "BatchLongest"}}, "padding.strategy must be"),
    "not filled up": ({"padding": None}, "padding.strategy must be {'Fixed': 24}, got 'none'"),
    "not cut": ({"truncation": None}, "truncation.max_length must be 24, got 0"),
    "cut in steps": ({"truncation": {"max_length": 24, "stride": 23}}, "truncation.stride must be 0, got 23"),
    "a number below 0": ({"padding": {"strategy": {"Fixed": 24}, "pad_id": -1}}, "padding: pad_id must be a whole number from 0"),
    "ever longer": (
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40}},
        "length that the normalizer makes of one character must be a whole number from 1 to 4096",
    ),
    "many parts": ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100}}, "number of a tokenizer's parts"),
    "many pieces": ({"post_processor": {"type": "TemplateProcessing", "single": [{}] * 100}}, "pieces around a text"),
    "many ids": ({"post_processor": {"type": "TemplateProcessing", "special_tokens": {"a": {"ids": [1] * 100}}}}, "ids of a special token"),
    "another kind": ({"model": {"type": "Python"}}, "unknown kind of tokenizer 'Python'"),
    "no model": ({"model": None}, "model must be object, got null"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, small: dict[str, Any]) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(ModelError) as caught:
        check(json.dumps({**small, **changes}), CONTEXT, "a.onnx", LIMIT)
    line = str(caught.value)
    assert message in line and line.startswith("a.onnx: its tokenizer is damaged") and "\n" not in line


def test_a_vocabulary_has_a_limit(small: dict[str, Any]) -> None:
    many = json.dumps(small)[:-1] + ', "added_tokens": [' + "0," * (ENTRIES + 1) + "0]}"
    with pytest.raises(ModelError, match="it must have at most 3,145,728 parts"):
        check(many, CONTEXT, "a.onnx", LIMIT)


def test_no_edit_ends_in_anything_else(small: dict[str, Any]) -> None:
    def call(made: object) -> None:
        definition = json.dumps(made)
        check(definition, CONTEXT, "a.onnx", LIMIT)
        Tokens(definition)(["a cat", "x" * 99])

    assert raw(json_edits(small, 5, 150), call) == []


class PanicException(BaseException):
    """pyo3's panic: a BaseException, and no Exception."""


@pytest.mark.parametrize("error", [PanicException("index out of bounds\nmore"), ValueError("no such id")])
def test_a_panic_of_the_library_is_one_line(error: BaseException) -> None:
    class Panics:
        def encode(self, texts: list[str]) -> None:
            raise error

    made = Tokens(WHOLE, name="a.onnx")
    made.inner = Panics()
    with pytest.raises(ModelError, match=r"^a\.onnx: its tokenizer cannot split 'cat' \((index out of bounds|no such id)\)$"):
        made(["cat"])


def test_an_interruption_is_none() -> None:
    error = KeyboardInterrupt()
    assert tokenizer._failed(error, "x") is error


def test_pieces_are_special_tokens(small: dict[str, Any]) -> None:
    """The library looks them up when it meets the first text, and prints a stack where one is not there."""
    pieces = [{"SpecialToken": {"id": "<x>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"<x>": {"id": "<x>", "ids": [1], "tokens": ["<x>"]}}
    part = {"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": special}
    check(json.dumps(small | {"post_processor": part}), CONTEXT, "f", LIMIT)
    for key in ("single", "pair"):
        bad = part | {"single": [], "pair": [], key: pieces, "special_tokens": {}}
        with pytest.raises(ModelError, match="pieces around a text must be among special_tokens, got '<x>'"):
            check(json.dumps(small | {"post_processor": bad}), CONTEXT, "f", LIMIT)
