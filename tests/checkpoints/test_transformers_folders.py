"""Models as transformers writes them: embeddings are those of transformers' own classes, without transformers."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastloc import embedded
from fastloc.checkpoints import loading
from fastloc.checkpoints.byte_pairs import BytePairs
from fastloc.checkpoints.foreign import transformers_folder
from fastloc.checkpoints.loading import Source
from fastloc.checkpoints.sources import description
from fastloc.checkpoints.text_encoder import encode_tokens
from fastloc.functional.vit import forward
from fastloc.recipes import RECIPES
from towers import error
from transformers_folders import NAMES, SIDE, golden, preprocessor, write

pytest.importorskip("tokenizers")
TOLERANCE = 1e-5


def errors(source: Source, name: str) -> tuple[float, float]:
    """Largest differences of image and text embeddings from transformers', over the largest numbers."""
    found = golden(name)
    with torch.no_grad():
        image = forward(source.vit, found.pixels, RECIPES["itsm"], cls=True).cls
        text = encode_tokens(source.text.tower, found.tokens)
    assert image is not None
    return error(image, found.image), error(text, found.text)


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_those_of_transformers(name: str, tmp_path: Path):
    source = loading.load(str(write(tmp_path, name)))
    assert max(errors(source, name)) < TOLERANCE
    state = golden(name).state
    scale = 1 / state["temperature"] if "temperature" in state else state["logit_scale"].exp()
    assert source.logit_scale == pytest.approx(float(scale))


def test_siglip_2_at_another_grid_resizes_positions_as_transformers_does_where_it_is_larger(tmp_path: Path):
    source, found = loading.load(str(write(tmp_path, "siglip2"))), golden("siglip2")
    expected = found.larger
    assert expected is not None
    off = {}
    for mode in ("bilinear", "bicubic-scale"):
        with torch.no_grad():
            image = forward(source.vit, found.larger_pixels, replace(RECIPES["itsm"], position=mode), cls=True).cls
        assert image is not None
        off[mode] = error(image, expected)
    # the recipes' own way is another one
    assert off["bilinear"] < TOLERANCE and off["bicubic-scale"] > 1e-3


def test_siglip_2_at_any_shape_is_transformers_answer_of_a_padded_batch(tmp_path: Path):
    source, pictures = loading.load(str(write(tmp_path, "siglip2"))), golden("siglip2").shaped
    off = {}
    for mode in ("bilinear-antialias", "bilinear", "bicubic-antialias"):
        row = replace(RECIPES["itsm"], position=mode)
        with torch.no_grad():
            found = [forward(source.vit, pixels, row, cls=True).cls for pixels, _ in pictures]
        off[mode] = [error(image[0], expected) for image, (_, expected) in zip(found, pictures, strict=True) if image is not None]
    assert len(pictures) == 7 == len(off["bilinear"]) and max(off["bilinear-antialias"]) < TOLERANCE
    # where an axis shrinks antialiasing counts
    assert max(off["bilinear"]) > 1e-2 and min(off["bicubic-antialias"]) > 1e-3


def test_a_localizer_of_naflex_gives_every_picture_its_own_grid(tmp_path: Path):
    import fastloc

    folder = write(tmp_path, "siglip2")
    localizer = fastloc.load(folder, method="itsm", template="{}", fit="naflex", size=32, position="bilinear-antialias", dtype="float32")
    numbers = np.random.default_rng(0)
    pictures = [numbers.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 90), (70, 20), (40, 90), (33, 33))]
    results = localizer(pictures, ["w7 w9", "w30"])
    # at most the 16 patches of 32 x 32 pixels
    assert [result.similarity.shape[1:] for result in results] == [(3, 5), (7, 2), (3, 5), (4, 4)]
    for picture, result in zip(pictures, results, strict=True):
        alone = localizer(picture, ["w7 w9", "w30"])
        assert alone.geometry == result.geometry and result.heatmaps.shape == (2, *picture.shape[:2])
        np.testing.assert_allclose(result.similarity, alone.similarity, rtol=0, atol=1e-5)


