"""A tokenizer from a folder with a tokenizer.json, as transformers and open_clip read it, with only the `tokenizers` package.

tokenizer_config.json and special_tokens_map.json hold the rest: the padding token and its side. Some classes of transformers frame texts
by themselves, whatever tokenizer.json contains: each is a row of a table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints.text.repair import cleaned
from fastloc.errors import ModelError
from fastloc.text import definition
from fastloc.text.tokenizer import Tokens, parsed
from fastloc.utils.schema import plain, read_file, shown

__all__ = ["FILE", "SLOW", "FolderTokenizer"]

FILE = "tokenizer.json"
_CONFIG, _SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
# the files that only transformers reads, if there is no tokenizer.json
SLOW = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.json", "vocab.txt")
# the most bytes of a definition: MetaCLIP 2's has 901,629 words on lines of their own
_MOST, _MOST_CONFIG = 1 << 28, 1 << 26
# the defaults if neither file names a token
_PADS, _SEPARATORS = ("<pad>", "[PAD]"), ("[SEP]", "</s>")
_LANGUAGE = "eng_Latn"


@dataclass(frozen=True)
class _Family:
    """The framing that a class of transformers adds by itself.

    Attributes:
        start, end: the defaults of a start and an end token if tokenizer_config.json sets only one of the two; with None, or if it sets
            neither, tokenizer.json decides
        side: the default side of padding
        language: True if a text begins with its language's token
    """

    start: bool | None = None
    end: bool | None = None
    side: str = "right"
    language: bool = False


# by tokenizer_class, without "Fast"
_FAMILIES = {
    "GemmaTokenizer": _Family(True, False, "left"),
    "LlamaTokenizer": _Family(True, False, "left"),
    "Siglip2Tokenizer": _Family(side="left"),
    "NllbTokenizer": _Family(language=True),
}


class FolderTokenizer:
    """Texts to token ids.

    Args:
        folder: holds a tokenizer.json.
        context_length: ids in a row; longer texts are cut, shorter ones padded.
        clean: the cleaning of texts before, see `fastloc.text.cleaning`.
        strip_sep_token: its id becomes 0, as CLIPA was trained.
        language: of texts, for tokenizers that mark it.

    Raises:
        ModelError: a damaged file, or a token that the vocabulary does not have. FastlocError: `tokenizers` is not installed.
    """

    def __init__(
        self, folder: Path, context_length: int, clean: str = "whitespace", strip_sep_token: bool = False, language: str | None = None
    ) -> None:
        self.folder, self.context_length, self.kind = folder, context_length, clean
        path = folder / FILE
        text = read_file(path, f"tokenizer {str(path)!r}", _MOST).decode(errors="replace")
        definition.check_parts(text, str(path), _MOST)
        inner = parsed(text, str(path))
        del text
        config = {**_json(folder / _SPECIAL), **_json(folder / _CONFIG)}
        family = _FAMILIES.get(str(config.get("tokenizer_class")).removesuffix("Fast"), _Family())
        self._frame(inner, config, family, language)
        token, self.pad = self._token(inner, config, "pad_token", _PADS)
        side = config.get("padding_side", family.side)
        for name, value in (("padding_side", side), ("truncation_side", config.get("truncation_side", "right"))):
            if value not in ("left", "right"):
                raise ModelError(f"{folder / _CONFIG}: {name} must be left or right, got {shown(value)}")
        inner.enable_truncation(context_length, direction=config.get("truncation_side", "right"))
        inner.enable_padding(length=context_length, direction=side, pad_id=self.pad, pad_token=token)
        self.zeroed = self._token(inner, config, "sep_token", _SEPARATORS)[1] if strip_sep_token else None
        self.tokens = Tokens.around(inner, partial(cleaned, kind=clean), self.zeroed, str(path))

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """The ids, int64 [n, context]."""
        return torch.from_numpy(self.tokens([texts] if isinstance(texts, str) else list(texts))[0])

    def length(self, text: str) -> int:
        """The number of tokens that a text has uncut, including start and end tokens."""
        return self.tokens([text])[1][0]

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to a text."""
        return str(self.tokens.inner.decode([int(each) for each in ids], skip_special_tokens=False))

    @property
    def vocabulary(self) -> int:
        """The number of possible ids."""
        return int(self.tokens.inner.get_vocab_size())

    @property
    def definition(self) -> str:
        """The tokenizer without its cleaning as JSON for `tokenizers`; it cuts and pads texts to the context."""
        return str(self.tokens.inner.to_str())

    def _token(self, inner: Any, config: dict[str, Any], name: str, usual: Sequence[str]) -> tuple[str, int]:
        """A special token and its id."""
        token = _content(config.get(name)) or next((each for each in usual if inner.token_to_id(each) is not None), None)
        if token is None:
            raise ModelError(f"{self.folder / _CONFIG}: {name} must be a token of {FILE}, and there is none; add it to the file")
        number = inner.token_to_id(token)
        if number is None:
            where = self.folder / _CONFIG
            raise ModelError(f"{where}: {name} must be a token of {FILE}, got {shown(token)}; these files do not belong together")
        return token, int(number)

    def _frame(self, inner: Any, config: dict[str, Any], family: _Family, language: str | None) -> None:
        """Add the start and end tokens that the class of transformers puts around texts."""
        if family.language:
            code = language or config.get("src_lang") or _LANGUAGE
            ends, legacy = self._token(inner, config, "eos_token", ("</s>",))[0], bool(config.get("legacy_behaviour"))
            if not isinstance(code, str) or inner.token_to_id(code) is None:
                raise ModelError(f"{self.folder / FILE}: the language must be one of its tokens, such as {_LANGUAGE}, got {shown(code)}")
            before, after = ([], [ends, code]) if legacy else ([code], [ends])
        elif language is not None:
            raise ModelError(f"{self.folder / _CONFIG}: language must be left out for a tokenizer that marks none, got {shown(language)}")
        elif family.start is not None and ("add_bos_token" in config or "add_eos_token" in config):
            before = [self._token(inner, config, "bos_token", ("<bos>", "<s>"))[0]] if config.get("add_bos_token", family.start) else []
            after = [self._token(inner, config, "eos_token", ("<eos>", "</s>"))[0]] if config.get("add_eos_token", family.end) else []
        else:
            return
        template: Callable[..., Any] = _template()
        tokens = [(each, inner.token_to_id(each)) for each in dict.fromkeys([*before, *after])]
        inner.post_processor = template(single=[*before, "$A", *after], pair=[*before, "$A", "$B", *after], special_tokens=tokens)


def _template() -> Callable[..., Any]:
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing


def _json(path: Path) -> dict[str, Any]:
    """The content of an optional file."""
    if not path.is_file():
        return {}
    return plain(read_file(path, f"tokenizer {str(path)!r}", _MOST_CONFIG), f"tokenizer {str(path)!r} is damaged", _MOST_CONFIG)


def _content(token: Any) -> str | None:
    """The text of a token in transformers' files, which hold the text or an object with it."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) and found else None
