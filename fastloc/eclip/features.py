"""The frozen encoders' features of every picture and caption. They never change; as many as fit are cached in half precision."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastloc.checkpoints.text_encoder import encode_tokens
from fastloc.checkpoints.vit_weights import Weights
from fastloc.eclip.masks import free_attention
from fastloc.eclip.pairs import Left, Pair
from fastloc.eclip.settings import Settings
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError, ImageError
from fastloc.functional.position_embedding import relative_biases
from fastloc.functional.vit import forward
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.system import files
from fastloc.utils.system.lasting_pool import LastingPool

# pictures or captions encoded at a time
PICTURES, TEXTS = 16, 256
Halves = np.ndarray[Any, np.dtype[np.float16]]


def _mapped(file: Path, shape: tuple[int, ...]) -> Halves:
    """A new file of this many float16, in memory as it is needed. Raises FastlocError where the disk has no room for all of them."""
    size = 2 * int(np.prod(shape))
    try:
        with files.opened(file, "w+b") as made:
            files.reserve_all(made, size)
        return np.memmap(file, np.float16, "r+", shape=shape)
    except OSError as error:
        raise FastlocError(f"{file}: {size:,} bytes cannot be kept there ({error.strerror or error}); use another --cache") from error


class Kept:
    """Rows of float16 by index. The first ones are cached, all others are computed at every request.

    The cached rows are computed in one pass, in order, a fixed number at a time, so that a row does not depend on the time of its request.

    Args:
        shape: of one row.
        compute: indices -> rows [len, *shape], NaN in a row that does not exist.
        room: the most bytes in the cache.
        file: holds the cache, instead of memory.
    """

    def __init__(
        self, count: int, shape: tuple[int, ...], compute: Callable[[Sequence[int]], Tensor], room: int, file: Path | None = None
    ) -> None:
        self.compute = compute
        self.kept = min(count, room // (2 * int(np.prod(shape))))
        whole = (self.kept, *shape)
        self.rows: Halves = np.empty(whole, np.float16) if file is None or not self.kept else _mapped(file, whole)

    def fill(self, step: int) -> Iterator[int]:
        """Compute the cached rows; yields the number of rows so far."""
        for start in range(0, self.kept, step):
            some = range(start, min(start + step, self.kept))
            self.rows[some.start : some.stop] = self.compute(some).half().cpu().numpy()
            yield some.stop

    def __call__(self, indices: Sequence[int]) -> Tensor:
        """The rows of these indices, float16 on the CPU."""
        out = torch.empty(len(indices), *self.rows.shape[1:], dtype=torch.float16)
        missing = [place for place, index in enumerate(indices) if index >= self.kept]
        for place, index in enumerate(indices):
            if index < self.kept:
                out[place] = torch.from_numpy(self.rows[index])
        if missing:
            out[missing] = self.compute([indices[place] for place in missing]).half().cpu()
        return out


class Features:
    """The frozen encoder of a localizer, applied to pairs.

    Args:
        localizer: the model; its method is not read.
        room: the most bytes for picture features, in memory or in `file`; caption features take a tenth of it.
        workers: threads that read pictures.
    """

    def __init__(
        self, localizer: Localizer, pairs: Sequence[Pair], settings: Settings, left: Left, room: int, file: Path | None, workers: int
    ) -> None:
        self.localizer, self.pairs, self.settings, self.left = localizer, pairs, settings, left
        self.weights: Weights = localizer.weights  # type: ignore[assignment]  # of a ViT, see _check
        _check(localizer, settings)
        self.workers, self.pool = workers, LastingPool(workers)
        renewed_after_fork(self)
        spec, size = localizer.source.vit.spec, localizer.geometry((100, 100)).input
        self.grid = size[0] // spec.patch[0], size[1] // spec.patch[1]
        patches = self.grid[0] * self.grid[1]
        self.captions = list(dict.fromkeys(text for pair in pairs for text in pair.captions))
        self.places = {text: place for place, text in enumerate(self.captions)}
        # the last column is the free attention
        self.pictures = Kept(len(pairs), (patches, spec.embed + 1), self._encode, room, file)
        self.texts = Kept(len(self.captions), (spec.embed,), self._encode_texts, room // 10)

    def _at_fork_reinit(self) -> None:
        self.pool = LastingPool(self.workers)

    def fill(self) -> Iterator[tuple[int, int]]:
        """Encode all cached features; yields (done, total) in pictures and captions together."""
        total, done = self.pictures.kept + self.texts.kept, 0
        for done in self.pictures.fill(PICTURES):
            yield done, total
        for more in self.texts.fill(TEXTS):
            yield done + more, total

    def tokens(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Patch features F_i [B, P, E], the patches' free attention [B, P], and a mask of the readable pictures, bool [B]."""
        rows = self.pictures(indices).to(self.localizer.device).float()
        there = ~rows[:, 0, 0].isnan()
        rows = torch.where(there[:, None, None], rows, 0.0)
        return rows[..., :-1], rows[..., -1], there

    def sentences(self, captions: Sequence[str]) -> Tensor:
        """Text features F_t [B, E]."""
        return self.texts([self.places[text] for text in captions]).to(self.localizer.device).float()

    @torch.no_grad()
    def _encode(self, indices: Sequence[int]) -> Tensor:
        found = list(self.pool.map(self._pixels, indices))
        some = next((pixels for pixels in found if pixels is not None), None)
        rows = torch.full((len(indices), self.grid[0] * self.grid[1], self.localizer.source.vit.spec.embed + 1), torch.nan)
        if some is None:
            return rows
        pixels = torch.stack([torch.zeros_like(some) if each is None else each for each in found]).to(self.localizer.device)
        block = self.weights.spec.layers - self.settings.block
        out = forward(self.weights, pixels.to(self.weights.dtype), self.localizer.recipe, capture=[f"qkv{block}"])
        biases = relative_biases(self.weights, self.grid)
        how = self.settings.attention, self.settings.query, self.weights.spec.prefix
        attention = free_attention(out.captured[f"qkv{block}"], *how, None if biases is None else biases(block))
        there = torch.tensor([each is not None for each in found])
        rows[there] = torch.cat([out.patches.float(), attention.float()[..., None]], -1).cpu()[there]
        return rows

    def _pixels(self, index: int) -> Tensor | None:
        try:
            picture = self.pairs[index].picture()
        except ImageError:
            self.left.out("not a picture", self.pairs[index].name)
            return None
        return self.localizer.pixels(picture, self.localizer.geometry(picture.size[::-1]))

    @torch.no_grad()
    def _encode_texts(self, indices: Sequence[int]) -> Tensor:
        text = self.localizer.source.text
        tokens = text.tokenizer([self.captions[index] for index in indices]).to(self.localizer.device)
        return torch.nn.functional.normalize(encode_tokens(text.tower, tokens).float(), dim=-1)


def _check(localizer: Localizer, settings: Settings) -> None:
    spec, name = localizer.source.vit.spec, localizer.source.name
    if settings.block > spec.layers:
        raise FastlocError(f"block is {settings.block}, counted from the end, and {name} has {spec.layers}")
    if settings.query == "cls" and settings.attention != "none" and not spec.class_token:
        raise FastlocError(f"query must be 'mean' for {name}, which has no class token, got 'cls'; set it to 'mean'")
