"""The read-out of a recipe: the steps from patch features, or scores, to maps."""

from __future__ import annotations

from dataclasses import dataclass

from fastloc.errors import RecipeError
from fastloc.imaging.heatmaps import COMPETING, ORDERS
from fastloc.recipes.validation import known, positive

# the factor of cosines before a softmax over texts, where weights come without a scale: CLIP's own at the end of its training
LOGIT_SCALE = 100.0
# in a scale's place: that of the model, exp(logit_scale) of its checkpoint
MODEL = "model"
SCORES = ("cosine", "feature-surgery", "relevance")


@dataclass(frozen=True)
class ReadOut:
    """The steps from patch features and text embeddings to maps.

    score: "cosine", or "feature-surgery" (CLIP Surgery: removes what all texts share; with one text, the empty text's
        score is subtracted instead, as the official demo does), or "relevance": the scores that the recipe reads, unchanged.
    order: "grid" min-maxes on the patch grid, then upsamples (CLIP Surgery); "picture" upsamples, then min-maxes (GEM);
        "softmax" upsamples logit_scale * score, then softmax over the texts (SCLIP and its kin), "softmax-input" upsamples it to the
        input and from there to the picture (NACLIP), "softmax-grid" takes the softmax on the grid and upsamples the shares (TagCLIP);
        "none" only upsamples.
    logit_scale: a number where the authors fix one, or "model" for the model's own; see `Recipe.at_scale`.
    reverse: RCLIP's |1 - M| of the min-maxed map.
    """

    score: str = "cosine"
    order: str = "picture"
    logit_scale: float | str = MODEL
    reverse: bool = False

    def __post_init__(self) -> None:
        known("score", self.score, SCORES)
        known("order", self.order, tuple(ORDERS))
        if self.logit_scale != MODEL and not positive(self.logit_scale):
            raise RecipeError(f"logit_scale must be a number above 0, or {MODEL!r} for the model's own, got {self.logit_scale!r}")
        if self.reverse and self.order not in ("grid", "picture"):
            raise RecipeError(f"order must be 'grid' or 'picture' where reverse is set, got {self.order!r}")

    @property
    def scale(self) -> float | None:
        """The scale as a number, or None where the order needs none and none is given.

        Raises RecipeError for the model's own where no model was asked, see `Recipe.at_scale`.
        """
        if not isinstance(self.logit_scale, str):
            return self.logit_scale
        if self.order in COMPETING:
            raise RecipeError(f"logit_scale must be a number to draw maps, got {self.logit_scale!r}; Recipe.at_scale puts a model's in")
        return None
