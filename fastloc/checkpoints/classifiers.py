"""Classifiers by name, from torchvision, timm or your own module, each with its pixel statistics and class names."""

import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastloc.checkpoints.state_dicts import silenced
from fastloc.errors import ModelError, TextError, unknown, warn
from fastloc.utils.schema import first_line
from fastloc.utils.system.exhaustion import pass_on

RANDOM = "random"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = 1000
SIZE = 224
# the most names that one message lists
MOST = 40


@dataclass(frozen=True)
class Classifier:
    """A classifier and its classes.

    names: the names of each class, the usual one first; empty where only indices are known.
    mean, std: of pixels in [0, 1], per channel. size: the training input's (height, width).
    """

    name: str
    module: nn.Module
    names: tuple[tuple[str, ...], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    interpolation: str

    def indices(self, texts: Iterable[str], count: int) -> list[int]:
        """The indices of the classes that texts name, of `count` classes: by name, in any case, or by index as digits.

        Raises TextError for a text that names no class or several.
        """
        places: dict[str, list[int]] = {}
        for index, each in enumerate(self.names):
            for name in dict.fromkeys(name.casefold() for name in each):
                places.setdefault(name, []).append(index)
        return [self._index(text, places, count) for text in texts]

    def _index(self, text: str, places: dict[str, list[int]], count: int) -> int:
        found = places.get(text.strip().casefold(), [])
        if len(found) > 1:
            usual = ", ".join(f"{index} ({self.names[index][0]})" for index in found)
            raise TextError(f"class must be one of {self.name}, got {text!r}, which names several; give the index of one, {usual}")
        if found:
            return found[0]
        if text.strip().isdecimal():
            if int(text) < count:
                return int(text)
            raise TextError(f"class must be one of {self.name}'s {count}, 0 to {count - 1}, got {text}")
        if not places:
            raise TextError(f"class must be an index, 0 to {count - 1}, for {self.name}, whose classes have no names here, got {text!r}")
        raise TextError(many(f"{self.name} class", text, list(places)))


def load(model: str, weights: str | Path | None = None) -> Classifier:
    """A classifier by name.

    Args:
        model: "torchvision:resnet50" or "timm:resnet18".
        weights: "random" for seeded random weights (None: the same, with a warning); a tag of torchvision's ("IMAGENET1K_V2", "DEFAULT")
            or timm's ("a1_in1k"), whose file is downloaded once; or a path to a state dict.

    Raises:
        ModelError: unknown library, model or tag, a download that fails, or weights of another architecture.
    """
    library, _, name = model.partition(":")
    if library not in LIBRARIES or not name:
        raise ModelError(unknown("classifier library", library, LIBRARIES) + "; such as torchvision:resnet50")
    path = _path(weights)
    loaded = LIBRARIES[library](name, None if path or weights in (None, RANDOM) else str(weights))
    if path:
        _fill(loaded, path)
    if weights is None:
        message = f"{model} has random weights, whose maps mean nothing; give weights, such as DEFAULT for torchvision's"
        warn(message, stacklevel=4)
    return loaded


def of_module(
    module: nn.Module, names: Sequence[str], mean: tuple[float, ...], std: tuple[float, ...], size: tuple[int, int], weights: Path | None
) -> Classifier:
    """A classifier from your own module, with ImageNet's mean and std unless you give others."""
    each = tuple((str(name),) for name in names)
    made = Classifier(type(module).__name__, module, each, mean or IMAGENET_MEAN, std or IMAGENET_STD, size, "bilinear")
    if weights:
        raise ModelError(f"weights must be left out for a module, {made.name}, got {str(weights)!r}; load them into it")
    return made


def many(kind: str, name: str, known: list[str]) -> str:
    """`errors.unknown` for tables too long to list: the nearest names, and the total number."""
    if len(known) <= MOST:
        return unknown(kind, name, known)
    near = difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.5) or [each for each in known if name.casefold() in each][:3]
    # a name of several words is near to those that share one
    near = near or [each for each in known if set(name.casefold().split()) & set(each.split())][:3]
    guess = f" did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"unknown {kind} {name!r}:{guess} there are {len(known)} names, such as {known[0]!r}"


