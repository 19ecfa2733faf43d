"""The text side of a model, tower and tokenizer: fastloc's own, or open_clip's for the few configurations that need it.

Importing open_clip takes longer than importing torch, so only functions that need it import it.
"""

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastloc.checkpoints import hub
from fastloc.checkpoints.byte_pairs import BytePairs
from fastloc.checkpoints.config_schema import tokenizer_arguments
from fastloc.checkpoints.hub_repository import Repository
from fastloc.checkpoints.text import tokenizer_folder, transformers_towers
from fastloc.checkpoints.text.stand_in import StandIn
from fastloc.checkpoints.text.tokenizer_folder import FolderTokenizer
from fastloc.checkpoints.text.transformers_towers import TransformersTower
from fastloc.checkpoints.text_tower import ADDED, TextTower, is_plain
from fastloc.errors import ModelError
from fastloc.recipes.readout import LOGIT_SCALE
from fastloc.utils.schema import first_line, shown
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["folder_tokenizer", "logit_bias", "logit_scale", "named_tokenizer", "network", "repository_tokenizer", "text_tower"]

# the smallest possible image tower: fastloc runs the real one as tensors
_NO_VISION = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 16}
# the smallest text tower, for a model that gets one of fastloc's in its place
_NO_TEXT = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
# the standard deviation of random weights
_SPREAD = 0.02
_CONTEXT = 77
# the parameters of the comparison, no part of an encoder: absent in weights that were cut out of a model
_COMPARED = ("logit_scale", "logit_bias")
# the prefix of a text tower's names in the layout of open_clip's CustomTextCLIP
_CUSTOM = "text."


def folder_tokenizer(config: Mapping[str, Any], directory: Path) -> Any:
    """The tokenizer of a configuration in a folder, which may hold the tokenizer's files.

    Raises:
        ModelError: the folder has no such files, or damaged ones.
    """
    text = config["text_cfg"]
    if text.get("hf_tokenizer_name"):
        return _from_folder(directory, text, str(directory))
    length, arguments = text.get("context_length", _CONTEXT), tokenizer_arguments(text, str(directory))
    if not arguments:
        return BytePairs(length)
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=length, clean=arguments.get("clean", "lower"))


def named_tokenizer(name: str, config: Mapping[str, Any], random: bool = False) -> Any:
    """The tokenizer of a model that open_clip knows by name: CLIP's, or one whose files are on the hub.

    random: True for a model with random weights, which gets a stand-in instead of fetched files.

    Raises:
        ModelError: see `folder_tokenizer`, or files that cannot be downloaded.
    """
    text = config["text_cfg"]
    if text.get("hf_tokenizer_name") and random:
        return StandIn(text)
    if text.get("hf_tokenizer_name"):
        return _from_folder(hub.tokenizer(Repository.of_tokenizer(text["hf_tokenizer_name"], name)), text, name)
    # open_clip takes SigLIP's tokenizer by the model's name
    if not text.get("tokenizer_kwargs") and "siglip" not in name.lower():
        return BytePairs(text.get("context_length", _CONTEXT))
    import open_clip

    # here the name points open_clip to no other library
    return open_clip.get_tokenizer(name)


def repository_tokenizer(model: str, config: Mapping[str, Any], directory: Path) -> Any:
    """The tokenizer of a model from the hub whose files are in a folder of the cache: its own, or one of the repository that it names.

    Raises:
        ModelError: see `named_tokenizer`.
    """
    own = any((directory / each).is_file() for each in (tokenizer_folder.FILE, *tokenizer_folder.SLOW))
    name = config["text_cfg"].get("hf_tokenizer_name")
    return folder_tokenizer(config, directory) if own or not name else named_tokenizer(f"model {model!r}", config)


