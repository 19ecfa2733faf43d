"""ViTamin: a plain ViT behind a stem of overlapping convolutions. `tests/checkpoints/test_every_configuration.py` compares it with timm."""

from dataclasses import replace
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.model import _build_vision_tower
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import families
from fastloc import Localizer
from fastloc.checkpoints import vit_layouts, vit_spec
from fastloc.checkpoints.vit_weights import named_tensors
from fastloc.engine.cost import operations
from fastloc.engine.frame_patches import patches_of
from fastloc.errors import ModelError
from fastloc.functional.frames.patches import folded_embedding
from fastloc.functional.patch_stem import embedded_planes, embedded_rows, patch_tokens
from fastloc.functional.vit import forward
from fastloc.imaging.geometry import fit
from fastloc.recipes import RECIPES
from fastloc.reference import first_tokens
from towers import error

NAMES = [name for name in open_clip.list_models() if name.startswith("ViTamin")]
PATCH = (families.PATCH, families.PATCH)


def config(name: str) -> dict[str, Any]:
    found: dict[str, Any] = open_clip.get_model_config(name)
    return found


def state(visual: Any) -> dict[str, Tensor]:
    return {f"visual.{key}": tensor for key, tensor in visual.state_dict().items()}


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """The module in float64 with weights that leave no part without effect."""
    numbers = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in module.double().named_parameters():
            spread = 0.3 if parameter.ndim == 1 or "pos" in name else parameter[0].numel() ** -0.5
            middle = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=numbers, dtype=torch.float64) * spread + middle)
    return module.eval()


@pytest.mark.slow("makes every tower", quick=2)
@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_read(name: str) -> None:
    with torch.device("meta"):
        visual = _build_vision_tower(config(name)["embed_dim"], dict(config(name)["vision_cfg"]))
        spec = vit_spec.from_open_clip(config(name))
        weights = vit_layouts.from_open_clip(state(visual), spec)
    found = sum(tensor.numel() for tensor in named_tensors(weights).values())
    # where patches have no position, the table is of zeros
    zeros = 0 if spec.position else weights.pos.numel()
    assert found - zeros == sum(parameter.numel() for parameter in visual.parameters())
    assert spec.image == (visual.trunk.patch_embed.img_size[0],) * 2 and spec.grid == visual.trunk.patch_embed.grid_size


@pytest.mark.slow("a wide tower", quick=1)
# timm resizes positions in float32, and the second tower has none
@pytest.mark.parametrize(("name", "size", "tolerance"), [("vitamin_small_224", (96, 160), 1e-7), ("vitamin_xlarge_256", (64, 48), 1e-10)])
def test_sizes_that_it_was_not_trained_on(name: str, size: tuple[int, int], tolerance: float) -> None:
    trunk = drawn(timm.create_model(name, num_classes=0, depth=2, dynamic_img_size=True))
    fields = {**vit_spec.timm_towers.tower_fields(name), "layers": 2}
    spec = vit_spec.ModelSpec(**{**fields, "embed": fields["width"]})
    weights = vit_layouts.from_open_clip({f"visual.trunk.{key}": tensor for key, tensor in trunk.state_dict().items()}, spec)
    pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = forward(weights, pixels, replace(RECIPES["itsm"], position="bicubic-antialias"), cls=True)
    with torch.no_grad():
        expected = trunk(pixels)
    assert out.grid == (size[0] // 16, size[1] // 16)
    assert out.cls is not None and error(out.cls, expected) < tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_frame_embeds_as_its_normalised_pixels_up_to_the_border(dtype: torch.dtype) -> None:
    geometry, mean = fit((45, 61), (24, 40), PATCH), vit_spec.OPENAI_MEAN
    weights = families.tower("vitamin")
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 45, 61, 3), np.uint8))
    rows = patches_of(frames, geometry, PATCH, mean, "bicubic", dtype)
    grid = geometry.grid(PATCH)
    planes = rows.reshape(2, *grid, 3, *PATCH).permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 24, 40)
    middle, spread = (torch.tensor(each, dtype=torch.float64).view(3, 1, 1) for each in (mean, vit_spec.OPENAI_STD))
    pixels = ((planes.double() * 64 + 128) / 255 - middle) / spread
    assert weights.maps is not None
    expected = first_tokens.overlapping(weights.maps, pixels, weights).flatten(2).mT
    matrix, bias = (each.to(dtype) for each in folded_embedding(weights))
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5}[dtype]
    for found in (
        embedded_rows(weights.to(dtype=dtype), rows, grid, matrix, bias),
        embedded_planes(weights.to(dtype=dtype), planes, matrix, bias)[0],
        patch_tokens(weights.to(dtype=dtype), pixels)[0],
    ):
        assert error(found, expected) < tolerance


def test_a_position_in_the_weights_of_a_tower_without_one() -> None:
    spec = replace(families.spec("vitamin"), position=False)
    with pytest.raises(ModelError, match=r"'visual.trunk.pos_embed' is there, and the model has no such part"):
        vit_layouts._timm_prefix(vit_layouts._State({"visual.trunk.pos_embed": torch.zeros(1, 16, 32)}, spec), "visual.trunk.")


def test_a_stem_of_another_width() -> None:
    with torch.device("meta"):
        visual = _build_vision_tower(384, dict(config("ViTamin-S")["vision_cfg"]))
    wider = replace(vit_spec.from_open_clip(config("ViTamin-S")), stem_width=128)
    with pytest.raises(ModelError, match=r"stem.conv1.weight' must have shape \(128, 3, 3, 3\), got \(64, 3, 3, 3\)"):
        vit_layouts.from_open_clip(state(visual), wider)


@pytest.mark.parametrize("name", ["vitamin_small_224", "vitamin_large_224"])
def test_operations_are_counted(name: str) -> None:
    fields = {**vit_spec.timm_towers.tower_fields(name), "layers": 1}
    spec = vit_spec.ModelSpec(**{**fields, "embed": fields["width"]})
    with torch.device("meta"):
        trunk = timm.create_model(name, num_classes=0, depth=1)
        counter = FlopCounterMode(display=False)
        with counter:
            trunk(torch.zeros(1, 3, 224, 224))
    assert operations(spec, (224, 224)) == pytest.approx(counter.get_total_flops(), rel=1e-3)


@pytest.mark.slow("a tower of 22 million parameters and its text tower")
@pytest.mark.parametrize("method", ["itsm", "gem"])
def test_localizer(method: str) -> None:
    locate = Localizer("ViTamin-S", pretrained="random", method=method, size=64)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    found = locate(picture, ["a cat", "a dog"])
    assert found.similarity.shape[-2:] == (4, 4) and np.isfinite(np.asarray(found.similarity)).all()
