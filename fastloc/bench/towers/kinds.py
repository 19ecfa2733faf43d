"""The methods, backends and counts of each kind of tower. A transformer has all; rows of the others say what they have."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from fastloc.bench.backends.table import Backend
from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.errors import FastlocError, RecipeError
from fastloc.recipes import Recipe, recipe

if TYPE_CHECKING:
    from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec

Spec = Union[ModelSpec, ResNetSpec, "HierarchicalSpec"]

# the builds of `fastloc.bench.backends.torch_backend` that are written for transformers
_TRANSFORMERS = ("compiled", "official")


@dataclass(frozen=True)
class Kind:
    """A kind of image tower.

    name: a row of `fastloc.onnx_file.formats.TOWERS`. words: spec -> the kind with its article. prefix: spec -> the number of tokens in
    front of the cells. check: (recipe, spec, the model's name) raises RecipeError for a method that the kind does not have; None where it
    has all. blocks: spec -> the number of last blocks that a local path can change, of towers that may have fewer than a method changes;
    0 elsewhere.
    """

    name: str
    words: Callable[[Any], str]
    prefix: Callable[[Any], int]
    check: Callable[[Recipe, Any, str], None] | None = None
    blocks: Callable[[Any], int] = lambda spec: 0


def _check_resnet(row: Recipe, spec: Any, model: str) -> None:
    from fastloc.functional import resnet

    resnet.check(row, spec, model)


def _check_hierarchical(row: Recipe, spec: Any, model: str) -> None:
    from fastloc.functional.hierarchical import forms

    forms.check(row, spec, model)


VIT = Kind("vit", lambda spec: "a ViT", lambda spec: int(spec.prefix))
# the pool's mean token stands in front of the cells
RESNET = Kind("resnet", lambda spec: "a CLIP ResNet", lambda spec: 1, _check_resnet)
HIERARCHICAL = Kind("hierarchical", lambda spec: f"a {spec.family}", lambda spec: 0, _check_hierarchical, lambda spec: int(spec.attending))


def kind_of(spec: Spec) -> Kind:
    """The kind of tower that a spec describes."""
    return VIT if isinstance(spec, ModelSpec) else RESNET if isinstance(spec, ResNetSpec) else HIERARCHICAL


# specs of hierarchical towers, and functions that compute, import PyTorch: processes that run an exported file stay without it


def spec_of(config: dict[str, Any], preprocess: dict[str, Any]) -> Spec:
    """The spec of an open_clip model configuration. Raises ModelError for a tower that the benchmark does not run."""
    from fastloc.checkpoints.sources import description

    return description.spec_of(config, preprocess)


def refusal(config: dict[str, Any]) -> str | None:
    """The reason why the benchmark cannot run the tower of this open_clip model configuration, or None if it can."""
    from fastloc.checkpoints.sources import description

    return description.refusal(config)


def tokens(spec: Spec, size: tuple[int, int]) -> int:
    """The tokens of an input of (height, width): patches, or cells of the last map, and what stands in front of them."""
    return kind_of(spec).prefix(spec) + (size[0] // spec.patch[0]) * (size[1] // spec.patch[1])


def heads(spec: Spec) -> int:
    """The heads whose maps are N x N over all tokens; 0 for a tower whose grid shrinks, which peers do not run."""
    return spec.heads if isinstance(spec, ModelSpec | ResNetSpec) else 0


def methods_of(spec: Spec, names: tuple[str, ...], model: str) -> tuple[str, ...]:
    """The methods among `names` that exist on this kind of tower."""
    return tuple(name for name in names if not no_method(spec, name, model))


def no_method(spec: Spec, name: str, model: str) -> str:
    """The reason why a method does not exist on this kind of tower, "" if it does."""
    check = kind_of(spec).check
    if check is None:
        return ""
    try:
        check(recipe(name, **few_blocks(spec, name)), spec, model)
    except RecipeError as error:
        return str(error)
    return ""


def few_blocks(spec: Spec, name: str) -> dict[str, Any]:
    """The change of a method's own number of blocks where it is more than the blocks that this kind of tower has; none elsewhere."""
    most = kind_of(spec).blocks(spec)
    return {"blocks": most} if 0 < most < recipe(name).blocks else {}


def no_backend(spec: Spec, row: Backend) -> str:
    """The reason why a backend does not run this kind of tower, "" if it does."""
    kind = kind_of(spec)
    if kind is VIT:
        return ""
    if row.build in _TRANSFORMERS:
        return f"it runs transformers, and this tower is {kind.words(spec)}; torch, embedding, open_clip and exported files run it"
    if row.stored.startswith("int8"):
        from fastloc.export.graph_kinds import named

        try:
            named(kind.name).eight_bits(spec).check(row.stored)
        except FastlocError as error:
            return str(error)
    return ""
