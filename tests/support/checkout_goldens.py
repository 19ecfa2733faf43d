"""Answers of authors' own code, as benchmarks/official_goldens/from_checkouts stores them, and the inputs that they are of."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastloc.bench.peers.seeded import seeded_pixels, seeded_state, vision_shapes
from fastloc.checkpoints.vit_layouts import from_open_clip as weights_of
from fastloc.checkpoints.vit_spec import from_open_clip as spec_of
from fastloc.checkpoints.vit_weights import Weights
from repo import GOLDENS

Floats = npt.NDArray[Any]


def names(*methods: str) -> list[str]:
    """The files of these methods."""
    return sorted(path.stem for method in methods for path in GOLDENS.glob(f"{method}_*.npz"))


@cache
def golden(name: str) -> tuple[dict[str, Any], dict[str, Floats]]:
    """The case of a file, and its arrays."""
    with np.load(GOLDENS / f"{name}.npz") as file:
        meta = json.loads(str(file["meta"]))
        assert set(meta["source"]) >= {"repository", "commit"} and len(meta["source"]["commit"]) == 40
        return meta, {key: file[key] for key in file.files if key != "meta"}


@cache
def tower(name: str, dtype: torch.dtype = torch.float64) -> Weights:
    """The image tower with the seed's weights."""
    meta, _ = golden(name)
    state = {key: torch.from_numpy(array) for key, array in seeded_state(vision_shapes(meta["model"]), meta["seed"]).items()}
    return weights_of(state, spec_of(meta["model"])).to(dtype=dtype)


def pixels(name: str, size: tuple[int, int] | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """The normalised input [B, 3, H, W]; `size` where the file does not say it."""
    meta, _ = golden(name)
    height, width = size or meta["size"]
    return torch.from_numpy(seeded_pixels((meta.get("batch", 1), 3, height, width), meta["seed"])).to(dtype)


def texts(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """[T, E], unit length."""
    return torch.from_numpy(golden(name)[1]["texts"]).to(dtype)


def precisions() -> Iterator[tuple[torch.dtype, float]]:
    """The dtypes that are compared, and how far off an answer may be, relative to the largest one."""
    yield torch.float64, 1e-9
    yield torch.float32, 1e-5
