"""Chooses the localizer for a model's name: PyTorch's, an exported file's in onnxruntime, or a classifier's."""

from __future__ import annotations

import inspect
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fastloc.errors import FastlocError, warn

if TYPE_CHECKING:
    from fastloc.engine.classifier_localizer import CnnLocalizer
    from fastloc.engine.localizer import Localizer
    from fastloc.runtime.localizer import OnnxLocalizer

__all__ = ["CLASSIFIER", "CLIP", "EMBEDDED", "EXPORTED", "METHOD", "kind_of", "load"]

EMBEDDED = "embedded"
# the default method, and the one that the embedded model is exported with
METHOD = "gem"
# the kinds of model
CLIP, EXPORTED, CLASSIFIER = "clip", "exported", "classifier"
_CLASSIFIERS = ("torchvision:", "timm:")


def kind_of(model: Any) -> str:
    """The kind of a model, by its name alone: EXPORTED for an .onnx file, CLASSIFIER for a name of torchvision's or timm's or a module of
    yours, else CLIP. The embedded model is EXPORTED where torch is not installed."""
    if not isinstance(model, (str, os.PathLike)):
        return CLASSIFIER
    name = os.fspath(model)
    if name.endswith(".onnx") or (name == EMBEDDED and find_spec("torch") is None):
        return EXPORTED
    return CLASSIFIER if name.startswith(_CLASSIFIERS) else CLIP


def load(
    model: Any = EMBEDDED, pretrained: str | os.PathLike[str] | None = None, **options: Any
) -> Localizer | OnnxLocalizer | CnnLocalizer:
    """Load a model and return the localizer that runs it.

    Args:
        model: a name ("ViT-B-16", "hf:owner/name"), a folder, "embedded" or "embedded-device": a `fastloc.Localizer`; an .onnx file that
            `fastloc export` wrote: a `fastloc.OnnxLocalizer`; "torchvision:NAME", "timm:NAME", or a module from pixels to logits: a
            `fastloc.CnnLocalizer`.
        pretrained: the weights' tag or file, for models that come without weights.
        options: keyword arguments of that class, such as method="clip_surgery", size=448 or providers="cuda".

    Raises:
        FastlocError: an option that this class does not have; the class's own errors pass through.
    """
    kind = kind_of(model)
    if kind == CLIP:
        from fastloc.engine.localizer import Localizer

        return Localizer(os.fspath(model), None if pretrained is None else os.fspath(pretrained), **options)
    if kind == CLASSIFIER:
        from fastloc.engine.classifier_localizer import CnnLocalizer

        _check(CnnLocalizer, model, options, "it is a classifier")
        return CnnLocalizer(model, None if pretrained is None else os.fspath(pretrained), **options)
    from fastloc.runtime.localizer import OnnxLocalizer

    if model == EMBEDDED:
        _without_torch(options)
    if pretrained is not None:
        options["pretrained"] = pretrained
    _check(OnnxLocalizer, model, options, "the file decides that: export another")
    return OnnxLocalizer(model, **options)


def _without_torch(options: dict[str, Any]) -> None:
    """The embedded model without torch: only its default method is there as a file."""
    method = options.pop("method", METHOD)
    if method != METHOD:
        raise FastlocError(f'method {method!r} needs torch: pip install "fastloc[engine]"; without it there is {METHOD!r}')
    warn("without torch the embedded model runs in onnxruntime", stacklevel=3)


def _check(localizer: type, model: Any, options: dict[str, Any], why: str) -> None:
    known = inspect.signature(localizer).parameters
    for name in options:
        if name not in known:
            shown = model if isinstance(model, (str, os.PathLike)) else type(model).__name__
            raise FastlocError(f"option {name!r} cannot be given with {shown}: {why}")
