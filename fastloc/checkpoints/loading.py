"""Where models come from: the embedded one, an open_clip name with a tag, a local file or a local directory."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastloc import embedded
from fastloc.checkpoints import config_schema, hub, open_clip_files, pins, resnet_spec, resnet_weights, state_dicts, vit_layouts, vit_spec
from fastloc.checkpoints.byte_pairs import BytePairs
from fastloc.checkpoints.config_schema import MOST_PARAMETERS, parameters
from fastloc.checkpoints.families import catalogue
from fastloc.checkpoints.families.licences import licence
from fastloc.checkpoints.foreign import openai
from fastloc.checkpoints.hub_repository import PREFIXES, Repository
from fastloc.checkpoints.open_clip_files import model_config
from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.text_encoder import TextEncoder
from fastloc.checkpoints.text_loading import (
    folder_tokenizer,
    logit_bias,
    logit_scale,
    named_tokenizer,
    network,
    repository_tokenizer,
    text_tower,
)
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Weights
from fastloc.errors import FastlocError, ModelError, unknown
from fastloc.recipes.presence import Calibration
from fastloc.utils.schema import first_line, plain, read_file

CONFIG = "open_clip_config.json"
# trained projections that lie in a model's folder beside its weights, see `fastloc.checkpoints.projections`
PROJECTIONS = "eclip.safetensors"
RANDOM = "random"
# what the names of open_clip's own files begin with
_OWN_WEIGHTS = "open_clip"
# of weights in several files
_INDEX = ".index.json"
# what the pool of PE's own files is known by, whose other names look like open_clip's
_PE_MARK = "visual.attn_pool.probe"
_ARCHIVES = (".pt", ".pth", ".jit")
# open_clip's own, where a configuration says nothing
_VOCABULARY = 49408
# of a table of tokens that a file holds in part
_MOST_NUMBERS = 1 << 28


@dataclass(frozen=True)
class Source:
    """A loaded model, float32 on the CPU: the image tower as tensors, the text tower as a module."""

    name: str
    weights: Weights | ResNetWeights
    text: TextEncoder
    # recipe fields by method, and "size", that suit this model better than the official defaults
    recommended: Mapping[str, Any] = field(default_factory=dict)
    # the file of the projections that came with it
    projections: Path | None = None
    # of its scores, "plain" and with its own projections, "projected"; others are not calibrated
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    # what is added to scaled cosines of pictures and texts before a sigmoid, of models that were trained so
    logit_bias: float | None = None

    @property
    def spec(self) -> ModelSpec | ResNetSpec:
        return self.weights.spec

    @property
    def logit_scale(self) -> float:
        """What cosines of pictures and texts are multiplied by before a softmax over texts, as the model was trained."""
        return self.weights.logit_scale

    @property
    def vit(self) -> Weights:
        """The image tower, for what runs on transformers alone. Raises ModelError if it is a ResNet."""
        if isinstance(self.weights, ResNetWeights):
            raise ModelError(f"{self.name} is a CLIP ResNet, and this is for ViTs; ResNets are run by `fastloc locate` and Localizer")
        return self.weights


@dataclass(frozen=True)
class _Description:
    """What is known of a model before its weights are read."""

    name: str
    config: dict[str, Any]
    preprocess: dict[str, Any]
    extras: dict[str, Any]
    file: Path | None
    tokenizer: Callable[[], Any]
    projections: Path | None = None
    # names of a file's tensors in open_clip's
    renames: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    # where they had to be read for the description
    state: dict[str, Tensor] | None = None


read_state = state_dicts.read


def load(model: str = "embedded", pretrained: str | None = None, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> Source:
    """Load a model.

    Args:
        model: "embedded"; an open_clip architecture ("ViT-B-16"); "local-dir:PATH" or a path to a directory with an
            open_clip_config.json and its weights, or with what transformers writes of a CLIP, MetaCLIP 2, SigLIP, SigLIP 2 or TIPSv2
            (config.json, weights, processor and tokenizer); "hf:OWNER/NAME" or "hf-hub:OWNER/NAME", with "@REVISION" if wanted, a
            repository on the Hugging Face hub that is laid out in either way, open_clip's first; a path to an open_clip model
            configuration (.json); or one of OpenAI's own archives (.pt).
        pretrained: an open_clip tag ("laion2b_s34b_b88k"), or a path to a .pt or .safetensors file; "random" for seeded random
            weights, good for timing only. A tag or file may end in "@sha256:" and 64 digits, and "sha256:…" alone pins the weights that
            come with a model: other content is refused before it is read.
        mean, std: of the pixels, per channel, in place of the configuration's.

    Raises:
        ModelError: unknown or unsupported model, unknown tag, unreadable file, weights of another architecture, or weights that are
            not on this machine and cannot be downloaded.
    """
    described, pretrained = _pinned(model, pretrained)
    preprocess = {**described.preprocess, **({"mean": mean} if mean else {}), **({"std": std} if std else {})}
    # a tower of another kind is told before its weights are read
    spec = _spec(described.config, preprocess)
    state = _state(described, pretrained)
    visual = {name: tensor.float() for name, tensor in state.items() if name.startswith("visual.")}
    scale, bias = logit_scale(state), logit_bias(state)
    weights = resnet_weights.from_open_clip(visual, spec) if isinstance(spec, ResNetSpec) else vit_layouts.from_open_clip(visual, spec)
    extras = described.extras
    text = TextEncoder(text_tower(described.config, state), _tokenizer(described), extras.get("words", ()), extras.get("names", ()))
    weights = replace(weights, logit_scale=scale)
    return Source(described.name, weights, text, extras.get("recommended", {}), described.projections, _calibrations(described), bias)


def _calibrations(described: _Description) -> dict[str, Calibration]:
    # its schema has checked them
    return {kind: Calibration(**each) for kind, each in described.extras.get("presence", {}).items()}


def checkpoint(model: str, pretrained: str) -> dict[str, Tensor]:
    """All tensors of a model under open_clip's names. Arguments and errors as for `load`."""
    described, pretrained_tag = _pinned(model, pretrained)
    # a tower from another library is not made, whatever that library would do for it
    _spec(described.config, described.preprocess)
    return _state(described, pretrained_tag)


