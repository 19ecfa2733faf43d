"""CLIP's tokenizer without open_clip: the ids are those of open_clip's SimpleTokenizer, whatever a text holds."""

import random
from typing import Any

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

from fastloc.checkpoints import byte_pairs
from fastloc.checkpoints.byte_pairs import BytePairs
from odd_texts import PLAIN, REPAIRED, TAGS

# broken encodings, letters that a regular expression without case takes for others, odd spaces, sentences longer than any context
ODD = (
    "cafÃ©", "â€œquotedâ€\x9d", "l’Ã©tÃ©", "it'ſ", "<ſtart_of_text>", "a<start_of_text><end_of_text>b", "<start_of_text", "K kelvin K",
    "ﬀ 'ﬆ", "a\x1cb\x1fc\x85d\u2028e\u200bf", "\t\n\r\f\v", "&", "&&amp;", "R&D", "a &lt; b", "&#128512;", "&nbsp;&nbsp;x",
    "\x1b[1mbold\x1b[0m",
    "word " * 200, "日本語" * 60, "😀" * 40, "a" * 2000, "1" * 100, "'s" * 50, "'S'T'RE'VE'M'LL'D", "''''", "\u0300\u0301", "ß ẞ İ ı",
    "Ǆ ǅ ǆ", "١٢٣ ½ Ⅷ ²", "👩🏽‍🚀 🇯🇵 #️⃣", "\ud800", "a\udfffb", "\x00\x01", "{} {0} %s \\ / |", "é" * 77, "\u202eabc\u202c",
    "ｆｕｌｌ　ｗｉｄｔｈ", "\u212a\u017f",
)  # fmt: skip


@pytest.fixture(scope="module")
def both() -> tuple[BytePairs, Any]:
    return BytePairs(77), SimpleTokenizer(context_length=77)


def texts() -> list[str]:
    names = [fill("yo-yo's 3 Big dogs") for fill in OPENAI_IMAGENET_TEMPLATES] + list(IMAGENET_CLASSNAMES)
    rng = random.Random(0)
    printable = [chr(code) for code in range(0x20, 0x7F)]
    plain = ["".join(rng.choices(printable, k=rng.randrange(60))) for _ in range(1500)]
    # every block of the basic plane, the emoji and controls, between letters and among one another
    everything = [chr(code) for code in (*range(0x3000), *range(0xA000, 0xD800, 16), *range(0xE000, 0x10000, 8), *range(0x1F000, 0x1FAFF))]
    mixed = ["".join(rng.choices(everything, k=rng.randrange(1, 12))) for _ in range(1500)]
    latin = ["".join(rng.choices([*printable, *everything[0x80:0x250]], k=rng.randrange(30))) for _ in range(1500)]
    return [*PLAIN, *REPAIRED, *TAGS, *ODD, *names, *plain, *mixed, *latin]


def test_thousands_of_texts_have_open_clip_s_ids(both: tuple[BytePairs, Any]):
    ours, theirs = both
    samples = texts()
    assert len(samples) > 5000
    wrong = [ascii(text) for text in samples if ours.encode(text) != theirs.encode(text)]
    assert not wrong


@pytest.mark.parametrize("length", [1, 2, 5, 24, 77])
def test_rows_are_cut_and_filled_as_in_open_clip(length: int):
    ours, theirs = BytePairs(length), SimpleTokenizer(context_length=length)
    samples = [*PLAIN, *ODD]
    found, expected = ours(samples), theirs(samples)
    assert found.dtype == expected.dtype == torch.int64
    assert torch.equal(found, expected)
    # cut rows end in the end all the same
    assert found[samples.index("word " * 200), -1] == ours.eot_token_id
    assert torch.equal(ours("a cat"), theirs("a cat"))


def test_ids_are_given_back_as_in_open_clip(both: tuple[BytePairs, Any]):
    ours, theirs = both
    for text in (*PLAIN, *ODD):
        ids = theirs.encode(text)
        assert ours.decode(ids) == theirs.decode(ids)
    # an id in the middle of a letter is no text
    assert ours.decode([255]) == theirs.decode([255]) == "\ufffd"


def test_the_vocabulary_is_open_clip_s(both: tuple[BytePairs, Any]):
    ours, theirs = both
    assert (ours.encoder, ours.decoder) == (theirs.encoder, theirs.decoder)
    assert {tuple(pair.split(" ")): rank for pair, rank in ours.ranks.items()} == theirs.bpe_ranks
    assert (ours.sot_token_id, ours.eot_token_id) == (theirs.sot_token_id, theirs.eot_token_id) == (49406, 49407)


def test_words_that_never_end_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_pairs, "_WORDS", 50)
    pairs, theirs = BytePairs(), SimpleTokenizer()
    words = [f"{first}{second}q" for first in "abcdefghij" for second in "klmnopqrst"]
    for word in words:
        assert pairs.encode(word) == theirs.encode(word) and len(pairs._known) <= 50
    assert pairs.encode("<start_of_text> cat <end_of_text>") == theirs.encode("<start_of_text> cat <end_of_text>")
    assert pairs.encode("<start_of_text>")[0] == pairs.sot_token_id
