"""A model's inverse temperatures, measured on a few pictures: for each changed block, head, stream and pass the one at which rows of
the self-self attention have the mean entropy log(rho N). The passes are solved one after the other; the table is the geometric mean
over the pictures.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastloc.checkpoints.digests import digest
from fastloc.checkpoints.families.kinds import AnyWeights
from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.checkpoints.vit_weights import Weights
from fastloc.embedded import SAMPLES
from fastloc.engine.model_reader import ModelReader
from fastloc.engine.tower_kinds import tower_kind
from fastloc.errors import FastlocError, ModelError, RecipeError, unknown
from fastloc.functional.attention import attend, unit
from fastloc.functional.hierarchical import fastvit, self_self
from fastloc.functional.methods.entropy_matching import entropy, matched
from fastloc.functional.vit import forward
from fastloc.imaging import images
from fastloc.recipes import Recipe, recipe
from fastloc.recipes.temperatures import Temperatures
from fastloc.recipes.validation import frozen

# the default share of the tokens, the number of last blocks, and that of sample scenes for a model without a table
RHO, BLOCKS, SCENES = 0.7, 6, 3
# (block, pass, unit vectors [B, N, S*H, d]) -> multipliers [B or 1, 1, S*H, 1]
Choice = Callable[[int, int, Tensor], Tensor]


@torch.inference_mode()
def calibrate(
    localizer: ModelReader, pictures: Sequence[Any], *, rho: float = RHO, blocks: int | None = None, iterations: int = 1,
    streams: tuple[str, ...] = ("vv", "kk", "qq"), source: str = "pictures",
) -> Temperatures:  # fmt: skip
    """Measure a model's inverse temperatures.

    Args:
        localizer: the model with its preprocessing; the method is not read.
        pictures: anything that `fastloc.imaging.images.load` takes, one or more. They need not show the things that you locate later.
        rho: the share of the tokens over which a row spreads, between 0 and 1.
        blocks, iterations, streams: as in `fastloc.recipes.Recipe`; without blocks the last `BLOCKS`, or all that the tower has. Recipes
            with fewer of them can use the same table, so the default also serves gem's one iteration.
        source: a description of the pictures.

    Returns:
        The table with its rho, source and model.

    Raises:
        ModelError: a tower whose blocks do not attend over its whole grid. RecipeError: no picture, more blocks than there are, or values
        that no recipe takes. ImageError: a picture cannot be read.
    """
    weights = measured_tower(localizer)
    usual = min(BLOCKS, tower_kind(weights).blocks(weights.spec))
    row = recipe("gem_matched", rho=rho, blocks=usual if blocks is None else blocks, iterations=iterations, terms=streams)
    if not pictures:
        raise RecipeError("pictures to calibrate on must be one or more, got none")
    logs, sizes = [], []
    for pixels in inputs(localizer, pictures):
        sizes.append((pixels.shape[-2], pixels.shape[-1]))
        logs.append(solved(weights, pixels, row).double().log())
    table = torch.cat(logs).mean(0).exp().tolist()
    return Temperatures(
        table=frozen(table), rho=rho, streams=tuple(streams), sizes=tuple(dict.fromkeys(sizes)), pictures=len(pictures), source=source,
        model=localizer.source.name, tower=digest(localizer.source.weights),
    )  # fmt: skip


def measured_tower(localizer: ModelReader) -> AnyWeights:
    """The model's image tower on its device, folded where it is hierarchical.

    Raises:
        ModelError: its blocks do not attend over its whole grid.
    """
    source = localizer.source
    if not tower_kind(source.weights).blocks(source.spec):
        raise ModelError(
            f"model must have blocks that attend over its whole grid, got {source.name}, a {source.kind}: temperatures are of their "
            "self-self attention; calibrate a ViT, a ViTamin or a MobileCLIP-S"
        )
    return (source.weights.folded() if isinstance(source.weights, HierarchicalWeights) else source.weights).to(localizer.device)


def inputs(localizer: ModelReader, pictures: Sequence[Any]) -> Iterator[Tensor]:
    """Each picture as the model's input: normalised float32 [1, 3, H, W] on its device. Raises ImageError."""
    for given in pictures:
        picture = images.load(given)
        yield localizer.pixels(picture, localizer.geometry(picture.size[::-1]))[None].to(localizer.device)