def _pinned(model: str, pretrained: str | None) -> tuple[_Description, str | None]:
    """The model's description, and `pretrained` without its pin. Raises ModelError also for other weights than were pinned."""
    pretrained, digest = pins.split(pretrained)
    if digest is not None and model.endswith(_ARCHIVES) and pretrained is None:
        # its description is read from it
        pins.check(Path(model), digest)
    described = _describe(model, pretrained)
    if digest is not None:
        if described.file is not None and described.file.name.endswith(_INDEX):
            raise ModelError(f"a pin must be of one file, and the weights of {described.name} lie in several; leave the pin out")
        if described.file is None:
            raise ModelError(f"weights {pretrained!r} are made here, and have no file with sha256 {digest}; leave the pin out")
        pins.check(described.file, digest)
    if described.file is not None and openai.is_openai(described.file):
        # which no tensor says
        described = replace(described, config={**described.config, "quick_gelu": True})
    return described, pretrained


def models() -> list[dict[str, Any]]:
    """Every model, the embedded one first, then by family, those that are refused last.

    Each row: {"name", "family", "pretrained": tags, "licences": of the tags whose licence is known, "input": (height, width), "parameters":
    of the image tower (None for a ResNet), "embed", "text": see `fastloc.checkpoints.families.catalogue.text_tower`, "refused": why not,
    or None}. Read from open_clip's files, which is not imported.
    """
    own = json.loads(embedded.CONFIG.read_text(encoding="utf-8"))["model_cfg"]
    rows = [_listed("embedded", own, {})]
    for name in open_clip_files.model_names():
        config = model_config(name)
        assert config is not None
        rows.append(_listed(name, config, open_clip_files.repositories(name)))
    return sorted(rows, key=lambda row: (row["refused"] is not None, catalogue.FAMILIES.index(row["family"])))


def _listed(name: str, config: dict[str, Any], repositories: Mapping[str, str]) -> dict[str, Any]:
    reason = _refusal(config)
    spec = None if reason else _spec(config, {})
    known = {tag: licence(repository) for tag, repository in repositories.items()}
    return {
        "name": name, "family": catalogue.family(name), "pretrained": list(repositories),
        "licences": {tag: each for tag, each in known.items() if each is not None}, "input": None if spec is None else list(spec.image),
        "parameters": catalogue.image_parameters(spec) if isinstance(spec, ModelSpec) else None, "embed": config["embed_dim"],
        "text": catalogue.text_tower(config), "refused": reason,
    }  # fmt: skip


def _spec(config: dict[str, Any], preprocess: dict[str, Any]) -> ModelSpec | ResNetSpec:
    if vit_spec.is_resnet(config):
        return resnet_spec.from_open_clip(config, preprocess)
    return vit_spec.from_open_clip(config, preprocess)


def _refusal(config: dict[str, Any]) -> str | None:
    return resnet_spec.refusal(config) if vit_spec.is_resnet(config) else vit_spec.refusal(config)


def _state(described: _Description, pretrained: str | None) -> dict[str, Tensor]:
    if pretrained == RANDOM:
        if parameters(described.config) > MOST_PARAMETERS:
            raise ModelError(f"{described.name} has more than {MOST_PARAMETERS:,} parameters, too many to be made with random weights")
        torch.manual_seed(0)
        return _expand_tokens(network(described.config).state_dict(), described.config)
    if described.state is not None:
        return described.state
    state: dict[str, Tensor] = {}
    for file in _files(described):
        state |= read_state(file)
    return _expand_tokens((described.renames or _as_open_clip)(state), described.config)