def _torchvision(name: str, tag: str | None) -> Classifier:
    models: Any = _package("torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(many("torchvision classifier", name, known))
    tags = list(models.get_model_weights(name))
    chosen = None
    if tag is not None:
        by_name = {each.name: each for each in tags}
        if tag.upper() not in (*by_name, "DEFAULT"):
            raise ModelError(unknown(f"{name} tag", tag, [*by_name, "DEFAULT"]))
        chosen = by_name.get(tag.upper()) or models.get_model_weights(name).DEFAULT
    module = _made(f"{name} {tag or ''}", lambda: models.get_model(name, weights=chosen))
    # pixel statistics are known for random weights too
    about = chosen or tags[0]
    transforms: Any = about.transforms()
    side = transforms.crop_size[0]
    names = _names(about.meta.get("categories", ()))
    return Classifier(
        f"torchvision:{name}/{tag or RANDOM}", module, names, tuple(transforms.mean), tuple(transforms.std), (side, side),
        transforms.interpolation.value,
    )  # fmt: skip


def _timm(name: str, tag: str | None) -> Classifier:
    timm: Any = _package("timm")
    known = timm.list_models()
    if name not in known:
        raise ModelError(many("timm classifier", name, known))
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{name}.*")]
    if tag is not None and tag not in tags:
        raise ModelError(unknown(f"{name} tag", tag, tags))
    full = f"{name}.{tag}" if tag else name
    module: Any = _made(full, lambda: timm.create_model(full, pretrained=tag is not None))
    about = module.pretrained_cfg
    _, height, width = about["input_size"]
    interpolation = about["interpolation"] if about["interpolation"] in ("bilinear", "bicubic", "nearest", "lanczos") else "bicubic"
    return Classifier(
        f"timm:{name}/{tag or RANDOM}", module, _timm_names(module), tuple(about["mean"]), tuple(about["std"]), (height, width),
        interpolation,
    )


# library -> (name, tag or None) -> classifier
LIBRARIES: dict[str, Callable[[str, str | None], Classifier]] = {"torchvision": _torchvision, "timm": _timm}


def _made(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    """The module with seeded random weights, without a change of the caller's random state, or with its tag's weights."""
    # some models warn that their initialisation is slow
    with torch.random.fork_rng(), silenced():
        torch.manual_seed(0)
        try:
            return build()
        except Exception as error:
            pass_on(error)
            # each hub raises its own exceptions: offline, refused, no such file
            first = first_line(error)
            raise ModelError(f"classifier {name.strip()} could not be made: {first}") from error


def _names(categories: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The names of each class; ImageNet's 1000 include synonyms."""
    if len(categories) != IMAGENET:
        return tuple((name,) for name in categories)
    return tuple((name, *more) for name, more in zip(categories, _synonyms("imagenet-1k"), strict=True))


def _timm_names(module: Any) -> tuple[tuple[str, ...], ...]:
    subset = _package("timm.data").infer_imagenet_subset(module)
    return tuple(_synonyms(subset)) if subset else ()


def _synonyms(subset: str) -> list[tuple[str, ...]]:
    # open_clip depends on timm
    info = _package("timm.data").ImageNetInfo(subset)
    return [tuple(info.index_to_description(index).split(", ")) for index in range(info.num_classes())]


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ModelError(f"{error.name} is not installed: pip install {error.name}") from error


def _path(weights: str | Path | None) -> Path | None:
    if weights is None or weights == RANDOM:
        return None
    ends = str(weights).endswith((".pt", ".pth", ".bin", ".safetensors"))
    return Path(weights) if isinstance(weights, Path) or ends or "/" in weights or os.path.isfile(weights) else None


def _fill(loaded: Classifier, path: Path) -> None:
    from fastloc.checkpoints.loading import read_state

    state, own = read_state(path), loaded.module.state_dict()
    for name, tensor in own.items():
        if name not in state or state[name].shape != tensor.shape:
            held = list(state[name].shape) if name in state else "none"
            raise ModelError(f"weights of another architecture: {name!r} of {path} must have shape {list(tensor.shape)}, got {held}")
    loaded.module.load_state_dict({name: state[name] for name in own})
