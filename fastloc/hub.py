"""Models on the Hugging Face hub: how one is named, and which files of its repository are wanted. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastloc.errors import ModelError

PREFIX = "hf-hub:"
CONFIG = "open_clip_config.json"
# safetensors first: it holds tensors and nothing else
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# a fast tokenizer is whole with the first three; the others are what slow ones are made of
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_VOCABULARIES = ("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
# as the hub names its users, repositories and revisions
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[\w][\w./-]*", re.ASCII)


@dataclass(frozen=True)
class Repository:
    """A repository at a revision.

    Attributes:
        name: owner/name.
        subject: what is wanted of it, as errors name it.
        instead: what to give where it cannot be downloaded, as errors name it.
        revision: a branch, a tag or a commit.
    """

    name: str
    subject: str
    instead: str
    revision: str = "main"

    @classmethod
    def parse(cls, model: str) -> Repository:
        """Read `hf-hub:owner/name` or `hf-hub:owner/name@revision`.

        Raises:
            ModelError: it is spelled otherwise.
        """
        name, at, revision = model.removeprefix(PREFIX).partition("@")
        wrong = ".." in name + revision or name.endswith((".git", ".ipynb"))
        if wrong or not _NAME.fullmatch(name) or (at and not _REVISION.fullmatch(revision)):
            raise ModelError(
                f"hf-hub:owner/name must have an owner and a name, and may have @revision, got {model!r}; "
                "hf-hub:laion/CLIP-ViT-B-16-laion2B-s34B-b88K is one"
            )
        return cls(name, f"model {model!r}", "the folder of a copy as model", revision or "main")

    def fetch(self, names: Sequence[str]) -> Path | None:
        """Get one file: from the hub's cache, without a request, or by a download.

        Args:
            names: its names, the preferred one first. Any of them in the cache goes before a download.

        Returns:
            The file in the hub's cache, or None if the repository has none of them.

        Raises:
            ModelError: it cannot be downloaded; the message is one line and says what to do.
        """
        try:
            # the hub's client takes a third of a second, which models that are on disk need not wait for
            from fastloc import hub_files
        except ModuleNotFoundError as error:
            raise ModelError(f"{self.subject} needs {error.name}: pip install {error.name}") from error
        return hub_files.fetch(self, names)

    def must_fetch(self, names: Sequence[str]) -> Path:
        """The same for a file that must be there. Raises ModelError also where the repository has none of them."""
        found = self.fetch(names)
        if found is None:
            raise ModelError(f"{self.subject} could not be downloaded: repository {self.name!r} has no {' or '.join(map(repr, names))}")
        return found


def tagged(model: str, tag: str, place: str) -> Path:
    """Get the weights of an open_clip tag.

    Args:
        model, tag: open_clip's names, for errors.
        place: where its table says that they are: `owner/name/`, or `owner/name/file`.

    Returns:
        The file in the hub's cache.

    Raises:
        ModelError: see `Repository.fetch`.
    """
    name, _, file = place.rpartition("/")
    repository = Repository(name, f"weights {tag!r} of {model}", "pretrained=PATH of a file")
    safe = re.sub(r"\.(bin|pth)$", ".safetensors", file)
    return repository.must_fetch(WEIGHTS if not file else tuple(dict.fromkeys((safe, file))))


def config(repository: Repository) -> tuple[Path, Repository]:
    """Get open_clip's configuration of a model.

    Returns:
        The file, whose folder is where the model's other files go; and the repository at its commit, so that all are of one commit.

    Raises:
        ModelError: see `Repository.fetch`.
    """
    path = repository.must_fetch([CONFIG])
    return path, replace(repository, revision=path.parent.name)


def weights(repository: Repository, model_config: Mapping[str, Any]) -> Path:
    """Get a model's weights and, before them, the files of the tokenizer that its configuration asks for.

    Returns:
        The file of the weights.

    Raises:
        ModelError: see `Repository.fetch`.
    """
    if model_config.get("text_cfg", {}).get("hf_tokenizer_name"):
        _tokenizer(repository)
    return repository.must_fetch(WEIGHTS)


def _tokenizer(repository: Repository) -> None:
    if _tokenizer_is_whole(repository):
        return
    fast = [repository.fetch([name]) for name in _TOKENIZER]
    slow = [repository.fetch([name]) for name in _VOCABULARIES] if fast[0] is None else fast
    if not any(slow):
        raise ModelError(f"{repository.subject} could not be downloaded: repository {repository.name!r} has no {_TOKENIZER[0]!r}")


def _tokenizer_is_whole(repository: Repository) -> bool:
    from fastloc.hub_files import cached

    # the weights come last, so where they are with any file of a tokenizer, all of it is there
    return cached(repository, WEIGHTS) is not None and cached(repository, (*_TOKENIZER, *_VOCABULARIES)) is not None
