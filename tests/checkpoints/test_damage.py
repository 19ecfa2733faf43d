"""Damaged model folders: configurations, weights and projections that end in one line, and cost no more memory than their files."""

from __future__ import annotations

import json
import shutil
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fastloc import embedded
from fastloc.checkpoints import config_schema, loading
from fastloc.checkpoints.projections import Projections
from fastloc.checkpoints.sources import description
from fastloc.errors import ModelError
from fastloc.recipes.temperatures import Temperatures
from mutations import byte_edits, json_edits, raw

CONFIG: dict[str, Any] = json.loads(embedded.CONFIG.read_text())
# fields that the embedded model leaves out
CONFIG["model_cfg"] |= {"quick_gelu": False, "custom_text": False, "init_logit_scale": 2.6}
CONFIG["model_cfg"]["vision_cfg"] |= {"mlp_ratio": 4.0, "norm_kwargs": {"eps": 1e-5}, "pool_type": "tok", "ls_init_value": None}
CONFIG["model_cfg"]["text_cfg"] |= {
    "mlp_ratio": 4.0, "norm_kwargs": {"eps": 1e-5}, "act_kwargs": None, "eos_id": 2, "tokenizer_kwargs": {"clean": "lower"},
    "proj_type": "linear", "activation": "gelu", "positions": "learned", "pad_id": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return dict(load_file(embedded.MODEL))


def written(folder: Path, content: object) -> Path:
    (folder / description.CONFIG).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def changed(path: str, value: object) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(CONFIG))
    *first, last = path.split(".")
    inner = content
    for part in first:
        inner = inner[part]
    inner[last] = value
    return content


FIELDS: dict[str, tuple[object, str]] = {
    "model_cfg.vision_cfg.timm_model_name": (["x"], "vision_cfg (timm_model_name must be str | null, got array)"),
    "model_cfg.vision_cfg.timm_pool": (1, "vision_cfg (timm_pool must be str | null, got int)"),
    "model_cfg": ([], "(it must be object, got array)"),
    "model_cfg.embed_dim": ("192", "model_cfg (embed_dim must be int, got str)"),
    "model_cfg.vision_cfg": (None, "(vision_cfg must be object, got null)"),
    "model_cfg.vision_cfg.width": (0, "vision_cfg: width must be a whole number from 1 to 16384, got 0"),
    "model_cfg.vision_cfg.head_width": (7, "head_width must divide the width, 192, got 7"),
    "model_cfg.vision_cfg.layers": (2**40, "vision_cfg: layers must be a whole number from 1 to 256"),
    "model_cfg.vision_cfg.patch_size": ([8, 8, 8], "patch_size must be one number or 2, got [8, 8, 8]"),
    "model_cfg.vision_cfg.image_size": (2**31, "image_size must be a whole number from 1 to 16384"),
    "model_cfg.vision_cfg.norm_kwargs": ({"eps": "x"}, "norm_kwargs[...] must be float, got str"),
    "model_cfg.text_cfg.vocab_size": (2**40, "text_cfg: vocab_size must be a whole number from 1 to 1048576"),
    "model_cfg.text_cfg.context_length": (10**6, "text_cfg: context_length must be a whole number from 1 to 4096"),
    "model_cfg.text_cfg.heads": (3, "heads must divide the width, 128, got 3"),
    "model_cfg.text_cfg.act_kwargs": ({"approximate": "x"}, "unknown approximation of GELU 'x'"),
    "model_cfg.text_cfg.activation": ("tanh", "unknown activation 'tanh'"),
    "model_cfg.text_cfg.positions": ("rope", "unknown positions 'rope'"),
    "model_cfg.text_cfg.pad_id": (-1, "pad_id must be a whole number from 0 to 1048576"),
    "model_cfg.text_cfg.norm_kwargs": ({"device": 1.0}, "unknown argument of norm_kwargs 'device'"),
    "preprocess_cfg.mean": ([0, 0], "preprocess_cfg (mean must be array of length 3, got 2)"),
    "preprocess_cfg.std": ([0, 1, 1], "std must be a number from 1e-06 to 1e+06, got 0"),
    "preprocess_cfg.interpolation": ("x", "unknown interpolation 'x'"),
    "fastloc.words": ("cat", "fastloc (words must be array, got str)"),
    "fastloc.recommended.size": (10**5, "size must be a whole number from 1 to 4096"),
    "fastloc.recommended.fit": ("x", "unknown fit 'x'"),
    "fastloc.recommended.recipes.gem.blocks": ("x", "recommended 'gem' (blocks must be int, got str)"),
    "fastloc.recommended.recipes.gem.iterations": (2**40, "iterations at most 100"),
}


