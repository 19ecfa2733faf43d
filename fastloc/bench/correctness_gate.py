"""The correctness gate: no speed of a contender is reported unless its answer agrees with the literal reference in float32."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastloc.bench.cases import Case, empty_text, read_inputs
from fastloc.bench.models import weights_of
from fastloc.bench.towers import references
from fastloc.checkpoints.families.kinds import AnyWeights
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.reference import readouts

Array = NDArray[np.float32]

# largest difference from the reference, over its largest value: twice what each precision needed on ViT-B/16 and the embedded model
ALLOWED = {"float64": 1e-5, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1, "int8-dynamic": 2e-1, "int8-static": 5e-1}
# N x N maps of one image that the reference holds at a time
MAPS = 6
# the reference may take this share of the memory that is free
SHARE = 0.05


@dataclass(frozen=True)
class Verdict:
    """The error of an answer against the reference, and the reason to refuse it; "" where it is accepted."""

    error: float
    allowed: float
    refused: str = ""


def judged(found: Array, reference: Array, precision: str) -> Verdict:
    """The verdict on an answer; its error is the largest difference over the reference's largest value.

    A shape that differs, or a NaN, is refused.
    """
    allowed = ALLOWED[precision]
    if found.shape != reference.shape:
        return Verdict(float("inf"), allowed, f"its answer must be {list(reference.shape)}, got {list(found.shape)}")
    error = float(np.abs(found.astype(np.float64) - reference).max() / np.abs(reference).max())
    # written so that a NaN is refused
    if not error <= allowed:
        return Verdict(error, allowed, f"it computes something else: off by {error:.1e} of the largest value, {allowed:.0e} is allowed")
    return Verdict(error, allowed)


def fitting(case: Case) -> tuple[int, int]:
    """The size at which the reference, which writes every N x N map down, fits into memory: the case's own, or smaller of its shape.

    Another tower's is the case's own: a ResNet's pool and a FastViT's last stages alone have maps, of cells of 32 pixels and more, and a
    Swin's windows are small.
    """
    spec = case.spec
    if not isinstance(spec, ModelSpec):
        return case.size
    heads = spec.heads
    # autograd keeps what every block needs for its backward
    maps = MAPS if case.recipe.reads == "patches" else 2 * MAPS * spec.layers
    most = (SHARE * available() / (maps * 4 * heads)) ** 0.5
    height, width = (side // case.patch for side in case.size)
    shrunk = min(1.0, (most / (height * width)) ** 0.5)
    return max(1, int(height * shrunk)) * case.patch, max(1, int(width * shrunk)) * case.patch


def available() -> float:
    """Bytes of memory that are free, by Linux; 8 GB where it does not say."""
    facts = Path("/proc/meminfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    return next((int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable:")), 8e9)


@torch.no_grad()
def grids(case: Case, kind: str = "grids") -> Array:
    """The reference's answer to a case: similarity grids [B, T, h, w], or for kind "encoder" the image embedding's cosines [B, T, 1, 1]."""
    arrays = read_inputs(case.to_dict())
    weights = weights_of(case.config, case.preprocess, case.weights)
    texts = torch.from_numpy(arrays["texts"][0])
    pixels = torch.from_numpy(arrays["pixels"][0])
    # image by image, for the maps' sake
    rows = [_one(weights, image[None], texts, case, kind) for image in pixels]
    return torch.cat(rows).numpy()


def _one(weights: AnyWeights, image: Tensor, texts: Tensor, case: Case, kind: str) -> Tensor:
    if kind == "encoder":
        return readouts.cosine(references.embedding(weights, image)[:, None], texts).transpose(1, 2)[..., None]
    # what stands for the empty text wherever one is timed
    empty = torch.from_numpy(empty_text(texts.numpy()))
    row = case.recipe
    if row.reads != "patches":
        # in float32 the literal softmax has no gradient left next to a share of 1
        weights, texts, empty = references.wide(weights), texts.double(), empty.double()
    scores = references.scores(weights, image, texts, row, empty).float()
    h, w = (side // step for side, step in zip(case.size, weights.spec.patch, strict=True))
    return scores.transpose(1, 2).reshape(1, len(texts), h, w)
