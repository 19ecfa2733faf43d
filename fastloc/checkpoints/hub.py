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
# transformers', which is read where a repository has no other
OTHER_CONFIG = "config.json"
# safetensors first: it holds tensors and nothing else
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# a fast tokenizer is whole with the first three; the others are what slow ones are made of
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_VOCABULARIES = ("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


def fetch(repository: Repository, names: Sequence[str]) -> Path | None:
    """Get one file: from the hub's cache, without a request, or by a download.

    Args:
        repository: where it is.
        names: its names, the preferred one first. Any of them in the cache goes before a download.

    Returns:
        The file in the hub's cache, or None if the repository has none of them.

    Raises:
        ModelError: it cannot be downloaded; the message is one line and says what to do.
    """
    try:
        # the hub's client takes a third of a second, which models that are on disk need not wait for
        from fastloc.checkpoints import hub_files
    except ModuleNotFoundError as error:
        raise ModelError(f"{repository.subject} needs {error.name}: pip install {error.name}") from error
    return hub_files.fetch(repository, names)


def must_fetch(repository: Repository, names: Sequence[str]) -> Path:
    """The same for a file that must be there. Raises ModelError also where the repository has none of them."""
    found = fetch(repository, names)
    if found is None:
        raise _lacks(repository, names)
    return found


def _lacks(repository: Repository, names: Sequence[str]) -> ModelError:
    wanted = " or ".join(map(repr, names))
    return ModelError(f"{repository.subject} could not be downloaded: repository {repository.name!r} has no {wanted}")


def tagged(model: str, tag: str, place: str) -> Path:
    """Get the weights of an open_clip tag.

    Args:
        model, tag: open_clip's names, for errors.
        place: where its table says that they are: `owner/name/`, or `owner/name/file`.

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
    """Get open_clip's configuration of a model, or transformers' where a repository has no other.

    Returns:
        The file, whose folder is where the model's other files go; and the repository at its commit, so that all are of one commit.

    Raises:
        ModelError: see `fetch`.
    """
    path = fetch(repository, [CONFIG]) or fetch(repository, [OTHER_CONFIG])
    if path is None:
        raise _lacks(repository, (CONFIG, OTHER_CONFIG))
    return path, replace(repository, revision=path.parent.name)


def weights(repository: Repository, model_config: Mapping[str, Any], names: Sequence[str] = WEIGHTS) -> Path:
    """Get a model's weights and, before them, the files of the tokenizer that its configuration asks for: its own, or those of the
    repository that it names.

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
        The folder that they are in. Where they are there already, no request is made.

    Raises:
        ModelError: see `fetch`.
    """
    found = _cached(repository, (_TOKENIZER[0], *_VOCABULARIES))
    if found is not None:
        return found.parent
    # that of the vocabulary comes last, so where it is, all others are
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
    """Get what a model of transformers needs beside its configuration: the files of processor and tokenizer, and the weights last.

    Raises:
        ModelError: see `fetch`; also for an index of weights that is damaged, or a file that it lists and the repository lacks.
    """
    # of a model that is used, for its reading comes with torch
    from fastloc.checkpoints.foreign import processor, transformers_folder

    fetch(repository, processor.FILES)
    file = weights(repository, {"text_cfg": {"hf_tokenizer_name": repository.name}}, transformers_folder.WEIGHTS)
    for name in transformers_folder.shards(file):
        must_fetch(repository, [name])


def _own_tokenizer(repository: Repository, weights_names: Sequence[str]) -> bool:
    """Get the files of a tokenizer that lie beside a model's weights; False where none do."""
    # the weights come last, so where they are, all of it is there that there is
    if _cached(repository, weights_names) is not None:
        return _cached(repository, (*_TOKENIZER, *_VOCABULARIES)) is not None
    fast = [fetch(repository, [name]) for name in _TOKENIZER]
    return any([fetch(repository, [name]) for name in _VOCABULARIES] if fast[0] is None else fast)


def _cached(repository: Repository, names: Sequence[str]) -> Path | None:
    try:
        from fastloc.checkpoints.hub_files import cached
    except ModuleNotFoundError:
        # what asks next for a file says so
        return None
    return cached(repository, names)
