"""A model's repository on the Hugging Face hub: `hf-hub:owner/name` or `hf:owner/name`, optionally with `@revision`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastloc.errors import ModelError
from fastloc.utils.schema import shown

# open_clip's prefix, and a shorter one
PREFIXES = ("hf-hub:", "hf:")
# the hub's rule for names of users, repositories and revisions
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_OWNERLESS = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_REVISION = re.compile(r"[\w][\w./-]*", re.ASCII)


@dataclass(frozen=True)
class Repository:
    """A repository at a revision.

    Attributes:
        name: owner/name.
        subject: the requested thing, as error messages name it.
        instead: the alternative if it cannot be downloaded, as error messages name it.
        revision: a branch, a tag or a commit.
    """

    name: str
    subject: str
    instead: str
    revision: str = "main"

    @classmethod
    def parse(cls, model: str) -> Repository:
        """Read `hf-hub:owner/name` or `hf:owner/name`, with or without `@revision`.

        Raises:
            ModelError: the name has another form.
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
        """The repository of a model's `hf_tokenizer_name`; some of the oldest have no owner.

        Raises:
            ModelError: it is no repository's name.
        """
        if ".." in name or not _OWNERLESS.fullmatch(name):
            raise ModelError(f"hf_tokenizer_name of {model} must be a repository, owner/name, got {shown(name)}")
        return cls(name, f"the tokenizer of {model}", "the folder of a copy of the model with its files")
