"""The methods, backends and counts of a kind of tower. A transformer has all; a ResNet's rows are here."""

from typing import Any

from fastloc.bench.backends.table import Backend
from fastloc.checkpoints import resnet_spec, vit_spec
from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.errors import RecipeError
from fastloc.recipes import recipe

Spec = ModelSpec | ResNetSpec

# the builds of `fastloc.bench.backends.torch_backend` that run a ResNet
_BUILDS = ("engine", "embedding", "open_clip")


def spec_of(config: dict[str, Any], preprocess: dict[str, Any]) -> Spec:
    """The spec of an open_clip model configuration. Raises ModelError for a tower that the benchmark does not run."""
    if vit_spec.is_resnet(config):
        return resnet_spec.from_open_clip(config, preprocess)
    return vit_spec.from_open_clip(config, preprocess)


def refusal(config: dict[str, Any]) -> str | None:
    """The reason why the benchmark cannot run the tower of this open_clip model configuration, or None if it can."""
    return resnet_spec.refusal(config) if vit_spec.is_resnet(config) else vit_spec.refusal(config)


def tokens(spec: Spec, size: tuple[int, int]) -> int:
    """The tokens of an input of (height, width): patches and those in front of them; a ResNet's pool has its mean token there."""
    prefix = 1 if isinstance(spec, ResNetSpec) else spec.prefix
    return prefix + (size[0] // spec.patch[0]) * (size[1] // spec.patch[1])


def methods_of(spec: Spec, names: tuple[str, ...], model: str) -> tuple[str, ...]:
    """The methods among `names` that exist on this kind of tower."""
    return tuple(name for name in names if not no_method(spec, name, model))


def no_method(spec: Spec, name: str, model: str) -> str:
    """The reason why a method does not exist on this kind of tower, "" if it does."""
    if not isinstance(spec, ResNetSpec):
        return ""
    from fastloc.functional import resnet

    try:
        resnet.check(recipe(name), spec, model)
    except RecipeError as error:
        return str(error)
    return ""


def no_backend(spec: Spec, row: Backend) -> str:
    """The reason why a backend does not run this kind of tower, "" if it does."""
    if not isinstance(spec, ResNetSpec) or (row.runtime == "torch" and row.build in _BUILDS):
        return ""
    return "it runs transformers, and this tower is a ResNet; torch, graph, triton, embedding and open_clip run it"
