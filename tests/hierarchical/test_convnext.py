"""ConvNeXt against timm's own module: every configuration of open_clip's list, by names, shapes and numbers."""

import pytest
import torch

from fastloc.checkpoints.hierarchical import convnext as layout
from fastloc.checkpoints.hierarchical.take import Take
from fastloc.checkpoints.hierarchical.tree import named_tensors
from fastloc.errors import ModelError
from fastloc.functional.hierarchical import convnext
from randomised import randomised

timm = pytest.importorskip("timm")

NAMES = ("tiny", "small", "base", "large", "xlarge", "xxlarge")


def read(module: torch.nn.Module, arch: layout.Arch) -> layout.Trunk:
    take = Take(module.state_dict())
    trunk = layout.trunk(arch, take)
    assert take.left() == ["head.norm.bias", "head.norm.weight"]
    return trunk


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_of_every_size_is_read(name: str) -> None:
    arch = layout.architecture(f"convnext_{name}")
    assert arch is not None
    with torch.device("meta"):
        module = timm.create_model(f"convnext_{name}", num_classes=0)
    trunk = read(module, arch)
    own = sum(tensor.numel() for _, tensor in named_tensors(trunk))
    assert own + 2 * arch.channels == sum(each.numel() for each in module.parameters())
    norms = {each.eps for each in module.modules() if isinstance(each, torch.nn.LayerNorm)}
    assert norms == {arch.norm_eps} and module.num_features == arch.channels
    assert module.feature_info[-1]["reduction"] == arch.stride


@pytest.mark.parametrize("eps", [1e-6, 1e-5])
@pytest.mark.parametrize("size", [(64, 64), (96, 160), (75, 90)])
def test_stages_equal_the_module_s(size: tuple[int, int], eps: float) -> None:
    arch = layout.Arch((2, 1, 3, 1), (8, 12, 20, 24), eps)
    module = randomised(timm.models.convnext.ConvNeXt(depths=arch.depths, dims=arch.dims, norm_eps=eps, num_classes=0).double())
    pixels = torch.randn(2, 3, *size, dtype=torch.float64)
    _, theirs = module.forward_intermediates(pixels)
    ours = convnext.stages(read(module, arch), pixels)
    assert len(ours) == len(theirs) == 4
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    torch.testing.assert_close(convnext.last(read(module, arch), pixels), theirs[-1], rtol=0, atol=1e-10)


def test_another_model_s_tensors_are_refused() -> None:
    arch = layout.architecture("convnext_base")
    assert arch is not None
    with torch.device("meta"):
        state = timm.create_model("convnext_tiny", num_classes=0).state_dict()
    with pytest.raises(ModelError, match=r"'stem.0.weight' must have shape \(128, 3, 4, 4\), got \(96, 3, 4, 4\)"):
        layout.trunk(arch, Take(state))
    del state["stages.0.blocks.0.gamma"]
    tiny = layout.architecture("convnext_tiny")
    assert tiny is not None
    with pytest.raises(ModelError, match=r"must hold 'stages.0.blocks.0.gamma' of shape \(96,\), got none"):
        layout.trunk(tiny, Take(state))


def test_names_of_other_towers() -> None:
    assert layout.architecture("convnextv2_base") is None and layout.architecture("convnext_base_mystery") is None
