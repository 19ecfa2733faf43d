"""The embedding of an example: its patch features under the method in use, in place of a text embedding."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.checkpoints.vit_weights import Weights
from fastloc.engine.model_reader import ModelReader
from fastloc.errors import FastlocError
from fastloc.functional import resnet, vit
from fastloc.functional.hierarchical import forms
from fastloc.functional.output import Output
from fastloc.imaging.example import Example, cell_shares
from fastloc.imaging.geometry import Geometry
from fastloc.recipes import RECIPES, Recipe
from fastloc.results.base_localizer import BATCH
from fastloc.results.batching import chunks
from fastloc.utils.lru_cache import LruCache

# a difference of unit vectors' means shorter than this is rounding
LEAST = 1e-6
# embeddings by the examples' keys, of one method
Examples = LruCache[str, Tensor]


def encoded(localizer: ModelReader, texts: Sequence[str], kept: Examples) -> Tensor:
    """Embeddings of texts and examples in their order, float32 [T, E], unit length; `kept` holds those of earlier examples."""
    examples = {text.key: text for text in texts if isinstance(text, Example)}
    if not examples:
        return localizer.source.text(texts, localizer.template)
    missing = kept.missing(list(examples))
    made = dict(zip(missing, example_embeddings(localizer, [examples[key] for key in missing]), strict=True))
    # one that was kept may have been dropped meanwhile by another thread
    rows_of = kept.all(list(examples), lambda key: made[key] if key in made else example_embedding(localizer, examples[key]))
    found = dict(zip(examples, rows_of, strict=True))
    words = [text for text in texts if not isinstance(text, Example)]
    rows = iter(localizer.source.text(words, localizer.template) if words else ())
    each = [found[text.key] if isinstance(text, Example) else next(rows) for text in texts]
    return torch.stack([row.to(each[0].device) for row in each])


def example_embedding(localizer: ModelReader, example: Example) -> Tensor:
    """The embedding of one example: see `example_embeddings`."""
    return example_embeddings(localizer, [example])[0]


@torch.inference_mode()
def example_embeddings(localizer: ModelReader, examples: Sequence[Example]) -> list[Tensor]:
    """The examples' embeddings for the localizer's model and method, float32 [E] each on the CPU, unit length, in order.

    Pictures, or crops, of one input size go through the image tower together, at most `BATCH` at a time.

    Raises:
        FastlocError: a box lies outside the part of the picture that the model sees; an embedding that is not finite or is all zero.
        TextError: its words cannot be used.
    """
    patches, recipe = reads_patches(localizer), localizer.recipe
    if not patches:
        # the encoder's own embedding, with the method's registers
        recipe = replace(RECIPES["itsm"], registers=recipe.registers, neurons=recipe.neurons)
    pictures = [example.picture if patches else example.crop for example in examples]
    geometries = [localizer.geometry(picture.size[::-1]) for picture in pictures]
    found: dict[int, Tensor] = {}
    for chunk in chunks(geometries, BATCH):
        pixels = torch.stack([localizer.pixels(pictures[index], geometries[index]) for index in chunk])
        out = _forward(localizer, recipe, pixels, cls=not patches)
        rows = out.patches if patches else out.cls
        assert rows is not None
        for index, row in zip(chunk, rows, strict=True):
            features = F.normalize(row.double().cpu(), dim=-1)
            found[index] = _of_patches(features, examples[index], geometries[index], out.grid) if patches else features
    return [_with_words(localizer, example, found[index]) for index, example in enumerate(examples)]


def _with_words(localizer: ModelReader, example: Example, found: Tensor) -> Tensor:
    if example.words:
        words = localizer.source.text([example.words], localizer.template)[0].to(found)
        found = F.normalize(example.share * found + (1 - example.share) * words, dim=-1)
    # zero vectors stay zero, and NaN is equal to nothing
    if not abs(float(found.norm()) - 1) < LEAST:
        hint = "its words are the opposite of its picture: change its share" if example.words else "the model's half precision may overflow"
        raise FastlocError(f"the embedding of {str(example)!r} must be finite and not all zero, got length {float(found.norm()):g}; {hint}")
    return found.float().cpu()


def reads_patches(localizer: ModelReader) -> bool:
    """True for a method whose maps are cosines of patch features."""
    if isinstance(localizer.weights, Weights):
        return localizer.recipe.reads == "patches"
    if isinstance(localizer.weights, HierarchicalWeights):
        form = forms.form_of(localizer.recipe, localizer.weights.spec)
        return form is not None and not form.relevance
    return not resnet.FORMS[localizer.recipe.name].relevance


def _of_patches(features: Tensor, example: Example, geometry: Geometry, grid: tuple[int, int]) -> Tensor:
    """The embedding [E] of an example, of the features [P, E] of its picture's patches, unit length each."""
    shares = torch.from_numpy(cell_shares(geometry, grid, example.box)).flatten()
    inside = shares @ features / shares.sum()
    if example.weights == "map":
        heat = features @ F.normalize(inside, dim=-1)
        low, high = heat[shares > 0].aminmax()
        # one patch, or equal patches: no difference is taken
        weights = shares * (heat - low) if high > low else shares
        inside = weights @ features / weights.sum()
    elif example.weights == "contrast" and bool((shares < 1).any()):
        outside = 1 - shares
        apart = inside - outside @ features / outside.sum()
        # a picture of one colour has no contrast
        inside = apart if float(apart.norm()) > LEAST else inside
    return F.normalize(inside, dim=-1)


def _forward(localizer: ModelReader, recipe: Recipe, pixels: Tensor, cls: bool) -> Output:
    weights = localizer.weights
    given = pixels.to(localizer.device, weights.dtype)
    if isinstance(weights, Weights):
        return vit.forward(weights, given, recipe, cls=cls)
    if isinstance(weights, HierarchicalWeights):
        return forms.forward(weights, given, recipe, cls=cls)
    return resnet.forward(weights, given, recipe, cls=cls)
