"""Distillation: a small image tower learns the maps of the embedded CLIP, cell by cell, and keeps its text tower as it is.

The teacher's answers to a scene are GEM's features of its patches, with the parameters that it recommends, and its image embedding. Names
that a scene's captions can hold are positives beside them. No mask is read: the teacher itself learned from captions alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedded_model.emoji_scenes.compose import compose
from embedded_model.emoji_scenes.concepts import concepts, names
from embedded_model.towers import Tower, contrastive_loss
from fastloc.engine.localizer import Localizer
from fastloc.functional import vit

# scenes of a file of the pool, and of one pass of the teacher
CHUNK, PASS = 512, 32
# a scene is seen about this often before the pool grows, from the first chunks on
REPEATS, FIRST = 6, 4
# weights of the losses: of cells, of their differences along the texts, of the image embedding and of names
WEIGHTS = {"cells": 1.0, "along texts": 1.0, "image": 0.5, "names": 0.1}
# the most that a channel's brightness changes
GAIN = 0.1


@dataclass(frozen=True)
class Answers:
    """Scenes and what the teacher makes of them.

    pixels: uint8 [B, H, W, 3]. cells: [B, P, E] and image [B, E], unit length. held: bool [B, names], true of the scene.
    """

    pixels: Tensor
    cells: Tensor
    image: Tensor
    held: Tensor


class Teacher:
    """The embedded CLIP with GEM, in bfloat16, and its embeddings of all names."""

    def __init__(self, tower: Tower) -> None:
        localizer = Localizer(method="gem")
        self.recipe, self.weights = localizer.recipe, localizer.source.vit.to(dtype=torch.bfloat16)
        self.mean, self.std = torch.tensor(tower.mean), torch.tensor(tower.std)
        self.bank = localizer.source.text(names(), self.recipe.template)
        self.scale = localizer.source.logit_scale

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Unit features of the patches [B, P, E] and of the picture [B, E], float16, for uint8 [B, H, W, 3]."""
        found = [vit.forward(self.weights, self.normalised(part).bfloat16(), self.recipe, cls=True) for part in pixels.split(PASS)]
        cells, image = torch.cat([each.patches for each in found]), torch.cat([each.cls for each in found if each.cls is not None])
        return F.normalize(cells.float(), dim=-1).half(), F.normalize(image.float(), dim=-1).half()

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] to float [B, 3, H, W]; channels stay last in memory."""
        return ((pixels.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2)


class Pool:
    """Scenes with the teacher's answers, in files of a folder, so that a run that is taken up again makes none of them twice."""

    def __init__(self, folder: Path, teacher: Teacher, size: int, seed: int) -> None:
        self.folder, self.teacher, self.size, self.seed = folder, teacher, size, seed
        folder.mkdir(parents=True, exist_ok=True)
        files = sorted(folder.glob("*.pt"))
        self.chunks = [Answers(**torch.load(file, weights_only=True)) for file in files]

    def __len__(self) -> int:
        return len(self.chunks) * CHUNK

    def grow(self) -> None:
        """Draw CHUNK more scenes, and keep them."""
        number, vocabulary, known = len(self.chunks), concepts(), {name: i for i, name in enumerate(names())}
        rng = np.random.default_rng([self.seed, number])
        scenes = [compose(rng, vocabulary, (self.size, self.size)) for _ in range(CHUNK)]
        held = torch.zeros(CHUNK, len(known), dtype=torch.bool)
        for row, scene in zip(held, scenes, strict=True):
            row[[known[name] for name in scene.truths]] = True
        pixels = torch.from_numpy(np.stack([np.asarray(scene.picture) for scene in scenes]))
        made = Answers(pixels, *self.teacher(pixels), held)
        partial = self.folder / f"{number:04}.part"
        torch.save(vars(made), partial)
        partial.replace(partial.with_suffix(".pt"))
        self.chunks.append(made)

    def batch(self, rng: np.random.Generator, count: int) -> Answers:
        """Scenes drawn by chance, some mirrored, in slightly other colours."""
        places = [divmod(int(place), CHUNK) for place in rng.integers(len(self), size=count)]
        rows = [tuple(getattr(self.chunks[chunk], field)[row] for field in Answers.__dataclass_fields__) for chunk, row in places]
        pixels, cells, image, held = (torch.stack(column) for column in zip(*rows, strict=True))
        mirrored = torch.from_numpy(rng.random(count) < 0.5)
        side = round(cells.shape[1] ** 0.5)
        grid = cells.unflatten(1, (side, side))
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(2), pixels)
        grid = torch.where(mirrored[:, None, None, None], grid.flip(2), grid)
        gain = torch.from_numpy(rng.uniform(1 - GAIN, 1 + GAIN, (count, 1, 1, 3))).float()
        return Answers((pixels * gain).clamp(0, 255), grid.flatten(1, 2).float(), image.float(), held)