def test_a_naflex_is_run_as_one_unless_an_argument_says_otherwise(tmp_path: Path):
    import fastloc

    folder = write(tmp_path, "siglip2")
    localizer = fastloc.load(folder, method="itsm", template="{}", size=32, dtype="float32")
    assert (localizer.fit, localizer.recipe.position) == ("naflex", "bilinear-antialias")
    picture = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    asked = fastloc.load(folder, method="itsm", template="{}", fit="naflex", size=32, position="bilinear-antialias", dtype="float32")
    np.testing.assert_array_equal(localizer(picture, ["w7"]).similarity, asked(picture, ["w7"]).similarity)
    # every method's positions, and what you say
    assert localizer.with_method("gem", blocks=1).recipe.position == "bilinear-antialias"
    other = localizer.with_method("itsm", fit="stretch", position="bicubic")
    assert (other.fit, other.recipe.position) == ("stretch", "bicubic")
    assert localizer.with_method("itsm", recommended=False).recipe.position == RECIPES["itsm"].position
    # a model of one size keeps the method's own
    plain = fastloc.load(write(tmp_path / "plain", "siglip"), method="itsm", template="{}", dtype="float32")
    assert (plain.fit, plain.recipe.position) == (RECIPES["itsm"].fit, RECIPES["itsm"].position)


@pytest.mark.parametrize(("shards", "pickled"), [(3, False), (1, True), (2, True)])
def test_weights_in_several_files_and_in_torch_s(shards: int, pickled: bool, tmp_path: Path):
    assert max(errors(loading.load(str(write(tmp_path, "siglip", shards=shards, pickled=pickled))), "siglip")) < TOLERANCE


def test_half_precision_and_positions_of_old_files(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    file = write(tmp_path, "tipsv2") / "model.safetensors"
    save_file({key: tensor.half() for key, tensor in load_file(file).items()}, file)
    assert 1e-5 < max(errors(loading.load(str(tmp_path)), "tipsv2")) < 5e-3
    file = write(tmp_path, "clip") / "model.safetensors"
    positions = {f"{part}_model.embeddings.position_ids": torch.arange(9)[None] for part in ("text", "vision")}
    save_file({**load_file(file), **positions}, file)
    assert max(errors(loading.load(str(tmp_path)), "clip")) < TOLERANCE


def test_fields_that_a_file_leaves_out_have_the_defaults_of_the_class(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "projection_dim": None}))
    config = transformers_folder.Folder.read(tmp_path).config
    assert config["embed_dim"] == 512 and config["quick_gelu"] and config["text_cfg"]["pool_type"] == "argmax"
    vit = config["vision_cfg"]["vit"]
    assert (vit["width"], vit["layers"], vit["heads"], vit["patch"], vit["image"], vit["hidden"]) == (768, 12, 12, 32, 224, 3072)
    assert (vit["activation"], vit["norm_eps"]) == ("quick_gelu", 1e-5)
    # files of old say a tower twice, and the second one wins
    old = {"model_type": "clip", "vision_config": {"patch_size": 32}, "vision_config_dict": {"patch_size": 16}, "projection_dim": 768}
    (tmp_path / "config.json").write_text(json.dumps(old))
    config = transformers_folder.Folder.read(tmp_path).config
    assert config["vision_cfg"]["vit"]["patch"] == 16 and config["embed_dim"] == 768
    (tmp_path / "config.json").write_text('{"model_type": "siglip2"}')
    assert transformers_folder.Folder.read(tmp_path).config["vision_cfg"]["vit"]["image"] == [256, 256]
    (tmp_path / "config.json").write_text('{"model_type": "tipsv2"}')
    config = transformers_folder.Folder.read(tmp_path).config
    assert config["vision_cfg"]["vit"]["registers"] == 1 and config["init_logit_scale"] == pytest.approx(5.2853, abs=1e-3)


# the inner width of SigLIP SO400M: 4304 over 1152 is no exact number
def test_a_width_of_the_mlp_survives_its_ratio(tmp_path: Path):
    for inner in (4304, 43, 1, 10243):
        content = {"model_type": "siglip", "text_config": {"hidden_size": 1152, "intermediate_size": inner, "num_attention_heads": 16}}
        (tmp_path / "config.json").write_text(json.dumps(content | {"vision_config": {"hidden_size": 1152}}))
        text = transformers_folder.Folder.read(tmp_path).config["text_cfg"]
        assert int(text["width"] * text["mlp_ratio"]) == inner


