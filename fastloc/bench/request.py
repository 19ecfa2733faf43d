"""The request of a run, checked in full before anything heavy starts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fastloc.bench import peer_environments
from fastloc.bench.backends import table as backends
from fastloc.bench.backends.table import BACKENDS, USUAL
from fastloc.bench.models import Model, model
from fastloc.bench.peer_table import PEERS
from fastloc.bench.towers.kinds import no_method
from fastloc.errors import FastlocError, PlanError, RecipeError, unknown
from fastloc.recipes import RECIPES
from fastloc.utils import hardware

ALL = "all"
PEERS_SUITE = "peers"
GEM = "gem"
# the suites that are not of GEM alone
ANY_METHOD = ("methods", "cold")
DTYPES = ("float32", "float16", "bfloat16")
# what is measured along each axis of the scaling suites
SIZES = (224, 336, 448, 672, 896, 1344)
BATCHES = (1, 2, 4, 8, 16, 32)
TEXTS = (1, 10, 100, 1000)
BLOCKS = (1, 2, 4, 6, 8, 12)


@dataclass(frozen=True)
class Request:
    """One run. Empty `sizes` are each model's own size; `seconds` are those of all timed calls together, without what it takes to load,
    export and check. `sizes`, `batches` and `texts` with more than one value give a group for each combination."""

    models: tuple[Model, ...]
    methods: tuple[str, ...]
    backends: tuple[str, ...]
    peers: tuple[str, ...]
    suites: tuple[str, ...]
    sizes: tuple[int, ...]
    batches: tuple[int, ...]
    texts: int
    dtype: str
    device: str
    threads: int
    seconds: float
    out: Path

    @property
    def kind(self) -> str:
        """ "cpu" or "cuda"."""
        return self.device.partition(":")[0]

    def sizes_of(self, one: Model) -> tuple[int, ...]:
        return self.sizes or (one.size,)


def device_of(name: str | None) -> str:
    """The device of a name; by default the first GPU where there is one.

    Raises:
        FastlocError: another kind, or a GPU that is not there.
    """
    gpus = hardware.gpus() if name is None or name.startswith("cuda") else ()
    chosen = name or ("cuda" if gpus and find_spec("torch") and _sees_cuda() else "cpu")
    kind, _, index = chosen.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise FastlocError(f"device must be 'cpu', 'cuda' or one such as 'cuda:1', got {chosen!r}")
    if kind == "cuda" and int(index or 0) >= len(gpus):
        raise FastlocError(f"device must exist, got {chosen!r}, and there {_gpus(len(gpus))}; use 'cpu'")
    return chosen


def _gpus(count: int) -> str:
    return "is no NVIDIA GPU" if count == 0 else "is one NVIDIA GPU, cuda:0" if count == 1 else f"are {count} NVIDIA GPUs"


def _sees_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def chosen(kind: str, given: Sequence[str] | None, known: Sequence[str], usual: Sequence[str]) -> tuple[str, ...]:
    """The given names, each once; all of them for "all", the usual ones for none.

    Raises:
        FastlocError: a name that is not known.
    """
    names = usual if given is None else known if list(given) == [ALL] else given
    for name in names:
        if name not in known:
            raise FastlocError(unknown(kind, name, (*known, ALL)))
    return tuple(dict.fromkeys(names))


def methods_of(given: Sequence[str] | None) -> tuple[str, ...]:
    return chosen("method", given, tuple(RECIPES), tuple(RECIPES))


def models_of(given: Sequence[str] | None) -> tuple[Model, ...]:
    return tuple(model(name) for name in dict.fromkeys(given or ("embedded", "ViT-B-16")))


def backends_of(given: Sequence[str] | None, device: str, dtype: str) -> tuple[str, ...]:
    """The backends that can run; "all" is all that can, and one that is named and cannot is an error.

    Raises:
        FastlocError: unknown. PlanError: it cannot run here, with every reason.
    """
    kind = device.partition(":")[0]
    usual = [name for name in USUAL[kind] if not backends.why_not(BACKENDS[name], device, dtype)]
    names = chosen("backend", given, tuple(BACKENDS), usual)
    reasons = {name: backends.why_not(BACKENDS[name], device, dtype) for name in names}
    if given is not None and list(given) == [ALL]:
        return tuple(name for name in names if not reasons[name])
    for name, why in reasons.items():
        if why:
            raise PlanError(f"backend {name!r} cannot be measured here: {'; '.join(why)}")
    if not names:
        why = backends.why_not(BACKENDS["torch"], device, dtype)
        raise PlanError(f"no backend can be measured on {device} in {dtype}: {'; '.join(why)}")
    return names


def peers_of(given: Sequence[str] | None) -> tuple[str, ...]:
    """Peers whose environments are there.

    Raises:
        FastlocError: unknown, or its environment is not set up.
    """
    names = chosen("peer", given if given != ["peers"] else [ALL], tuple(PEERS), ())
    for name in names:
        peer_environments.python_of(PEERS[name].environment)
    return names


def suites_of(given: Sequence[str] | None, peers: Sequence[str] | None, known: Sequence[str], usual: Sequence[str]) -> tuple[str, ...]:
    """The suites; chosen peers bring theirs with them, and "all" leaves it out without.

    Raises:
        FastlocError: unknown, or the suite "peers" without any.
    """
    if given is None:
        return (*usual, PEERS_SUITE) if peers else tuple(usual)
    names = chosen("suite", given, known, usual)
    if PEERS_SUITE in names and not peers:
        if list(given) != [ALL]:
            raise FastlocError("--vs must name the packages that suite 'peers' measures, got none; give --vs peers for all")
        return tuple(name for name in names if name != PEERS_SUITE)
    return names


def check_sizes(models: Sequence[Model], sizes: Sequence[int]) -> None:
    """Check the sizes. Raises FastlocError for a size that a model's patch does not divide."""
    for one in models:
        spec = one.spec
        for size in sizes or (one.size,):
            step = spec.patch[0]
            if size < step or size % step:
                lower, upper = max(size // step, 1) * step, (size // step + 1) * step
                raise FastlocError(f"size must be a multiple of the patch of {one.name}, {step}, got {size}; use {lower} or {upper}")


def check_methods(models: Sequence[Model], methods: tuple[str, ...], given: Sequence[str] | None) -> None:
    """Check that every model has a method to measure. Raises RecipeError for a named method that none of the models has.

    given: the names as they were typed; None and "all" are those that a model has.
    """
    if given is None or list(given) == [ALL]:
        return
    for name in methods:
        reasons = [no_method(one.spec, name, one.name) for one in models]
        if all(reasons):
            raise RecipeError(reasons[0])
    for one in models:
        if not one.methods(methods):
            raise RecipeError(no_method(one.spec, methods[0], one.name))


def check_suites(models: Sequence[Model], suites: Sequence[str], given: Sequence[str] | None) -> None:
    """Check that named suites of GEM have a model for it. Raises FastlocError. given: the names as they were typed."""
    if given is None or list(given) == [ALL] or any(one.methods((GEM,)) for one in models):
        return
    for name in suites:
        if name not in ANY_METHOD:
            names = ", ".join(one.name for one in models)
            raise FastlocError(f"suite {name!r} must have a model that runs gem, got {names}; add one, or use {' and '.join(ANY_METHOD)}")


def check_out(out: Path, plot: bool) -> None:
    """Check the output; nothing is made yet.

    Raises:
        FastlocError: a folder cannot be made or written to, or plots cannot be drawn.
    """
    if plot and find_spec("matplotlib") is None:
        raise FastlocError('--plot needs matplotlib: pip install "fastloc[bench]"')
    there = next(folder for folder in (out, *out.resolve().parents) if folder.exists())
    if not there.is_dir():
        raise FastlocError(f"--out must be a folder for the records, got the file {str(there)!r}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise FastlocError(f"records cannot be written to {str(out)!r}: {str(there)!r} is read-only for this user")
