"""A folder in transformers' layout: config.json, weights in one file or several, and the files of processor and tokenizer.

It does not need transformers itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastloc.checkpoints.byte_pairs import BytePairs
from fastloc.checkpoints.foreign import processor
from fastloc.checkpoints.foreign.transformers_config import Class, class_of, model_config
from fastloc.errors import ModelError
from fastloc.utils.schema import plain, read_file, shown

__all__ = ["CONFIG", "TOKENIZERS", "WEIGHTS", "Folder", "shards", "weights"]

CONFIG = "config.json"
_INDEX = ".index.json"
# safetensors first: it holds tensors and nothing else
WEIGHTS = ("model.safetensors", f"model.safetensors{_INDEX}", "pytorch_model.bin", f"pytorch_model.bin{_INDEX}")
# any one of these files makes a tokenizer
TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
# the most bytes of a tokenizer's file: Gemma's is 34 MB
_MOST = 1 << 28
# the divisor of TIPSv2's cosines if neither the weights nor the configuration contain it
_TIPS_TEMPERATURE = 0.005065968260169029
# the names of CLIP's two special tokens in transformers and in open_clip's vocabulary
_SPECIAL = {"<|startoftext|>": "<start_of_text>", "<|endoftext|>": "<end_of_text>"}


@dataclass(frozen=True)
class Folder:
    """The content of a folder's configuration: the class, and the model in open_clip's form without its tokenizer."""

    path: Path
    model_class: Class
    config: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Folder:
        """Read config.json. Raises ModelError for a damaged file or an unsupported model."""
        file = path / CONFIG
        content = _json(file, "model configuration")
        return cls(path, class_of(content, str(file)), _with_scale(content, model_config(content, str(file))))

    def preprocess(self) -> dict[str, Any]:
        """The preprocess_cfg. Raises ModelError for a processor that contradicts the model."""
        file = next((self.path / name for name in processor.FILES if (self.path / name).is_file()), self.path / processor.FILES[0])
        content = _json(file, "processor") if file.is_file() else {}
        return processor.preprocess_config(content, self.model_class, self.config["vision_cfg"]["vit"], str(file))

    def with_tokenizer(self) -> dict[str, Any]:
        """The configuration with its tokenizer, CLIP's own if the folder's is equal. Raises ModelError for a folder without one."""
        file = next((self.path / name for name in TOKENIZERS if (self.path / name).is_file()), None)
        if file is None:
            raise ModelError(
                f"model directory {str(self.path)!r} must hold the tokenizer of its {self.model_class.name}, {TOKENIZERS[0]}, got none; "
                "put the file there"
            )
        if not self.model_class.clean and _is_clips(self.path):
            return self.config
        kind = "tokenizer_config.json"
        named = _json(self.path / kind, "tokenizer").get("tokenizer_class") if (self.path / kind).is_file() else None
        clean = self.model_class.clean.get(str(named).removesuffix("Fast"), self.model_class.clean.get("", "lower"))
        text = {**self.config["text_cfg"], "hf_tokenizer_name": self.path.name or ".", "tokenizer_kwargs": {"clean": clean}}
        return {**self.config, "text_cfg": text}


def weights(path: Path) -> Path:
    """The file of a folder's weights, or of their index. Raises ModelError if there is none."""
    found = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if found is None:
        raise ModelError(f"model directory {str(path)!r} holds no {' or '.join(WEIGHTS)}")
    return found


def shards(file: Path) -> list[str]:
    """The names of the files that an index lists, each once; empty for a file that is no index.

    Raises:
        ModelError: a damaged index, or a name with a path.
    """
    if not file.name.endswith(_INDEX):
        return []
    table = _json(file, "index of weights").get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ModelError(f"index of weights {str(file)!r} is damaged (weight_map must be an object of names, got {shown(table)})")
    for name in table.values():
        # a path could read another folder's files
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or not name.endswith((".safetensors", ".bin")):
            raise ModelError(
                f"index of weights {str(file)!r} is damaged (a file must be a .safetensors or .bin beside it, got {shown(name)})"
            )
    return list(dict.fromkeys(table.values()))


def _with_scale(content: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """TIPSv2's configuration with the scale of its cosines, which is missing in published weights."""
    if content["model_type"] != "tipsv2":
        return config
    given = content.get("temperature_init_value")
    temperature = given if isinstance(given, (int, float)) and 1e-6 <= given <= 1e6 else _TIPS_TEMPERATURE
    return {**config, "init_logit_scale": -math.log(temperature)}


def _is_clips(path: Path) -> bool:
    """True if a folder's byte pairs equal those that come with open_clip."""
    vocabulary, merges = path / "vocab.json", path / "merges.txt"
    if vocabulary.is_file() and merges.is_file():
        words: Any = _json(vocabulary, "tokenizer")
        lines = read_file(merges, f"tokenizer {str(merges)!r}", _MOST).decode(errors="replace").splitlines()
        pairs = [line for line in lines if line and not line.startswith("#version")]
    elif (path / TOKENIZERS[0]).is_file():
        model = _json(path / TOKENIZERS[0], "tokenizer").get("model")
        words, found = (model.get("vocab"), model.get("merges")) if isinstance(model, dict) else (None, None)
        pairs = [" ".join(each) if isinstance(each, list) else each for each in found] if isinstance(found, list) else []
    else:
        return False
    own = BytePairs()
    if not isinstance(words, dict) or len(words) != len(own.encoder) or pairs != own.merges:
        return False
    return {_SPECIAL.get(word, word): number for word, number in words.items()} == own.encoder


def _json(path: Path, what: str) -> dict[str, Any]:
    name = f"{what} {str(path)!r}"
    most = _MOST if what == "tokenizer" else None
    return plain(read_file(path, name, most), f"{name} is damaged", most)