def _files(described: _Description) -> list[Path]:
    """The files of a model's weights."""
    if described.file is None:
        return []
    if not described.file.name.endswith(_INDEX):
        return [described.file]
    from fastloc.checkpoints.foreign.transformers_folder import shards

    return [described.file.with_name(name) for name in shards(described.file)]


def _as_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under open_clip's names, whatever program wrote it."""
    if any(name.startswith("visual.") for name in state) and _PE_MARK not in state:
        return state
    # the tables of names are made where a file has others
    from fastloc.checkpoints.foreign.layouts import as_open_clip

    return as_open_clip(state)


def _describe(model: str, pretrained: str | None) -> _Description:
    path = Path(model.removeprefix("local-dir:"))
    if model == "embedded" and pretrained in (None, RANDOM):
        return _directory("embedded", embedded.FOLDER)
    if model.startswith(PREFIXES):
        return _repository(model, pretrained)
    if model.startswith("local-dir:") or os.path.isdir(path):
        if not os.path.isdir(path):
            raise ModelError(f"model directory {str(path)!r} does not exist")
        if pretrained not in (None, RANDOM):
            raise ModelError(f"pretrained must be None with model {model!r}, a folder with weights of its own, got {pretrained!r}; leave it out")
        return _directory(path.name, path)
    if model.endswith(".json"):
        return _configuration(path, pretrained)
    if model.endswith(_ARCHIVES):
        return _archive(path, pretrained)
    return _named(model, pretrained)


def _directory(name: str, path: Path) -> _Description:
    if not os.path.exists(path / CONFIG) and os.path.isfile(path / hub.OTHER_CONFIG):
        return _transformers(name, path)
    content = _json(path / CONFIG)
    if "model_cfg" not in content:
        raise ModelError(f"{str(path / CONFIG)!r} has no 'model_cfg'")
    config = _checked(content, content["model_cfg"], path / CONFIG)
    files = [*sorted(path.glob("*.safetensors")), *sorted(path.glob("*.bin")), *sorted(path.glob("*.pt"))]
    # a copy of a repository may hold the same weights once more, in transformers' layout: open_clip's own go first
    candidates = sorted((file for file in files if file.name != PROJECTIONS), key=lambda file: not file.name.startswith(_OWN_WEIGHTS))
    projections = path / PROJECTIONS
    if not candidates:
        raise ModelError(f"model directory {str(path)!r} holds no .safetensors, .bin or .pt file")
    return _Description(
        name, config, content.get("preprocess_cfg", {}), content.get("fastloc", {}), candidates[0], lambda: folder_tokenizer(config, path),
        projections if os.path.isfile(projections) else None,
    )  # fmt: skip


def _repository(model: str, pretrained: str | None) -> _Description:
    if pretrained is not None:
        raise ModelError(f"pretrained must be None with {model!r}, whose repository holds the weights, got {pretrained!r}; leave it out")
    path, repository = hub.config(Repository.parse(model))
    if path.name == hub.OTHER_CONFIG:
        return _transformers(model, path.parent, repository)
    content = _json(path)
    config = _checked(content, content.get("model_cfg"), path)
    # a model that is refused is not downloaded
    reason = _refusal(config)
    if reason:
        raise ModelError(f"model {model!r} is not supported: {reason}")
    file = hub.weights(repository, config)
    # others may have put weights of another layout into the same folder of the cache
    return replace(_directory(model, path.parent), file=file, tokenizer=lambda: repository_tokenizer(model, config, path.parent))


def _transformers(name: str, path: Path, repository: Repository | None = None) -> _Description:
    """A folder as transformers writes it, whose other files are fetched first if it is a repository's."""
    from fastloc.checkpoints.foreign import layouts, transformers_folder

    folder, file = transformers_folder.Folder.read(path), path / transformers_folder.CONFIG
    outline = _checked({}, folder.config, file)
    if repository is not None:
        # a model that is refused is not downloaded
        hub.transformers_files(repository)
    preprocess, weights, config = folder.preprocess(), transformers_folder.weights(path), folder.with_tokenizer()
    return _Description(
        name, config, preprocess, {}, weights, lambda: folder_tokenizer(config, path),
        renames=lambda state: layouts.as_open_clip_of(state, folder.found, outline, str(file)),
    )  # fmt: skip


