"""The part of a localizer that measurements on its model read."""

from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from fastloc.checkpoints.families.kinds import AnyWeights
from fastloc.checkpoints.loading import Source
from fastloc.imaging.geometry import Geometry
from fastloc.recipes import Recipe


class ModelReader(Protocol):
    """A model, its recipe and its preprocessing: `fastloc.Localizer` without its calls."""

    device: torch.device
    source: Source
    recipe: Recipe
    template: str

    @property
    def weights(self) -> AnyWeights:
        """The image tower on its device."""
        ...

    def geometry(self, picture: tuple[int, int]) -> Geometry:
        """The geometry of a picture of (height, width) in the model's input."""
        ...

    def pixels(self, picture: Image.Image, geometry: Geometry) -> Tensor:
        """One normalised input [3, h, w], float32 on the CPU."""
        ...