def _from_folder(folder: Path, text: Mapping[str, Any], name: str) -> Any:
    """The tokenizer whose files lie in a folder: fastloc's own for a tokenizer.json, transformers' for anything else."""
    arguments, length = tokenizer_arguments(text, name), text.get("context_length", _CONTEXT)
    if (folder / tokenizer_folder.FILE).is_file() and not arguments.get("tokenizer_mode"):
        arguments.pop("tokenizer_mode", None)
        return FolderTokenizer(folder, length, **arguments)
    slow = [each for each in (*tokenizer_folder.SLOW, tokenizer_folder.FILE) if (folder / each).is_file()]
    if not slow:
        raise ModelError(
            f"the tokenizer's folder {str(folder)!r} must have a {tokenizer_folder.FILE}, and has none; "
            f"put the files of {shown(text['hf_tokenizer_name'])} there"
        )
    try:
        from open_clip.tokenizer import HFTokenizer

        # without it transformers prompts on the terminal, and runs the code after a yes
        return HFTokenizer(str(folder), context_length=length, trust_remote_code=False, **arguments)
    except ImportError as error:
        raise ModelError(
            f"the tokenizer's folder {str(folder)!r} needs transformers and sentencepiece, which read its {slow[0]}: "
            "pip install transformers sentencepiece"
        ) from error


def network(config: Mapping[str, Any]) -> Any:
    """A module of the whole model with random weights under open_clip's names.

    It is open_clip's own, except that text towers that open_clip lacks or takes from transformers are fastloc's.

    Raises:
        ModelError: an unknown field, or sizes that do not fit together.
    """
    import open_clip

    settings = copy.deepcopy(dict(config))
    if settings["vision_cfg"].get("timm_model_name"):
        # nothing is downloaded for weights that are random
        settings["vision_cfg"]["timm_model_pretrained"] = False
    text = settings["text_cfg"]
    own = bool(text.get("hf_model_name")) or any(name in text for name in ADDED) or text.get("pool_type") == "mean"
    if own:
        settings = {**{name: value for name, value in settings.items() if name != "multimodal_cfg"}, "text_cfg": _NO_TEXT}
    custom = settings.pop("custom_text", False) or own
    kind = open_clip.CoCa if "multimodal_cfg" in settings else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    try:
        made: Any = kind(**settings)
    except Exception as error:
        pass_on(error)
        # a field that open_clip does not know, or a combination that torch refuses
        raise ModelError(f"open_clip cannot make a model of this configuration: {first_line(error)}") from error
    if own:
        made.text = _random(config)
    return made.eval().requires_grad_(False)


def _random(config: Mapping[str, Any]) -> torch.nn.Module:
    """fastloc's own text tower of a configuration with random weights: 1 and 0 in norms and biases, small numbers elsewhere."""
    text = config["text_cfg"]
    if not text.get("hf_model_name") and not is_plain(config):
        raise ModelError("no text tower is known for this configuration: text_cfg has fields of two kinds of towers")
    tower: torch.nn.Module = (
        TransformersTower(transformers_towers.row(text), text, config["embed_dim"]) if text.get("hf_model_name") else TextTower(config)
    )
    state = {}
    for name, tensor in tower.state_dict().items():
        if name not in _COMPARED:
            bias, norm = name.endswith("bias"), tensor.ndim == 1
            made = torch.zeros if bias else torch.ones if norm else torch.randn
            state[name] = made(tensor.shape) * (1.0 if bias or norm else _SPREAD)
    tower.load_state_dict(state, strict=False, assign=True)
    # a whole model has these itself
    for name in _COMPARED:
        if hasattr(tower, name):
            delattr(tower, name)
    return tower


