"""Captions: what a scene's things are called, in many phrasings and orders. Image-level only: no positions, no masks."""

from dataclasses import dataclass

import numpy as np

from embedded_model.emoji_scenes.compose import Scene

LISTS = (
    "{}", "a photo of {}.", "a picture of {}.", "{} in a picture", "there is {} in the scene.", "an image with {}.", "a drawing of {}.",
    "here we see {}", "a scene with {}", "look, {}!",
)
JOINS = (" and ", ", ", " next to ", " with ", " beside ", " near ")
ARTICLES = ("", "", "a ", "the ", "one ")


@dataclass(frozen=True)
class Caption:
    """A text and the names it asserts; it is true of every scene whose truths include them all."""

    text: str
    names: frozenset[str]


def full_caption(rng: np.random.Generator, scene: Scene) -> Caption:
    """Name every thing of the scene, in random order."""
    return _phrase(rng, [thing.name for thing in scene.things])


def partial_caption(rng: np.random.Generator, scene: Scene, templates: tuple[str, ...]) -> Caption:
    """Name one or two things, sometimes by a wider word; a single thing often in one of the zero-shot `templates`."""
    count = 2 if len(scene.things) > 1 and rng.uniform() < 0.25 else 1
    picked = rng.choice(len(scene.things), count, replace=False)
    words = []
    for thing in (scene.things[i] for i in picked):
        wider = sorted(thing.truths - {thing.name})
        words.append(wider[int(rng.integers(len(wider)))] if wider and rng.uniform() < 0.2 else thing.name)
    if count == 1 and rng.uniform() < 0.6:
        template = templates[int(rng.integers(len(templates)))]
        return Caption(template.format(words[0]), frozenset(words))
    return _phrase(rng, words)


def _phrase(rng: np.random.Generator, words: list[str]) -> Caption:
    order = [words[i] for i in rng.permutation(len(words))]
    join = JOINS[int(rng.integers(len(JOINS)))]
    listed = join.join(ARTICLES[int(rng.integers(len(ARTICLES)))] + word for word in order)
    return Caption(LISTS[int(rng.integers(len(LISTS)))].format(listed), frozenset(words))
