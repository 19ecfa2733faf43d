"""The quality set and the embedded image tower without open_clip, in any dtype on any device: how often half precision points elsewhere.

The texts' embeddings were made beforehand (`make_quality_texts.py`), with the very weights that lie here. Shared by the GPU script's part
`quality` and by `precision.py`.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from fastloc import embedded
from fastloc.checkpoints import vit_layouts, vit_spec
from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional import heatmaps
from fastloc.imaging.geometry import Geometry, fit
from fastloc.imaging.preprocess import prepare
from fastloc.recipes import RECIPES, Recipe, recipe

HERE = Path(__file__).resolve().parents[1]
TEXTS = HERE / "quality_texts.safetensors"
# the empty text's row, the last one of each template's
EMPTY = ""
BATCH = 16
DTYPES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Scene:
    """One picture of the set: its things' names and their visible pixels, bool [things, H, W]."""

    picture: Image.Image
    things: tuple[str, ...]
    masks: np.ndarray


@cache
def quality_set(path: Path = HERE / "quality_set.zip") -> tuple[Scene, ...]:
    with zipfile.ZipFile(path) as archive:

        def picture(name: str) -> Image.Image:
            return Image.open(io.BytesIO(archive.read(name)))

        scenes = []
        for row in json.loads(archive.read("scenes.json")):
            indices = np.asarray(picture(row["mask"]))
            masks = np.stack([indices == k for k in range(1, len(row["things"]) + 1)])
            scenes.append(Scene(picture(row["picture"]).convert("RGB"), tuple(row["things"]), masks))
        return tuple(scenes)


def names() -> list[str]:
    """The texts given with every picture."""
    return sorted({thing for scene in quality_set() for thing in scene.things})


def fingerprint() -> str:
    """The sha256 of the embedded model's weights."""
    return hashlib.sha256(embedded.MODEL.read_bytes()).hexdigest()


def texts(path: Path = TEXTS) -> dict[str, Tensor]:
    """Unit embeddings of `names()` for each template, then the empty text's: float32 [T + 1, E].

    Raises ValueError where they were made with other weights, or of other names.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    again = "run benchmarks/embedded_model/make_quality_texts.py again"
    if metadata.get("model_sha256") != fingerprint():
        raise ValueError(f"{path.name} was made with other weights than {embedded.MODEL.name}: {again}")
    if json.loads(metadata.get("names", "[]")) != names():
        raise ValueError(f"{path.name} has other names than the quality set: {again}")
    return dict(load_file(path))


@cache
def configuration() -> dict[str, Any]:
    """The embedded model's open_clip_config.json."""
    content: dict[str, Any] = json.loads(embedded.CONFIG.read_text(encoding="utf-8"))
    return content


@cache
def image_tower() -> Weights:
    """The embedded model's, float32 on the CPU."""
    content = configuration()
    state = {name: tensor.float() for name, tensor in load_file(embedded.MODEL).items()}
    visual = {name: tensor for name, tensor in state.items() if name.startswith("visual.")}
    weights = vit_layouts.from_open_clip(visual, vit_spec.from_open_clip(content["model_cfg"], content.get("preprocess_cfg")))
    return replace(weights, logit_scale=float(state["logit_scale"].exp()))


def variants() -> dict[str, Recipe]:
    """Every method of patch features that is neither trained nor measured beforehand, with its official parameters, and with the model's
    recommended ones where they differ. Gradients cost a backward pass for each of the set's names."""
    recommended, scale = configuration()["fastloc"]["recommended"]["recipes"], image_tower().logit_scale
    found = {}
    for name in (name for name, row in RECIPES.items() if row.reads == "patches" and not row.trained and row.rho is None):
        found[name] = recipe(name).at_scale(scale)
        if name in recommended and (changed := recipe(name, **recommended[name]).at_scale(scale)) != found[name]:
            found[f"{name} (recommended)"] = changed
    return found


@cache
def chunks(limit: int | None) -> tuple[tuple[tuple[Scene, ...], Geometry, Tensor], ...]:
    """Scenes of one shape at a time, where they lie in the model's input, and their pixels [B, 3, h, w] on the CPU."""
    tower, recommended = image_tower().spec, configuration()["fastloc"]["recommended"]
    groups: dict[Geometry, list[Scene]] = {}
    for scene in quality_set()[:limit]:
        groups.setdefault(fit(scene.picture.size[::-1], recommended["size"], tower.patch, recommended["fit"]), []).append(scene)
    found = []
    for geometry, group in groups.items():
        for start in range(0, len(group), BATCH):
            part = tuple(group[start : start + BATCH])
            pixels = [torch.from_numpy(prepare(scene.picture, geometry, tower.mean, tower.std, tower.interpolation)) for scene in part]
            found.append((part, geometry, torch.stack(pixels)))
    return tuple(found)