def text_tower(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> torch.nn.Module:
    """The module that encodes texts, with its weights taken from a model's, float32.

    Raises:
        ModelError: weights of another architecture.
    """
    tower: Any
    tower, layout = _own_tower(config, state)
    own = tower is not None
    if tower is None:
        _check_sizes(config["text_cfg"], state)
        tower = network({**config, "vision_cfg": _NO_VISION})
        layout = _CUSTOM if hasattr(tower, "text") else ""
    given, state = state, _in_layout(layout, {name: tensor for name, tensor in state.items() if not name.startswith("visual.")})
    # the prefix that the module's names lack
    start = layout if own else ""
    taken: dict[str, Tensor] = {}
    for name, tensor in tower.state_dict().items():
        if name in _COMPARED:
            taken[name] = _compared(name, given, tensor)
        elif not name.startswith("visual."):
            taken[name] = _own(_given(f"{start}{name}", state, tensor.shape))
    tower.load_state_dict(taken, strict=False, assign=own)
    if not own:
        del tower.visual
    encoder: torch.nn.Module = tower.eval().requires_grad_(False)
    return encoder


def _own_tower(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[Any, str]:
    """fastloc's own module for a configuration, without weights, and its prefix in the file; the module is None if fastloc has none."""
    text = config["text_cfg"]
    if text.get("hf_model_name"):
        found = transformers_towers.sized(transformers_towers.row(text), state, _CUSTOM)
        return TransformersTower(found, text, config["embed_dim"]), _CUSTOM
    if not is_plain(config):
        return None, ""
    return TextTower(config), _CUSTOM if config.get("custom_text") or "multimodal_cfg" in config else ""


def _check_sizes(text: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Raise ModelError unless the weights have the sizes of the configuration, before open_clip builds a tower of these sizes."""
    start = _CUSTOM if any(name.startswith(_CUSTOM) for name in state) else ""
    width = text.get("width", 512)
    for name, shape in (
        ("token_embedding.weight", (text.get("vocab_size", 49408), width)),
        ("positional_embedding", (text.get("context_length", _CONTEXT) + bool(text.get("embed_cls")), width)),
        (f"transformer.resblocks.{text.get('layers', 12) - 1}.ln_1.weight", (width,)),
    ):
        _given(f"{start}{name}", state, torch.Size(shape))


def logit_scale(state: Mapping[str, Tensor]) -> float:
    """The factor of cosines before a softmax over texts: exp(logit_scale) of the weights, or CLIP's own if they hold none.

    Raises:
        ModelError: it is not a single finite number above 0.
    """
    if "logit_scale" not in state:
        return LOGIT_SCALE
    tensor = state["logit_scale"]
    scale = float(tensor.double().exp()) if tensor.numel() == 1 else math.nan
    if not 0 < scale < math.inf:
        found = f"{float(tensor):g}" if tensor.numel() == 1 else f"shape {tuple(tensor.shape)}"
        raise ModelError(f"logit_scale of the weights must be the logarithm of a finite number, got {found}; the file is damaged")
    return scale


def logit_bias(state: Mapping[str, Tensor]) -> float | None:
    """The bias that a model trained with a sigmoid (SigLIP) adds to scaled cosines; None for one trained with a softmax.

    Raises:
        ModelError: it is not a single finite number.
    """
    if "logit_bias" not in state:
        return None
    tensor = state["logit_bias"]
    bias = float(tensor) if tensor.numel() == 1 else math.nan
    if not math.isfinite(bias):
        found = f"{bias:g}" if tensor.numel() == 1 else f"shape {tuple(tensor.shape)}"
        raise ModelError(f"logit_bias of the weights must be a finite number, got {found}; the file is damaged")
    return bias


def _compared(name: str, state: Mapping[str, Tensor], own: Tensor) -> Tensor:
    """The scale or bias of the weights in the shape of the module's; if they hold none, the scale of `logit_scale`."""
    if name in state and state[name].numel() == own.numel():
        return _own(state[name]).reshape(own.shape)
    return torch.full_like(own, math.log(logit_scale(state)), dtype=torch.float32) if name == "logit_scale" else own


def _in_layout(layout: str, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state under the names of a layout, for weights older than that layout."""
    if not layout or "text_projection" not in state or any(name.startswith(layout) for name in state):
        return state
    return {f"{layout}{name}": tensor for name, tensor in state.items()}


def _given(name: str, state: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
    if name not in state:
        raise ModelError(f"weights of another architecture: {name!r} is missing")
    if state[name].shape != shape:
        raise ModelError(
            f"weights of another architecture: {name!r} must have shape {tuple(shape)}, got {tuple(state[name].shape)}"
        )
    return state[name]


def _own(tensor: Tensor) -> Tensor:
    """A contiguous copy in float32, independent of the file's storage and strides."""
    return tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
