"""Small real tokenizers in the layout of each family of models, as a folder that transformers reads too: made in a moment."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

WORDS = (
    "a photo of a red car on the street", "two cats and one dog sit on a sofa", "the quick brown fox jumps over the lazy dog",
    "un chat noir dort sur le canapé",
    "ein großes Haus am See", "кошка сидит на окне", "一只猫和一只狗",
    "numbers 0 1 2 3 4 5 6 7 8 9 10 42",
    "it's a cat's life, isn't it? yes! (really) no_way; e-mail: x@y.z", "RED CARS, Blue Boats & Green Trees",
)  # fmt: skip
# what texts of all kinds look like
TEXTS = (
    "a photo of a cat.", "", "RED Cars, blue_boats & (dogs)!", "un  chat\tnoir", "一只猫", "кошка ест",
    "a " * 60, "it's 42", "emoji 🎉 here",
    "</s> <eos> [SEP] inside", "caf&eacute; &amp; bar", "“quoted” text",
    "Ünïcödé  ", "ＷＩＤＥ ｌｅｔｔｅｒｓ",
)  # fmt: skip


def make(kind: str, folder: Path, size: int = 400) -> Path:
    """Write the files of one family into a folder: tokenizer.json and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    inner, config = _FAMILIES[kind](size)
    inner.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


FAMILIES = ("siglip", "siglip2", "xlm-v", "roberta", "mt5", "nllb", "bert", "tips")


def _pieces(words: Iterable[str], inside: str, size: int) -> dict[str, int]:
    """The characters of words, and the parts of up to six that weigh most, with their counts; `inside` marks those that begin no word.

    The library's own trainers of these two models end with another vocabulary every time.
    """
    found = Counter[str]()
    for word in words:
        for first in range(len(word)):
            found.update(inside * bool(first) + word[first:end] for end in range(first + 1, min(first + 6, len(word)) + 1))

    def order(piece: str) -> tuple[bool, int, str]:
        length = len(piece.removeprefix(inside))
        return length > 1, -found[piece] * length, piece

    return {piece: found[piece] for piece in sorted(found, key=order)[:size]}


def _unigram(size: int, special: list[str], unknown: str, before: str, after: str) -> Tokenizer:
    cleaned = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    spaces = pre_tokenizers.Metaspace()
    words = [word for text in WORDS for word, _ in spaces.pre_tokenize_str(cleaned.normalize_str(text))]
    counts = _pieces(words, "", size - len(special))
    total = sum(counts.values())
    scores = [*((each, 0.0) for each in special), *((piece, math.log(count / total)) for piece, count in counts.items())]
    inner = Tokenizer(models.Unigram(scores, special.index(unknown)))
    inner.normalizer, inner.pre_tokenizer, inner.decoder = cleaned, spaces, decoders.Metaspace()
    inner.add_special_tokens(special)
    _frame(inner, before, after)
    return inner


def _bpe(size: int, special: list[str], unknown: str | None, **model: Any) -> Tokenizer:
    inner = Tokenizer(models.BPE(unk_token=unknown, **model))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False))
    return inner


def _frame(inner: Tokenizer, before: str, after: str) -> None:
    single = " ".join(each for each in (before, "$A", after) if each)
    ids = [(each, inner.token_to_id(each)) for each in (before, after) if each]
    inner.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)


def _siglip(size: int) -> tuple[Tokenizer, dict[str, Any]]:
    inner = _unigram(size, ["<pad>", "</s>", "<unk>"], "<unk>", "", "</s>")
    return inner, {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>", "extra_ids": 0}


def _mt5(size: int) -> tuple[Tokenizer, dict[str, Any]]:
    inner, config = _siglip(size)
    return inner, {**config, "pad_token": "<pad>"}


def _siglip2(size: int) -> tuple[Tokenizer, dict[str, Any]]:
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    inner = _bpe(size + 256, ["<pad>", "<eos>", "<bos>", "<unk>", *bytes_], "<unk>", byte_fallback=True, fuse_unk=True)
    # its bytes are no special tokens, which are left out of texts
    content = json.loads(inner.to_str())
    content["added_tokens"] = [each for each in content["added_tokens"] if each["content"] not in bytes_]
    content["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    content["pre_tokenizer"] = {
        "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False,
    }  # fmt: skip
    inner = Tokenizer.from_str(json.dumps(content))
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    _frame(inner, "", "<eos>")
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    return inner, {"tokenizer_class": "GemmaTokenizer", **names, "add_bos_token": False, "add_eos_token": True, "padding_side": "right"}


def _xlm_v(size: int) -> tuple[Tokenizer, dict[str, Any]]:
    inner = _unigram(size, ["<s>", "<pad>", "</s>", "<unk>"], "<unk>", "<s>", "</s>")
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return inner, {"tokenizer_class": "XLMRobertaTokenizer", **names}


def _roberta(size: int) -> tuple[Tokenizer, dict[str, Any]]:
    inner = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        WORDS, trainers.BpeTrainer(vocab_size=size + 256, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    # as on the hub: all tokens are left to the class
    return inner, {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512}


def _nllb(size: int) -> tuple[Tokenizer, dict[str, Any]]:
    inner = _bpe(size, ["<s>", "<pad>", "</s>", "<unk>"], "<unk>", fuse_unk=True)
    inner.normalizer = normalizers.NFKC()
    inner.add_special_tokens(["eng_Latn", "fra_Latn"])
    # as it was saved with the old order
    ids = [(each, inner.token_to_id(each)) for each in ("</s>", "eng_Latn")]
    inner.post_processor = processors.TemplateProcessing(single="$A </s> eng_Latn", special_tokens=ids)
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return inner, {"tokenizer_class": "NllbTokenizer", **names, "src_lang": None, "tgt_lang": None}


def _bert(size: int) -> tuple[Tokenizer, dict[str, Any]]:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    cleaned, split = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = [word for text in WORDS for word, _ in split.pre_tokenize_str(cleaned.normalize_str(text))]
    pieces = [*special, *_pieces(words, "##", size - len(special))]
    inner = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer, inner.decoder = cleaned, split, decoders.WordPiece()
    inner.add_special_tokens(special)
    _frame(inner, "[CLS]", "[SEP]")
    return inner, {"tokenizer_class": "BertTokenizer", "do_lower_case": True}


def _tips(size: int) -> tuple[Tokenizer, dict[str, Any]]:
    inner = _bpe(size, ["<pad>", "<unk>"], "<unk>", fuse_unk=True)
    inner.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.NFKC()])
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    return inner, {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>", "model_max_length": 64}


_FAMILIES = {
    "siglip": _siglip, "siglip2": _siglip2, "xlm-v": _xlm_v, "roberta": _roberta, "mt5": _mt5, "nllb": _nllb, "bert": _bert, "tips": _tips,
}  # fmt: skip
