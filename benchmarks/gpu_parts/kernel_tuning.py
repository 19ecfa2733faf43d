"""Other configurations of the kernels than those that are shipped, so that one run on a GPU can correct the shipped table.

They are compiled and run once in forked processes, side by side: most of their time is the compiler's, and some will not fit the device.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_spec import OPENAI_MEAN
from fastloc.functional.frames.patches import frame_tables
from fastloc.functional.heatmaps import tables
from fastloc.imaging.geometry import fit
from fastloc.kernels.table import OPS
from gpu_parts.timing import Call

Configuration = dict[str, int]
INPUTS = 4
STREAM_PICKS = (2, 1, 0)


def _tiles(*rows: tuple[int, int, int, int]) -> list[Configuration]:
    return [dict(zip(("BM", "BN", "num_warps", "num_stages"), row, strict=True)) for row in rows]


_STEP = _tiles(
    (128, 64, 8, 2), (128, 64, 8, 3), (128, 32, 8, 2), (128, 32, 8, 3), (128, 32, 8, 4), (64, 64, 4, 2), (64, 64, 4, 3), (64, 32, 4, 2),
    (64, 32, 4, 3), (128, 16, 8, 3),
)  # fmt: skip
_ENSEMBLE = _tiles(
    (128, 32, 8, 2), (128, 32, 8, 3), (128, 64, 8, 2), (128, 16, 8, 2), (128, 16, 8, 3), (64, 32, 4, 2), (64, 32, 4, 3), (64, 64, 4, 2),
    (64, 16, 4, 3),
)  # fmt: skip
_SOFTMAX = _tiles((128, 32, 8, 2), (128, 32, 8, 3), (128, 64, 8, 2), (128, 16, 8, 3), (64, 32, 4, 2), (64, 64, 4, 2))


def _grid(**values: tuple[int, ...]) -> list[Configuration]:
    return [dict(zip(values, each, strict=True)) for each in product(*values.values())]


# what is tuned -> the op, and the configurations that are tried beside the shipped one (which None stands for)
CANDIDATES: dict[str, tuple[str, list[Configuration]]] = {
    "step, raw": ("self_self_step", _STEP),
    "step, unit": ("self_self_step", _STEP),
    "ensemble, unit": ("self_self_ensemble", _ENSEMBLE),
    "ensemble, raw": ("self_self_ensemble", _ENSEMBLE),
    "attention with a bias": ("self_attention", _SOFTMAX),
    "add_norm": ("add_norm", _grid(BM=(1, 2, 4), num_warps=(1, 2, 4))),
    "quick_gelu": ("quick_gelu", _grid(BLOCK=(1024, 2048, 4096), num_warps=(4, 8))),
    "cosine": ("cosine", _grid(PATCHES=(16, 32, 64), TEXTS=(16,), CHUNK=(64, 128), num_warps=(2, 4), num_stages=(3,))),
    "project_cosine": (
        "project_cosine", _grid(PATCHES=(16, 32, 64), TEXTS=(16,), CHUNK=(64,), WIDTH=(128, 256), num_warps=(4, 8), num_stages=(2,)),
    ),
    "inverse_norms": ("inverse_norms", _grid(BM=(32, 64, 128), num_warps=(2, 4))),
    "heatmap": ("heatmap", _grid(COLUMNS=(128, 256, 512), num_warps=(1, 2, 4))),
    "frames, first pass": ("frame_patches", _grid(BN=(128, 256, 512, 1024), num_warps=(4,))),
    "frames, second pass": ("frame_patches", _grid(BM2=(1, 2, 4), BN2=(128, 256), num_warps2=(4,))),
}  # fmt: skip
# ops that take the batch; the others are timed once
BATCHED = tuple(kernel for kernel in CANDIDATES if kernel != "heatmap" and not kernel.startswith("frames"))


def launcher(kernel: str, device: torch.device, batch: int, small: bool) -> Callable[[Configuration | None], Call]:
    """Configuration -> a call of the op on one of a few inputs, of ViT-B/16's shapes at 448."""
    side, heads, width = (2, 2, 16) if small else (28, 12, 64)
    name = CANDIDATES[kernel][0]
    op = getattr(OPS[name].module, name)
    arguments = [_arguments(kernel, device, batch, side, heads, width, seed, small) for seed in range(INPUTS)]
    shipped = _shipped(kernel, arguments[0])

    def of(configuration: Configuration | None) -> Call:
        whole = None if configuration is None else {**shipped, **configuration}
        return lambda i: op(*arguments[i % INPUTS][0], **arguments[i % INPUTS][1], configuration=whole)

    return of


def _shipped(kernel: str, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> Configuration:
    """The shipped settings that complete a candidate which names a part alone."""
    if not kernel.startswith("frames"):
        return {}
    found: Configuration = OPS["frame_patches"].module._configuration(arguments[0][1].vertical_first)
    return found


def _arguments(kernel: str, device: torch.device, batch: int, side: int, heads: int, width: int, seed: int, small: bool) -> Any:
    generator = torch.Generator(device).manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).half()

    tokens, channels = 1 + side * side, heads * width
    if kernel.startswith(("step", "ensemble", "attention", "inverse")):
        x = drawn(batch, tokens, 3, heads, width).permute(0, 2, 3, 1, 4)
        temperature = torch.full((batch, 3, heads), 3.5, device=device)
        if kernel.startswith("attention"):
            return (x, x[:, 2], width**-0.5, ((1, 1),)), {"scale": 1.0, "bias_std": 5.0, "grid": (side, side)}
        if kernel.startswith("inverse"):
            return (x, STREAM_PICKS), {}
        raw = kernel.endswith("raw")
        norms = OPS["inverse_norms"].module.inverse_norms(x, STREAM_PICKS) if raw else None
        p = x if raw else F.normalize(x.float(), dim=-1).half().contiguous()
        picks = STREAM_PICKS if raw else (0, 1, 2)
        if kernel.startswith("step"):
            return (p, temperature, picks, norms), {}
        return (p, x[:, 2], temperature, picks, norms), {"scale": 1 / 3}
    if kernel == "add_norm":
        return (drawn(batch, tokens, channels), drawn(batch, tokens, channels), drawn(channels), drawn(channels), 1e-5), {}
    if kernel == "quick_gelu":
        return (drawn(batch, tokens, 4 * channels),), {}
    if kernel == "cosine":
        return (drawn(batch, side * side, 64 if small else 512), drawn(8, 64 if small else 512)), {}
    if kernel == "project_cosine":
        row, width = drawn(channels), 64 if small else 512
        return (drawn(batch, side * side, channels), row, row, 1e-5, drawn(channels, width), drawn(8, width)), {}
    picture, size, patch = ((24, 40), 16, 8) if small else ((1080, 1920), 448, 16)
    geometry = fit(picture, size, patch)
    if kernel == "heatmap":
        grid = geometry.grid(patch)
        return (drawn(1, 4, *grid).float(), *tables(geometry, grid, device)), {}
    frame = torch.randint(0, 256, (1, *picture, 3), generator=generator, device=device, dtype=torch.uint8)
    return (frame, frame_tables(geometry, (patch, patch), OPENAI_MEAN)), {}
