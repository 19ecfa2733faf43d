"""One number a method: ViT-B/16 at 448, one picture, the default plan in float16, from normalised pixels on the device to grids.

Each is checked on the very input that is timed: its error is at most twice that of the plain functional pass in float16 on this device,
plus half a unit in the last place, against that pass in float64. A row is written and printed as soon as it is there, GEM's first.
"""

from typing import Any

import torch
from torch import Tensor

from fastloc.functional.similarity import grids
from fastloc.recipes import RECIPES
from gpu_parts import models, speed, timing
from gpu_parts.job import Job, Row

CONFIG: speed.Config = ("B/16", 448, 1)
QUICK: speed.Config = ("tiny", 32, 1)
# seconds that a method is sampled for
SAMPLED = 0.25


def run(job: Job) -> None:
    models.strict()
    small = job.quick or not job.cuda
    settings, why = models.fallback(job)
    job.good = False
    names = [name for name in order() if job.only in name][: 3 if job.quick else None]
    for name in names:
        if not job.has(method=name) and not job.late(name, need=0.5 if job.cuda else 0.0):
            _one(job, QUICK if small else CONFIG, name, settings, why, 0.02 if small else SAMPLED)
    job.good = len(job.rows) >= len(names) and not any(row["problems"] for row in job.rows)


def order() -> list[str]:
    """GEM, the untouched encoder, the methods of patch features, then those whose gradients take longest."""
    first = ("gem", "itsm")
    return [*first, *sorted((name for name in RECIPES if name not in first), key=lambda name: RECIPES[name].reads != "patches")]


@torch.no_grad()
def _one(job: Job, config: speed.Config, name: str, settings: dict[str, str], why: str, seconds: float) -> None:
    inputs = [models.drawn_pixels(config[2], (config[1], config[1]), job.device, seed) for seed in range(2)]
    made: list[Any] = []
    problem = timing.attempt(lambda: made.append(speed.ours(job, config, name, settings, why)), job.device)
    call, fields = made[0] if made else (None, {})
    contender = timing.Contender(lambda i: None, [], error=problem)
    if made:
        contender = timing.warmed(lambda i: call(inputs[i % len(inputs)]), job.device)
    checks: Row = {"problems": [f"raised {contender.error}"]} if contender.error else {}
    if not contender.error and (problem := timing.attempt(lambda: checks.update(check(job, config, name, call, inputs[0])), job.device)):
        checks = {"problems": [f"no exact answer: {problem}"]}
    timing.rounds({name: contender}, job.device, seconds, least=3, sample=timing.SAMPLE if job.cuda else 0.0)
    head = {"config": speed.title(config), "model": config[0], "size": config[1], "batch": config[2], "method": name}
    row = job.row(contender="default", **head, **fields, **timing.fields(contender), **checks)
    job.save()
    print(line(row))


def check(job: Job, config: speed.Config, name: str, call: Any, pixels: Tensor) -> Row:
    """The error of what is timed, and what is wrong with it."""
    words, dtype = models.texts(config[0], job.device), "float16" if job.cuda else "float32"
    wide = models.exact_weights(config[0], job.device)
    exact = grids(wide, pixels.double(), words.double(), RECIPES[name])[0]
    plain = grids(models.tower(config[0], job.device, dtype).weights, pixels, words, RECIPES[name])[0]
    found = call(pixels)
    torch_error, error = models.distance(plain, exact), models.distance(found, exact)
    allowed = 2 * torch_error + torch.finfo(getattr(torch, dtype)).eps / 2
    # written so that a NaN fails
    problems = [] if error <= allowed else [f"error {error:.2e} is over {allowed:.2e}"]
    return {"error": models.off(found, exact), "distance": error, "torch_error": torch_error, "within": allowed, "problems": problems}


def line(row: Row) -> str:
    """A method's number, and whether it is right."""
    distance, within = (f"{row[name]:.1e}" if isinstance(row.get(name), float) else "–" for name in ("distance", "within"))
    state = f"BAD {'; '.join(row['problems'])[:160]}" if row["problems"] else f"good, error {distance} of {within}"
    return f"{row['method']:18}{speed.number(row.get('ms'), '9.3f')} ms  {state}"


def lines(record: Row) -> list[str]:
    return [line(row) for row in record["rows"]]