@pytest.mark.parametrize("path", FIELDS)
def test_fields_of_a_configuration(path: str, tmp_path: Path) -> None:
    value, message = FIELDS[path]
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelError) as caught:
        loading.load(str(written(tmp_path, changed(path, value))))
    line = str(caught.value)
    assert message in line and str(tmp_path) in line and "\n" not in line and len(line) < 500


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model_cfg": 1}', "[" * 200_000, '{"a": 1e400}', '{"a": "\\ud800"}', "\x00"])
def test_files_that_are_no_configuration(content: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model configuration") as caught:
        loading.load(str(written(tmp_path, content)))
    assert "\n" not in str(caught.value)


def test_every_configuration_of_open_clip_fits_the_schema() -> None:
    count = 0
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        assert config is not None
        config_schema.outline(config, name)
        if description.refusal(config) is None:
            config_schema.check({}, config, name)
            assert 1e7 < config_schema.parameters(config) < config_schema.MOST_PARAMETERS, name
            count += 1
    assert count > 40


def test_what_came_with_fastloc_fits_the_schemas_and_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (embedded.CONFIG, embedded.MODEL, embedded.ECLIP, embedded.TEMPERATURES):
        shutil.copy(file, tmp_path)
    temperatures = Temperatures.load(tmp_path / embedded.TEMPERATURES.name)
    checked = loading.load(str(tmp_path)), Projections.load(tmp_path / embedded.ECLIP.name), temperatures
    monkeypatch.setitem(sys.modules, "msgspec", None)
    shipped = loading.load(), Projections.load(embedded.ECLIP), Temperatures.load(embedded.TEMPERATURES)
    assert checked[0].recommended == shipped[0].recommended and checked[0].spec == shipped[0].spec
    assert checked[0].logit_scale == shipped[0].logit_scale
    assert (checked[1].model, checked[1].tower, checked[1].settings) == (shipped[1].model, shipped[1].tower, shipped[1].settings)
    assert checked[2] == shipped[2]


def test_a_model_that_is_too_large_for_random_weights(tmp_path: Path) -> None:
    content = changed("model_cfg.vision_cfg.width", 16384)["model_cfg"]
    content["vision_cfg"]["layers"] = 256
    (tmp_path / "large.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="large has more than 8,000,000,000 parameters"):
        loading.load(str(tmp_path / "large.json"), "random")


def test_a_tower_of_another_library_is_not_made(tmp_path: Path) -> None:
    content = changed("model_cfg.vision_cfg.timm_model_name", "hf-hub:someone/else")["model_cfg"]
    (tmp_path / "timm.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="its image tower is timm's hf-hub:someone/else"):
        loading.checkpoint(str(tmp_path / "timm.json"), "random")


# weights

SCALE = "logit_scale of the weights must be the logarithm of a finite number"
VALUES: dict[str, tuple[str, Callable[[Tensor], object], str]] = {
    "a number by that name": ("visual.proj", lambda tensor: 3, "holds no tensors by name: 'visual.proj' is a int"),
    "a view of one number": ("visual.proj", lambda tensor: torch.zeros(1).expand(10**6, 10**6), "views that repeat a few numbers"),
    "a sparse tensor": ("visual.proj", lambda tensor: tensor.to_sparse(), "holds 'visual.proj', which is no plain tensor of real numbers"),
    "a complex tensor": ("visual.proj", lambda tensor: tensor.to(torch.complex64), "which is no plain tensor of real numbers"),
    "no numbers at all": ("visual.proj", lambda tensor: tensor.to("meta"), "which is no plain tensor of real numbers"),
    "two scales": ("logit_scale", lambda tensor: torch.ones(2), SCALE),
    "a scale beyond all numbers": ("logit_scale", lambda tensor: torch.tensor(1e30), SCALE),
    "a scale that is none": ("logit_scale", lambda tensor: torch.tensor(torch.nan), SCALE),
    "tokens beyond the table": ("token_ids", lambda tensor: tensor.long() + 10**6, "token_ids must be below the vocab_size, 49408"),
    "tokens below 0": ("token_ids", lambda tensor: tensor.long() - 10**6, "token_ids must be below the vocab_size"),
    "fewer tokens": ("token_ids", lambda tensor: tensor[:3], "token_ids must be one whole number for each row"),
    "tokens that are fractions": ("token_ids", lambda tensor: tensor.float(), "token_ids must be one whole number for each row"),
    "a bias of no axes": ("visual.transformer.resblocks.0.mlp.c_fc.bias", lambda tensor: torch.tensor(1.0), "of another architecture"),
}


@pytest.mark.parametrize("case", VALUES)
def test_tensors_of_other_kinds(case: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    name, change, message = VALUES[case]
    assert name in state
    torch.save({**state, name: change(state[name])}, tmp_path / "model.pt")
    with pytest.raises(ModelError) as caught:
        loading.load(str(written(tmp_path, CONFIG)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_torch_file_that_is_compressed(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"visual.proj": torch.zeros(1 << 20)}, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as before, zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as after:
        for part in before.namelist():
            after.writestr(part, before.read(part))
    assert (tmp_path / "model.pt").stat().st_size < 50_000
    with pytest.raises(ModelError, match=r"is not a \.safetensors or torch file, or is damaged"):
        loading.read_state(tmp_path / "model.pt")


def test_names_that_are_no_texts(tmp_path: Path) -> None:
    torch.save({3: torch.zeros(2)}, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="holds no tensors by name"):
        loading.read_state(tmp_path / "model.pt")


# small edits at random


def test_no_edit_of_a_configuration_ends_in_anything_else(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    # read once
    monkeypatch.setattr(loading, "read_state", lambda path: dict(state))
    assert raw(json_edits(CONFIG, 5, 100), lambda made: loading.load(str(written(tmp_path, made)))) == []


def test_no_edit_of_a_header_of_weights_ends_in_anything_else(tmp_path: Path, state: dict[str, Tensor]) -> None:
    whole = embedded.ECLIP.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])

    def call(made: object) -> None:
        head = json.dumps(made).encode()
        (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + whole[8 + length :])
        loading.read_state(tmp_path / "model.safetensors")

    assert raw(json_edits(json.loads(whole[8 : 8 + length]), 5, 150), call) == []


def test_no_edit_of_a_torch_file_ends_in_anything_else(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3, 4), "b": torch.ones(2)}, tmp_path / "x")
    path = tmp_path / "model.pt"
    assert raw(byte_edits((tmp_path / "x").read_bytes(), 5, 200), lambda made: (path.write_bytes(made), loading.read_state(path))) == []


def test_no_edit_of_projections_ends_in_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    edits = byte_edits(embedded.ECLIP.read_bytes(), 5, 60, 1500)
    assert raw(edits, lambda made: (path.write_bytes(made), Projections.load(path))) == []


def test_a_word_of_a_pickle_reserves_no_more_than_the_file(tmp_path: Path) -> None:
    """BINUNICODE of 3 GB, in a file of the old form of torch."""
    path = tmp_path / "a.pt"
    path.write_bytes(b"\x80\x02X" + struct.pack("<I", 3_000_000_000) + b"abc")
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=r"is not a \.safetensors or torch file, or is damaged"):
            loading.read_state(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()
