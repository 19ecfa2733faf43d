"""Times of every way to run GEM on one picture, in turns."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from fastloc.bench.models import model, weights_of
from fastloc.bench.stats import ratio_interval
from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine.vit_engine import Engine, Tower
from fastloc.functional.similarity import grids
from fastloc.onnx_file.golden import unit_texts
from fastloc.recipes import Recipe
from gpu_parts import scenes
from runtime_parts.ways import THREADS, WAYS, Array, Files, Run, missing, runs

Part = dict[str, Any]
# what times are divided by
USUAL = "onnxruntime, float32"
TEXTS, CALIBRATION = 4, 16
ROUNDS, QUICK = 20, 2
# a contender of a turn is called for so long at least, in seconds
TURN = 0.05
# seconds between turns, for threads to come to rest
REST = 0.03


def run(folder: Path, quick: bool) -> Part:
    """Rows of each model and way: the median in milliseconds, and its ratio to onnxruntime's float32 with the ends of a 95 % interval."""
    torch.set_num_threads(THREADS)
    rows = []
    for name, size in (("embedded", 96),) if quick else (("embedded", 96), ("ViT-B-16", 224)):
        rows += _rows(folder / name, name, size, QUICK if quick else ROUNDS)
    left = sorted({package for way in WAYS.values() if (package := missing(way))})
    return {"used_threads": THREADS, "texts": TEXTS, "missing": left, "rows": rows}


def _rows(folder: Path, name: str, size: int, rounds: int) -> list[Part]:
    row = scenes.variants()["gem"]
    tower = _tower(folder, name)
    rng = np.random.default_rng(0)
    texts = unit_texts(0, TEXTS, tower.spec.embed)
    drawn = [rng.standard_normal((1, 3, size, size), np.float32) for _ in range(CALIBRATION)]
    files = Files(folder / "files", tower, row, None, [{"pixels": pixels, "text_embeddings": texts} for pixels in drawn])
    calls: dict[str, Run] = {"PyTorch, float32": _engine(tower, row), "torch.compile, float32": _compiled(tower, row), **runs(files)}
    errors = {way: _error(call(drawn[0], texts), calls["PyTorch, float32"](drawn[0], texts)) for way, call in calls.items()}
    turns: dict[str, list[float]] = {way: [] for way in calls}
    order = list(calls)
    for _ in range(rounds):
        for way in order:
            time.sleep(REST)
            turns[way].append(_turn(lambda call=calls[way]: call(drawn[0], texts)))  # type: ignore[misc]
        order.reverse()
    return [
        {"model": name, "size": size, "way": way, "ms": round(median(each), 2), "rounds": rounds, "error": float(f"{errors[way]:.1e}"),
         "ratio": [round(value, 3) for value in ratio_interval(each, turns[USUAL])]}
        for way, each in turns.items()
    ]  # fmt: skip


def _tower(folder: Path, name: str) -> Weights:
    if name == "embedded":
        return scenes.image_tower()
    made = model(name)
    return weights_of(made.config, made.preprocess, made.write(folder / "weights.safetensors"))


def _engine(tower: Weights, row: Recipe) -> Run:
    engine = Engine(Tower(tower, torch.device("cpu"), "float32"), row, {"dtype": "float32"})
    return lambda pixels, texts: _array(engine(torch.from_numpy(pixels), torch.from_numpy(texts), None)[0])


def _compiled(tower: Weights, row: Recipe) -> Run:
    torch.compiler.reset()
    fast = torch.compile(lambda pixels, texts: grids(tower, pixels, texts, row, None)[0], dynamic=False)

    def call(pixels: Array, texts: Array) -> Array:
        with torch.no_grad():
            return _array(fast(torch.from_numpy(pixels), torch.from_numpy(texts)))

    return call


def _array(found: torch.Tensor) -> Array:
    return found.detach().numpy()


def _turn(call: Callable[[], object]) -> float:
    """The median of the calls of one turn, in milliseconds."""
    spent: list[float] = []
    while sum(spent) < TURN * 1e3:
        began = time.perf_counter()
        call()
        spent.append((time.perf_counter() - began) * 1e3)
    return median(spent)


def _error(found: Array, exact: Array) -> float:
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def lines(part: Part) -> list[str]:
    found = [
        f"{row['model']:10} {row['size']} px  {row['way']:38} {row['ms']:8.2f} ms  {_interval(row['ratio'])}  error {row['error']:.0e}"
        for row in part["rows"]
    ]
    return [*found, *(f"left out: it needs {name}" for name in part["missing"])]


def _interval(ratio: list[float]) -> str:
    return "{:.2f} ({:.2f} … {:.2f})".format(*ratio)
