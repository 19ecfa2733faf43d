"""A model's repository on the Hugging Face hub: `hf-hub:owner/name` or `hf:owner/name`, with `@revision` if wanted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastloc.errors import ModelError

# open_clip's, and a shorter one
PREFIXES = ("hf-hub:", "hf:")
# as the hub names its users, repositories and revisions
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
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
