"""Swin's stages: timm's own numbers, at the trained size and at others."""

from typing import Any

import pytest
import timm
import torch
from open_clip.model import _build_vision_tower
from torch import Tensor

from fastloc.checkpoints.hierarchical import swin
from fastloc.checkpoints.hierarchical.take import Take
from fastloc.checkpoints.hierarchical.tree import mapped, named_tensors
from fastloc.errors import ModelError
from fastloc.functional.hierarchical.stages import last
from fastloc.functional.hierarchical.swin import maps as maps_of
from towers import error

EXACT = 1e-10
NAME = "swin_base_patch4_window7_224"


def timms(name: str, **options: Any) -> Any:
    """timm's module in float64, with weights that leave no part without effect."""
    module = timm.create_model(name, num_classes=0, **options).double().eval()
    numbers = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            spread = 0.3 if parameter.ndim == 1 else 1.0 if "table" in key else parameter[0].numel() ** -0.5
            middle = 1.0 if parameter.ndim == 1 and key.endswith("weight") else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=numbers, dtype=torch.float64) * spread + middle)
    return module


def pixels(height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def read(module: Any, arch: swin.Arch) -> tuple[swin.Trunk, Take]:
    take = Take(module.state_dict())
    return swin.trunk(arch, take), take


def narrow(**options: Any) -> tuple[Any, swin.Arch]:
    """A small tower of timm's class with every kind of stage."""
    arch = swin.Arch((2, 2, 3, 2), (16, 32, 64, 128), (1, 2, 4, 8))
    made = timms(NAME, embed_dim=16, depths=arch.depths, num_heads=arch.heads, **options)
    return made, arch


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", NAME, "swin_large_patch4_window12_384"])
def test_every_tensor_is_read(name: str) -> None:
    with torch.device("meta"):
        module = timm.create_model(name, num_classes=0)
    arch = swin.architecture(name)
    assert arch is not None
    found, take = read(module, arch)
    # the last norm is the head's
    assert take.left() == ["norm.bias", "norm.weight"]
    norm = 2 * arch.channels
    assert sum(tensor.numel() for _, tensor in named_tensors(found)) == sum(each.numel() for each in module.parameters()) - norm
    assert (arch.channels, arch.stride, arch.stages) == (module.num_features, 32, 4)


def test_names_of_other_architectures() -> None:
    assert swin.architecture(NAME) == swin.Arch((2, 2, 18, 2), (128, 256, 512, 1024), (4, 8, 16, 32))
    for other in ("swinv2_base_window8_256", "swin_base_patch4_window7_384", "swin_huge_patch4_window7_224", "convnext_base"):
        assert swin.architecture(other) is None


@pytest.mark.parametrize("size", [(224, 224), (64, 96), (224, 256), (320, 192), (32, 32)])
def test_stages_are_timms(size: tuple[int, int]) -> None:
    module, arch = narrow(**({} if size == (224, 224) else {"dynamic_img_size": True}))
    found, _ = read(module, arch)
    given = pixels(*size)
    with torch.no_grad():
        expected = module.forward_intermediates(given, intermediates_only=True)
    for each in (found, swin.folded(found)):
        maps = list(maps_of(each, given))
        assert [one.shape for one in maps] == [one.shape for one in expected]
        assert max(error(one, other) for one, other in zip(maps, expected, strict=True)) < EXACT
        assert torch.equal(last(maps_of(each, given)), maps[-1])


def test_open_clips_tower() -> None:
    vision = {"timm_model_name": NAME, "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    torch.manual_seed(0)
    visual: Any = _build_vision_tower(640, vision).eval()
    with torch.no_grad():
        for key, parameter in visual.named_parameters():
            if parameter.ndim == 1 or "table" in key:
                parameter.add_(torch.randn(parameter.shape) * 0.3)
    arch = swin.architecture(NAME)
    assert arch is not None
    take = Take(visual.state_dict(), "trunk.")
    found = swin.folded(swin.trunk(arch, take))
    given = pixels(224, 224).float()
    with torch.no_grad():
        x = last(maps_of(found, given)).permute(0, 2, 3, 1)
        norm = take("norm.weight", (1024,)), take("norm.bias", (1024,))
        mean = torch.nn.functional.layer_norm(x, (1024,), *norm, swin.NORM_EPS).mean((1, 2))
        assert error(mean @ visual.head.proj.weight.T, visual(given)) < 1e-5


def test_gradients_and_other_dtypes() -> None:
    module, arch = narrow()
    found, _ = read(module, arch)
    given = pixels(64, 64).requires_grad_()
    (gradient,) = torch.autograd.grad(last(maps_of(found, given)).square().sum(), given)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    maps = list(maps_of(found, given))
    assert all(each.abs().max() > 0 for each in torch.autograd.grad(maps[-1].sum(), maps))
    half = mapped(swin.folded(found), Tensor, lambda tensor: tensor.bfloat16())
    assert error(last(maps_of(half, given.detach().bfloat16())), last(maps_of(found, given.detach()))) < 0.1


def test_a_tower_of_another_size() -> None:
    module, arch = narrow()
    wider = swin.Arch(arch.depths, arch.dims, (2, 4, 8, 16))
    expected = r"'layers.0.blocks.0.attn.relative_position_bias_table' must have shape \(169, 2\), got \(169, 1\)"
    with pytest.raises(ModelError, match=expected):
        read(module, wider)