PIXELS: dict[str, tuple[dict[str, Any], tuple[list[float], list[float], str]]] = {
    "usual": (
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 2, "rescale_factor": 0.00392156862745098},
        ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], "bilinear"),
    ),
    "one number": ({"image_mean": 0.5, "image_std": 0.25, "resample": 3}, ([0.5] * 3, [0.25] * 3, "bicubic")),
    "raw": ({"do_normalize": False, "image_mean": [9, 9, 9]}, ([0.0] * 3, [1.0] * 3, "bicubic")),
    # (255 x - 127.5) / 127.5 is (x - 0.5) / 0.5
    "not rescaled": ({"do_rescale": False, "image_mean": 127.5, "image_std": 127.5}, ([0.5] * 3, [0.5] * 3, "bicubic")),
    "rescaled to -1 … 1": ({"rescale_factor": 2 / 255, "image_mean": 1.0, "image_std": 1.0}, ([0.5] * 3, [0.5] * 3, "bicubic")),
    "crop": ({"size": {"shortest_edge": SIDE}, "crop_size": SIDE, "do_center_crop": True}, ([0.5] * 3, [0.5] * 3, "bicubic")),
    "squash": ({"size": {"height": SIDE, "width": SIDE}, "crop_size": None}, ([0.5] * 3, [0.5] * 3, "bicubic")),
}


@pytest.mark.parametrize("name", PIXELS)
def test_pixels(name: str, tmp_path: Path):
    fields, (mean, std, interpolation) = PIXELS[name]
    write(tmp_path, "siglip")
    for file in ("preprocessor_config.json", "processor_config.json"):
        preprocessor(tmp_path, file, **(fields if file.startswith("pre") else {"image_processor": fields, "processor_class": "X"}))
        spec = loading.load(str(tmp_path)).vit.spec
        assert (spec.mean, spec.std) == (pytest.approx(mean), pytest.approx(std)) and spec.interpolation == interpolation
        (tmp_path / file).unlink()


def test_clip_s_own_byte_pairs_are_recognised(tmp_path: Path):
    write(tmp_path, "clip")
    own = BytePairs()
    words = {{"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}.get(word, word): n for word, n in own.encoder.items()}
    folder = transformers_folder.Folder.read(tmp_path)
    assert folder.with_tokenizer()["text_cfg"]["hf_tokenizer_name"]
    for merges in (own.merges, [pair.split(" ") for pair in own.merges]):
        (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": words, "merges": merges}}))
        assert "hf_tokenizer_name" not in folder.with_tokenizer()["text_cfg"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *own.merges, ""]), encoding="utf-8")
    assert "hf_tokenizer_name" not in folder.with_tokenizer()["text_cfg"]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *own.merges[:-1], ""]), encoding="utf-8")
    assert folder.with_tokenizer()["text_cfg"]["hf_tokenizer_name"]


@pytest.mark.parametrize(
    ("name", "kind", "clean"),
    [
        ("siglip", "SiglipTokenizer", "canonicalize"), ("siglip", "GemmaTokenizerFast", "lower"), ("siglip2", "Siglip2Tokenizer", "lower"),
        ("tipsv2", None, "lower"), ("metaclip_2", "XLMRobertaTokenizer", "whitespace"),
    ],
)  # fmt: skip
def test_how_a_class_cleans_texts(name: str, kind: str | None, clean: str, tmp_path: Path):
    write(tmp_path, name)
    if kind is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, "pad_token": "<pad>", "bos_token": "<start>"}))
    assert loading.load(str(tmp_path)).text.tokenizer.kind == clean


def test_a_localizer_of_a_folder(tmp_path: Path):
    import fastloc

    localizer = fastloc.load(write(tmp_path, "tipsv2"), method="itsm", template="{}")
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    heatmaps = localizer(image, ["w7 w9", "w30"]).heatmaps
    assert heatmaps.shape == (2, 40, 56) and np.isfinite(heatmaps).all() and heatmaps.max() > heatmaps.min()


ALONE = """
import sys
from fastloc.checkpoints.loading import load
load(sys.argv[1])
assert not {"transformers", "open_clip", "timm"} & set(sys.modules)
"""


@pytest.mark.slow("a process of its own")
def test_neither_transformers_nor_open_clip_nor_timm_is_imported(tmp_path: Path):
    done = subprocess.run([sys.executable, "-P", "-c", ALONE, write(tmp_path, "siglip")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_folder_with_both_configurations_is_read_by_open_clip_s(tmp_path: Path):
    write(tmp_path, "clip")
    for name, copied in ((description.CONFIG, description.CONFIG), ("model.safetensors", "open_clip_model.safetensors")):
        (tmp_path / copied).write_bytes((embedded.FOLDER / name).read_bytes())
    source, expected = loading.load(str(tmp_path)), loading.load()
    assert source.spec == expected.spec and source.text.digest == expected.text.digest
