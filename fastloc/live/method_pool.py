"""The methods that the page offers, on one model: made at their first use, and shared by all clients."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastloc.errors import FastlocError, heard
from fastloc.live.settings import Settings
from fastloc.recipes import RECIPES, Recipe
from fastloc.video.locator import Locator, Prompts
from fastloc.video.sources.frame import Frame
from fastloc.video.temporal import BACKGROUND, Temporal

__all__ = ["Methods", "Setup", "Way", "quick"]

# a camera's usual frame
USUAL = (480, 640)
# texts of which it is remembered what was said of them
REMEMBERED = 256


@dataclass(frozen=True, eq=False)
class Way:
    """One method of a client: its locator, its texts, and its memory of the frames before."""

    method: str
    locator: Locator
    prompts: Prompts
    temporal: Temporal


@dataclass(frozen=True, eq=False)
class Setup:
    """All that a frame of one client needs, swapped as a whole. notes: warnings about the texts."""

    settings: Settings
    ways: tuple[Way, ...]
    revision: int = 0
    notes: tuple[str, ...] = ()


class Methods:
    """Args:
        localizer: `fastloc.Localizer`, or anything that a `Locator` takes; without `with_method` it has one method.
        names: the methods to offer; by default all that are quick and that the model can run.

    Raises FastlocError, RecipeError for names that cannot be had.
    """

    def __init__(self, localizer: Any, names: Sequence[str] = ()) -> None:
        self._localizer, self._lock = localizer, threading.Lock()
        self.first = str(getattr(localizer, "method", "heat"))
        self.model = ""
        self._notes: dict[str, str] = {}
        # what stands for a text of this name
        self.examples: dict[str, str] = {}
        self._made = {self.first: Locator(localizer)}
        self.names = self._offered(names)

    def _offered(self, names: Sequence[str]) -> tuple[str, ...]:
        many = hasattr(self._localizer, "with_method")
        for name in names:
            if name != self.first and not many:
                raise FastlocError(f"method {name!r} cannot be offered: this model has one method, {self.first!r}")
            self.locator(name)
        others = [row.name for row in RECIPES.values() if quick(row) and self._runs(row.name)] if many and not names else list(names)
        # the method that was chosen by name comes first
        return tuple(dict.fromkeys([self.first, *others]))

    def _runs(self, name: str) -> bool:
        try:
            self.locator(name)
        except FastlocError:
            return False
        return True

    def locator(self, name: str) -> Locator:
        """The method's own. Raises FastlocError for one that the model cannot run."""
        with self._lock:
            if name not in self._made:
                self._made[name] = Locator(self._localizer.with_method(name))
            return self._made[name]

    def setup(self, settings: Settings, before: Setup | None = None) -> Setup:
        """The setup of these settings, with texts encoded now, in this thread.

        An earlier setup's memory of its frames is kept where nothing changed that it depends on. Raises TextError, FastlocError.
        """
        background = (settings.background or BACKGROUND) if settings.maps == "background" else ()
        with heard() as messages:
            ways = tuple(self._way(name, settings, background, before) for name in settings.methods)
        notes = self._noted(settings.texts, messages)
        return Setup(settings, ways, before.revision + 1 if before else 0, notes)

    def _noted(self, texts: Sequence[str], messages: Sequence[str]) -> tuple[str, ...]:
        """Warnings about the texts, from now or from their first encoding: towers remember texts, and warn once."""
        if len(self._notes) > REMEMBERED:
            self._notes.clear()
        self._notes |= {text: message for text in texts for message in messages if repr(text) in message}
        return tuple(self._notes[text] for text in texts if text in self._notes)

    def _way(self, name: str, settings: Settings, background: tuple[str, ...], before: Setup | None) -> Way:
        locator = self.locator(name)
        prompts = locator.prepare(self._meant(settings.texts), background)
        for way in before.ways if before else ():
            same = before is not None and (before.settings.smooth, before.settings.maps) == (settings.smooth, settings.maps)
            if same and way.method == name and way.prompts.every == prompts.every:
                return Way(name, locator, prompts, way.temporal)
        return Way(name, locator, prompts, Temporal(settings.smooth, settings.maps, locator.logit_scale))

    def _meant(self, texts: Sequence[str]) -> list[str]:
        """The texts, and the examples where their names stand."""
        return [self.examples.get(text, text) for text in texts]

    def warm_up(self, texts: Sequence[str]) -> tuple[int, int]:
        """Locate the texts in a grey frame, so that no client waits for what is loaded or compiled at first. Returns the (height, width)
        of the model's input for it. Raises what is wrong with the model or the texts."""
        locator = self.locator(self.first)
        frame = Frame(0, 0.0, 0.0, USUAL, lambda: np.full((*USUAL, 3), 128, np.uint8))
        located = locator.locate(frame, locator.prepare(self._meant(texts)))
        self.model = located.model
        return located.geometry.input

    @property
    def described(self) -> list[dict[str, str]]:
        """Names of the methods and a line of description for each."""
        return [{"name": name, "summary": RECIPES[name].summary if name in RECIPES else ""} for name in self.names]


def quick(row: Recipe) -> bool:
    """True for a method of one forward pass, about as fast as the plain encoder."""
    return row.reads == "patches" and row.inv_temp != "matched"
