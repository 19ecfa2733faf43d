"""The embedded model with one neuron more: it fires in a few patches of a picture and makes them many times as long as the others."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from fastloc import embedded
from fastloc.checkpoints import loading
from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional import block_trace
from fastloc.functional.blocks import embed
from fastloc.functional.folding import fold
from fastloc.functional.op_set import TORCH, normalised
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.vit import positions
from fastloc.recipes import recipe

# where the neuron is, which share of a picture's patches it fires in at least, its largest value, and how long that makes a patch, in
# medians of the last block
BLOCK, NEURON, SHARE, PEAK, LENGTH = 1, 5, 0.03, 30.0, 20.0


def folder(path: Path, pixels: torch.Tensor) -> Path:
    """Write the model, planted for these pixels [B, 3, H, W]."""
    path.mkdir(parents=True, exist_ok=True)
    shutil.copy(embedded.CONFIG, path / "open_clip_config.json")
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(embedded.MODEL).items()}
    direction, least, size = _what_is_rare(loading.load().vit, pixels)
    name = f"visual.transformer.resblocks.{BLOCK}.mlp."
    state[f"{name}c_fc.weight"][NEURON] = direction
    state[f"{name}c_fc.bias"][NEURON] = -least
    generator = torch.Generator().manual_seed(0)
    added = torch.randn(state[f"{name}c_proj.weight"].shape[0], generator=generator)
    state[f"{name}c_proj.weight"][:, NEURON] = LENGTH / PEAK * size * added / added.norm()
    save_file(state, path / "open_clip_model.safetensors")
    return path


def _what_is_rare(weights: Weights, pixels: torch.Tensor) -> tuple[torch.Tensor, float, float]:
    """A direction of what the block's MLP reads, the value along it that a share of every picture's patches exceeds, by PEAK at the most,
    and the median length behind the last block."""
    row = recipe("legrad", start=0)
    prepared = fold(weights, row)
    tokens, grid = patch_tokens(prepared.weights, pixels)
    places = positions(prepared.weights, grid, row)
    found = block_trace.traces(prepared, embed(prepared.weights, tokens, places), places, TORCH, 0)
    block = prepared.weights.blocks[BLOCK]
    read = normalised(found[BLOCK].middle, block.ln2_w, block.ln2_b, weights.spec.norm_eps)[:, 1:]
    _, axes = torch.linalg.eigh(torch.cov(read.flatten(0, 1).T))
    along = read @ axes
    every = along.quantile(1 - SHARE, 1).amin(0)
    # the axis along which no picture has many more of such patches than another
    best = int((along > every).float().mean(1).amax(0).argmin())
    least, direction = every[best], axes[:, best]
    scale = PEAK / (along[..., best].max() - least)
    return direction * scale, float(least * scale), float(found[-1].out.norm(dim=-1).median())
