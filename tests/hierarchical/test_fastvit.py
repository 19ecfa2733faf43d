"""FastViT-MCI against timm's own module: tensors of every size, stages in float64, and branches merged."""

import copy
from typing import Any

import pytest
import torch

from fastloc.checkpoints.hierarchical import fastvit as layout
from fastloc.checkpoints.hierarchical import fastvit_folding
from fastloc.checkpoints.hierarchical.parts import BatchNorm
from fastloc.checkpoints.hierarchical.take import Take
from fastloc.checkpoints.hierarchical.tree import mapped, named_tensors
from fastloc.errors import ModelError
from fastloc.functional.hierarchical import fastvit
from randomised import randomised

timm = pytest.importorskip("timm")

# of two kinds, as small as their parts allow: BatchNorm, squeeze-excite and a stem of three branches; LayerNorm and two attention stages
ARCHS = {
    "0": layout.Arch((1, 2, 1, 2), (32, 32, 64, 128)),
    "3": layout.Arch((1, 1, 1, 2, 1), (32, 32, 64, 64, 128), 2, 4, (), True, False),
}


def built(size: str) -> torch.nn.Module:
    """timm's module of a narrow FastViT-MCI in float64."""
    arch = ARCHS[size]
    more: dict[str, Any] = {"se_downsamples": tuple(i in arch.squeeze for i in range(len(arch.depths)))}
    return randomised(timm.create_model(f"fastvit_mci{size}", num_classes=8, layers=arch.depths, embed_dims=arch.widths, **more).double())


def read(module: torch.nn.Module, arch: layout.Arch) -> layout.Trunk:
    take = Take(module.state_dict())
    trunk = layout.trunk(arch, take)
    assert [each for each in take.left() if not each.endswith("num_batches_tracked")] == ["head.fc.bias", "head.fc.weight"]
    return trunk


@pytest.mark.parametrize("size", range(5))
def test_every_tensor_of_every_size_is_read(size: int) -> None:
    arch = layout.architecture(f"fastvit_mci{size}")
    assert arch is not None
    with torch.device("meta"):
        module = timm.create_model(f"fastvit_mci{size}", num_classes=64)
    tensors = [tensor for name, tensor in named_tensors(read(module, arch)) if not name.endswith((".mean", ".variance"))]
    head = 64 * (arch.channels + 1)
    assert sum(each.numel() for each in tensors) + head == sum(each.numel() for each in module.parameters())
    assert module.num_features == arch.channels and module.feature_info[-1]["reduction"] == arch.stride


@pytest.mark.parametrize("pixels", [(64, 64), (96, 160), (75, 90)])
@pytest.mark.parametrize("size", ARCHS)
def test_stages_equal_the_module_s(size: str, pixels: tuple[int, int]) -> None:
    module, x = built(size), torch.randn(2, 3, *pixels, dtype=torch.float64)
    trunk = read(module, ARCHS[size])
    with torch.no_grad():
        final, theirs = module.forward_intermediates(x)
    for one in (trunk, fastvit_folding.folded(trunk)):
        for ours, other in zip(fastvit.stages(one, x), [*theirs, final], strict=True):
            torch.testing.assert_close(ours, other, rtol=0, atol=1e-10)
        torch.testing.assert_close(fastvit.last(one, x), final, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", ARCHS)
def test_one_convolution_is_left_of_every_sum(size: str) -> None:
    folded = fastvit_folding.folded(read(built(size), ARCHS[size]))
    assert not [name for name, _ in named_tensors(folded) if "gamma" in name or ".convs.1" in name or "identity" in name]
    left: list[BatchNorm] = []

    def seen(norm: BatchNorm) -> BatchNorm:
        left.append(norm)
        return norm

    mapped(folded, BatchNorm, seen)
    assert not left
    twice = fastvit_folding.folded(folded)
    for (name, one), (_, other) in zip(named_tensors(folded), named_tensors(twice), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("size", ARCHS)
def test_files_with_merged_branches_are_read(size: str) -> None:
    module, x = built(size), torch.randn(1, 3, 64, 96, dtype=torch.float64)
    merged = timm.utils.reparameterize_model(copy.deepcopy(module))
    with torch.no_grad():
        expected = module.forward_features(x)
    trunk = read(merged, ARCHS[size])
    torch.testing.assert_close(fastvit.last(trunk, x), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(fastvit.last(fastvit_folding.folded(trunk), x), expected, rtol=0, atol=1e-10)


def test_another_model_s_tensors_are_refused() -> None:
    with torch.device("meta"):
        state = timm.create_model("fastvit_mci0", num_classes=8).state_dict()
    other, own = layout.architecture("fastvit_mci2"), layout.architecture("fastvit_mci0")
    assert other is not None and own is not None
    with pytest.raises(ModelError, match=r"'stem.0.conv_kxk.0.conv.weight' must have shape \(80, 3, 3, 3\), got \(64, 3, 3, 3\)"):
        layout.trunk(other, Take(state))
    del state["stages.3.blocks.0.token_mixer.proj.bias"]
    with pytest.raises(ModelError, match=r"must hold 'stages.3.blocks.0.token_mixer.proj.bias' of shape \(512,\), got none"):
        layout.trunk(own, Take(state))


def test_names_of_other_towers() -> None:
    assert layout.architecture("fastvit_t8") is None and layout.architecture("fastvit_mci9") is None