def _archive(path: Path, pretrained: str | None) -> _Description:
    """One of OpenAI's own files, whose tensors say which model it is."""
    if pretrained is not None:
        raise ModelError(f"pretrained must be None with {path.name!r}, which holds its weights, got {pretrained!r}; leave it out")
    state = read_state(path)
    if not openai.is_openai(path):
        raise ModelError(
            f"model must be named with {str(path)!r}, which does not say what it is, as OpenAI's archives do; give the architecture's name "
            "as model, and this file as pretrained"
        )
    config = _checked({}, openai.model_config(state, str(path)), path)
    context = config["text_cfg"]["context_length"]
    return _Description(path.stem, config, {}, {}, path, lambda: BytePairs(context), state=openai.without_sizes(state))


def _configuration(path: Path, pretrained: str | None) -> _Description:
    content = _json(path)
    config = content.get("model_cfg", content)
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise ModelError(f"{str(path)!r} is not an open_clip model configuration: embed_dim, vision_cfg and text_cfg are wanted")
    if pretrained is None:
        raise ModelError(f"model {path.name!r} needs weights: give pretrained, a path to a .pt or .safetensors file")
    _checked(content, config, path)
    file = None if pretrained == RANDOM else Path(pretrained)
    extras = content.get("fastloc", {})
    return _Description(path.stem, config, content.get("preprocess_cfg", {}), extras, file, lambda: folder_tokenizer(config, path.parent))


def _named(model: str, pretrained: str | None) -> _Description:
    name = model.replace("/", "-")
    config = model_config(name)
    if config is None and model.startswith(("torchvision:", "timm:")):
        raise ModelError(f"{model!r} is a classifier, which has no texts: `fastloc locate` and fastloc.CnnLocalizer run it, by class names")
    if config is None:
        raise ModelError(unknown("model", model, ["embedded", *_supported()]))
    reason = _refusal(config)
    if reason:
        raise ModelError(f"model {model!r} is not supported: {reason}")
    preprocess: dict[str, Any] = {}
    if pretrained is not None and (
        pretrained == RANDOM or os.path.exists(pretrained) or "/" in pretrained or pretrained.endswith((".pt", ".bin", ".safetensors"))
    ):
        file = None if pretrained == RANDOM else Path(pretrained)
    else:
        file, preprocess = _tagged(model, name, pretrained)
        # the tag knows which activation its weights were trained with
        config = {**config, "quick_gelu": bool(preprocess.get("quick_gelu"))}
    random = pretrained == RANDOM
    return _Description(f"{name}/{pretrained}", config, preprocess, {}, file, lambda: named_tokenizer(name, config, random))


def _tagged(model: str, name: str, tag: str | None) -> tuple[Path, dict[str, Any]]:
    """The file of a tag's weights, and what open_clip knows of the tag."""
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
        # a download from elsewhere fails in its own ways: offline, refused, no such file
        first = first_line(error)
        raise ModelError(f"weights {tag!r} of {name} could not be downloaded: {first}") from error


def _supported() -> list[str]:
    return [row["name"] for row in models()[1:] if row["refused"] is None]


def _json(path: Path) -> dict[str, Any]:
    name = f"model configuration {str(path)!r}"
    return plain(read_file(path, name), f"{name} is damaged")


def _checked(content: Mapping[str, Any], config: object, path: Path) -> dict[str, Any]:
    """The part of a configuration file that is open_clip's, every field in its range, or a kind of model that will be refused."""
    if isinstance(config, dict) and embedded.holds(path):
        return config
    found = config_schema.outline(config, str(path))
    if _refusal(found) is None:
        config_schema.check(content, found, str(path))
    return found


def _tokenizer(described: _Description) -> Any:
    try:
        return described.tokenizer()
    except ModuleNotFoundError as error:
        raise ModelError(f"the tokenizer of {described.name} needs {error.name}: pip install {error.name}") from error
    except FastlocError:
        raise
    except Exception as error:
        # open_clip's and transformers' own: no such files, damaged ones, or code that is not run
        raise ModelError(f"the tokenizer of {described.name} cannot be loaded: {first_line(error)}") from error


def _expand_tokens(state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """Put a compact token table (rows for `token_ids` alone) back into the tokenizer's full vocabulary, unseen rows zero."""
    if "token_ids" not in state:
        return state
    ids, rows, size = state["token_ids"], state.get("token_embedding.weight"), config["text_cfg"].get("vocab_size", _VOCABULARY)
    if rows is None or rows.ndim != 2 or ids.ndim != 1 or ids.is_floating_point() or len(ids) != len(rows) or not len(ids):
        raise ModelError("token_ids must be one whole number for each row of 'token_embedding.weight'")
    if int(ids.min()) < 0 or int(ids.max()) >= size or size * rows.shape[1] > _MOST_NUMBERS:
        raise ModelError(f"token_ids must be below the vocab_size, {size}, and its table have at most {_MOST_NUMBERS:,} numbers")
    full = torch.zeros(size, rows.shape[1], dtype=rows.dtype)
    full[ids.long()] = rows
    return {**{name: tensor for name, tensor in state.items() if name != "token_ids"}, "token_embedding.weight": full}
