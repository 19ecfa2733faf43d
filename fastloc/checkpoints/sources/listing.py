"""The list of all models with a name."""

import json
from collections.abc import Mapping
from typing import Any

from fastloc import embedded
from fastloc.checkpoints import open_clip_files
from fastloc.checkpoints.families import catalogue
from fastloc.checkpoints.families.kinds import AnySpec
from fastloc.checkpoints.families.licences import licence
from fastloc.checkpoints.hierarchical import weights as hierarchical_weights
from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.open_clip_files import model_config
from fastloc.checkpoints.sources.description import CONFIG, refusal, spec_of
from fastloc.checkpoints.vit_spec import ModelSpec

__all__ = ["models"]


def models() -> list[dict[str, Any]]:
    """List every model, the embedded ones first, then by family, refused ones last.

    Each row: {"name", "family", "pretrained": tags, "licences": of the tags whose licence is known, "input": (height, width), "parameters":
    of the image tower (None for a ResNet), "embed", "text": see `fastloc.checkpoints.families.catalogue.text_tower`, "refused": the
    reason, or None}. The rows are read from open_clip's files without importing it.
    """
    own = {name: json.loads((folder / CONFIG).read_text(encoding="utf-8")) for name, folder in embedded.FOLDERS.items()}
    rows = [_listed(name, content["model_cfg"], {}) for name, content in own.items()]
    for name in open_clip_files.model_names():
        config = model_config(name)
        assert config is not None
        rows.append(_listed(name, config, open_clip_files.repositories(name)))
    return sorted(rows, key=lambda row: (row["refused"] is not None, catalogue.FAMILIES.index(row["family"])))


def _listed(name: str, config: dict[str, Any], repositories: Mapping[str, str]) -> dict[str, Any]:
    reason = refusal(config)
    spec = None if reason else spec_of(config, {})
    known = {tag: licence(repository) for tag, repository in repositories.items()}
    return {
        "name": name, "family": catalogue.family(name), "pretrained": list(repositories),
        "licences": {tag: each for tag, each in known.items() if each is not None}, "input": None if spec is None else list(spec.image),
        "parameters": _parameters(spec), "embed": config["embed_dim"],
        "text": catalogue.text_tower(config), "refused": reason,
    }  # fmt: skip


def _parameters(spec: AnySpec | None) -> int | None:
    if isinstance(spec, HierarchicalSpec):
        return hierarchical_weights.image_parameters(spec)
    return catalogue.image_parameters(spec) if isinstance(spec, ModelSpec) else None
