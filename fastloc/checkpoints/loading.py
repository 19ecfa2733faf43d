"""Loading of models: the embedded one, an open_clip name with a tag, a local file or a local directory."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints import pins, resnet_weights, state_dicts, vit_layouts
from fastloc.checkpoints.config_schema import MOST_PARAMETERS, parameters
from fastloc.checkpoints.families.kinds import AnySpec, AnyWeights
from fastloc.checkpoints.foreign import openai
from fastloc.checkpoints.hierarchical import weights as hierarchical_weights
from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.checkpoints.sources.description import ARCHIVES, RANDOM, Description, describe, spec_of
from fastloc.checkpoints.text_encoder import TextEncoder
from fastloc.checkpoints.text_loading import (
    logit_bias,
    logit_scale,
    network,
    text_tower,
)
from fastloc.checkpoints.vit_weights import Weights
from fastloc.errors import FastlocError, ModelError
from fastloc.recipes.presence import Calibration
from fastloc.utils.schema import first_line
from fastloc.utils.system.exhaustion import pass_on

# the suffix of an index of weights in several files
_INDEX = ".index.json"
# the mark of PE's own files, a name of their pool; their other names look like open_clip's
_PE_MARK = "visual.attn_pool.probe"
# open_clip's default
_VOCABULARY = 49408
# the most numbers of a token table that a file holds in part
_MOST_NUMBERS = 1 << 28


@dataclass(frozen=True)
class Source:
    """A loaded model, float32 on the CPU: the image tower as tensors, the text tower as a module."""

    name: str
    weights: AnyWeights
    text: TextEncoder
    # what suits this model better than the official defaults: "size", "fit", "position" of every method, and "recipes", fields by method
    recommended: Mapping[str, Any] = field(default_factory=dict)
    # the file of the projections that came with it
    projections: Path | None = None
    # of its scores, "plain" and with its own projections, "projected"; scores with other projections are not calibrated
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    # the bias of scaled cosines of pictures and texts before a sigmoid, for models trained with one
    logit_bias: float | None = None

    @property
    def spec(self) -> AnySpec:
        return self.weights.spec

    @property
    def logit_scale(self) -> float:
        """The factor of cosines of pictures and texts before a softmax over texts, as the model was trained."""
        return self.weights.logit_scale

    @property
    def vit(self) -> Weights:
        """The image tower, for code that needs a plain transformer. Raises ModelError if it is a ResNet or hierarchical."""
        return self.transformer("here", "`fastloc locate` and Localizer run it")

    def transformer(self, place: str, why: str) -> Weights:
        """The image tower, which must be a plain transformer. Raises ModelError if it is not: for the thing named by `place`, and why."""
        if not isinstance(self.weights, Weights):
            raise ModelError(f"model must be a ViT {place}, got {self.name}, a {self.kind}; {why}")
        return self.weights

    @property
    def kind(self) -> str:
        """The kind of image tower in words, such as "ViT", "CLIP ResNet" or "ConvNeXt"."""
        if isinstance(self.spec, HierarchicalSpec):
            return self.spec.family
        return "CLIP ResNet" if isinstance(self.spec, ResNetSpec) else "ViT"


read_state = state_dicts.read


def load(model: str = "embedded", pretrained: str | None = None, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> Source:
    """Load a model.

    Args:
        model: "embedded" or "embedded-device"; an open_clip architecture ("ViT-B-16"); "local-dir:PATH" or a path to a directory with an
            open_clip_config.json and its weights, or with the files of transformers for a CLIP, MetaCLIP 2, SigLIP, SigLIP 2 or TIPSv2
            (config.json, weights, processor and tokenizer); "hf:OWNER/NAME" or "hf-hub:OWNER/NAME", optionally with "@REVISION", a
            repository on the Hugging Face hub in either layout, open_clip's first; a path to an open_clip model
            configuration (.json); or one of OpenAI's own archives (.pt).
        pretrained: an open_clip tag ("laion2b_s34b_b88k"), or a path to a .pt or .safetensors file; "random" for seeded random
            weights, good for timing only. A tag or file may end in "@sha256:" and 64 digits, and "sha256:…" alone pins the weights that
            come with a model: other content is refused before it is read.
        mean, std: of the pixels, per channel, in place of the configuration's.

    Raises:
        ModelError: unknown or unsupported model, unknown tag, unreadable file, weights of another architecture, or weights that are
            not on this machine and cannot be downloaded.
    """
    described, pretrained = _pinned(model, pretrained)
    preprocess = {**described.preprocess, **({"mean": mean} if mean else {}), **({"std": std} if std else {})}
    # a tower of an unsupported kind is refused before its weights are read
    spec = spec_of(described.config, preprocess)
    state = _state(described, pretrained)
    visual = {name: tensor.float() for name, tensor in state.items() if name.startswith("visual.")}
    scale, bias = logit_scale(state), logit_bias(state)
    weights = _image_tower(visual, spec)
    extras = described.extras
    text = TextEncoder(text_tower(described.config, state), _tokenizer(described), extras.get("words", ()), extras.get("names", ()))
    weights = replace(weights, logit_scale=scale)
    return Source(described.name, weights, text, extras.get("recommended", {}), described.projections, _calibrations(described), bias)


def _image_tower(visual: Mapping[str, Tensor], spec: AnySpec) -> AnyWeights:
    if isinstance(spec, HierarchicalSpec):
        return hierarchical_weights.from_open_clip(visual, spec)
    return resnet_weights.from_open_clip(visual, spec) if isinstance(spec, ResNetSpec) else vit_layouts.from_open_clip(visual, spec)


def _calibrations(described: Description) -> dict[str, Calibration]:
    # its schema has checked them
    return {kind: Calibration(**each) for kind, each in described.extras.get("presence", {}).items()}


def checkpoint(model: str, pretrained: str) -> dict[str, Tensor]:
    """All tensors of a model under open_clip's names. Arguments and errors as for `load`."""
    described, pretrained_tag = _pinned(model, pretrained)
    # refuses a tower that fastloc does not run, even if another library could build it
    spec_of(described.config, described.preprocess)
    return _state(described, pretrained_tag)


