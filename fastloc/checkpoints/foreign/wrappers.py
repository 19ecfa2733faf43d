"""The wrappings of trainers around a state dict: a dict with the whole training state, and prefixes of every name."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fastloc.errors import ModelError

__all__ = ["unwrapped"]

# the keys of the weights: open_clip's and Lightning's, timm's, others'; and those of their moving average
_PLAIN = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
# parts that wrappers insert anywhere in names: torch.compile, FSDP, activation checkpointing
_INSERTED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# the prefixes of all names: DataParallel and DDP, Lightning and others
_PREFIXES = ("module.", "model.")
# the count of steps that an averaged model stores with its weights
_COUNTERS = ("n_averaged",)
# FSDP's flat tensors, each of many tensors, before they are gathered
_FLAT = "_flat_param"


def unwrapped(found: Any, name: str) -> Any:
    """The tensors by name in the content of a torch file; any other content is returned unchanged.

    Args:
        name: the file, for errors.

    Raises:
        ModelError: ambiguous content: two sets of weights, prefixes of only some names, two names that become one, or FSDP's flat tensors.
    """
    if not isinstance(found, Mapping):
        return found
    for _ in range(4):
        places = [key for key in (*_PLAIN, *_AVERAGED) if _holds(found.get(key))]
        if not places:
            return _named(found, name)
        if len(places) > 1:
            raise ModelError(
                f"{name!r} must hold one set of weights, got several, under {', '.join(map(repr, places))}; save one of them alone"
            )
        found = found[places[0]]
    return _named(found, name)


def _holds(value: Any) -> bool:
    """True if there are tensors in a part, at any depth."""
    return isinstance(value, Mapping) and any(isinstance(each, (Tensor, Mapping)) for each in value.values())


def _named(state: Mapping[Any, Any], name: str) -> dict[Any, Any]:
    """The tensors without wrappers in their names."""
    if not all(isinstance(key, str) for key in state):
        return dict(state)
    flat = next((key for key in state if key.rpartition(".")[2].startswith(_FLAT)), None)
    if flat is not None:
        raise ModelError(f"{name!r} must hold whole tensors, got FSDP's {flat[:80]!r}; save the full state dict of the model")
    kept = {key: value for key, value in state.items() if key not in _COUNTERS}
    made = _renamed(kept, {key: ".".join(part for part in key.split(".") if part not in _INSERTED) for key in kept}, name)
    while prefix := _common(made, name):
        made = _renamed(made, {key: key.removeprefix(prefix) for key in made}, name)
    return made


def _common(state: Mapping[str, Any], name: str) -> str | None:
    """The prefix of all names. Raises ModelError for one that some tensors have and others do not."""
    tensors = [key for key, value in state.items() if isinstance(value, Tensor)]
    for prefix in _PREFIXES:
        having = [key for key in tensors if key.startswith(prefix)]
        if not having:
            continue
        if len(having) < len(tensors):
            other = next(key for key in tensors if not key.startswith(prefix))
            raise ModelError(
                f"{name!r} must have names that begin with {prefix!r} throughout, or none, got {having[0][:60]!r} and {other[:60]!r}; "
                "save the model's own state dict"
            )
        return prefix
    return None


def _renamed(state: Mapping[str, Any], names: Mapping[str, str], name: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in state.items():
        if names[key] in made:
            raise ModelError(f"{name!r} must hold each tensor once, got {names[key][:80]!r} twice, in a wrapper and out of it")
        made[names[key]] = value
    return made
