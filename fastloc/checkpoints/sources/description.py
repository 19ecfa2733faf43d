"""The meaning of a model's name: its configuration and the locations of its weights and tokenizer, before any weights are read."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fastloc import embedded
from fastloc.checkpoints import config_schema, hub, open_clip_files, resnet_spec, state_dicts, vit_spec
from fastloc.checkpoints.byte_pairs import BytePairs
from fastloc.checkpoints.families.kinds import AnySpec
from fastloc.checkpoints.foreign import openai
from fastloc.checkpoints.hierarchical import spec as hierarchical_spec
from fastloc.checkpoints.hub_repository import PREFIXES, Repository
from fastloc.checkpoints.open_clip_files import model_config
from fastloc.checkpoints.text_loading import folder_tokenizer, named_tokenizer, repository_tokenizer
from fastloc.errors import ModelError, unknown
from fastloc.utils.schema import first_line, plain, read_file
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["ARCHIVES", "CONFIG", "PROJECTIONS", "RANDOM", "Description", "describe", "refusal", "spec_of"]

CONFIG = "open_clip_config.json"
# the file of trained projections in a model's folder, see `fastloc.checkpoints.projections`
PROJECTIONS = "eclip.safetensors"
RANDOM = "random"
ARCHIVES = (".pt", ".pth", ".jit")
# the prefix of open_clip's own files
_OWN_WEIGHTS = "open_clip"


@dataclass(frozen=True)
class Description:
    """The facts of a model before its weights are read."""

    name: str
    config: dict[str, Any]
    preprocess: dict[str, Any]
    extras: dict[str, Any]
    file: Path | None
    tokenizer: Callable[[], Any]
    projections: Path | None = None
    # renames a file's tensors to open_clip's names
    renames: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    # the tensors, if the description had to read them
    state: dict[str, Tensor] | None = None


def spec_of(config: dict[str, Any], preprocess: dict[str, Any]) -> AnySpec:
    if hierarchical_spec.is_hierarchical(config):
        return hierarchical_spec.from_open_clip(config, preprocess)
    if vit_spec.is_resnet(config):
        return resnet_spec.from_open_clip(config, preprocess)
    return vit_spec.from_open_clip(config, preprocess)


def refusal(config: dict[str, Any]) -> str | None:
    if hierarchical_spec.is_hierarchical(config):
        return hierarchical_spec.refusal(config)
    return resnet_spec.refusal(config) if vit_spec.is_resnet(config) else vit_spec.refusal(config)


def describe(model: str, pretrained: str | None) -> Description:
    path = Path(model.removeprefix("local-dir:"))
    if model in embedded.FOLDERS and pretrained in (None, RANDOM):
        return _directory(model, embedded.FOLDERS[model])
    if model.startswith(PREFIXES):
        return _repository(model, pretrained)
    if model.startswith("local-dir:") or os.path.isdir(path):
        if not os.path.isdir(path):
            raise ModelError(f"model directory {str(path)!r} does not exist")
        if pretrained not in (None, RANDOM):
            rule = f"None with model {model!r}, a folder with weights of its own"
            raise ModelError(f"pretrained must be {rule}, got {pretrained!r}; leave it out")
        return _directory(path.name, path)
    if model.endswith(".json"):
        return _configuration(path, pretrained)
    if model.endswith(ARCHIVES):
        return _archive(path, pretrained)
    return _named(model, pretrained)


def _directory(name: str, path: Path) -> Description:
    if not os.path.exists(path / CONFIG) and os.path.isfile(path / hub.OTHER_CONFIG):
        return _transformers(name, path)
    content = _json(path / CONFIG)
    if "model_cfg" not in content:
        raise ModelError(f"{str(path / CONFIG)!r} has no 'model_cfg'")
    config = _checked(content, content["model_cfg"], path / CONFIG)
    files = [*sorted(path.glob("*.safetensors")), *sorted(path.glob("*.bin")), *sorted(path.glob("*.pt"))]
    # a copy of a repository may hold the same weights also in transformers' layout: open_clip's take precedence
    candidates = sorted((file for file in files if file.name != PROJECTIONS), key=lambda file: not file.name.startswith(_OWN_WEIGHTS))
    projections = path / PROJECTIONS
    if not candidates:
        raise ModelError(f"model directory {str(path)!r} holds no .safetensors, .bin or .pt file")
    return Description(
        name, config, content.get("preprocess_cfg", {}), content.get("fastloc", {}), candidates[0], lambda: folder_tokenizer(config, path),
        projections if os.path.isfile(projections) else None,
    )  # fmt: skip


def _repository(model: str, pretrained: str | None) -> Description:
    if pretrained is not None:
        raise ModelError(f"pretrained must be None with {model!r}, whose repository holds the weights, got {pretrained!r}; leave it out")
    path, repository = hub.config(Repository.parse(model))
    if path.name == hub.OTHER_CONFIG:
        return _transformers(model, path.parent, repository)
    content = _json(path)
    config = _checked(content, content.get("model_cfg"), path)
    # a model that is refused is not downloaded
    reason = refusal(config)
    if reason:
        raise ModelError(f"model {model!r} is not supported: {reason}")
    file = hub.weights(repository, config)
    # other programs may have put weights of another layout into the same folder of the cache
    return replace(_directory(model, path.parent), file=file, tokenizer=lambda: repository_tokenizer(model, config, path.parent))


def _transformers(name: str, path: Path, repository: Repository | None = None) -> Description:
    """The description of a folder in transformers' layout; a repository's other files are fetched first."""
    from fastloc.checkpoints.foreign import layouts, transformers_folder

    folder, file = transformers_folder.Folder.read(path), path / transformers_folder.CONFIG
    outline = _checked({}, folder.config, file)
    if repository is not None:
        # a model that is refused is not downloaded
        hub.transformers_files(repository)
    preprocess, weights, config = folder.preprocess(), transformers_folder.weights(path), folder.with_tokenizer()
    return Description(
        name, config, preprocess, {"recommended": folder.model_class.recommended}, weights, lambda: folder_tokenizer(config, path),
        renames=lambda state: layouts.as_open_clip_of(state, folder.model_class, outline, str(file)),
    )  # fmt: skip


def _archive(path: Path, pretrained: str | None) -> Description:
    """The description of one of OpenAI's own files, whose tensors determine the model."""
    if pretrained is not None:
        raise ModelError(f"pretrained must be None with {path.name!r}, which holds its weights, got {pretrained!r}; leave it out")
    state = state_dicts.read(path)
    if not openai.is_openai(path):
        raise ModelError(
            f"model must be named with {str(path)!r}, which does not say what it is, as OpenAI's archives do; give the architecture's name "
            "as model, and this file as pretrained"
        )
    config = _checked({}, openai.model_config(state, str(path)), path)
    context = config["text_cfg"]["context_length"]
    return Description(path.stem, config, {}, {}, path, lambda: BytePairs(context), state=openai.without_sizes(state))


