"""Models on the Hugging Face hub: the files of a repository that a model needs. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastloc.checkpoints.hub_repository import Repository
from fastloc.errors import ModelError

CONFIG = "open_clip_config.json"
# transformers' configuration, read if a repository has no other
OTHER_CONFIG = "config.json"
# safetensors first: it holds tensors and nothing else
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# a fast tokenizer is complete with the first three files; slow ones need the others
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_VOCABULARIES = ("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


def fetch(repository: Repository, names: Sequence[str]) -> Path | None:
    """Get one file: from the hub's cache, without a request, or by a download.

    Args:
        repository: the repository of the file.
        names: its possible names, the preferred one first. Any of them in the cache takes precedence over a download.

    Returns:
        The file in the hub's cache, or None if the repository has none of them.

    Raises:
        ModelError: it cannot be downloaded; the message is one line with the remedy.
    """
    try:
        # importing the hub's client takes a third of a second, which models on disk do not need
        from fastloc.checkpoints import hub_files
    except ModuleNotFoundError as error:
        raise ModelError(f"{repository.subject} needs {error.name}: pip install {error.name}") from error
    return hub_files.fetch(repository, names)


def must_fetch(repository: Repository, names: Sequence[str]) -> Path:
    """Get one file that must exist, see `fetch`. Raises ModelError also if the repository has none of the names."""
    found = fetch(repository, names)
    if found is None:
        raise _lacks(repository, names)
    return found


def _lacks(repository: Repository, names: Sequence[str]) -> ModelError:
    files = " or ".join(map(repr, names))
    return ModelError(f"{repository.subject} could not be downloaded: repository {repository.name!r} has no {files}")


def tagged(model: str, tag: str, place: str) -> Path:
    """Get the weights of an open_clip tag.

    Args:
        model, tag: open_clip's names, for errors.
        place: the location in open_clip's table: `owner/name/`, or `owner/name/file`.

    Returns:
        The file in the hub's cache.

    Raises:
        ModelError: see `fetch`.
    """
    name, _, file = place.rpartition("/")
    repository = Repository(name, f"weights {tag!r} of {model}", "pretrained=PATH of a file")
    safe = re.sub(r"\.(bin|pth)$", ".safetensors", file)
    return must_fetch(repository, WEIGHTS if not file else tuple(dict.fromkeys((safe, file))))


def config(repository: Repository) -> tuple[Path, Repository]:
    """Get open_clip's configuration of a model, or transformers' if a repository has no other.

    Returns:
        The file, whose folder also takes the model's other files; and the repository at its commit, so that all files are of one commit.

    Raises:
        ModelError: see `fetch`.
    """
    path = fetch(repository, [CONFIG]) or fetch(repository, [OTHER_CONFIG])
    if path is None:
        raise _lacks(repository, (CONFIG, OTHER_CONFIG))
    return path, replace(repository, revision=path.parent.name)


def weights(repository: Repository, model_config: Mapping[str, Any], names: Sequence[str] = WEIGHTS) -> Path:
    """Get a model's weights and, before them, its tokenizer's files, its own or those of the repository that its configuration names.

    Args:
        names: of the weights' file, the preferred one first.

    Returns:
        The file of the weights.

    Raises:
        ModelError: see `fetch`.
    """
    name = model_config.get("text_cfg", {}).get("hf_tokenizer_name")
    if name and not _own_tokenizer(repository, names):
        tokenizer(repository if name == repository.name else Repository.of_tokenizer(name, repository.subject))
    return must_fetch(repository, names)


def tokenizer(repository: Repository) -> Path:
    """Get the files of a tokenizer.

    Returns:
        The folder with the files. If they are cached, no request is made.

    Raises:
        ModelError: see `fetch`.
    """
    found = _cached(repository, (_TOKENIZER[0], *_VOCABULARIES))
    if found is not None:
        return found.parent
    # the vocabulary comes last, so if it is cached, so are all others
    for name in reversed(_TOKENIZER):
        found = fetch(repository, [name]) or found
        if found is not None:
            repository = replace(repository, revision=found.parent.name)
    if found is None or found.name != _TOKENIZER[0]:
        slow = [path for name in _VOCABULARIES if (path := fetch(repository, [name])) is not None]
        if not slow:
            raise ModelError(f"{repository.subject} could not be downloaded: repository {repository.name!r} has no {_TOKENIZER[0]!r}")
        return slow[0].parent
    return found.parent


def transformers_files(repository: Repository) -> None:
    """Get the files of a transformers model besides its configuration: those of processor and tokenizer, and the weights last.

    Raises:
        ModelError: see `fetch`; also for an index of weights that is damaged, or a file that it lists and the repository lacks.
    """
    # imported here, because it imports torch
    from fastloc.checkpoints.foreign import processor, transformers_folder

    fetch(repository, processor.FILES)
    file = weights(repository, {"text_cfg": {"hf_tokenizer_name": repository.name}}, transformers_folder.WEIGHTS)
    for name in transformers_folder.shards(file):
        must_fetch(repository, [name])


def _own_tokenizer(repository: Repository, weights_names: Sequence[str]) -> bool:
    """Get the tokenizer's files in a model's own repository. Returns False if there are none."""
    # the weights come last, so if they are cached, so is every tokenizer file that exists
    if _cached(repository, weights_names) is not None:
        return _cached(repository, (*_TOKENIZER, *_VOCABULARIES)) is not None
    fast = [fetch(repository, [name]) for name in _TOKENIZER]
    return any([fetch(repository, [name]) for name in _VOCABULARIES] if fast[0] is None else fast)


def _cached(repository: Repository, names: Sequence[str]) -> Path | None:
    try:
        from fastloc.checkpoints.hub_files import cached
    except ModuleNotFoundError:
        # the next request for a file raises the error
        return None
    return cached(repository, names)
