"""Whether a contender computes what it should: no speed is reported unless its answer agrees with the literal reference in float32."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastloc import reference
from fastloc.bench.cases import Case, read_inputs
from fastloc.bench.towers import weights_of
from fastloc.recipes import RECIPES, Recipe, recipe
from fastloc.weights import Weights

Array = NDArray[np.float32]

# largest difference from the reference, over its largest value: twice what each precision needed on ViT-B/16 and the embedded model
ALLOWED = {"float64": 1e-5, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1, "int8-dynamic": 2e-1, "int8-static": 5e-1}
# N x N maps of one image that the reference holds at a time
MAPS = 6
# the reference may take this share of the memory that is free
SHARE = 0.05


@dataclass(frozen=True)
class Verdict:
    """How far an answer is from the reference, and why it is refused; "" where it is not."""

    error: float
    allowed: float
    refused: str = ""


def judged(found: Array, wanted: Array, precision: str) -> Verdict:
    """The largest difference over the largest value of what is wanted. A shape that differs, or a NaN, is refused."""
    allowed = ALLOWED[precision]
    if found.shape != wanted.shape:
        return Verdict(float("inf"), allowed, f"it answers {list(found.shape)}, and {list(wanted.shape)} is wanted")
    error = float(np.abs(found.astype(np.float64) - wanted).max() / np.abs(wanted).max())
    # written so that a NaN is refused
    if not error <= allowed:
        return Verdict(error, allowed, f"it computes something else: off by {error:.1e} of the largest value, {allowed:.0e} is allowed")
    return Verdict(error, allowed)


def fitting(case: Case) -> tuple[int, int]:
    """The size at which the reference, which writes every N x N map down, fits into memory: the case's own, or smaller of its shape."""
    heads = int(case.config["vision_cfg"]["width"]) // int(case.config["vision_cfg"].get("head_width", 64))
    most = (SHARE * available() / (MAPS * 4 * heads)) ** 0.5
    high, wide = (side // case.patch for side in case.size)
    shrunk = min(1.0, (most / (high * wide)) ** 0.5)
    return max(1, int(high * shrunk)) * case.patch, max(1, int(wide * shrunk)) * case.patch


def available() -> float:
    """Bytes of memory that are free, by Linux; 8 GB where it does not say."""
    facts = Path("/proc/meminfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    return next((int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable:")), 8e9)


@torch.inference_mode()
def grids(case: Case, kind: str = "grids") -> Array:
    """What a case must answer: similarity grids [B, T, h, w], or for kind "encoder" the image embedding's cosines [B, T, 1, 1]."""
    arrays = read_inputs(case.told())
    weights = weights_of(case.config, case.preprocess, case.weights)
    texts = torch.from_numpy(arrays["texts"][0])
    pixels = torch.from_numpy(arrays["pixels"][0])
    # image by image, for the maps' sake
    rows = [_one(weights, image[None], texts, case, kind) for image in pixels]
    return torch.cat(rows).numpy()


def _one(weights: Weights, image: Tensor, texts: Tensor, case: Case, kind: str) -> Tensor:
    if kind == "encoder":
        embedding, _ = reference.encoder(weights, image, "bicubic-antialias")
        return reference.cosine(embedding[:, None], texts).transpose(1, 2)[..., None]
    row = recipe(case.method, **case.changes)
    if row.readout.score == "feature-surgery":
        scores = _surgery(weights, image, texts, row)
    else:
        features = reference.METHODS[row.name](weights, image) if row == RECIPES[row.name] else literal(weights, image, row)
        scores = reference.cosine(features, texts)
    h, w = (side // step for side, step in zip(case.size, weights.spec.patch, strict=True))
    return scores.transpose(1, 2).reshape(1, len(texts), h, w)


def _surgery(weights: Weights, image: Tensor, texts: Tensor, row: Recipe) -> Tensor:
    embedding, _ = reference.encoder(weights, image, row.position)
    patches = literal(weights, image, row)
    if len(texts) == 1:
        empty = texts.mean(0) / texts.mean(0).norm()
        return reference.minus_empty(patches, texts, empty)
    return reference.feature_surgery(torch.cat([embedding[:, None], patches], 1), texts)[:, 1:]


def literal(weights: Weights, pixels: Tensor, row: Recipe) -> Tensor:
    """Patch features [B, P, E] of a recipe whose fields were changed, in the reference's own steps."""
    if row.blocks == 0:
        return reference.encoder(weights, pixels, row.position)[1]

    grid = pixels.shape[2] // weights.spec.patch[0], pixels.shape[3] // weights.spec.patch[1]
    bias = None if row.bias_std is None else reference.neighbourhood(grid, row.bias_std).to(weights.patch_w)

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        given, total = {"q": q, "k": k, "v": v}, torch.zeros_like(v)
        for term in row.terms:
            one = v if term == "identity" else _attended(row, term, index, y, given, bias)
            total = total + (one if row.combine == "sum" else one / len(row.terms))
        return total

    if row.mlp:
        return reference.last_block(weights, pixels, attention, row.position, plain=True)
    g, _ = reference.dual_paths(weights, pixels, row.blocks, attention, row.position, row.residual)
    return reference.project(weights, g)[:, 1:]


def _attended(row: Recipe, term: str, index: int, y: Tensor, given: dict[str, Tensor], bias: Tensor | None) -> Tensor:
    """One term of one block, head by head: [B, H, N, d]."""
    v, stream, heads = given["v"], row.streams.index(term), []
    # None is the adaptive one there, and head_width^-0.5 here
    temperature = None if row.inv_temp == "adaptive" else v.shape[-1] ** -0.5 if row.inv_temp is None else row.inv_temp
    for head in range(v.shape[1]):
        left, right = (given[letter][:, head] for letter in term)
        by = reference.multipliers_of(temperature, y, v.shape[-1], (index, head, stream), row.iterations + 1)  # type: ignore[arg-type]
        for multiplier in by[:-1]:
            left = reference.unit(left)
            left = right = reference.softmax(left @ left.mT * multiplier) @ left
        if row.unit:
            left, right = reference.unit(left), reference.unit(right)
        logits = left @ right.mT * by[-1]
        heads.append(reference.softmax(logits if bias is None else logits + bias) @ v[:, head])
    return torch.stack(heads, 1)
