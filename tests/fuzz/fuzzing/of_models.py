"""Targets of model folders: configurations, weights of every format, tokenizer folders, projections and measurements."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

from fastloc import embedded
from fuzzing.mutators import edited, json_text, safetensors, zipped
from fuzzing.target import Target, written

_TORCH = ("torch", "open_clip", "safetensors.torch")


def _configs() -> list[bytes]:
    config: dict[str, Any] = json.loads(embedded.CONFIG.read_text())
    own = json.dumps(config).encode()
    # fields that the embedded model leaves out
    config["model_cfg"] |= {"quick_gelu": False, "custom_text": False, "init_logit_scale": 2.6, "init_logit_bias": None}
    config["model_cfg"]["vision_cfg"] |= {"mlp_ratio": 4.0, "norm_kwargs": {"eps": 1e-5}, "pool_type": "tok", "ls_init_value": None}
    config["model_cfg"]["text_cfg"] |= {
        "mlp_ratio": 4.0, "norm_kwargs": {"eps": 1e-5}, "act_kwargs": None, "eos_id": 2, "tokenizer_kwargs": {"clean": "lower"},
    }  # fmt: skip
    resnet = json.loads(json.dumps(config))
    resnet["model_cfg"]["vision_cfg"] = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "image_size": 32, "patch_size": None}
    timm = json.loads(json.dumps(config))
    named = {"timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map", "timm_proj": "none"}
    timm["model_cfg"]["vision_cfg"] = {**named, "image_size": 224}
    stages = json.loads(json.dumps(config))
    described = {"depths": [1, 1], "dims": [16, 32], "ratio": 2, "attending": 1, "excites": [1], "layer_norm": False, "stem_scales": True}
    stages["model_cfg"]["vision_cfg"] = {"fastvit": described, "image_size": 32, "timm_pool": "avg", "timm_proj": "linear"}
    return [own, *(json.dumps(each).encode() for each in (config, resnet, timm, stages))]


def _config(content: bytes, folder: Path) -> object:
    from fastloc.checkpoints import config_schema
    from fastloc.checkpoints.sources import description

    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "model.safetensors").touch()
    written(model, description.CONFIG, content)
    found = description.describe(str(model), None)
    config_schema.tokenizer_arguments(found.config["text_cfg"], "model")
    reason = description.refusal(found.config)
    return reason or (config_schema.parameters(found.config), description.spec_of(found.config, found.preprocess))


def _foreign_configs() -> list[bytes]:
    import numpy as np

    from repo import GOLDENS
    from transformers_folders import NAMES

    found, processor = [], {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3, "do_resize": True}
    for name in NAMES:
        with np.load(GOLDENS / f"transformers_{name}.npz") as stored:
            config = json.loads(str(stored["meta"]))["config"]
        found.append(json.dumps({"config": config, "processor": processor}).encode())
    return found


def _foreign_config(content: bytes, folder: Path) -> object:
    from fastloc.checkpoints.foreign import transformers_folder
    from fastloc.checkpoints.sources.description import spec_of
    from fastloc.utils.schema import plain

    parts = plain(content, "the input")
    for name, part in (("config.json", "config"), ("preprocessor_config.json", "processor")):
        written(folder, name, json.dumps(parts.get(part, {})).encode())
    found = transformers_folder.Folder.read(folder)
    return spec_of(found.config, found.preprocess())


def _shard_index() -> list[bytes]:
    content = {"metadata": {"total_size": 8}, "weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    return [json.dumps(content).encode()]


def _shards(content: bytes, folder: Path) -> object:
    from fastloc.checkpoints.foreign import transformers_folder

    return transformers_folder.shards(written(folder, "model.safetensors.index.json", content))


def _tensors() -> dict[str, Any]:
    import torch

    return {"visual.proj": torch.zeros(2, 3), "logit_scale": torch.tensor(1.0), "halves": torch.ones(4).half(), "ids": torch.arange(3)}


def _safetensors() -> list[bytes]:
    from safetensors.torch import save

    return [save(_tensors(), {"format": "pt"}), save({"module.a": _tensors()["visual.proj"]})]


def _state(suffix: str) -> Any:
    def run(content: bytes, folder: Path) -> object:
        from fastloc.checkpoints import state_dicts
        from fastloc.checkpoints.foreign import layouts

        return layouts.as_open_clip(state_dicts.read(written(folder, f"weights{suffix}", content)))

    return run


def _torch_files() -> list[bytes]:
    import torch

    made = []
    for content, new in ((_tensors(), True), ({"state_dict": _tensors(), "epoch": 3}, True), (_tensors(), False)):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=new)
        made.append(file.getvalue())
    return made


def _archives() -> list[bytes]:
    import warnings

    from openai_archives import write

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write(Path(folder) / "a.pt", {f"visual.{name}": tensor for name, tensor in _tensors().items()}, (32, 8, 60))
        return [path.read_bytes()]


def _arrays() -> list[bytes]:
    import numpy as np

    made = []
    names = ("params/img/embedding/kernel", "params/img/Transformer/encoderblock/LayerNorm_0/scale", "params/txt/head/kernel", "params/t")
    shapes = ((2, 2, 3, 4), (3, 4), (4, 4), (1,))
    for write in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        write(file, **{name: np.zeros(shape, np.float32) for name, shape in zip(names, shapes, strict=True)})
        made.append(file.getvalue())
    return made


def _projections() -> list[bytes]:
    small = {"image": [2, 2], "text": [2, 2]}
    import torch
    from safetensors import safe_open
    from safetensors.torch import save

    with safe_open(str(embedded.FOLDER / "eclip.safetensors"), "pt") as file:
        metadata = file.metadata()
    return [save({name: torch.eye(*shape) for name, shape in small.items()}, metadata)]


def _projected(content: bytes, folder: Path) -> object:
    from fastloc.checkpoints.projections import Projections

    return Projections.load(written(folder, "eclip.safetensors", content))


def _temperatures() -> list[bytes]:
    return [(embedded.FOLDER / "temperatures.json").read_bytes()]


def _measured(content: bytes, folder: Path) -> object:
    from fastloc.recipes.register_neurons import RegisterNeurons
    from fastloc.recipes.temperatures import Temperatures

    kind: Any = RegisterNeurons if b"neurons" in content else Temperatures
    return kind.load(written(folder, "measured.json", content))


def _tokenizer_folders() -> list[bytes]:
    from fuzzing.of_onnx import _definition

    config = {"tokenizer_class": "GemmaTokenizerFast", "pad_token": "<pad>", "bos_token": {"content": "<start>"}, "eos_token": "<end>"}
    configs = [config | {"add_bos_token": True, "padding_side": "left"}, {"pad_token": "<pad>"}]
    configs.append(config | {"tokenizer_class": "NllbTokenizer", "src_lang": "cat", "legacy_behaviour": True})
    kinds = ("BPE", "Unigram", "WordLevel")
    return [json.dumps({"tokenizer": _definition(kind), "config": each}).encode() for kind, each in zip(kinds, configs, strict=True)]


def _tokenizer_folder(content: bytes, folder: Path) -> object:
    from fastloc.checkpoints.text.tokenizer_folder import FolderTokenizer
    from fastloc.utils.schema import plain

    parts = plain(content, "the input")
    for name, part in (("tokenizer.json", "tokenizer"), ("tokenizer_config.json", "config")):
        written(folder, name, json.dumps(parts.get(part)).encode())
    found = FolderTokenizer(folder, 8)
    return found(["a cat", "dog é 一" * 40]), found.length("a dog"), found.definition


_CHECK = "fastloc.checkpoints"
ROWS = (
    Target(
        "model-config", _config, _configs, json_text,
        (f"{_CHECK}.config_schema", f"{_CHECK}.families.vit_schema", f"{_CHECK}.hierarchical.described", f"{_CHECK}.hierarchical.spec",
         f"{_CHECK}.vit_spec", f"{_CHECK}.resnet_spec"), imports=_TORCH,
    ),
    Target(
        "transformers-config", _foreign_config, _foreign_configs, json_text,
        (f"{_CHECK}.foreign.transformers_config", f"{_CHECK}.foreign.processor"), imports=_TORCH,
    ),
    Target("weights-index", _shards, _shard_index, json_text, imports=_TORCH),
    Target("safetensors", _state(".safetensors"), _safetensors, safetensors, (f"{_CHECK}.state_dicts",), imports=_TORCH),
    Target(
        "torch-file", _state(".pth"), _torch_files, zipped(), (f"{_CHECK}.state_dicts", f"{_CHECK}.foreign.wrappers"), imports=_TORCH,
    ),
    Target("torchscript", _state(".pt"), _archives, zipped(), (f"{_CHECK}.foreign.torchscript",), imports=_TORCH),
    Target("weights-npz", _state(".npz"), _arrays, zipped(edited), (f"{_CHECK}.foreign.big_vision", "fastloc.utils.npz"), imports=_TORCH),
    Target("projections", _projected, _projections, safetensors, (f"{_CHECK}.projections",), imports=_TORCH),
    Target("measurements", _measured, _temperatures, json_text, ("fastloc.recipes.measured", "fastloc.recipes.temperatures")),
    Target("tokenizer-folder", _tokenizer_folder, _tokenizer_folders, json_text, (f"{_CHECK}.text.tokenizer_folder",), imports=_TORCH),
)  # fmt: skip
