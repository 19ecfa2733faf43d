"""Every method on one picture, side by side: its heatmap for each text, the time of its pass, or the reason why it could not run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.imaging.heatmaps import minmax
from fastloc.imaging.overlay import colour_table, heat_tile
from fastloc.recipes import Recipe
from fastloc.results.result import Point, Result
from fastloc.utils.system.exhaustion import exhausted

if TYPE_CHECKING:
    from fastloc.engine.localizer import Localizer

__all__ = ["Column", "Explained", "explain"]

# a tile's long side in pixels, its least value when there are many tiles, and the pixels of all tiles together
TILE, LEAST, ALL = 320, 120, 40_000_000


@dataclass(frozen=True, eq=False)
class Column:
    """One method on the picture.

    Attributes:
        tiles: one a text, RGB: its heatmap over the picture, the peak ringed; none where the method could not run
        points: the peak of each text
        refusal: the reason why it could not run, in one line, or None
        fault: True if the method raised an unexpected error, a defect of fastloc, instead of refusing
        ms: median of the timed passes, milliseconds
        parameters: the recipe's fields as they were used, by name
        plan: the execution of the pass, with reasons
    """

    method: str
    summary: str
    source: str
    tiles: tuple[Image.Image, ...] = ()
    points: tuple[Point, ...] = ()
    refusal: str | None = None
    fault: bool = False
    ms: float | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    plan: str = ""


@dataclass(frozen=True, eq=False)
class Explained:
    """The picture at a tile's size and a column for each method; `runs` passes were timed for each, on `device`."""

    picture: Image.Image
    size: tuple[int, int]
    name: str
    texts: tuple[str, ...]
    model: str
    device: str
    runs: int
    columns: tuple[Column, ...]

    @property
    def timing(self) -> str:
        """A line that describes the measured times."""
        of = "one warm pass" if self.runs == 1 else f"median of {self.runs} warm passes"
        return f"time: {of} on {self.device}, from the model's input to similarity, texts already encoded"


def explain(
    localizer: Localizer,
    picture: Image.Image,
    texts: Sequence[str],
    rows: Sequence[Recipe],
    *,
    name: str = "",
    runs: int = 3,
    alpha: float = 0.5,
    colormap: str = "turbo",
    step: Callable[[], None] = lambda: None,
    **choices: Any,
) -> Explained:
    """Run the methods, rows of `fastloc.recipes.RECIPES`, one after another on an RGB picture.

    runs: the number of timed passes of each method, after one that is not timed. choices: arguments of `Localizer.with_method`, the same
    for all methods: fit, template, official. step is called after each method.

    A method that refuses the model or the picture, or raises an error, is a column with the reason.

    Raises:
        FastlocError: an unknown colour map; no method could run.
    """
    colours = colour_table(colormap)
    base = _base(picture, len(texts) * len(rows))
    columns = []
    for row in rows:
        columns.append(_column(localizer, picture, list(texts), row, runs, choices, lambda result: _tiles(result, base, colours, alpha)))
        step()
    if not any(column.tiles for column in columns):
        raise FastlocError(f"no method could run: {columns[0].method}: {columns[0].refusal}")
    size = picture.height, picture.width
    device = _device(localizer)
    return Explained(base, size, name, tuple(texts), localizer.source.name, device, runs, tuple(columns))


def _column(
    localizer: Localizer,
    picture: Image.Image,
    texts: list[str],
    row: Recipe,
    runs: int,
    choices: dict[str, Any],
    draw: Callable[[Result], tuple[Image.Image, ...]],
) -> Column:
    about = row.name, row.summary, row.source
    try:
        ours = localizer.with_method(row.name, **choices)
        result = ours(picture, texts)
        ms = _timed(ours, picture, texts, runs)
        plan = ours.plan.explain()
    except FastlocError as error:
        return Column(*about, refusal=" ".join(str(error).split()))
    # an error in one method must not lose the others
    except Exception as error:
        reason = exhausted(error) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Column(*about, refusal=f"broke: {reason}", fault=True)
    return Column(*about, draw(result), tuple(result.points()), ms=ms, parameters=_parameters(ours), plan=plan)


def _timed(localizer: Localizer, picture: Image.Image, texts: list[str], runs: int) -> float:
    """The median time in milliseconds of passes from normalised pixels to similarities on the CPU."""
    pixels = localizer.pixels(picture, localizer.geometry(picture.size[::-1]))[None]
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        # the copy also waits for a GPU
        localizer.similarity(pixels, texts)[0].cpu()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def _tiles(result: Result, base: Image.Image, colours: np.ndarray[Any, np.dtype[np.float32]], alpha: float) -> tuple[Image.Image, ...]:
    shown = minmax(result.heatmaps) if result.order == "none" else result.heatmaps
    peaks = [(point.x, point.y) if heat.any() else None for point, heat in zip(result.points(), shown, strict=True)]
    return tuple(heat_tile(base, heat, peak, colours, alpha) for heat, peak in zip(shown, peaks, strict=True))


def _base(picture: Image.Image, count: int) -> Image.Image:
    """The picture at a tile's size."""
    aspect = max(picture.size) / min(picture.size)
    long = min(TILE, max(int((ALL * aspect / max(count, 1)) ** 0.5), LEAST))
    width, height = (max(round(side * long / max(picture.size)), 1) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _device(localizer: Localizer) -> str:
    from fastloc.engine.devices import processor

    return processor(localizer.device)


def _parameters(localizer: Localizer) -> tuple[tuple[str, str], ...]:
    """The method's own parameters: the recipe's fields that differ from the defaults, its read-out and its inputs."""
    recipe, usual = localizer.recipe, Recipe("", "", "")
    names = [each.name for each in fields(recipe) if each.name not in ("name", "summary", "source", "readout", "fit", "template")]
    own = {name: getattr(recipe, name) for name in names if getattr(recipe, name) != getattr(usual, name)}
    size = localizer.input_size
    given = {"size": size if isinstance(size, int) else f"{size[0]}x{size[1]}", "fit": localizer.fit, "template": localizer.template}
    return tuple((name, _short(value)) for name, value in (own | asdict(recipe.readout) | given).items())


def _short(value: Any) -> str:
    """A value on one line; a table is shown by its shape."""
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        shape = []
        while isinstance(value, tuple):
            shape.append(len(value))
            value = value[0]
        return f"a table of {' x '.join(map(str, shape))}"
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
