"""One file of the part `exported`: its model, texts and pictures, its export, its run in a provider, and the engine's answers."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.diagnostics.verify import judged
from fastloc.imaging.geometry import Geometry, fit
from fastloc.onnx_file.golden import TOLERANCES
from fastloc.recipes import RECIPES, Recipe
from fastloc.recipes.presence import UNCALIBRATED
from gpu_parts import models, scenes
from gpu_parts.job import Row
from gpu_parts.likeness import compared, words

# the least share of equal labels on the quality set, by the issue
LEAST_LABELS = {"float32": 0.999, "float16": 0.995}
# the square input of each model; "embedded" sees the quality set, the others have seeded weights and see seeded pixels
SIZES = {"embedded": 96, "B/16": 448, "tiny": 32}
# pictures a call
BATCH = 8
# of a session on the CPU: many run at once
THREADS = 2


@dataclass(frozen=True)
class File:
    """One kind of file: any number of pictures of one size, a fixed number of texts."""

    model: str
    method: str
    spelling: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.model} {self.method} {self.spelling} {self.dtype}"

    def path(self, folder: Path) -> Path:
        return folder / f"{str(self).replace(' ', '-').replace('/', '')}.onnx"


def tower(model: str) -> Weights:
    return scenes.image_tower() if model == "embedded" else models.seeded(model)


def texts(model: str, row: Recipe) -> tuple[Tensor, Tensor]:
    """The embeddings [T, E], and the empty text's [E]."""
    if model == "embedded":
        return words(row)
    prompts = models.texts(model, torch.device("cpu"), models.TEXTS + 1)
    return prompts[:-1], prompts[-1]


def pictures(model: str, limit: int | None) -> list[tuple[Geometry, Tensor]]:
    """The pictures' geometry in the input and their normalised pixels, on the CPU, at most `BATCH` together."""
    size = SIZES[model]
    if model != "embedded":
        return [(fit((size, size), size, tower(model).spec.patch), models.pixels(2, (size, size), torch.device("cpu")))]
    square = ((where, pixels) for _, where, pixels in scenes.chunks(limit) if where.input == (size, size))
    return [(where, each) for where, pixels in square for each in pixels.split(BATCH)]


def _row(file: File) -> Recipe:
    return RECIPES[file.method].at_scale(tower(file.model).logit_scale)


def written(file: File, folder: Path) -> Row:
    """Export it, as `fastloc export` does. Raises what that raises, for a file whose golden is wrong on the CPU too."""
    from fastloc.export.options import Options
    from fastloc.export.to_onnx import export

    row, size = _row(file), SIZES[file.model]
    prompts, empty = texts(file.model, row)
    # all that an export reads of a localizer; the texts are embedded already, so that no text tower is needed
    text = SimpleNamespace(digest="", empty=lambda template: empty)
    weights = tower(file.model)
    source = SimpleNamespace(name=file.model, weights=weights, vit=weights, spec=weights.spec, text=text, logit_scale=weights.logit_scale)
    fixed = {"input_size": size, "fit": "stretch", "usual_fit": "stretch", "calibration": UNCALIBRATED}
    localizer: Any = SimpleNamespace(source=source, recipe=row, template=row.template, logit_bias=None, **fixed)
    began = time.perf_counter()
    export(localizer, file.path(folder), Options(file.spelling, file.dtype, batch=None, size=(size, size), count=len(prompts)))
    return {"mb": file.path(folder).stat().st_size / 1e6, "seconds": time.perf_counter() - began, "problems": []}


def opened(file: File, provider: str, folder: Path, **more: Any) -> Any:
    """A `fastloc.runtime.session.OnnxSession` of it; engines are kept, and made for the batches that come."""
    from fastloc.runtime.session import OnnxSession

    profiles = {"batch": (1, 1, BATCH)}
    return OnnxSession(file.path(folder), provider, threads=THREADS, cache=folder / "engines", profiles=profiles, **more)


@torch.inference_mode()
def ran(file: File, provider: str, folder: Path, device: torch.device, settings: dict[str, str], limit: int | None) -> Row:
    """The file's golden, and its distance from the engine's answers on this device. Raises what the session raises."""
    began = time.perf_counter()
    session = opened(file, provider, folder)
    fields: Row = {"load_s": time.perf_counter() - began, "onnxruntime": session.ort.__version__}
    fields["nodes"] = dict(Counter(node.provider for node in session.placement().nodes))
    rows, problems = judged(session.manifest.golden, session.run(session.manifest.golden_inputs()), file.dtype)
    fields["golden"] = {row.output: row.max_error for row in rows}
    row = _row(file)
    prompts, score = texts(file.model, row)[0], row.readout
    found = []
    for where, pixels in pictures(file.model, limit):
        outputs = session.run({"pixels": pixels.numpy(), "text_embeddings": prompts.numpy()})
        found.append((where, pixels, torch.from_numpy(outputs["similarity"]).to(device)))
    for dtype in dict.fromkeys(("float32", file.dtype)):
        right = engine(file, device, dtype, settings)
        far = compared(score, ((where, right(pixels), grids) for where, pixels, grids in found))
        fields |= far if dtype == "float32" else {f"{name}_float16": value for name, value in far.items()}
    return {**fields, "problems": [*problems, *_wrong(file, fields)]}


def _wrong(file: File, row: Row) -> list[str]:
    """The faults that the comparison with float32 found, in words."""
    allowed, least = TOLERANCES[file.dtype], LEAST_LABELS[file.dtype]
    # written so that a NaN is wrong
    wrong = [] if row["similarity"] <= allowed else [f"similarity is off by {row['similarity']:.1e}, and {allowed:.0e} is allowed"]
    # seeded weights know no things: their labels are close races
    if file.model == "embedded" and not row["labels"] >= least:
        wrong.append(f"labels must agree for at least {least:.1%}, got {row['labels']:.2%}")
    return wrong


def engine(file: File, device: torch.device, dtype: str, settings: dict[str, str]) -> Callable[[Tensor], Tensor]:
    """PyTorch's answer on the device, pixels -> grids [B, T, h, w]; `settings` are of float16's plan."""
    from fastloc.engine.vit_engine import Engine, Tower

    row = _row(file)
    made = models.tower(file.model, device, dtype) if file.model != "embedded" else Tower(tower("embedded"), device, dtype)
    run = Engine(made, row, {**(settings if dtype == "float16" else {}), "dtype": dtype})
    prompts, empty = (each.to(device) for each in texts(file.model, row))
    return lambda pixels: run(pixels.to(device), prompts, empty)[0]
