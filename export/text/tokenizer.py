"""A model's tokenizer as data: the JSON that Hugging Face's `tokenizers` reads, in Python, Rust and JavaScript, without open_clip.

For texts that need no repair the definition alone equals open_clip. `fastloc.text.cleaning` does open_clip's repairs (HTML
entities, curly quotes, wide letters) before it.
"""

import json
from dataclasses import dataclass
from typing import Any

from fastloc.checkpoints.byte_pairs import BytePairs
from fastloc.checkpoints.loading import Source
from fastloc.checkpoints.text.stand_in import StandIn
from fastloc.checkpoints.text.tokenizer_folder import FolderTokenizer
from fastloc.errors import ModelError

__all__ = ["Tokenization", "tokenization", "tokenizer_json"]

# the pieces that count as words; open_clip's own expression, for lower-case text
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Tokenization:
    """A tokenizer's definition, and open_clip's steps around it.

    Attributes:
        json: for `tokenizers`: with its start and end tokens, cut and padded to the context
        clean: the cleaning of texts before, see `fastloc.text.cleaning`
        zeroed: a token whose id becomes 0 afterwards (CLIPA's separator), or None
    """

    json: str
    clean: str
    zeroed: int | None = None


def tokenizer_json(source: Source) -> str:
    """The definition of a model's tokenizer. Raises ModelError as `tokenization` does."""
    return tokenization(source).json


def tokenization(source: Source) -> Tokenization:
    """A model's tokenizer as data.

    Raises:
        ModelError: a tokenizer of another kind than CLIP's, fastloc's own of a folder and open_clip's HFTokenizer, or with parts that data
            cannot express.
    """
    tokenizer: Any = source.text.tokenizer
    if isinstance(tokenizer, BytePairs):
        return _byte_pairs(tokenizer, "lower", tokenizer.merges)
    if isinstance(tokenizer, FolderTokenizer):
        return Tokenization(tokenizer.definition, tokenizer.kind, tokenizer.zeroed)
    if isinstance(tokenizer, StandIn):
        raise ModelError(f"{source.name} must have a tokenizer, got random weights, which have a stand-in; give pretrained weights")
    # a program with one of these tokenizers has imported its module already
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    if isinstance(tokenizer, SimpleTokenizer):
        return _simple(tokenizer, source.name)
    if isinstance(tokenizer, HFTokenizer):
        return _hugging_face(tokenizer, source.name)
    kind = type(tokenizer).__name__
    raise ModelError(f"the tokenizer of {source.name} must be open_clip's SimpleTokenizer or HFTokenizer, got a {kind}")


def _simple(tokenizer: Any, name: str) -> Tokenization:
    if tokenizer.reduction_fn is not None:
        raise ModelError(f"the tokenizer of {name} must have no reduction_mask, which drops words of long texts at random")
    merges = [" ".join(pair) for pair, _ in sorted(tokenizer.bpe_ranks.items(), key=lambda each: each[1])]
    return _byte_pairs(tokenizer, _cleaning(tokenizer), merges)


def _byte_pairs(tokenizer: Any, kind: str, merges: list[str]) -> Tokenization:
    """The common part of fastloc's and open_clip's tokenizers of byte pairs."""
    content = {
        "version": "1.0",
        **_fitted(tokenizer.context_length, 0, tokenizer.decoder[0], "Right"),
        "added_tokens": [_added(number, tokenizer.decoder[number]) for number in tokenizer.all_special_ids],
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(kind)},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Removed", "invert": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": _framed(tokenizer),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": tokenizer.encoder,
            "merges": merges,
        },
    }  # fmt: skip
    return Tokenization(_dumped(content), kind)


def _hugging_face(tokenizer: Any, name: str) -> Tokenization:
    inner: Any = tokenizer.tokenizer
    if tokenizer.tokenizer_mode:
        raise ModelError(f"the tokenizer of {name} must have no mode, which a definition cannot hold, got {tokenizer.tokenizer_mode!r}")
    if getattr(inner, "backend_tokenizer", None) is None:
        raise ModelError(f"the tokenizer of {name} must be a fast one, with a tokenizer.json, got {type(inner).__name__}")
    content = json.loads(inner.backend_tokenizer.to_str())
    content |= _fitted(tokenizer.context_length, inner.pad_token_id, inner.pad_token, inner.padding_side.capitalize())
    return Tokenization(_dumped(content), _cleaning(tokenizer), inner.sep_token_id if tokenizer.strip_sep_token else None)


def _cleaning(tokenizer: Any) -> str:
    """The name of open_clip's cleaning function that this tokenizer holds."""
    known = {f"_clean_{'canonicalize' if kind == 'canonicalize' else kind}": kind for kind in ("lower", "whitespace", "canonicalize")}
    return known[tokenizer.clean_fn.__name__]


def _fitted(length: int, pad: int, token: str, side: str) -> dict[str, Any]:
    """The definition's part that cuts texts to the context, keeps start and end tokens, and pads."""
    return {
        "truncation": {"direction": "Right", "max_length": length, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": length}, "direction": side, "pad_to_multiple_of": None, "pad_id": pad, "pad_type_id": 0,
            "pad_token": token,
        },
    }  # fmt: skip


def _normalizers(kind: str) -> list[dict[str, Any]]:
    """The part of the cleaning that a definition can express."""
    spaces: list[dict[str, Any]] = [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": "[\u02bc\u2018-\u201b]"}, "content": "'"},
        {"type": "Replace", "pattern": {"Regex": "[\u201c-\u201f]"}, "content": '"'},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Strip", "strip_left": True, "strip_right": True},
    ]
    return spaces if kind == "whitespace" else [*spaces, {"type": "Lowercase"}]


def _added(number: int, token: str) -> dict[str, Any]:
    return {
        "id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": True,
    }  # fmt: skip


def _framed(tokenizer: Any) -> dict[str, Any]:
    start, end = (tokenizer.decoder[number] for number in (tokenizer.sot_token_id, tokenizer.eot_token_id))

    def special(token: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": 0}}

    return {
        "type": "TemplateProcessing",
        "single": [special(start), {"Sequence": {"id": "A", "type_id": 0}}, special(end)],
        "pair": [special(start), {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}, special(end)],
        "special_tokens": {
            token: {"id": token, "ids": [number], "tokens": [token]}
            for token, number in ((start, tokenizer.sot_token_id), (end, tokenizer.eot_token_id))
        },
    }


def _dumped(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
