"""The graph of a file: an image tower with its inputs and outputs, as a module that PyTorch's exporter can trace."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from fastloc.export.graph_kinds import graph_kind
from fastloc.export.outputs import MADE, Place
from fastloc.export.parts import Parts
from fastloc.functional import readout
from fastloc.functional.output import Output

__all__ = ["Graph", "Parts"]


class Graph(nn.Module):
    """A picture [B, …] and, unless they are baked, text embeddings [T, E] -> the outputs in the options' order."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts
        self.tower = graph_kind(parts.weights).tower(parts)
        self.outputs = parts.options.outputs

    def forward(self, picture: Tensor, text_embeddings: Tensor | None = None) -> tuple[Tensor, ...]:
        texts = self.parts.texts if text_embeddings is None else text_embeddings
        assert texts is not None
        score = self.parts.recipe.readout
        cls = self.parts.options.embeds or readout.needs_cls(score, self._count())
        beside = self.parts.empty if "background" in self.outputs else None
        similarity, cosines, grid = self.tower(picture, texts, self._similarity, cls, beside)
        found = {"similarity": similarity, "scores": cosines}
        if beside is not None and cosines is not None:
            found |= {"scores": cosines[:, :-1], "background": cosines[:, -1:]}
        place = Place(self.parts.geometry, (picture.shape[-2], picture.shape[-1]), grid)
        for name in self.outputs:
            if name in MADE:
                found[name] = MADE[name](similarity, place, score)
        return tuple(found[name] for name in self.outputs)  # type: ignore[misc]  # scores are an output only where there are any

    def _count(self) -> int:
        """The number of texts; 2 stands for any number."""
        return len(self.parts.options.texts) or self.parts.options.count or 2

    def _similarity(self, out: Output, texts: Tensor) -> Tensor:
        options, score = self.parts.options, self.parts.recipe.readout
        several = readout.similarity(out, texts, score, self.parts.empty)
        if score.score != "feature-surgery" or options.texts or options.count is not None:
            return several
        # any number of texts: a single one is compared with the empty text
        assert self.parts.empty is not None
        alone = torch.ones_like(texts[:, 0]).sum() < 1.5
        single = readout.similarity(out, texts - self.parts.empty, replace(score, score="cosine"))
        return torch.where(alone, single, several)
