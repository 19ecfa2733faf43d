"""The time of each stage for a picture of 1080p in one thread, a stage after the other: what threads of `fastloc batch` do side by side."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scale_parts import pictures
from scale_parts.budget import Budget, rounds
from scale_parts.models import MODELS, Model
from scale_parts.throughput import BATCH, TEXTS

Row = dict[str, Any]
STAGES = ("decode", "preprocess", "model", "readout", "write")
THRESHOLD = 0.5


def run(seconds: float, budget: Budget, folder: Path, models: Sequence[str] = tuple(MODELS)) -> Iterator[Row]:
    """A row a model, read-out with and without masks, and round."""
    folder.mkdir(parents=True)
    files = pictures.write(folder / "pictures", 3 * BATCH, pictures.FULL_HD)
    for index, name in enumerate(models):
        localizer = _localizer(MODELS[name])
        for number, masks in rounds((True, False), budget.share(1, len(models) - index), most=3):
            head = {"part": "stages", "contender": "with masks" if masks else "without masks", "model": name,
                    "weights": MODELS[name].weights, "round": number, "texts": TEXTS, "batch": BATCH, "picture": list(pictures.FULL_HD),
                    "bits_per_pixel": pictures.bits_per_pixel(files, pictures.FULL_HD)}  # fmt: skip
            yield {**head, **measured(localizer, files, masks, seconds, folder)}


def measured(localizer: Any, files: list[Path], masks: bool, seconds: float, folder: Path) -> Row:
    """{"pictures", "decode_ms" …}: milliseconds of a picture in each stage."""
    texts = localizer.encode_texts(pictures.texts(TEXTS))
    # the first batch warms up
    _batch(localizer, files[:BATCH], texts, masks, folder / "rows.parquet")
    took, done, until = dict.fromkeys(STAGES, 0.0), 0, time.monotonic() + seconds
    while time.monotonic() < until or not done:
        start = done % len(files)
        times = _batch(localizer, files[start : start + BATCH], texts, masks, folder / "rows.parquet")
        for stage, begin, end in zip(STAGES, times[:-1], times[1:], strict=True):
            took[stage] += end - begin
        done += BATCH
    return {"pictures": done, **{f"{stage}_ms": 1000 * value / done for stage, value in took.items()}}


def _localizer(model: Model) -> Any:
    import torch

    from fastloc.engine.localizer import Localizer

    # as `fastloc batch` computes a window of pictures
    torch.set_num_threads(1)
    size = {} if model.name == "embedded" else {"size": model.input[0]}
    return Localizer(model.name, model.pretrained, batch=BATCH, **size)


def _batch(localizer: Any, files: list[Path], texts: list[str], masks: bool, out: Path) -> list[float]:
    """One batch through all stages; the times between them."""
    import torch
    from pyarrow import parquet

    from fastloc.imaging import images
    from fastloc.scale.readouts import rows_of
    from fastloc.scale.rows import rows_table

    times = [time.perf_counter()]
    loaded = [images.load(file) for file in files]
    times.append(time.perf_counter())
    geometries = [localizer.geometry(picture.size[::-1]) for picture in loaded]
    pixels = torch.stack([localizer.pixels(*pair) for pair in zip(loaded, geometries, strict=True)])
    times.append(time.perf_counter())
    grids, cosines = (each.numpy() for each in localizer.scored_similarity(pixels, texts))
    times.append(time.perf_counter())
    results = [localizer.prediction(geometries[i], texts, grids[i], cosines[i]).result(loaded[i]) for i in range(len(files))]
    rows = [row for file, result in zip(files, results, strict=True)
            for row in rows_of(result, file.name, THRESHOLD, None, masks=masks, grids=False)]  # fmt: skip
    times.append(time.perf_counter())
    parquet.write_table(rows_table(rows, {}), out)
    times.append(time.perf_counter())
    return times
