"""ConvNeXt, the image towers of LAION's convolutional CLIPs: equal to timm's modules, and no larger in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from torch import Tensor

import peaks
from fastloc.checkpoints.hierarchical import convnext as layout
from fastloc.checkpoints.hierarchical import tree
from fastloc.checkpoints.hierarchical.take import Take
from fastloc.errors import ModelError
from fastloc.functional.hierarchical import convnext
from fastloc.functional.hierarchical.stages import last
from towers import error

CONFIGS = {name: open_clip.get_model_config(name) or {} for name in open_clip.list_models() if name.startswith("convnext_")}
NAMES = sorted({each["vision_cfg"]["timm_model_name"] for each in CONFIGS.values()})
# few blocks of few channels: every stage has another number of both
DEPTHS, DIMS = (1, 2, 3, 1), (8, 12, 16, 20)


def module(name: str, **sizes: Any) -> Any:
    """timm's own, without classifier, with norms, biases and scales of branches that are not 1, 0 and 1e-6."""
    torch.manual_seed(0)
    made = timm.create_model(name, num_classes=0, **sizes).eval().requires_grad_(False)
    for each, tensor in made.named_parameters():
        if tensor.ndim == 1:
            tensor.copy_(torch.randn(tensor.shape) * 0.2 + (0 if each.endswith("bias") else 1))
        else:
            tensor.copy_(torch.randn(tensor.shape) * tensor[0].numel() ** -0.5)
    return made


def architecture(name: str) -> layout.Arch:
    found = layout.architecture(name)
    assert found is not None
    return found


def trunk_of(made: Any, arch: layout.Arch) -> layout.Trunk:
    take = Take(made.state_dict())
    found = layout.trunk(arch, take)
    assert take.left() == ["head.norm.bias", "head.norm.weight"], "nothing of the trunk is left behind"
    return found


def narrow(name: str) -> tuple[Any, layout.Trunk]:
    """(timm's module, the trunk of it) in float64, with the eps of this size."""
    made = module(name, depths=DEPTHS, dims=DIMS).double()
    return made, trunk_of(made, layout.Arch(DEPTHS, DIMS, architecture(name).norm_eps))


def pixels(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_open_clip_has_eleven_of_six_sizes() -> None:
    assert len(CONFIGS) == 11
    assert [f"convnext_{size}" for size in ("base", "large", "small", "tiny", "xlarge", "xxlarge")] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_taken_with_its_shape(name: str) -> None:
    arch = architecture(name)
    with torch.device("meta"):
        own: Any = timm.create_model(name, num_classes=0)
    found = trunk_of(own, arch)
    held = sum(tensor.numel() for _, tensor in tree.named_tensors(found))
    assert held == sum(each.numel() for each in own.parameters()) - sum(each.numel() for each in own.head.parameters())
    assert (arch.channels, arch.stages, arch.stride) == (own.num_features, len(own.stages), own.feature_info[-1]["reduction"])
    assert {own.stages[0].blocks[0].norm.eps, own.stem[1].eps, own.stages[1].downsample[0].eps, own.head.norm.eps} == {arch.norm_eps}


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 160), (32, 32)])
@pytest.mark.parametrize("name", NAMES)
def test_every_map_and_the_embedding_are_timm_s(name: str, height: int, width: int) -> None:
    own, trunk = narrow(name)
    x = pixels(height, width).double()
    found = list(convnext.maps(trunk, x))
    y = own.stem(x)
    for i, stage in enumerate(own.stages):
        y = stage(y)
        assert found[i].shape == y.shape == (2, DIMS[i], height // 4 // 2**i, width // 4 // 2**i)
        assert error(found[i], y) < 1e-12, f"stage {i}"
    assert len(found) == len(own.stages)
    norm = own.head.norm
    embedding = torch.nn.functional.layer_norm(found[-1].mean((2, 3)), (DIMS[-1],), norm.weight, norm.bias, norm.eps)
    assert error(embedding, own(x)) < 1e-12
    assert torch.equal(last(convnext.maps(trunk, x)), found[-1])


@pytest.mark.slow("the modules at their full size", quick=1)
@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_small", "convnext_base"])
def test_full_sizes_in_float32(name: str) -> None:
    own = module(name)
    x = pixels(96, 64, batch=1)
    assert error(last(convnext.maps(trunk_of(own, architecture(name)), x)), own.forward_features(x)) < 1e-5


def test_gradients_are_autograd_s_of_timm_s_module() -> None:
    own, trunk = narrow("convnext_base")
    gradients = []
    for forward in (own.forward_features, lambda x: last(convnext.maps(trunk, x))):
        x = pixels(64, 96).double().requires_grad_()
        gradients.append(torch.autograd.grad(forward(x).square().sum(), x)[0])
    assert float(gradients[0].abs().max()) > 0 and error(gradients[1], gradients[0]) < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_map_has_the_trunk_s_dtype(dtype: torch.dtype) -> None:
    _, trunk = narrow("convnext_tiny")
    smaller = tree.mapped(trunk, Tensor, lambda each: each.to(dtype))
    maps, exact = list(convnext.maps(smaller, pixels(64, 64).to(dtype))), list(convnext.maps(trunk, pixels(64, 64).double()))
    for found, expected in zip(maps, exact, strict=True):
        assert found.dtype == dtype
        assert error(found.double(), expected) < (1e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("name", ["convnextv2_tiny", "convnext_nano", "convnext_large_mlp", "convnext_", "convnext", "vit_base"])
def test_names_of_other_architectures(name: str) -> None:
    assert layout.architecture(name) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("stages.2.blocks.1.gamma"), r"weights must hold 'stages.2.blocks.1.gamma' of shape \(16,\), got none"),
        (
            lambda state: state.update({"stem.0.weight": torch.zeros(8, 3, 2, 2)}),
            r"'stem.0.weight' must have shape \(8, 3, 4, 4\), got \(8, 3, 2, 2\)",
        ),
    ],
)
def test_weights_of_another_architecture(change: Callable[[dict[str, Tensor]], object], message: str) -> None:
    own, _ = narrow("convnext_tiny")
    state = dict(own.state_dict())
    change(state)
    with pytest.raises(ModelError, match=message):
        layout.trunk(layout.Arch(DEPTHS, DIMS), Take(state))


@pytest.mark.slow("two passes of a module at its full size, under the profiler")
@pytest.mark.parametrize("batch", [1, 3])
def test_a_pass_takes_no_more_memory_than_timm_s(batch: int, tmp_path: Path) -> None:
    own = module("convnext_tiny")
    trunk, x = trunk_of(own, architecture("convnext_tiny")), pixels(256, 256, batch)
    allowed = 1.2 * peak(own.forward_features, x, tmp_path)
    assert peak(lambda x: last(convnext.maps(trunk, x)), x, tmp_path) <= allowed
    # all maps together: 2 - 1/8 times the first one
    assert peak(lambda x: list(convnext.maps(trunk, x)), x, tmp_path) <= allowed


def peak(forward: Callable[[Tensor], object], x: Tensor, folder: Path) -> int:
    """The most bytes that a pass without gradients allocates at one time."""
    most = peaks.peak(lambda: forward(x), folder)
    first_map = 4 * x.shape[0] * 96 * (x.shape[2] // 4) * (x.shape[3] // 4)
    assert most > 4 * first_map, "an MLP's inner layer alone is that large, so the profiler missed it"
    return most