def solved(weights: AnyWeights, pixels: Tensor, row: Recipe) -> Tensor:
    """Inverse temperatures [B, blocks, H, S, passes] of each picture for the row's rho; the second pass is solved after the first."""
    found: list[Tensor] = []

    def solve(block: int, step: int, u: Tensor) -> Tensor:
        assert row.rho is not None
        found.append(matched(u, row.rho))
        return found[-1]

    for _ in walk(weights, pixels, row, solve):
        pass
    return _as_table(found, row)


def shares(weights: AnyWeights, pixels: Tensor, row: Recipe, table: Tensor) -> Tensor:
    """The share of the tokens over which rows spread with a table [blocks, H, S, passes].

    Returns: exp(mean entropy) / N, [B, blocks, H, S, passes].
    """
    flat, found = table.to(pixels).permute(0, 3, 2, 1).flatten(2)[:, :, None, None, :, None], []
    for block, step, u in walk(weights, pixels, row, lambda block, step, u: flat[block, step]):
        nats, _ = entropy(u.permute(0, 2, 1, 3), flat[block, step][:, 0, :, 0].expand(len(u), -1))
        found.append((nats.exp() / u.shape[1])[:, None, :, None])
    return _as_table(found, row)


def walk(weights: AnyWeights, pixels: Tensor, row: Recipe, choose: Choice) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (block, pass, unit vectors [B, N, S*H, d]) of every self-self attention of a recipe, with the multipliers from `choose`.

    Raises:
        RecipeError: the recipe changes more blocks than the model has.
    """
    most = tower_kind(weights).blocks(weights.spec)
    if not 1 <= row.blocks <= most:
        raise RecipeError(f"blocks must be 1 to {most} for this model, got {row.blocks}")
    for block, projected in enumerate(_projections(weights, pixels, row)):
        p = torch.cat([projected[:, "qkv".index(term[0])] for term in row.streams], 1).transpose(1, 2)
        for step in range(row.iterations + 1):
            u = unit(p)
            beta = choose(block, step, u)
            yield block, step, u
            if step < row.iterations:
                p = attend(u, u, u, beta).reshape(u.shape)


def _projections(weights: AnyWeights, pixels: Tensor, row: Recipe) -> Iterator[Tensor]:
    """The q, k and v of every block that the recipe changes, [B, 3, H, N, d]."""
    if isinstance(weights, HierarchicalWeights):
        trunk = weights.folded().trunk
        yield from self_self.projections(trunk, fastvit.tokens(trunk, pixels.to(weights.dtype)), row.blocks)
        return
    assert isinstance(weights, Weights)
    names = [f"qkv{i}" for i in range(weights.spec.layers - row.blocks, weights.spec.layers)]
    plain = recipe("itsm", position=row.position, keep_position=row.keep_position)
    captured = forward(weights, pixels, plain, capture=names).captured
    yield from (captured[name] for name in names)


def _as_table(found: list[Tensor], row: Recipe) -> Tensor:
    """Stack one [B, 1, S*H, 1] for each block and pass -> [B, blocks, H, S, passes]."""
    streams = len(row.streams)
    stacked = torch.stack(found).reshape(row.blocks, row.iterations + 1, -1, streams, found[0].shape[2] // streams)
    return stacked.permute(2, 0, 4, 3, 1)


def noise(count: int, size: tuple[int, int]) -> list[Image.Image]:
    """Seeded pictures of (height, width) with uniformly random bytes."""
    made = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return [Image.fromarray(each) for each in made]


def scenes(count: int, size: tuple[int, int]) -> list[Image.Image]:
    """The sample scenes that ship with fastloc, at most `count` of them."""
    names = sorted(json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8")))
    return [images.load(SAMPLES / f"{name}.webp") for name in names[:count]]


# pictures that need no files of yours: (count, size) -> pictures
AT_HAND: dict[str, Callable[[int, tuple[int, int]], list[Image.Image]]] = {"noise": noise, "scenes": scenes}


def at_hand(name: str, count: int, size: tuple[int, int]) -> list[Image.Image]:
    """Pictures of a row of AT_HAND. Raises FastlocError for an unknown name."""
    if name not in AT_HAND:
        raise FastlocError(unknown("source of pictures", name, AT_HAND))
    return AT_HAND[name](count, size)
