"""One way through gem_calibrated's local path, written out, so that many ways share the encoder's work and can change it."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine.localizer import Localizer
from fastloc.functional.blocks import embed, enter_block, mlp_end, mlp_start, out_projection, project, turned
from fastloc.functional.folding import without_scale
from fastloc.functional.op_set import TORCH
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.pools import head
from fastloc.functional.position_embedding import Positions, resized_position
from fastloc.imaging import heatmaps, images
from fastloc.imaging.geometry import Geometry
from gpu_parts.scenes import Scene
from quality_parts.readouts import Array
from quality_parts.temperature import Embedded, Real

BLOCKS = 6
# multipliers at which entropies are measured, for so many rows drawn by chance; between them they are interpolated
LADDER = torch.tensor([0.5, 1, 2, 3, 4.5, 6.5, 9, 13, 19, 28, 42, 64, 100, 200])
MEASURED_ROWS = 400
Kept = list[tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Row:
    """One way through the local path; the defaults are gem_calibrated's.

    rho, power: rows spread over rho (N0 / N)^power of the N tokens, N0 those of the trained grid. number: one multiplier in place of that;
    "adaptive", GEM's.
    logarithm: the main path's logits times log(N) / log(N0). drop: keys that are left out, "class" or the 5% "long" ones.
    smooth: the map's mean over so many cells of the trained grid.
    """

    rho: float = 0.7
    power: float = 0.0
    number: float | str | None = None
    residual: bool = False
    iterations: int = 0
    position: str = "bicubic-antialias"
    logarithm: bool = False
    drop: str = ""
    smooth: int = 0
    dot: bool = False


class Model:
    """One set at one input size: its pictures, and its model's tables measured at that size."""

    def __init__(self, judged: Embedded | Real, size: int, measured_on: list[Any]) -> None:
        self.localizer: Localizer = judged.localizer(size)
        self.weights: Weights = without_scale(self.localizer.source.vit)
        self.scenes, self.step, template = (judged.judged, 2, "gem") if isinstance(judged, Embedded) else (judged.photos, 4, "plain")
        self.names, self.measured_on = judged.names, measured_on
        self.texts = self.localizer.source.text(judged.names, template)

    @property
    def trained(self) -> int:
        """N0, the tokens of the trained grid."""
        return len(self.weights.pos)

    def pixels(self, picture: Image.Image) -> tuple[Tensor, Geometry]:
        geometry = self.localizer.geometry(picture.size[::-1])
        return self.localizer.pixels(picture, geometry)[None], geometry

    @cache  # noqa: B019
    def entropies(self, logarithm: bool) -> list[tuple[Array, int]]:
        """Mean row entropy [blocks, S, H, LADDER] of each picture that tables are measured on, and its tokens."""
        found = []
        for picture in self.measured_on:
            kept, _ = encoded(self.weights, self.pixels(images.load(picture))[0], "bicubic-antialias", logarithm)
            found.append((np.stack([entropies(qkv) for _, _, qkv in kept[-1 - BLOCKS : -1]]), kept[0][0].shape[1]))
        return found

    @cache  # noqa: B019
    def table(self, row: Row) -> Tensor:
        """Inverse temperatures [blocks, S, H, 1, 1]."""
        if row.number is not None:
            return torch.full((BLOCKS, 1, 1, 1, 1), float(row.number)) if row.number != "adaptive" else torch.empty(0)
        logs = []
        for nats, tokens in self.entropies(row.logarithm):
            target = math.log(row.rho * (self.trained / tokens) ** row.power * tokens)
            logs.append([np.interp(-target, -each, LADDER.log().numpy()) for each in nats.reshape(-1, len(LADDER))])
        return torch.from_numpy(np.mean(logs, 0)).exp().float().reshape(BLOCKS, 3, -1, 1, 1)


def encoded(weights: Weights, pixels: Tensor, position: str, logarithm: bool) -> tuple[Kept, tuple[int, int]]:
    """Input of every block [1, N, C], the LayerNorm of that, and its projections [3, H, N, d]; then the last block's output."""
    spec = weights.spec
    tokens, grid = patch_tokens(weights, pixels)
    places = Positions(resized_position(weights.pos, spec.grid, grid, position))
    x, delta, kept = embed(weights, tokens, places), None, []
    scale = spec.head_width**-0.5 * (math.log(x.shape[1]) / math.log(len(weights.pos)) if logarithm else 1.0)
    for block in weights.blocks:
        x, y, _ = enter_block(block, x, delta, spec, TORCH)
        qkv = turned(block, project(y, (block.qkv_w, block.qkv_b), spec, "qkv"), spec, places)
        kept.append((x, y, qkv.by_head[0]))
        attended = TORCH.attend(qkv["q"], qkv["k"], qkv["v"], scale, None)
        x, y, _ = TORCH.add_norm(x, out_projection(block, attended, spec), block.ln2_w, block.ln2_b, spec.norm_eps, False)
        delta = mlp_end(block, mlp_start(block, y, spec), spec)
    return [*kept, (x if delta is None else x + delta, x, x)], grid


def streams(qkv: Tensor) -> Tensor:
    """The unit projections [S, H, N, d] of v-v, k-k and q-q."""
    return F.normalize(qkv[[2, 1, 0]], dim=-1)


def entropies(qkv: Tensor) -> Array:
    """The mean entropy of rows at each multiplier of LADDER, [S, H, LADDER]."""
    u = streams(qkv)
    rows = torch.randperm(u.shape[2], generator=torch.Generator().manual_seed(0))[:MEASURED_ROWS]
    cosines, found = u[:, :, rows] @ u.mT, []
    for multiplier in LADDER:
        logits = cosines * multiplier
        found.append((logits.logsumexp(-1) - (logits.softmax(-1) * logits).sum(-1)).mean(-1))
    return torch.stack(found, -1).numpy()