# dtype -> the engine's call: pixels, texts, empty -> grids [B, T, h, w]
Run = Callable[[Tensor, Tensor, Tensor], Tensor]


def engine(row: Recipe, device: torch.device, dtype: str, settings: dict[str, str]) -> Run:
    """The embedded tower's engine for one recipe, in this dtype."""
    from fastloc.engine.vit_engine import Engine

    run = Engine(_tower(device, dtype), row, {**settings, "dtype": dtype})
    return lambda pixels, words, empty: run(pixels, words, empty)[0]


@cache
def _tower(device: torch.device, dtype: str) -> Any:
    from fastloc.engine.vit_engine import Tower

    return Tower(image_tower(), device, dtype)


def measure(row: Recipe, runs: dict[str, Run], device: torch.device, limit: int | None = None) -> dict[str, dict[str, float]]:
    """Pointing of each run, and the error of its similarities against those of the first, the exact one.

    error is ‖grids − exact‖ / ‖exact‖ over all scenes; map_error the same of what a map is made of, the differences from its mean;
    moved the share of questions whose peak is another pixel.
    """
    index = {name: i for i, name in enumerate(names())}
    words = texts()[row.template].to(device)
    words, empty = words[:-1], words[-1]
    hits: dict[str, list[bool]] = {name: [] for name in runs}
    moved: dict[str, list[bool]] = {name: [] for name in runs}
    sums = {name: torch.zeros(4, dtype=torch.float64) for name in runs}
    for part, geometry, pixels in chunks(limit):
        grids = {name: run(pixels.to(device), words, empty).float() for name, run in runs.items()}
        exact = next(iter(grids.values()))
        peaks = {name: list(_peaks(each, row, geometry, [[index[thing] for thing in scene.things] for scene in part]))
                 for name, each in grids.items()}  # fmt: skip
        first = next(iter(peaks.values()))
        for name, each in grids.items():
            sums[name] += _squares(each, exact)
            for scene, found, expected in zip(part, peaks[name], first, strict=True):
                hits[name] += [bool(mask.flat[peak]) for mask, peak in zip(scene.masks, found, strict=True)]
                moved[name] += [one != other for one, other in zip(found, expected, strict=True)]
    return {
        name: {
            "pointing": float(np.mean(hits[name])), "questions": len(hits[name]), "moved": float(np.mean(moved[name])),
            "error": float((total[0] / total[1]).sqrt()), "map_error": float((total[2] / total[3]).sqrt()),
        }
        for name, total in sums.items()
    }  # fmt: skip


def _squares(found: Tensor, exact: Tensor) -> Tensor:
    """Squared norms of the error and of the right values, of the grids and of their differences from each one's mean."""
    pair = (found.double() - exact.double()), exact.double()
    centred = [each - each.mean((-2, -1), keepdim=True) for each in pair]
    return torch.stack([each.square().sum() for each in (*pair, *centred)]).cpu()


def _peaks(grids: Tensor, row: Recipe, geometry: Geometry, targets: list[list[int]]) -> Iterator[list[int]]:
    """The peak of each target text's heatmap, for every picture, as an index into its pixels."""
    readout = row.readout
    for each, indices in zip(grids, targets, strict=True):
        # a softmax needs all texts, the other read-outs treat each alone
        rivals = readout.order == "softmax"
        values = each[None] if rivals else each[None, indices]
        settings = readout.order, readout.scale, readout.reverse
        heat = heatmaps.heatmaps(values, geometry, *settings)[0]
        yield (heat[indices] if rivals else heat).flatten(1).argmax(1).tolist()


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows of `measure` as lines: a method a line, percentages and errors."""
    head = "".join(f"{dtype:>10}{'moved':>7}{'map error':>10}" for dtype in DTYPES)
    lines = [f"{'pointing, points from it':28}{'float32':>8}{head}"]
    for name in dict.fromkeys(row["method"] for row in rows):
        mine = {row["dtype"]: row for row in rows if row["method"] == name}
        line = f"{name:28}{100 * mine['float32']['pointing']:8.2f}"
        for each in (mine[dtype] for dtype in DTYPES if dtype in mine):
            line += f"{each['points']:+10.2f}{100 * each['moved']:6.1f}%{_short(each['map_error']):>10}"
        lines.append(line)
    return lines


def _short(error: Any) -> str:
    return f"{error:.1e}" if isinstance(error, float) else str(error)


def rows_of(method: str, measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Long format: a row a dtype; `points` is the difference of pointing from float32's, in points of a hundred."""
    exact = measured["float32"]["pointing"]
    points = {dtype: round(100 * (each["pointing"] - exact), 4) for dtype, each in measured.items()}
    return [{"method": method, "dtype": dtype, **each, "points": points[dtype]} for dtype, each in measured.items()]
