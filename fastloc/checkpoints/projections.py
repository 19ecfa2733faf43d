"""Two trained linear maps, phi_i of patch features and phi_t of sentence features (ECLIP): their file, and their folding into a model.

A projection has no bias and follows another one, so it folds into that one exactly: the image tower's proj becomes proj phi_i^T, the text
tower's projection W becomes W phi_t^T. The rest (engine, export, text embeddings, digests) sees a model like any other. phi_t thus acts
on each sentence, before a template's sentences are normalised and averaged.

A model with folded projections runs every method: ITSM becomes ECLIP, the reversed map RCLIP's trained form, and so on.
"""

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fastloc import embedded
from fastloc._version import __version__
from fastloc.checkpoints import loading
from fastloc.checkpoints.digests import digest
from fastloc.checkpoints.loading import Source
from fastloc.checkpoints.text.transformers_towers import TransformersTower
from fastloc.checkpoints.text_encoder import TextEncoder
from fastloc.errors import ModelError
from fastloc.utils.atomic_write import write_whole
from fastloc.utils.hashing import short
from fastloc.utils.schema import first_line, one_line
from fastloc.utils.system.exhaustion import pass_on
from fastloc.utils.versioned_json import read

# raised when a reader of an older version would misread a file
FORMAT = 1
KEY = "fastloc.projections"
# stands in place of a path: the projections that came with the model
OWN = "own"
TRAINER = "`python -m fastloc.eclip` trains them on pictures with captions"
# the reason why they are for ViTs
FOR_PATCHES = ("for projections", "they are trained on patch features and folded into a ViT's last projection")
_NAMES = ("image", "text")


