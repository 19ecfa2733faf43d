"""Which engine a command runs on: PyTorch's, or an exported file in onnxruntime, where PyTorch need not be installed."""

import argparse
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fastloc.errors import FastlocError

if TYPE_CHECKING:
    from fastloc.engine.classifier_localizer import CnnLocalizer
    from fastloc.engine.localizer import Localizer
    from fastloc.runtime.localizer import OnnxLocalizer

# options that change the recipe where they are given
CHANGES = ("blocks", "iterations", "inv_temp")
METHOD = "gem"
# how a classifier's name begins, and what can be asked of it
CLASSIFIERS = ("torchvision:", "timm:")
_CLASSIFIER = ("pretrained", "method", "size", "fit", "device", "dtype")
# what is decided when a file is exported
_FIXED = ("pretrained", "projections", "method", "official", "fit", "template", "device", "dtype", "plan", "temperatures", *CHANGES)


def engine(args: argparse.Namespace) -> "Localizer | OnnxLocalizer | CnnLocalizer":
    """The localizer that the model and method options ask for."""
    if args.model.endswith(".onnx"):
        return exported(args, args.model)
    if args.model.startswith(CLASSIFIERS):
        return classifier(args)
    if args.model == "embedded" and find_spec("torch") is None:
        print("fastloc: note: without torch the embedded model runs in onnxruntime", file=sys.stderr)
        return exported(args, "embedded")
    return torch_engine(args)


def embedded(method: str) -> "Localizer | OnnxLocalizer":
    """The embedded model, by whatever there is to run it."""
    if find_spec("torch") is not None:
        from fastloc.engine.localizer import Localizer

        return Localizer(method=method)
    if method != METHOD:
        raise FastlocError(f'method {method!r} needs torch: pip install "fastloc[engine]"; without it there is {METHOD!r}')
    print("fastloc: note: without torch the embedded model runs in onnxruntime", file=sys.stderr)
    from fastloc.runtime.localizer import OnnxLocalizer

    return OnnxLocalizer()


def torch_engine(args: argparse.Namespace) -> "Localizer":
    """PyTorch's."""
    from fastloc.engine.localizer import Localizer

    options = {name: getattr(args, name) for name in ("projections", "size", "fit", "template", "device", "dtype", "official")}
    options["temperatures"] = getattr(args, "temperatures", None)
    return Localizer(args.model, args.pretrained, args.method or METHOD, plan=dict(args.plan), **options, **changes(args))


def exported(args: argparse.Namespace, path: str) -> "OnnxLocalizer":
    """An exported file. Raises FastlocError for an option that the file has decided."""
    for name in _FIXED:
        if getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            why = "the file decides that: export another" if path != "embedded" else 'that needs torch: pip install "fastloc[engine]"'
            raise FastlocError(f"{option} cannot be given with {path}: {why}")
    from fastloc.runtime.localizer import OnnxLocalizer

    return OnnxLocalizer(path, size=args.size, providers=getattr(args, "providers", None) or "auto")


def classifier(args: argparse.Namespace) -> "CnnLocalizer":
    """CAM or Grad-CAM of a classifier. Raises FastlocError for an option of CLIP's methods."""
    for name in (*_FIXED, "providers"):
        if name not in _CLASSIFIER and getattr(args, name, None):
            raise FastlocError(f"--{name.replace('_', '-')} cannot be given with {args.model}: it is for CLIP, and that is a classifier")
    from fastloc.engine.classifier_localizer import CnnLocalizer

    given = {name: value for name in _CLASSIFIER if name != "pretrained" and (value := getattr(args, name)) is not None}
    return CnnLocalizer(args.model, args.pretrained, **given)


def changes(args: argparse.Namespace) -> dict[str, Any]:
    """The recipe's fields that were given."""
    return {name: value for name in CHANGES if (value := getattr(args, name)) is not None}
