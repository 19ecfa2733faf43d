"""A whole model of SigLIP's kind: attention pool, sigmoid, a tokenizer of its own; in the engine, in files, and in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import families
from browser import NO_GPU, PACKAGE, Page, chromium, needed, served
from fastloc import Localizer, OnnxLocalizer
from fastloc.checkpoints.loading import Source
from fastloc.checkpoints.text.tokenizer_folder import FolderTokenizer
from fastloc.checkpoints.text_encoder import TextEncoder
from fastloc.checkpoints.text_loading import text_tower
from fastloc.checkpoints.text_tower import TextTower
from fastloc.export.options import Options
from fastloc.export.text.export import export_text
from fastloc.export.to_onnx import export
from tokenizer_families import make

TEXTS = ["a red car", "two cats", "Blue_boats!"]
SIZE = (32, 32)
BIAS = -3.5


@pytest.fixture(scope="module")
def localizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Localizer]:
    tokenizer = FolderTokenizer(make("siglip2", tmp_path_factory.mktemp("tokenizer")), 40, clean="canonicalize")
    text = {
        "context_length": 40, "vocab_size": 700, "width": 32, "heads": 2, "layers": 1, "no_causal_mask": True, "pool_type": "last",
        "proj_bias": True, "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
    }  # fmt: skip
    config = {"embed_dim": 32, "vision_cfg": {}, "custom_text": True, "init_logit_bias": -10, "text_cfg": text}
    numbers = torch.Generator().manual_seed(0)
    state = {f"text.{name}": torch.randn(each.shape, generator=numbers) * 0.4 for name, each in TextTower(config).state_dict().items()}
    encoder = TextEncoder(text_tower(config, state), tokenizer)
    source = Source("siglip-tiny", families.tower("siglip", torch.float32), encoder, logit_bias=BIAS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastloc.checkpoints.loading.load", lambda *_, **__: source)
        yield Localizer("siglip-tiny", size=SIZE, method="itsm", device="cpu", dtype="float32")


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.mark.slow("two exports")
def test_files_are_the_engine(localizer: Localizer, tmp_path: Path) -> None:
    expected = localizer(picture(), TEXTS)
    assert expected.scores is not None and expected.image_scores is not None
    np.testing.assert_allclose(expected.scores, 1 / (1 + np.exp(-(localizer.logit_scale * expected.image_scores + BIAS))), rtol=1e-4)
    export(localizer, tmp_path / "tiny.onnx", Options(size=SIZE, outputs=("similarity", "scores", "background")))
    export_text(localizer.source, tmp_path / "tiny.text.onnx")
    found = OnnxLocalizer(tmp_path / "tiny.onnx")(picture(), TEXTS)
    np.testing.assert_allclose(found.similarity, expected.similarity, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-3)
    # texts differ
    assert np.abs(expected.similarity[0] - expected.similarity[1]).max() > 1e-2


@pytest.mark.slow("a real browser")
def test_the_page_of_a_model_with_another_tokenizer(localizer: Localizer, tmp_path: Path) -> None:
    """Its texts are encoded when it is written, so whatever splits them stays at home."""
    needed()
    from fastloc.export.web_site import write_site

    # a name is parted from others at commas alone
    names = ["a red car", "two cats", "猫", "noir dort", "Blue_boats!"]
    write_site(localizer, tmp_path / "site", ort=PACKAGE, texts=names)
    with served(tmp_path / "site") as url, chromium(tmp_path / "profile", *NO_GPU) as driver:
        page = Page(driver, url)
        assert page.open() == "ready", page.text("error")
        height, width = page.evaluate("(await window.fastloc.ready).frame")
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        found = page.locate(pixels, names)
    engine, _ = localizer.similarity(torch.from_numpy(pixels)[None], names)
    assert np.abs(found - engine[0].numpy()).max() <= 1e-3