class Distillation:
    """The loss of one batch after another. `words`: the running means of its parts, each 1 for a tower that always answers the mean."""

    def __init__(self, model: nn.Module, tower: Tower, folder: Path, *, size: int, seed: int, batch: int) -> None:
        self.model, self.batch = model, batch
        self.teacher = Teacher(tower)
        self.pool = Pool(folder, self.teacher, size, seed)
        while len(self.pool.chunks) < FIRST:
            self.pool.grow()
        self.rng = np.random.default_rng([seed, len(self.pool), 1])
        bank = self.teacher.bank
        _, sizes, axes = torch.linalg.svd(bank - bank.mean(0), full_matrices=False)
        # squares of differences times this are those of the cosines to all texts
        self.along = (axes * sizes[:, None]).T.contiguous()
        cells, image = (torch.cat([getattr(each, name) for each in self.pool.chunks[:FIRST]]).float() for name in ("cells", "image"))
        self.spread = {"cells": _spread(cells), "along texts": _spread(cells @ self.along), "image": _spread(image)}
        self.means: dict[str, float] = {}

    def __call__(self, images: int) -> Tensor:
        """The loss of the next batch, behind `images` pictures."""
        while len(self.pool) * REPEATS < images:
            self.pool.grow()
        given = self.pool.batch(self.rng, self.batch)
        parts = self.parts(answered(self.model.visual.trunk, self.teacher.normalised(given.pixels)), given)
        for name, value in parts.items():
            self.means[name] = 0.98 * self.means.get(name, value.item()) + 0.02 * value.item()
        return sum((WEIGHTS[name] * value for name, value in parts.items()), torch.zeros(()))

    def parts(self, cells: Tensor, given: Answers) -> dict[str, Tensor]:
        """The parts of the loss by name, of cells in the texts' space [B, P, E]."""
        image = F.normalize(cells.mean(1), dim=-1)
        off = F.normalize(cells, dim=-1) - given.cells
        used = given.held.any(0)
        logits = self.teacher.scale * image @ self.teacher.bank[used].T
        return {
            "cells": _mean_square(off) / self.spread["cells"],
            "along texts": _mean_square(off @ self.along) / self.spread["along texts"],
            "image": _mean_square(image - given.image) / self.spread["image"],
            "names": contrastive_loss(logits, given.held[:, used]),
        }

    @property
    def words(self) -> str:
        return f"scenes {len(self.pool)} " + ", ".join(f"{name} {value:.3f}" for name, value in self.means.items())


def answered(trunk: Any, pixels: Tensor) -> Tensor:
    """Every cell of timm's FastViT through its classifier, [B, 3, H, W] -> [B, P, E]: their mean is the tower's embedding."""
    found: Tensor = trunk.head.fc(trunk.forward_features(pixels).flatten(2).transpose(1, 2))
    return found


def _mean_square(off: Tensor) -> Tensor:
    return off.square().sum(-1).mean()


def _spread(rows: Tensor) -> float:
    """The mean square of differences from the mean over all but the last axis."""
    flat = rows.flatten(0, -2)
    return float(_mean_square(flat - flat.mean(0)))
