"""The engine, and torch.compile of the functional pass, as contenders."""

import json
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastloc.bench import run_facts
from fastloc.bench.backends import official_gem
from fastloc.bench.backends.table import Backend
from fastloc.bench.cases import Case, empty_text, read_inputs
from fastloc.bench.models import open_clip_tower, weights_of
from fastloc.bench.peers.protocol import Passes
from fastloc.checkpoints.families.kinds import AnyWeights
from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine import device_heatmaps
from fastloc.engine.plan import DTYPES, FIELDS
from fastloc.engine.tower_kinds import AnyEngine, AnyTower, tower_kind
from fastloc.functional import resnet
from fastloc.functional.hierarchical import cells, forms
from fastloc.functional.similarity import grids as functional
from fastloc.functional.vit import image_embedding, positions
from fastloc.imaging.geometry import fit
from fastloc.imaging.preprocess import prepare
from fastloc.recipes import recipe


def versions() -> dict[str, str]:
    """Versions of the packages that compute in this process."""
    return run_facts.versions("fastloc", "torch", "triton", "numpy")


def _weights(case: Case) -> AnyWeights:
    return _read(case.weights, json.dumps([case.config, case.preprocess], sort_keys=True))


@lru_cache(maxsize=1)
def _read(file: str, described: str) -> AnyWeights:
    config, preprocess = json.loads(described)
    return weights_of(config, preprocess, file)


@lru_cache(maxsize=1)
def _tower(weights: AnyWeights, device: torch.device, dtype: str) -> AnyTower:
    made: AnyTower = tower_kind(weights).tower(weights, device, dtype)
    return made


def _transformer(case: Case) -> Weights:
    """The weights for a contender that no other tower reaches, see `fastloc.bench.towers.kinds.no_backend`."""
    weights = _weights(case)
    assert isinstance(weights, Weights)
    return weights


class Inputs:
    """A case's inputs: normalised pixels and texts on its device, frames in host memory."""

    def __init__(self, case: Case) -> None:
        arrays = read_inputs(case.to_dict())
        device = torch.device(case.device)
        self.pixels = [torch.from_numpy(each).to(device) for each in arrays["pixels"]]
        self.texts = torch.from_numpy(arrays["texts"][0]).to(device)
        empty = torch.from_numpy(empty_text(arrays["texts"][0])).to(device)
        self.empty = empty if case.recipe.reads_empty(len(self.texts)) else None
        self.frames = arrays["frames"][0]

    def of(self, index: int) -> Tensor:
        return self.pixels[index % len(self.pixels)]


def engine(row: Backend, case: Case) -> Passes:
    """fastloc's engine by the backend's plan."""
    torch.set_num_threads(case.threads)
    _strict()
    device = torch.device(case.device)
    weights = _weights(case)
    method = case.recipe
    settings = {**(row.settings if device.type == "cuda" else {}), **case.settings, "dtype": case.dtype}
    run: AnyEngine = tower_kind(weights).engine(_tower(weights, device, case.dtype), method, settings)
    inputs = Inputs(case)
    geometry = fit(case.frame, case.size, weights.spec.patch)
    plan, order = run.plan(case.batch, case.size), method.readout

    def model(index: int) -> Tensor:
        return run(inputs.of(index), inputs.texts, inputs.empty)[0]

    def whole(index: int) -> np.ndarray[Any, Any]:
        if plan.frames == "pillow":
            from PIL import Image

            spec = weights.spec
            pictures = [prepare(Image.fromarray(each), geometry, spec.mean, spec.std, spec.interpolation) for each in inputs.frames]
            grids = run(torch.from_numpy(np.stack(pictures)), inputs.texts, inputs.empty)[0]
        else:
            grids = run(torch.from_numpy(inputs.frames).to(device), inputs.texts, inputs.empty, geometry=geometry)[0]
        heat = device_heatmaps.heatmaps(grids, geometry, order.order, order.scale, order.reverse, fused=plan.readout == "triton")
        return heat.cpu().numpy()

    columns = {"plan": {name: getattr(plan, name) for name in FIELDS}}
    return Passes(model, lambda: model(0).float().cpu().numpy(), whole, device.type, columns=columns)


