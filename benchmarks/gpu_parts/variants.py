"""The default plan with one field changed, or one variant of a kernel on, at a time, end to end. ViT-B/16 at 448, GEM.

Variants of kernels are checked first, see `kernel_variants`; a wrong one is not timed.

All plans of a batch take turns within one process; each row is a plan's time and its difference from the default's, in microseconds.
"""

from collections.abc import Callable

from fastloc.recipes import RECIPES
from gpu_parts import kernel_variants, models, speed
from gpu_parts.job import Job, Row
from gpu_parts.parity import OVERRIDES

MODEL, SIZE, BATCHES = "B/16", 448, (1, 8, 32)
# written logits and what the host starts op by op say little about kernels; they are in the record of parity
LEFT_OUT = ("bmm",)


def run(job: Job) -> None:
    models.strict()
    small = job.quick or not job.cuda
    kernel_variants.check(job)
    for place, batch in enumerate(BATCHES[:1] if small else BATCHES):
        config = ("tiny", 32, batch) if small else (MODEL, SIZE, batch)
        name = speed.title(config)
        if job.has(config=name) or job.late(name, need=3.0 if job.cuda else 0.0):
            continue
        # sampled for half of what is left to this batch: warming up takes the rest
        seconds = 0.1 if small else job.left() / (len(BATCHES) - place) / 2
        speed.measure(job, config, seconds, {**plans(job, config), **kernel_variants.contenders(job, config)})


def plans(job: Job, config: speed.Config) -> dict[str, Callable[[], speed.Made]]:
    """Every possible change of one field, by name; fields that avoid a wrong kernel are as they are in all of them."""
    settings, why = models.fallback(job)
    dtype = "float16" if job.cuda else "float32"
    name, size, batch = config

    def planned(changed: dict[str, str]) -> object:
        return models.possible(job.device, models.seeded(name), RECIPES["gem"], batch, (size, size), {"dtype": dtype, **changed})

    usual = planned(settings)
    found: dict[str, Callable[[], speed.Made]] = {"default": lambda: speed.ours(job, config, "gem", settings, why)}
    for field, options in OVERRIDES.items():
        for option in options:
            changed = {**settings, field: option}
            plan = planned(changed)
            # on a CPU only what is quick: the interpreter's times mean nothing
            if plan is None or plan == usual or option in LEFT_OUT or (not job.cuda and option == "triton"):
                continue
            found[f"{field}={option}"] = lambda changed=changed: speed.ours(job, config, "gem", changed, why)  # type: ignore[misc]
    if job.cuda:
        found["tower bfloat16"] = lambda: _other_dtype(job, config, settings, why)
    return found


def _other_dtype(job: Job, config: speed.Config, settings: dict[str, str], why: str) -> speed.Made:
    return speed.ours(job, config, "gem", settings, why, dtype="bfloat16")


def lines(record: Row) -> list[str]:
    """A variant a line, a batch a column; positive is slower than the default."""
    rows = [row for row in record["rows"] if row.get("ms")]
    configs = list(dict.fromkeys(row["config"] for row in rows))
    ms = {(row["config"], row["contender"]): row["ms"] for row in rows}
    lines = [f"{'µs from default':26}" + "".join(f"{config:>16}" for config in configs)]
    lines.append(f"{'default, ms':26}" + "".join(speed.number(ms.get((config, "default")), "16.3f") for config in configs))
    for name in dict.fromkeys(row["contender"] for row in rows if row["contender"] != "default"):
        differences = [(ms.get((config, name)), ms.get((config, "default"))) for config in configs]
        lines.append(f"{name:26}" + "".join(speed.number(1000 * (a - b) if a and b else None, "+16.1f") for a, b in differences))
    failed = [f"{row['contender']} at {row['config']}: {row['failed'][:100]}" for row in record["rows"] if row.get("failed")]
    return [*lines, *failed[:4], *kernel_variants.lines(record)]
