"""The localizer of a command, from its options: an option that a kind of model does not have is refused by its name."""

import argparse
from typing import TYPE_CHECKING, Any

from fastloc.auto import CLASSIFIER, EMBEDDED, EXPORTED, METHOD, kind_of, load
from fastloc.embedded import FOLDERS
from fastloc.errors import FastlocError
from fastloc.utils.terminal import say

if TYPE_CHECKING:
    from fastloc.engine.classifier_localizer import CnnLocalizer
    from fastloc.engine.localizer import Localizer
    from fastloc.runtime.localizer import OnnxLocalizer

# what to type for photographs
PHOTOGRAPHS = "--model ViT-B-16 --pretrained laion2b_s34b_b88k"
# options that change the recipe where they are given
CHANGES = ("blocks", "iterations", "inv_temp")
# the options of a classifier
_CLASSIFIER = ("pretrained", "method", "size", "fit", "device", "dtype")
# settings that are fixed when a file is exported
_FIXED = (
    "pretrained", "projections", "method", "official", "fit", "template", "device", "dtype", "plan", "temperatures", "registers", *CHANGES,
)  # fmt: skip


# options of an exported file, and their names in `OnnxLocalizer`
_TEXTS = {"embeddings": "embeddings", "text_tower": "text"}


def engine(args: argparse.Namespace) -> "Localizer | OnnxLocalizer | CnnLocalizer":
    """The localizer that the model and method options ask for."""
    kind = kind_of(args.model)
    if kind == EXPORTED:
        return exported(args)
    return classifier(args) if kind == CLASSIFIER else torch_engine(args)


def model_name(localizer: "Localizer | OnnxLocalizer | CnnLocalizer") -> str:
    """The name of the model that an exported file was made of; "" of others."""
    manifest = getattr(localizer, "manifest", None)
    return "" if manifest is None else str(manifest.model.name)


def note_embedded(args: argparse.Namespace, localizer: "Localizer | OnnxLocalizer | CnnLocalizer") -> None:
    """Print to standard error that an embedded model, or a file made of one, is no use for photographs."""
    if {args.model, model_name(localizer)} & FOLDERS.keys():
        say(f"fastloc: note: the embedded model knows emoji scenes only; for photographs add {PHOTOGRAPHS}", error=True)


def torch_engine(args: argparse.Namespace) -> "Localizer":
    """PyTorch's. Raises FastlocError for an option of exported files."""
    for name in _TEXTS:
        if getattr(args, name, None):
            option = f"--{name.replace('_', '-')}"
            raise FastlocError(f"{option} must come with an exported .onnx file, got --model {args.model}; leave it out")
    from fastloc.engine.localizer import Localizer

    options = {name: getattr(args, name) for name in ("projections", "size", "fit", "template", "device", "dtype", "official")}
    options |= {name: getattr(args, name, None) for name in ("temperatures", "registers")} | _checked(args)
    return Localizer(args.model, args.pretrained, args.method or METHOD, plan=dict(args.plan), **options, **changes(args))


def exported(args: argparse.Namespace) -> "Localizer | OnnxLocalizer | CnnLocalizer":
    """An exported file. Raises FastlocError for an option that the file has decided."""
    for name in _FIXED:
        if getattr(args, name):
            why = "the file decides that: export another" if args.model != EMBEDDED else 'that needs torch: pip install "fastloc[engine]"'
            raise FastlocError(f"--{name.replace('_', '-')} cannot be given with {args.model}: {why}")
    texts = {name: value for option, name in _TEXTS.items() if (value := getattr(args, option, None))}
    return load(args.model, size=args.size, providers=getattr(args, "providers", None) or "auto", **texts, **_checked(args))


def classifier(args: argparse.Namespace) -> "Localizer | OnnxLocalizer | CnnLocalizer":
    """CAM or Grad-CAM of a classifier. Raises FastlocError for an option of CLIP's methods."""
    for name in (*_FIXED, "providers", *_TEXTS, "self_check"):
        if name not in _CLASSIFIER and getattr(args, name, None):
            raise FastlocError(f"--{name.replace('_', '-')} cannot be given with {args.model}: it is for CLIP, and that is a classifier")
    given = {name: value for name in _CLASSIFIER if name != "pretrained" and (value := getattr(args, name)) is not None}
    return load(args.model, args.pretrained, **given)


def _checked(args: argparse.Namespace) -> dict[str, Any]:
    """The option of the self-check, where it is given."""
    return {"self_check": args.self_check} if getattr(args, "self_check", False) else {}


def note_self_check(localizer: object) -> None:
    """Print the counts of a self-check to standard error, where there was one."""
    if (check := getattr(localizer, "self_check", None)) is not None:
        say(f"fastloc: {check}", error=True)


def changes(args: argparse.Namespace) -> dict[str, Any]:
    """The recipe's fields that the command line changes."""
    return {name: value for name in CHANGES if (value := getattr(args, name)) is not None}
