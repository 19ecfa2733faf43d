"""One name, one localizer: which class a model's name means, and what each refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fastloc
from fastloc import auto
from fastloc.embedded import FOLDER, GEM_ONNX, SAMPLES

MARKET = SAMPLES / "market.webp"


@pytest.mark.parametrize(
    ("model", "kind"),
    [("embedded", auto.CLIP), ("ViT-B-16", auto.CLIP), ("hf-hub:a/b", auto.CLIP), (FOLDER, auto.CLIP), ("x.onnx", auto.EXPORTED),
     (GEM_ONNX, auto.EXPORTED), ("torchvision:resnet18", auto.CLASSIFIER), ("timm:resnet18", auto.CLASSIFIER),
     (torch.nn.Identity(), auto.CLASSIFIER)], ids=str,
)  # fmt: skip
def test_the_kind_of_a_model(model: object, kind: str) -> None:
    assert auto.kind_of(model) == kind


def test_the_embedded_model_by_name_and_by_folder() -> None:
    by_name = fastloc.load(method="clip_surgery", size=48)
    assert isinstance(by_name, fastloc.Localizer) and by_name.method == "clip_surgery"
    by_folder = fastloc.load(FOLDER, method="clip_surgery", size=48)
    np.testing.assert_array_equal(by_name(MARKET, ["cat"]).similarity, by_folder(MARKET, ["cat"]).similarity)


def test_an_exported_file() -> None:
    localizer = fastloc.load(GEM_ONNX, providers="cpu")
    assert isinstance(localizer, fastloc.OnnxLocalizer)
    np.testing.assert_array_equal(
        localizer(MARKET, ["cat"]).similarity, fastloc.OnnxLocalizer(GEM_ONNX, providers="cpu")(MARKET, ["cat"]).similarity
    )


def test_a_module_is_a_classifier() -> None:
    layers = (torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    localizer = fastloc.load(torch.nn.Sequential(*layers), size=32, categories=["cat", "dog"])
    assert isinstance(localizer, fastloc.CnnLocalizer) and localizer(MARKET, "dog").texts == ("dog",)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (GEM_ONNX, {"method": "gem"}, r"option 'method' cannot be given with .*gem.onnx: the file decides that: export another"),
        (GEM_ONNX, {"pretrained": "openai"}, r"option 'pretrained' cannot be given with .*gem.onnx"),
        ("timm:resnet18", {"template": "gem"}, "option 'template' cannot be given with timm:resnet18: it is a classifier"),
        (torch.nn.Identity(), {"template": "gem"}, "option 'template' cannot be given with Identity: it is a classifier"),
    ],
    ids=str,
)
def test_an_option_of_another_class(model: object, options: dict[str, str], message: str) -> None:
    with pytest.raises(fastloc.FastlocError, match=message):
        fastloc.load(model, **options)


def test_without_torch_the_embedded_model_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "find_spec", lambda name: None)
    with pytest.warns(fastloc.FastlocWarning, match="without torch the embedded model runs in onnxruntime"):
        assert isinstance(fastloc.load(method="gem"), fastloc.OnnxLocalizer)
    with pytest.raises(fastloc.FastlocError, match="method 'sclip' needs torch: pip install"):
        fastloc.load(method="sclip")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(fastloc.FastlocError, match=r"nowhere\.onnx"):
        fastloc.load(Path("nowhere.onnx"))
