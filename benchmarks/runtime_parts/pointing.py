"""Pointing and errors of every way to run the embedded model's GEM, on the quality set."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_parts import likeness, scenes
from onnx_parity import calibration
from runtime_parts.ways import WAYS, Files, missing, runs

Part = dict[str, Any]
EXACT = "PyTorch, float32"
METHODS = ("gem", "gem (recommended)")
QUICK = 16


def run(folder: Path, quick: bool) -> Part:
    """Rows of each method and way: pointing, its difference from the engine's in points of a hundred with its standard error over the
    questions, the share of questions whose peak is another pixel, and errors of similarities over the largest of a picture."""
    rows = [row for name in METHODS for row in _rows(folder / name.replace(" ", "-"), name, QUICK if quick else None)]
    left = sorted({package for way in WAYS.values() if (package := missing(way))})
    count = len(scenes.quality_set()[: QUICK if quick else None])
    return {"scenes": count, "calibration": len(list(calibration())), "missing": left, "rows": rows}


def _rows(folder: Path, name: str, limit: int | None) -> list[Part]:
    method = scenes.variants()[name]
    words, empty = likeness.words(method)
    exact, index = scenes.engine(method, torch.device("cpu"), "float32", {}), {text: i for i, text in enumerate(scenes.names())}
    ways = runs(Files(folder, scenes.image_tower(), method, empty, list(calibration())))
    hits, moved, errors = ({way: [] for way in (EXACT, *ways)} for _ in range(3))
    for part, geometry, pixels in scenes.chunks(limit):
        grids = {EXACT: exact(pixels, words, empty)}
        grids |= {way: torch.from_numpy(call(pixels.numpy(), words.numpy())) for way, call in ways.items()}
        wanted = [[index[thing] for thing in scene.things] for scene in part]
        peaks = {way: list(scenes.peaks(found, method, geometry, wanted)) for way, found in grids.items()}
        for way, found in grids.items():
            errors[way] += _errors(found.numpy(), grids[EXACT].numpy())
            for scene, mine, right in zip(part, peaks[way], peaks[EXACT], strict=True):
                hits[way] += [float(mask.flat[peak]) for mask, peak in zip(scene.masks, mine, strict=True)]
                moved[way] += [one != other for one, other in zip(mine, right, strict=True)]
    return [{"method": name, "way": way, **_row(np.array(hits[way]), np.array(hits[EXACT]), moved[way], errors[way])} for way in grids]


def _errors(found: np.ndarray, exact: np.ndarray) -> list[tuple[float, float]]:
    """The largest and the mean error of each picture, over its largest similarity."""
    pairs = [(np.abs(one - other), np.abs(other).max()) for one, other in zip(found, exact, strict=True)]
    return [(float(far.max() / most), float(far.mean() / most)) for far, most in pairs]


def _row(mine: np.ndarray, exact: np.ndarray, moved: list[bool], errors: list[tuple[float, float]]) -> Part:
    differences = 100 * (mine - exact)
    largest, mean = np.array(errors).T
    return {
        "pointing": round(float(mine.mean()), 4), "questions": len(mine), "points": round(float(differences.mean()), 2),
        "standard_error": round(float(differences.std(ddof=1) / len(mine) ** 0.5), 2), "moved": round(float(np.mean(moved)), 4),
        "largest_error": float(f"{largest.max():.2e}"), "mean_error": float(f"{mean.mean():.2e}"),
    }  # fmt: skip


def lines(part: Part) -> list[str]:
    found = [
        f"{row['method']:18} {row['way']:38} {row['pointing']:.4f} {row['points']:+6.2f} ± {row['standard_error']:.2f}  "
        f"moved {row['moved']:.1%}  error {row['largest_error']:.1e}, mean {row['mean_error']:.1e}"
        for row in part["rows"]
    ]
    return [*found, *(f"left out: it needs {name}" for name in part["missing"])]
