"""A model's register neurons, found in a few pictures: those that are most active where a patch has grown into an outlier.

`find_register_neurons` of Jiang et al. (arXiv 2506.08010; nickjiang2378/test-time-registers, shared/algorithms.py) and the filter by depth
of their notebook.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints.digests import digest
from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine.calibration import inputs
from fastloc.engine.model_reader import ModelReader
from fastloc.engine.registers.of_model import NO_TOKENS
from fastloc.errors import FastlocError, RecipeError
from fastloc.functional import block_trace
from fastloc.functional.blocks import activated, embed
from fastloc.functional.folding import fold
from fastloc.functional.op_set import TORCH
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.vit import forward, positions
from fastloc.recipes import recipe
from fastloc.recipes.register_neurons import RegisterNeurons
from fastloc.utils.schema import count, number

__all__ = ["Rule", "Search", "neuron_scores", "outliers_left", "search"]

# with `Rule.sparse`: a neuron is idle in a token below this value, and kept if it is idle in this share of the tokens; the authors' numbers
IDLE, IDLE_SHARE = 0.5, 0.5
# a recipe that reads every row of every block
_ROW = recipe("legrad", start=0)


@dataclass(frozen=True)
class Rule:
    """The rule of the search: outlier tokens, and the neurons that are kept.

    threshold: the length beyond which a token is one, the class token too, as the authors have it: 30 for ViT-B/16 of OpenAI and LAION.
        None: patches longer than `ratio` times the median patch of their picture, which fits any model.
    at: the block behind which lengths are taken, from the end where negative; the authors' -2 for DINOv2-L.
    depth: the share of the depth whose neurons are kept, from the first block on; the authors' 6 of 12 blocks, and 18 of 24 for DINOv2-L.
    top: how many neurons are kept; the authors' 10, and 50 for DINOv2-L.
    sparse: neurons are kept that are idle in at least half of a picture's tokens, as in the authors' notebook.
    """

    threshold: float | None = None
    ratio: float = 3.0
    at: int = -1
    depth: float = 0.5
    top: int = 10
    sparse: bool = True

    def __post_init__(self) -> None:
        if self.threshold is not None:
            number("threshold", self.threshold, 1e-6, 1e6)
        number("ratio", self.ratio, 1 + 1e-6, 1e6)
        number("depth", self.depth, 1e-6, 1)
        count("top", self.top, 1 << 20)

    @property
    def words(self) -> str:
        """The rule for outliers in words."""
        place = "" if self.at == -1 else f" behind block {self.at}"
        if self.threshold is not None:
            return f"tokens longer than {self.threshold:g}{place}"
        return f"patches longer than {self.ratio:g} times the median patch of their picture{place}"

    def outliers(self, tokens: Tensor, prefix: int) -> Tensor:
        """True for the outliers of one picture's tokens [N, C], bool [N]; `prefix` of them stand in front of the patches."""
        return self.lengths(tokens, prefix) > (self.ratio if self.threshold is None else self.threshold)

    def lengths(self, tokens: Tensor, prefix: int) -> Tensor:
        """The numbers that the rule compares, [N]: lengths, or the patches' lengths in medians and 0 for the tokens in front."""
        found: Tensor = torch.linalg.vector_norm(tokens, dim=-1, dtype=torch.promote_types(tokens.dtype, torch.float32))
        if self.threshold is not None:
            return found
        return torch.cat([torch.zeros_like(found[:prefix]), found[prefix:] / found[prefix:].median().clamp_min(1e-30)])


@dataclass(frozen=True)
class Search:
    """The result: the neurons and, in their order, the score of each, its mean magnitude at the outliers."""

    neurons: RegisterNeurons
    scores: tuple[tuple[float, ...], ...]


