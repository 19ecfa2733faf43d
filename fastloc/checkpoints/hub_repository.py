"""A model's repository on the Hugging Face hub: `hf-hub:owner/name` or `hf:owner/name`, with `@revision` if wanted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastloc.errors import ModelError
from fastloc.utils.schema import shown

# open_clip's, and a shorter one
PREFIXES = ("hf-hub:", "hf:")
# as the hub names its users, repositories and revisions
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_OWNERLESS = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_REVISION = re.compile(r"[\w][\w./-]*", re.ASCII)


@dataclass(frozen=True)
class Repository:
    """A repository at a revision.

    Attributes:
        name: owner/name.
        subject: the thing that is asked of it, as errors name it.
        instead: what to give where it cannot be downloaded, as errors name it.
        revision: a branch, a tag or a commit.
    """

    name: str
    subject: str
    instead: str
    revision: str = "main"

    @classmethod
    def parse(cls, model: str) -> Repository:
        """Read `hf-hub:owner/name` or `hf:owner/name`, with `@revision` or without.

        Raises:
            ModelError: it is spelled otherwise.
        """
        name, at, revision = model.partition(":")[2].partition("@")
        wrong = ".." in name + revision or name.endswith((".git", ".ipynb"))
        if wrong or not _NAME.fullmatch(name) or (at and not _REVISION.fullmatch(revision)):
            raise ModelError(
                f"hf-hub:owner/name must have an owner and a name, and may have @revision, got {model!r}; "
                "hf-hub:laion/CLIP-ViT-B-16-laion2B-s34B-b88K is one"
            )
        return cls(name, f"model {model!r}", "the folder of a copy as model", revision or "main")

    @classmethod
    def of_tokenizer(cls, name: str, model: str) -> Repository:
        """The repository that a model's `hf_tokenizer_name` is; some of the oldest have no owner.

        Raises:
            ModelError: it is the name of none.
        """
        if ".." in name or not _OWNERLESS.fullmatch(name):
            raise ModelError(f"hf_tokenizer_name of {model} must be a repository, owner/name, got {shown(name)}")
        return cls(name, f"the tokenizer of {model}", "the folder of a copy of the model with its files")
