"""The arithmetic of towers that end in a map is that of the modules, and a size that takes minutes is announced."""

import warnings
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import _build_vision_tower
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fastloc.checkpoints import resnet_spec
from fastloc.checkpoints.hierarchical import spec
from fastloc.checkpoints.hierarchical.families import FAMILIES
from fastloc.checkpoints.hierarchical.take import Take
from fastloc.checkpoints.sources.description import spec_of
from fastloc.engine import cost
from fastloc.errors import FastlocWarning
from fastloc.functional.hierarchical.stages import MAPS, last


class Blank(Take):
    """Gives tensors without numbers."""

    def __init__(self) -> None:
        super().__init__({})

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, device="meta")


def specification(name: str) -> Any:
    config = open_clip.get_model_config(name)
    assert config is not None
    return spec_of(config, {})


@pytest.mark.slow("counts every operation of wide towers", quick=1)
@pytest.mark.parametrize(
    "name", ["convnext_base_w", "convnext_large_d", "MobileCLIP-S1", "MobileCLIP2-S3", "swin_base_patch4_window7_224", "MobileCLIP2-S0"]
)
def test_operations_are_counted(name: str) -> None:
    found = specification(name)
    assert isinstance(found, spec.HierarchicalSpec)
    family = FAMILIES[found.family]
    trunk = family.folded(family.trunk(found.arch, Blank()))
    side = found.image[0]
    for size in ((side, side), (2 * side, side)):
        with FlopCounterMode(display=False) as counter:
            x = last(MAPS[found.family](trunk, torch.zeros(1, 3, *size, device="meta")))
        head = 2.0 * x.shape[2] * x.shape[3] * found.channels * found.embed
        assert cost.operations(found, size) - head == pytest.approx(counter.get_total_flops(), rel=2e-3)


@pytest.mark.parametrize("name", ["RN50", "RN50x4"])
def test_operations_of_a_resnet(name: str) -> None:
    config, found = open_clip.get_model_config(name), specification(name)
    assert config is not None and isinstance(found, resnet_spec.ResNetSpec)
    with torch.device("meta"):
        visual = _build_vision_tower(config["embed_dim"], dict(config["vision_cfg"])).eval()
        with FlopCounterMode(display=False) as counter:
            x = visual.stem(torch.zeros(1, 3, *found.image))
            for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
                x = stage(x)
    # of the pool, keys and values: open_clip's asks for every position, and keeps one
    pool = 2.0 * x.shape[2] * x.shape[3] * 2 * found.channels**2
    assert cost.operations(found, found.image) - pool == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_published_numbers() -> None:
    # ConvNeXt-B (Liu et al., CVPR 2022, table 1) and Swin-B (Liu et al., ICCV 2021, table 1): 15.4 G multiply-adds at 224
    for name in ("convnext_base", "swin_base_patch4_window7_224"):
        assert cost.operations(specification(name), (224, 224)) / 2e9 == pytest.approx(15.4, rel=0.02)


@pytest.mark.parametrize(("name", "side"), [("convnext_xxlarge", 2048), ("MobileCLIP2-S4", 4096), ("RN50x64", 2048)])
def test_a_costly_input_is_announced(name: str, side: int) -> None:
    found = specification(name)
    with pytest.warns(FastlocWarning, match=rf"an input of {side} x {side} takes about \d+ TFLOP a picture, which is minutes on a CPU"):
        cost.announce(found, (side, side))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cost.announce(found, found.image)