@torch.inference_mode()
def search(
    localizer: ModelReader, pictures: Sequence[Any], rule: Rule | None = None, *, registers: int = 1, source: str = "pictures"
) -> Search:
    """Find a model's register neurons.

    Args:
        localizer: the model with its preprocessing; the method is not read.
        pictures: anything that `fastloc.imaging.images.load` takes, one or more; the authors take 500.
        registers: the number of tokens that take the neurons over.
        source: a description of the pictures.

    Raises:
        FastlocError: no token of any picture is an outlier, so there is nothing to move.
        RecipeError: no picture, or a block that the model does not have. ImageError: a picture cannot be read.
    """
    rule = rule or Rule()
    if not pictures:
        raise RecipeError("pictures to look for outliers in must be one or more, got none")
    weights = localizer.source.transformer("for test-time registers", NO_TOKENS).to(localizer.device)
    deep = _deep(weights, rule)
    total, seen, tokens, longest, sizes = torch.zeros(()), 0, 0, 0.0, []
    for pixels in inputs(localizer, pictures):
        sizes.append((pixels.shape[-2], pixels.shape[-1]))
        scores, there, length = neuron_scores(weights, pixels, rule)
        longest = max(longest, length)
        if there:
            total, seen, tokens = total.to(scores) + scores, seen + 1, tokens + there
    if not seen:
        what = f"patch is {longest:.3g} times the median" if rule.threshold is None else f"token is {longest:.3g}"
        raise FastlocError(
            f"{localizer.source.name} has no outlier tokens in the pictures given ({len(pictures)}): the longest {what}, "
            f"and outliers are {rule.words}; it needs no registers, or give another threshold"
        )
    mean = (total / seen)[:deep]
    kept, width = mean.flatten().topk(min(rule.top, mean.numel())), mean.shape[1]
    scored = {divmod(int(place), width): float(value) for value, place in zip(*kept, strict=True) if value > 0}
    if not scored:
        raise FastlocError(f"no neuron of the first {deep} blocks is active at outliers alone; give a greater depth, or sparse=False")
    table = {block: sorted(neuron for at, neuron in scored if at == block) for block in sorted({block for block, _ in scored})}
    found = RegisterNeurons(
        neurons=tuple((block, tuple(neurons)) for block, neurons in table.items()), registers=registers, outliers=rule.words, tokens=tokens,
        sizes=tuple(dict.fromkeys(sizes)), pictures=seen, source=source, model=localizer.source.name, tower=digest(localizer.source.vit),
    )  # fmt: skip
    return Search(found, tuple(tuple(scored[block, neuron] for neuron in neurons) for block, neurons in table.items()))


def _deep(weights: Weights, rule: Rule) -> int:
    """The number of first blocks that have neurons to keep."""
    layers = weights.spec.layers
    if not -layers <= rule.at < layers:
        raise RecipeError(f"block {rule.at} must be one of the model's, 0 … {layers - 1}, or from the end where negative")
    deep = min(math.floor(rule.depth * layers + 1e-9), layers - 1)
    if deep < 1:
        raise RecipeError(f"depth must leave a block before the last of the model's {layers}, got {rule.depth:g}")
    return deep


def neuron_scores(weights: Weights, pixels: Tensor, rule: Rule) -> tuple[Tensor, int, float]:
    """Each neuron's score [L, M] in one picture [1, 3, H, W], the number of outliers, and the largest length that was compared."""
    prepared, spec = fold(weights, _ROW), weights.spec
    tokens, grid = patch_tokens(prepared.weights, pixels)
    places = positions(prepared.weights, grid, _ROW)
    found = block_trace.traces(prepared, embed(prepared.weights, tokens, places), places, TORCH, 0)
    end = found[rule.at].out[0]
    there, longest = rule.outliers(end, spec.prefix), float(rule.lengths(end, spec.prefix).max())
    if not there.any():
        return torch.zeros(()), 0, longest
    rows = []
    for trace in found:
        values = activated(trace.hidden[0], spec)
        idle = (values < IDLE).sum(0) >= IDLE_SHARE * len(values)
        rows.append(values[there].abs().mean(0) * (idle if rule.sparse else 1))
    return torch.stack(rows).double(), int(there.sum()), longest


@torch.inference_mode()
def outliers_left(localizer: ModelReader, pictures: Sequence[Any], rule: Rule, found: RegisterNeurons) -> tuple[int, int]:
    """Counts of the outlier patches of all pictures together, without registers and with them."""
    weights, counts = localizer.source.vit.to(localizer.device), [0, 0]
    rows = recipe("itsm", position=_ROW.position), recipe("itsm", position=_ROW.position, registers=found.registers, neurons=found.neurons)
    name = f"block{rule.at % weights.spec.layers}"
    for pixels in inputs(localizer, pictures):
        for i, row in enumerate(rows):
            prefix = weights.spec.prefix + row.registers
            end = forward(weights, pixels, row, capture=(name,)).captured[name][0]
            counts[i] += int(rule.outliers(end, prefix)[prefix:].sum())
    return counts[0], counts[1]