def _configuration(path: Path, pretrained: str | None) -> Description:
    content = _json(path)
    config = content.get("model_cfg", content)
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise ModelError(f"{str(path)!r} must be an open_clip model configuration, with embed_dim, vision_cfg and text_cfg")
    if pretrained is None:
        raise ModelError(f"pretrained must be a .pt or .safetensors file for model {path.name!r}, got none")
    _checked(content, config, path)
    file = None if pretrained == RANDOM else Path(pretrained)
    extras = content.get("fastloc", {})
    return Description(path.stem, config, content.get("preprocess_cfg", {}), extras, file, lambda: folder_tokenizer(config, path.parent))


def _named(model: str, pretrained: str | None) -> Description:
    name = model.replace("/", "-")
    config = model_config(name)
    if config is None and model.startswith(("torchvision:", "timm:")):
        raise ModelError(f"model must have texts here, got {model!r}, a classifier; `fastloc locate` and fastloc.CnnLocalizer run it")
    if config is None:
        raise ModelError(unknown("model", model, [*embedded.FOLDERS, *_supported()]))
    reason = refusal(config)
    if reason:
        raise ModelError(f"model {model!r} is not supported: {reason}")
    if pretrained is not None and (
        pretrained == RANDOM or os.path.exists(pretrained) or "/" in pretrained or pretrained.endswith((".pt", ".bin", ".safetensors"))
    ):
        file, preprocess = None if pretrained == RANDOM else Path(pretrained), _usual_pixels(name)
    else:
        file, preprocess = _tagged(model, name, pretrained)
        # the tag contains the activation that its weights were trained with
        config = {**config, "quick_gelu": bool(preprocess.get("quick_gelu"))}
    random = pretrained == RANDOM
    return Description(f"{name}/{pretrained}", config, preprocess, {}, file, lambda: named_tokenizer(name, config, random))


def _usual_pixels(name: str) -> dict[str, Any]:
    """The mean, std and interpolation that most of a model's tags have, for weights without a tag; {} for a model without tags."""
    tags = open_clip_files.tags()
    rows = [tags.get_pretrained_cfg(name, tag) for tag in tags.list_pretrained_tags_by_model(name)]
    found = Counter(tuple((key, row[key]) for key in ("mean", "std", "interpolation") if row.get(key)) for row in rows)
    # of equal counts the first
    return dict(found.most_common(1)[0][0]) if found else {}


def _tagged(model: str, name: str, tag: str | None) -> tuple[Path, dict[str, Any]]:
    """The file of a tag's weights, and open_clip's entry of the tag."""
    tags = open_clip_files.tags()
    known = tags.list_pretrained_tags_by_model(name)
    if tag is None:
        raise ModelError(f"model {model!r} needs weights: give pretrained, a path or one of {', '.join(known) or 'no known tags'}")
    if not tags.is_pretrained_cfg(name, tag):
        raise ModelError(unknown(f"pretrained tag of {model}", tag, known))
    row: dict[str, Any] = tags.get_pretrained_cfg(name, tag)
    return _download(name, tag, row), row


def _download(name: str, tag: str, row: dict[str, Any]) -> Path:
    if row.get("hf_hub"):
        return hub.tagged(name, tag, row["hf_hub"])
    try:
        return Path(open_clip_files.tags().download_pretrained(row))
    except Exception as error:
        pass_on(error)
        # a download from elsewhere raises exceptions of its own: offline, refused, no such file
        first = first_line(error)
        raise ModelError(f"weights {tag!r} of {name} could not be downloaded: {first}") from error


def _supported() -> list[str]:
    return [name for name in open_clip_files.model_names() if refusal(model_config(name) or {}) is None]


def _json(path: Path) -> dict[str, Any]:
    name = f"model configuration {str(path)!r}"
    return plain(read_file(path, name), f"{name} is damaged")


def _checked(content: Mapping[str, Any], config: object, path: Path) -> dict[str, Any]:
    """The open_clip part of a configuration file, with every field in its range, or a kind of model that will be refused."""
    if isinstance(config, dict) and embedded.holds(path):
        return config
    found = config_schema.outline(config, str(path))
    if refusal(found) is None:
        config_schema.check(content, found, str(path))
    return found
