"""One model in two forms, unchanged and with trained projections folded in. A recipe takes the form that it needs."""

import copy
from collections.abc import Callable
from dataclasses import replace
from threading import RLock
from typing import Any

from fastloc.checkpoints.loading import Source
from fastloc.checkpoints.projections import OWN, Given, projections_for
from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine.tower_kinds import AnyTower
from fastloc.recipes import Recipe
from fastloc.recipes.presence import UNCALIBRATED, Calibration
from fastloc.utils.fork_safety import renewed_after_fork


class ProjectedTowers:
    """One model in the form that a recipe needs, unchanged or with projections; each form is made once.

    Args:
        source: the model, its text tower on the device that it stays on.
        given: a file, `Projections`, or "own" for those that came with the model; then every recipe uses them. None: only recipes that
            require projections (`Recipe.trained`) use them, the model's own.

    Raises:
        ModelError: the file holds no projections, or those of another model.
    """

    def __init__(self, source: Source, given: Given = None) -> None:
        self.plain, self.is_given = source, given is not None
        self.own = given is None or given == OWN
        self.folded: Source | None = None
        self.towers: dict[int, AnyTower] = {}
        # two threads that made a form each would leave one of them without its tower
        self.lock = renewed_after_fork(RLock())
        if given is not None:
            self.folded = projections_for(given, source).applied(source)

    def source(self, row: Recipe) -> Source:
        """The model for this recipe. Raises ModelError if the recipe needs projections and there are none."""
        if not self.is_given and not row.trained:
            return self.plain
        with self.lock:
            if self.folded is None:
                self.folded = projections_for(OWN, self.plain, f"method {row.name!r}").applied(self.plain)
            return self.folded

    def calibration(self, source: Source) -> Calibration:
        """The calibration of the scores of one of these sources; none is known for projections that did not come with the model."""
        kind = "plain" if source is self.plain else "projected" if self.own else ""
        return source.calibrations.get(kind, UNCALIBRATED)

    def tower(self, source: Source, make: Callable[[Any], AnyTower] | None = None) -> AnyTower:
        """The image tower of one of these sources on its device. The first one is made; another differs only in its projection."""
        with self.lock:
            if id(source) not in self.towers:
                self.towers[id(source)] = make(source.weights) if make else _with_projection(next(iter(self.towers.values())), source.vit)
            return self.towers[id(source)]


def _with_projection(tower: Any, like: Weights) -> AnyTower:
    other = copy.copy(tower)
    proj, bias = (None if each is None else each.to(tower.weights.patch_w) for each in (like.proj, like.proj_b))
    other.weights = replace(tower.weights, proj=proj, proj_b=bias)
    return other  # type: ignore[no-any-return]