def _pinned(model: str, pretrained: str | None) -> tuple[Description, str | None]:
    """The model's description, and `pretrained` without its pin. Raises ModelError also for weights that do not match the pin."""
    pretrained, digest = pins.split(pretrained)
    if digest is not None and model.endswith(ARCHIVES) and pretrained is None:
        # the description is read from this file
        pins.check(Path(model), digest)
    described = describe(model, pretrained)
    if digest is not None:
        if described.file is not None and described.file.name.endswith(_INDEX):
            raise ModelError(f"a pin must be of one file, and the weights of {described.name} lie in several; leave the pin out")
        if described.file is None:
            raise ModelError(f"weights {pretrained!r} are made here, and have no file with sha256 {digest}; leave the pin out")
        pins.check(described.file, digest)
    if described.file is not None and openai.is_openai(described.file):
        # no tensor shows the activation
        described = replace(described, config={**described.config, "quick_gelu": True})
    return described, pretrained


def _state(described: Description, pretrained: str | None) -> dict[str, Tensor]:
    if pretrained == RANDOM:
        if any(described.config["vision_cfg"].get(each) for each in ("vit", "fastvit")):
            raise ModelError(f"{described.name} describes its tower field by field, which no random weights are made for; give a file")
        if parameters(described.config) > MOST_PARAMETERS:
            raise ModelError(f"{described.name} has more than {MOST_PARAMETERS:,} parameters, too many to be made with random weights")
        torch.manual_seed(0)
        return _expand_tokens(network(described.config).state_dict(), described.config)
    if described.state is not None:
        return described.state
    state: dict[str, Tensor] = {}
    for file in _files(described):
        state |= read_state(file)
    return _expand_tokens((described.renames or _as_open_clip)(state), described.config)


def _files(described: Description) -> list[Path]:
    """The files of a model's weights."""
    if described.file is None:
        return []
    if not described.file.name.endswith(_INDEX):
        return [described.file]
    from fastloc.checkpoints.foreign.transformers_folder import shards

    return [described.file.with_name(name) for name in shards(described.file)]


def _as_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under open_clip's names, from any supported layout."""
    if any(name.startswith("visual.") for name in state) and _PE_MARK not in state:
        return state
    # the tables of names are imported only for files with other names
    from fastloc.checkpoints.foreign.layouts import as_open_clip

    return as_open_clip(state)


def _tokenizer(described: Description) -> Any:
    try:
        return described.tokenizer()
    except ModuleNotFoundError as error:
        raise ModelError(f"the tokenizer of {described.name} needs {error.name}: pip install {error.name}") from error
    except FastlocError:
        raise
    except Exception as error:
        pass_on(error)
        # errors of open_clip and transformers: missing files, damaged ones, or code that is not run
        raise ModelError(f"the tokenizer of {described.name} cannot be loaded: {first_line(error)}") from error


def _expand_tokens(state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """Put a compact token table (rows for `token_ids` alone) back into the tokenizer's full vocabulary, unseen rows zero."""
    if "token_ids" not in state:
        return state
    ids, rows, size = state["token_ids"], state.get("token_embedding.weight"), config["text_cfg"].get("vocab_size", _VOCABULARY)
    if rows is None or rows.ndim != 2 or ids.ndim != 1 or ids.is_floating_point() or len(ids) != len(rows) or not len(ids):
        raise ModelError("token_ids must be one whole number for each row of 'token_embedding.weight'")
    if int(ids.min()) < 0 or int(ids.max()) >= size or size * rows.shape[1] > _MOST_NUMBERS:
        raise ModelError(f"token_ids must be below the vocab_size, {size}, and its table have at most {_MOST_NUMBERS:,} numbers")
    full = torch.zeros(size, rows.shape[1], dtype=rows.dtype)
    full[ids.long()] = rows
    return {**{name: tensor for name, tensor in state.items() if name != "token_ids"}, "token_embedding.weight": full}
