"""FastViT, the image towers of MobileCLIP S: equal to timm's modules in branches, folded, and from files that are folded already."""

from collections.abc import Mapping
from typing import Any

import pytest
import timm
import torch
from timm.utils.model import reparameterize_model
from torch import Tensor

from fastloc.checkpoints.hierarchical import fastvit as layout
from fastloc.checkpoints.hierarchical import fastvit_folding, tree
from fastloc.checkpoints.hierarchical.parts import Conv
from fastloc.checkpoints.hierarchical.take import Take
from fastloc.errors import ModelError
from fastloc.functional.hierarchical import fastvit
from fastloc.functional.hierarchical.stages import last
from towers import error

# few blocks of few channels, of every kind of part: squeeze-and-excitation between BatchNorms, and LayerNorms with two stages of attention
NARROW: dict[str, tuple[str, layout.Arch]] = {
    "small": ("fastvit_mci0", layout.Arch((1, 1, 2, 2), (32, 64, 128, 256), 3, 1, (2, 3), layer_norm=False, stem_scales=True)),
    "large": ("fastvit_mci3", layout.Arch((1, 1, 1, 1, 2), (32, 32, 64, 128, 128), 4, 2, (), layer_norm=True, stem_scales=False)),
}


def module(kind: str) -> Any:
    """timm's own in float64, with weights that leave no part without effect."""
    name, arch = NARROW[kind]
    torch.manual_seed(0)
    made = timm.create_model(name, layers=arch.depths, embed_dims=arch.dims, num_classes=16).eval().double().requires_grad_(False)
    for each, tensor in [*made.named_parameters(), *made.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        if tensor.ndim == 1 or "gamma" in each:
            tensor.copy_(torch.randn(tensor.shape) * 0.2 + (0 if each.endswith(("bias", "mean")) else 1)).abs_()
            if each.endswith(("bias", "mean")):
                tensor.sub_(0.2)
        else:
            tensor.copy_(torch.randn(tensor.shape) * tensor[0].numel() ** -0.5)
    return made


def trunk_of(state: Mapping[str, Tensor], kind: str) -> layout.Trunk:
    take = Take(state)
    found = layout.trunk(NARROW[kind][1], take)
    left = [name for name in take.left() if not name.endswith("num_batches_tracked") and not name.startswith("head.")]
    assert not left, f"nothing of the trunk is left behind: {left}"
    return found


def pixels(kind: str, height: int = 2, width: int = 3) -> Tensor:
    stride = NARROW[kind][1].stride
    return torch.randn(2, 3, height * stride, width * stride, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("kind", NARROW)
def test_every_map_is_timm_s(kind: str) -> None:
    own, x = module(kind), pixels(kind)
    found = list(fastvit.maps(trunk_of(own.state_dict(), kind), x))
    y = own.stem(x)
    for i, stage in enumerate(own.stages):
        y = stage(y)
        assert error(found[i], y) < 1e-10, f"stage {i}"
    assert error(found[-1], own.final_conv(y)) < 1e-10
    assert len(found) == NARROW[kind][1].stages and found[-1].shape[1] == NARROW[kind][1].channels
    assert torch.equal(last(fastvit.maps(trunk_of(own.state_dict(), kind), x)), found[-1])


@pytest.mark.parametrize("kind", NARROW)
def test_folding_changes_nothing(kind: str) -> None:
    plain = trunk_of(module(kind).state_dict(), kind)
    merged = fastvit_folding.folded(plain)
    for one, other in zip(fastvit.maps(merged, pixels(kind)), fastvit.maps(plain, pixels(kind)), strict=True):
        assert error(one, other) < 1e-10
    names = dict(tree.named_tensors(merged))
    assert len(names) < len(dict(tree.named_tensors(plain))) / 2 and not any("variance" in name for name in names)
    assert isinstance(merged.final.conv, Conv) and merged.final.conv.norm is None
    # once more changes nothing
    assert error(last(fastvit.maps(fastvit_folding.folded(merged), pixels(kind))), last(fastvit.maps(merged, pixels(kind)))) < 1e-12


@pytest.mark.parametrize("kind", NARROW)
def test_files_that_are_folded_already(kind: str) -> None:
    own, x = module(kind), pixels(kind)
    with torch.no_grad():
        expected = own.forward_features(x)
        merged = reparameterize_model(own)
    state = merged.state_dict()
    assert any("reparam_conv" in name for name in state)
    found = trunk_of({name: tensor.double() for name, tensor in state.items()}, kind)
    assert error(last(fastvit.maps(found, x)), expected) < 1e-5
    assert error(last(fastvit.maps(fastvit_folding.folded(found), x)), last(fastvit.maps(found, x))) < 1e-10


def test_a_file_of_another_size() -> None:
    state = module("small").state_dict()
    with pytest.raises(ModelError, match=r"'stem.0.conv_kxk.0.conv.weight' must have shape \(64, 3, 3, 3\), got \(32, 3, 3, 3\)"):
        layout.trunk(layout.architecture("fastvit_mci0"), Take(state))  # type: ignore[arg-type]  # it is one
    assert layout.architecture("fastvit_t8") is None and layout.architecture("convnext_tiny") is None
