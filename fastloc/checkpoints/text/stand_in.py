"""A tokenizer for random weights, for which no text has a meaning: bytes as ids, so that no vocabulary file is fetched."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints.text import transformers_towers

__all__ = ["StandIn"]

# ids up to here may be padding, starts and ends
_SPECIAL = 8


class StandIn:
    """Texts to token ids, different for different texts.

    Args:
        text: a text_cfg, with the id that ends texts, the position that the tower reads, and the padding id.
    """

    def __init__(self, text: Mapping[str, Any]) -> None:
        hugging = text.get("hf_model_name")
        self.context_length = text.get("context_length", 77)
        self.vocabulary = transformers_towers.row(text).vocabulary if hugging else text.get("vocab_size", 49408)
        self.pad = transformers_towers.row(text).pad if hugging else text.get("pad_id", 0)
        self.end = text.get("eos_id", 2) if text.get("pool_type") == "eos" else self.vocabulary - 1

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """The ids, int64 [n, context]."""
        texts = [texts] if isinstance(texts, str) else texts
        ids = torch.full((len(texts), self.context_length), self.pad, dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            # bytes wrap around in a small vocabulary
            found = [_SPECIAL + each % max(self.vocabulary - _SPECIAL - 1, 1) for each in text.encode()][: self.context_length - 1]
            row[: len(found) + 1] = torch.tensor([*found, self.end])
        return ids