@dataclass(frozen=True)
class Projections:
    """phi_i and phi_t, and the model that they were trained on.

    Attributes:
        image, text: float32 [E, E]; a feature f becomes phi f
        model: the model's name
        tower, text_tower: digests of its towers, see `fastloc.utils.hashing`
        settings: the trainer's hyper-parameters, by name
    """

    image: Tensor
    text: Tensor
    model: str
    tower: str
    text_tower: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> None:
        """Write as safetensors, atomically. Raises FastlocError if the file cannot be written."""
        fields = {"model": self.model, "tower": self.tower, "text_tower": self.text_tower, "settings": dict(self.settings)}
        content = json.dumps({"format": FORMAT, "version": __version__, **fields})
        tensors = {name: getattr(self, name).to(dtype, copy=True).contiguous() for name in _NAMES}
        write_whole(Path(path), lambda file: file.write(save(tensors, {KEY: content})))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Projections":
        """Read a file.

        Raises:
            ModelError: it cannot be read, is damaged, is of a newer format, or holds no such tensors.
        """
        name = str(path)
        try:
            with safe_open(name, "pt") as file:
                metadata, tensors = file.metadata() or {}, {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        except Exception as error:
            pass_on(error)
            # the library's exception has no narrower base, and dtypes that torch lacks raise others
            reason = getattr(error, "strerror", None) or first_line(error)
            raise ModelError(f"projections file {name!r} cannot be read: {reason}") from error
        if KEY not in metadata:
            raise ModelError(f"{name} must hold projections, got another file; {TRAINER} and writes such a file")
        about = _shipped(metadata[KEY]) if embedded.holds(path) else read(metadata[KEY], KEY, FORMAT, name, _About)
        _check(tensors, name)
        return cls(tensors["image"], tensors["text"], about.model, about.tower, about.text_tower, about.settings)

    def applied(self, source: Source) -> Source:
        """The model with both folded in. Only changed tensors are copied; the others are shared.

        Raises:
            ModelError: another model than they were trained on, a ResNet, or a text tower without a projection of open_clip's kinds.
        """
        weights = source.transformer(*FOR_PATCHES)
        if (self.tower, self.text_tower) != (digest(weights), source.text.digest):
            raise ModelError(
                f"projections must be trained on {source.name} (towers {short(digest(weights))} and {short(source.text.digest)}), "
                f"got those of {self.model} ({short(self.tower)} and {short(self.text_tower)}); {TRAINER}"
            )
        own = torch.eye(weights.spec.embed) if weights.proj is None else weights.proj
        proj = _behind(own.to(self.image.device), self.image).to(weights.patch_w)
        bias = None if weights.proj_b is None else _behind(weights.proj_b.to(self.image.device), self.image).to(weights.patch_w)
        text = TextEncoder(_text_tower(source, self.text), source.text.tokenizer, tuple(source.text.words), source.text.names)
        return replace(source, weights=replace(weights, proj=proj, proj_b=bias), text=text)


@dataclass(frozen=True)
class _About:
    """The metadata of a file."""

    model: str
    tower: str
    text_tower: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model", "tower", "text_tower"):
            one_line(name, getattr(self, name))


def _shipped(text: str) -> _About:
    """The metadata of the file that comes with fastloc, without the schema, which needs msgspec."""
    content = json.loads(text)
    return _About(content["model"], content["tower"], content["text_tower"], content.get("settings", {}))


Given = str | os.PathLike[str] | Projections | None


def projections_for(given: str | os.PathLike[str] | Projections, source: Source, who: str = "projections='own'") -> Projections:
    """The given projections. Raises ModelError if a file holds none or the model came without any; the message names `who`."""
    if isinstance(given, Projections):
        return given
    if given != OWN:
        return Projections.load(given)
    if source.projections is None:
        raise ModelError(
            f"{who} needs projections trained on {source.name}: {TRAINER}; "
            "then give projections=FILE (--projections FILE)"
        )
    return Projections.load(source.projections)


def loaded(model: str, pretrained: str | None, given: Given) -> Source:
    """`fastloc.checkpoints.loading.load`, with projections if given. Raises the errors of both."""
    source = loading.load(model, pretrained)
    return source if given is None else projections_for(given, source).applied(source)


def _check(tensors: Mapping[str, Tensor], name: str) -> None:
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    sides = {side for shape in shapes.values() for side in shape}
    if set(shapes) != set(_NAMES) or len(sides) != 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise ModelError(f"{name} must hold 'image' and 'text' of one shape [E, E], got {shapes}")
    broken = [key for key, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise ModelError(f"{name}: {broken[0]!r} must be finite, got NaN or infinite numbers")


def _behind(first: Tensor, phi: Tensor) -> Tensor:
    """The product of `first` and phi^T in float64, rounded once."""
    return first.double() @ phi.double().T


def _text_tower(source: Source, phi: Tensor) -> nn.Module:
    """A copy of the text tower that shares every parameter but the one that changes."""
    tower: Any = source.text.tower
    copied = copy.deepcopy(tower, {id(tensor): tensor for tensor in (*tower.parameters(), *tower.buffers())})
    inner = getattr(copied, "text", copied)
    phi = phi.to(next(tower.parameters()))
    if isinstance(inner, TransformersTower) and not isinstance(inner.proj, nn.Identity):
        # the last of two steps
        _fold_linear(inner.proj[-1] if isinstance(inner.proj, nn.Sequential) else inner.proj, phi)  # type: ignore[arg-type]
        return inner
    if not hasattr(inner, "text_projection"):
        raise ModelError(f"the text tower of {source.name} ends in no projection of open_clip's own towers, so that phi_t cannot follow it")
    projection = inner.text_projection
    if projection is None:
        inner.text_projection = nn.Parameter(phi.T.contiguous(), requires_grad=False)
    elif isinstance(projection, nn.Linear):
        _fold_linear(projection, phi)
    else:
        inner.text_projection = nn.Parameter(_behind(projection.detach(), phi).to(projection), requires_grad=False)
    return copied  # type: ignore[no-any-return]


def _fold_linear(linear: nn.Linear, phi: Tensor) -> None:
    """Fold phi into a linear layer of a copied tower. Parameters shared with the original are replaced, never written to."""
    for name, tensor in list(linear.named_parameters()):
        # weight [E, C] and bias [E] are both multiplied from the left
        setattr(linear, name, nn.Parameter((phi.double() @ tensor.detach().double()).to(tensor), requires_grad=False))