def similarity(model: Model, row: Row, kept: Kept, grid: tuple[int, int], texts: Tensor) -> Tensor:
    """[T, P] of one picture."""
    weights, spec = model.weights, model.weights.spec
    prefix, first = spec.prefix, spec.layers - BLOCKS
    table, total = model.table(row), kept[first][0][0, prefix:] if row.residual else torch.zeros(())
    keys = torch.ones(kept[0][0].shape[1], dtype=torch.bool)
    if row.drop == "class":
        keys[:prefix] = False
    elif row.drop == "long":
        keys[prefix + lengths(kept, prefix).topk(max(int(0.05 * (len(keys) - prefix)), 1)).indices] = False
    for i, block in enumerate(weights.blocks[first:]):
        _, y, qkv = kept[first + i]
        beta = y.norm(dim=-1).mean() * spec.head_width**-0.5 if row.number == "adaptive" else table[i]
        u, v = streams(qkv), qkv[2].expand(3, -1, -1, -1)
        for _ in range(row.iterations):
            u = F.normalize(F.scaled_dot_product_attention(u * beta, u, u, scale=1.0), dim=-1)
        seen = (u, v.contiguous()) if keys.all() else (u[:, :, keys], v[:, :, keys])
        attended = F.scaled_dot_product_attention(u[:, :, prefix:] * beta, *seen, scale=1.0).mean(0)
        total = total + F.linear(attended.transpose(0, 1).flatten(1), block.out_w, block.out_b)
    features = head(weights, total[None], TORCH, None)[0]
    found = texts @ (features if row.dot else F.normalize(features, dim=-1)).T
    if row.smooth:
        side = round(row.smooth * grid[0] / spec.grid[0]) | 1
        padded = F.pad(found.reshape(-1, 1, *grid), [side // 2] * 4, mode="replicate")
        found = F.avg_pool2d(padded, side, 1).flatten(1)
    return found


def lengths(kept: Kept, prefix: int) -> Tensor:
    """Lengths of the patches' tokens before the last block, [P]."""
    return kept[-2][0][0, prefix:].norm(dim=-1)


def scores(found: Tensor, grid: tuple[int, int], geometry: Geometry, scene: Scene, step: int) -> list[list[float]]:
    """SCORES of every thing."""
    rows = []
    for heat, mask in zip(heatmaps.heatmaps(found.reshape(-1, *grid).numpy(), geometry, "picture", None, False), scene.masks, strict=True):
        warm = heat >= 0.5
        area = roc_auc_score(mask[::step, ::step].ravel(), heat[::step, ::step].ravel())
        rows.append([float(mask.flat[heat.argmax()]), float((warm & mask).sum() / (warm | mask).sum()), float(area)])
    return rows


def peaks(found: Tensor, grid: tuple[int, int], long: Tensor) -> list[list[float]]:
    """Share of tokens shorter than the peak's, and the peak's distance from the border in cells, for every thing."""
    rows = []
    for at in found.argmax(1).tolist():
        row, column = divmod(at, grid[1])
        rows.append([round(float((long < long[at]).float().mean()), 3), min(row, column, grid[0] - 1 - row, grid[1] - 1 - column)])
    return rows


def shares(model: Model) -> dict[str, float]:
    """Means over blocks, streams, heads, patches' rows and the pictures that tables are measured on, at the table of gem_calibrated.

    number: the table's geometric mean. spread: exp(entropy) / N. Weight of a token, times that in a uniform row: own (the token itself),
    class, near (other patches within a cell of the trained grid, up, down and across), long (the 5% of patches that are longest before the
    last block).
    """
    table, prefix, found = model.table(Row()), model.weights.spec.prefix, []
    for picture in model.measured_on:
        kept, grid = encoded(model.weights, model.pixels(images.load(picture))[0], Row().position, False)
        places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).float()
        rows = torch.randperm(len(places), generator=torch.Generator().manual_seed(0))[:MEASURED_ROWS]
        reach = torch.tensor([side / cells for side, cells in zip(grid, model.weights.spec.grid, strict=True)])
        near = ((places[rows, None] - places).abs() <= reach + 1e-6).all(-1)
        near[torch.arange(len(rows)), rows] = False
        long = lengths(kept, prefix)
        far_out = long >= long.quantile(0.95)
        for beta, (_, _, qkv) in zip(table, kept[-1 - BLOCKS : -1], strict=True):
            u = streams(qkv)
            p = torch.softmax(u[:, :, prefix + rows] @ u.mT * beta, -1)
            patches = p[..., prefix:]
            own = patches[:, :, torch.arange(len(rows)), rows]
            spread = torch.special.entr(p).sum(-1).exp() / p.shape[-1]
            parts = own, p[..., :prefix].sum(-1), (patches * near).sum(-1), (patches * far_out).sum(-1)
            uniform = 1.0, prefix, near.float().sum(-1).mean(), far_out.sum()
            weights = [float(each.mean() / count * p.shape[-1]) for each, count in zip(parts, uniform, strict=True)]
            found.append([float(spread.mean()), *weights])
    names = ("spread", "own", "class", "near", "long")
    values = dict(zip(names, np.mean(found, 0), strict=True))
    return {"number": round(float(table.log().mean().exp()), 2), **{name: round(float(value), 4) for name, value in values.items()}}
