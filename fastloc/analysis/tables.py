"""The analyses of a model on scenes as plain rows, ready for CSV: one function for each file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastloc.analysis import blocks
from fastloc.analysis.metrics import auc, central, contrast, coverage, lift
from fastloc.analysis.scenes import Scene
from fastloc.checkpoints.vit_weights import Weights
from fastloc.errors import FastlocError, ModelError

if TYPE_CHECKING:
    from fastloc.engine.localizer import Localizer

__all__ = ["COLUMNS", "attentions", "methods", "modules"]

Row = dict[str, Any]
Rows = list[Row]
COLUMNS = {
    "modules": ("picture", "text", "kind", "block", "module", "mode", "cosine"),
    "attention": ("picture", "text", "anchor", "block", "attention", "lift", "auc"),
    "methods": ("picture", "text", "method", "inside", "outside", "score", "refusal"),
}
MODES = ("contribution", "accumulated")
# the patch whose attention is measured: the one most similar to the text, or the one deepest in the object
ANCHORS = ("text", "object")


def modules(localizer: Localizer, scenes: Sequence[Scene]) -> Iterator[Row]:
    """Yield module-wise cosines, see `fastloc.analysis.blocks.module_cosines`. Blocks count from 1."""
    weights = _weights(localizer)
    for scene in scenes:
        names = scene.positives + scene.negatives
        texts, pixels = _inputs(localizer, weights, scene, names)
        with torch.inference_mode():
            both = blocks.module_cosines(weights, pixels, texts)
        for mode, values in zip(MODES, both, strict=True):
            for (block, module, index), cosine in np.ndenumerate(_array(values[0])):
                kind = "positive" if index < len(scene.positives) else "negative"
                yield {"picture": scene.name, "text": names[index], "kind": kind, "block": block + 1,
                       "module": blocks.MODULES[module], "mode": mode, "cosine": float(cosine)}  # fmt: skip


def attentions(localizer: Localizer, scenes: Sequence[Scene]) -> Iterator[Row]:
    """Yield the share of a patch's attention that falls on the object, mean over heads. Blocks count from 1.

    See `fastloc.analysis.blocks.attention_rows`.

    Scenes without masks, and texts whose object the model does not see, give no rows.
    """
    weights = _weights(localizer)
    for scene in scenes:
        if scene.masks is None:
            continue
        texts, pixels = _inputs(localizer, weights, scene, scene.positives)
        geometry = localizer.geometry(scene.picture.size[::-1])
        grid = geometry.grid(weights.spec.patch)
        covered = [coverage(mask, geometry, grid) for mask in scene.masks]
        with torch.inference_mode():
            chosen = blocks.anchors(weights, pixels, texts)[0].tolist() + [central(each) for each in covered]
            rows = blocks.attention_rows(weights, pixels, torch.tensor([chosen], device=pixels.device))[0]
        # [L, 4, anchors, texts, H, h, w]
        shaped = _array(rows).reshape(*rows.shape[:2], len(ANCHORS), len(covered), rows.shape[3], *grid)
        for place, text in enumerate(scene.positives):
            if np.nansum(covered[place]) > 0:
                yield from _qualities(scene.name, text, shaped[:, :, :, place], covered[place])


def _qualities(picture: str, text: str, rows: NDArray[Any], covered: NDArray[np.float64]) -> Iterator[Row]:
    """Yield the rows of one object, from attention rows [L, 4, anchors, H, h, w]."""
    lifts, areas = lift(rows, covered).mean(-1), auc(rows, covered).mean(-1)
    for block, term, anchor in np.ndindex(lifts.shape):
        yield {"picture": picture, "text": text, "anchor": ANCHORS[anchor], "block": block + 1, "attention": blocks.ATTENTIONS[term],
               "lift": float(lifts[block, term, anchor]), "auc": float(areas[block, term, anchor])}  # fmt: skip


def methods(localizer: Localizer, scenes: Sequence[Scene], names: Sequence[str], step: Callable[[], None] = lambda: None) -> Iterator[Row]:
    """Yield the score of opposite visualisation of methods by name, see `fastloc.analysis.metrics.contrast`.

    Each method sees a scene's positive texts together. A method that cannot run is one row with the reason; step is called after each
    method.
    """
    masked = [scene for scene in scenes if scene.masks is not None]
    for name in names:
        try:
            ours = localizer.with_method(name)
            found = [row for scene in masked for row in _contrasts(ours, scene)]
        except FastlocError as error:
            found = [{"method": name, "refusal": " ".join(str(error).split())}]
        yield from found
        step()


def _contrasts(localizer: Localizer, scene: Scene) -> Iterator[Row]:
    assert scene.masks is not None
    result = localizer(scene.picture, scene.positives)
    for text, similarity, mask in zip(scene.positives, result.similarity, scene.masks, strict=True):
        inside, outside = contrast(similarity, result.geometry, mask, result.reverse)
        if np.isfinite(inside):
            yield {"picture": scene.name, "text": text, "method": localizer.method, "inside": inside, "outside": outside,
                   "score": inside - outside}  # fmt: skip


def _weights(localizer: Localizer) -> Weights:
    """The ViT's weights, never in half precision, because the analyses compare small contributions."""
    weights = localizer.weights
    if not isinstance(weights, Weights):
        raise ModelError(f"{localizer.source.name}: the blocks of a ViT are analysed, and this is another tower")
    return weights.to(dtype=torch.promote_types(weights.dtype, torch.float32))


def _inputs(localizer: Localizer, weights: Weights, scene: Scene, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The embedded texts [T, E] and the pixels [1, 3, h, w]."""
    texts = localizer.source.text(list(names), localizer.template).to(weights.device, weights.dtype)
    pixels = localizer.pixels(scene.picture, localizer.geometry(scene.picture.size[::-1]))[None]
    return texts, pixels.to(weights.device, weights.dtype)


def _array(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.cpu().numpy()
    return array