def compiled(row: Backend, case: Case) -> Passes:
    """torch.compile of the functional pass, a shape at a time."""
    torch.set_num_threads(case.threads)
    _strict()
    device = torch.device(case.device)
    weights = _transformer(case).to(device, DTYPES[case.dtype])
    method, inputs = case.recipe, Inputs(case)

    def plain(pixels: Tensor) -> Tensor:
        return functional(weights, pixels, inputs.texts, method, inputs.empty)[0]

    torch.compiler.reset()
    fast = torch.compile(plain, mode="reduce-overhead" if device.type == "cuda" else "default", dynamic=False)

    def model(index: int) -> Tensor:
        # its outputs lie in the graph's memory, and are given up by the next call
        if device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            found: Tensor = fast(inputs.of(index))
        return found

    return Passes(model, lambda: model(0).float().cpu().numpy(), None, device.type)


def official(row: Backend, case: Case) -> Passes:
    """GEM as the official package executes it: both paths through every block, every N x N map written."""
    torch.set_num_threads(case.threads)
    _strict()
    if case.method != "gem" or set(case.changes) - {"blocks", "iterations"}:
        raise ValueError("the official form is GEM's, with its blocks and iterations")
    device = torch.device(case.device)
    weights, method, inputs = _transformer(case).to(device, DTYPES[case.dtype]), case.recipe, Inputs(case)

    @torch.inference_mode()
    def model(index: int) -> Tensor:
        return official_gem.gem(weights, inputs.of(index), inputs.texts, method.blocks + 1, method.iterations)

    return Passes(model, lambda: model(0).float().cpu().numpy(), None, device.type)


def embedding(row: Backend, case: Case) -> Passes:
    """The untouched encoder as the engine runs it: the cosines [B, T, 1, 1] of its image embedding, and no patch is read."""
    torch.set_num_threads(case.threads)
    _strict()
    device, inputs = torch.device(case.device), Inputs(case)
    weights = _tower(_weights(case), device, case.dtype).weights
    grid = case.size[0] // weights.spec.patch[0], case.size[1] // weights.spec.patch[1]
    # as open_clip resizes them
    resized, texts = recipe("itsm", position="bicubic-antialias"), inputs.texts.to(weights.dtype)
    embed: Callable[[Tensor], Tensor]
    if isinstance(weights, HierarchicalWeights):
        embed = partial(_of_last_map, weights)
    elif isinstance(weights, ResNetWeights):
        embed = partial(resnet.image_embedding, weights, table=resnet.position_table(weights, grid, resized))
    else:
        assert isinstance(weights, Weights)
        embed = partial(image_embedding, weights, places=positions(weights, grid, resized))

    @torch.inference_mode()
    def model(index: int) -> Tensor:
        found = embed(inputs.of(index).to(weights.dtype))
        return (torch.nn.functional.normalize(found, dim=-1) @ texts.T)[..., None, None]

    return Passes(model, lambda: model(0).float().cpu().numpy(), None, device.type)


def _of_last_map(weights: HierarchicalWeights, pixels: Tensor) -> Tensor:
    return cells.embedding(weights.head, forms.features(weights, pixels))


def open_clip(row: Backend, case: Case) -> Passes:
    """The untouched encoder as open_clip runs it: the cosines [B, T, 1, 1] of its image embedding."""
    torch.set_num_threads(case.threads)
    _strict()
    device, inputs = torch.device(case.device), Inputs(case)
    tower = open_clip_tower(case.config, case.weights, case.size).to(device, DTYPES[case.dtype])
    texts = inputs.texts.to(DTYPES[case.dtype])

    @torch.inference_mode()
    def model(index: int) -> Tensor:
        found = tower(inputs.of(index).to(texts.dtype))
        embedding = torch.nn.functional.normalize(found[0] if isinstance(found, tuple) else found, dim=-1)
        return (embedding @ texts.T)[..., None, None]

    return Passes(model, lambda: model(0).float().cpu().numpy(), None, device.type)


def _strict() -> None:
    """Float32 means float32: no TF32 in products nor in convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False

