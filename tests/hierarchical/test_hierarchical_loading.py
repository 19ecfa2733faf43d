"""Hierarchical towers from open_clip's configurations and weights: specs, heads, what is refused, and the list of models."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.timm_model import TimmModel
from torch import Tensor

from fastloc.checkpoints import digests, loading, vit_spec
from fastloc.checkpoints.families.catalogue import family
from fastloc.checkpoints.hierarchical import spec as hierarchical_spec
from fastloc.checkpoints.hierarchical import weights as hierarchical_weights
from fastloc.checkpoints.hierarchical.families import FAMILIES, family_of
from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.checkpoints.sources import description, listing
from fastloc.errors import ModelError
from fastloc.functional.hierarchical import forms
from fastloc.recipes import recipe
from hierarchical_towers import config
from towers import error

CONFIGS = {name: open_clip.get_model_config(name) or {} for name in open_clip.list_models()}
HIERARCHICAL = [name for name, each in CONFIGS.items() if hierarchical_spec.is_hierarchical(each)]
# open_clip's `timm_proj` with and without its bias, on every family's smallest
PROJECTIONS = (("linear", False), ("linear", True), ("mlp", False), ("mlp", True), (None, False), ("", False))
SMALLEST = {"ConvNeXt": "convnext_tiny", "FastViT": "fastvit_mci0", "Swin": "swin_base_patch4_window7_224"}


def network(vision: dict[str, Any], embed: int) -> TimmModel:
    """open_clip's own module, with norms and biases that are not 1 and 0."""
    torch.manual_seed(0)
    made = TimmModel(
        vision["timm_model_name"], embed, vision["image_size"], pool=vision["timm_pool"], proj=vision["timm_proj"],
        proj_bias=vision.get("timm_proj_bias", False),
    ).eval().requires_grad_(False)  # fmt: skip
    for name, tensor in [*made.named_parameters(), *made.named_buffers()]:
        if tensor.ndim == 1 and tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape) * 0.1 + (0 if name.endswith(("bias", "mean")) else 1))
    return made


def state_of(module: TimmModel) -> dict[str, Tensor]:
    return {f"visual.{name}": tensor for name, tensor in module.state_dict().items()}


def test_the_smallest_ones_are_of_their_families() -> None:
    assert SMALLEST.keys() >= FAMILIES.keys()
    for name in FAMILIES:
        found = family_of(f"timm/{SMALLEST[name]}.some_tag")
        assert found is not None and found[:2] == (name, SMALLEST[name])
    assert family_of("vit_base_patch16_clip_224") is None and family_of("resnet50") is None


@pytest.mark.slow("every family and every head of open_clip's", quick=2)
@pytest.mark.parametrize(("proj", "bias"), PROJECTIONS)
@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_projection_gives_open_clip_s_embedding(name: str, proj: str | None, bias: bool) -> None:
    side = 224 if name == "Swin" else 64
    vision = {"timm_model_name": SMALLEST[name], "timm_pool": "avg", "timm_proj": proj, "timm_proj_bias": bias, "image_size": side}
    module = network(vision, 16)
    spec = hierarchical_spec.from_open_clip({"embed_dim": 16, "vision_cfg": vision})
    weights = hierarchical_weights.from_open_clip(state_of(module), spec)
    pixels = torch.randn(2, 3, side, side)
    found = forms.forward(weights, pixels, recipe("itsm"), cls=True).cls
    with torch.no_grad():
        assert found is not None and error(found, module(pixels)) < 1e-5


@pytest.mark.slow("modules of every size", quick=2)
@pytest.mark.parametrize("name", HIERARCHICAL)
def test_every_configuration_of_open_clip_fits(name: str) -> None:
    found = CONFIGS[name]
    spec = hierarchical_spec.from_open_clip(found)
    with torch.device("meta"):
        visual = open_clip.model._build_vision_tower(found["embed_dim"], found["vision_cfg"])
    weights = hierarchical_weights.from_open_clip(state_of(visual), spec)
    assert (spec.channels, spec.embed) == (visual.trunk.num_features, found["embed_dim"])
    assert spec.image == tuple(visual.image_size) and spec.grid[0] * spec.patch[0] == spec.image[0]
    assert isinstance(weights, HierarchicalWeights)
    assert hierarchical_weights.image_parameters(spec) == pytest.approx(sum(each.numel() for each in visual.parameters()), rel=0.01)
    with pytest.raises(ModelError, match="its image tower is timm's"):
        vit_spec.from_open_clip(found)


def test_the_list_of_models_has_them() -> None:
    rows = {row["name"]: row for row in listing.models()}
    for name in HIERARCHICAL:
        row = rows[name]
        assert row["refused"] is None and row["parameters"] > 1e6 and row["embed"] == CONFIGS[name]["embed_dim"]
        assert row["family"] == family(name) in ("ConvNeXt", "MobileCLIP", "Swin")
    assert rows["convnext_base"]["pretrained"] and rows["convnext_base"]["input"] == [224, 224]


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ({"timm_proj": "none"}, "its projection is 'none', and linear, mlp and the trunk's own are run"),
        ({"timm_pool": "abs_attn"}, "its pool is 'abs_attn', and 'convnext_tiny' ends in 'avg'"),
        ({"timm_pool": "max"}, "its pool is 'max'"),
        ({"timm_pool": "", "timm_proj": None}, "its pool is ''"),
        ({"image_size": 100}, "image_size must be a multiple of the stride of convnext_tiny, 32, got (100, 100); give such a size"),
        ({"image_size": [64, 16]}, "got (64, 16)"),
    ],
)
def test_what_is_refused(vision: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        description.spec_of(config(**vision), {})
    assert message in str(caught.value)
    if "image_size" not in vision:
        assert message in (description.refusal(config(**vision)) or "")


def test_another_kind_of_tower_is_not_hierarchical() -> None:
    assert hierarchical_spec.refusal(CONFIGS["ViT-B-32"]) == "its image tower is not hierarchical"
    assert not hierarchical_spec.is_hierarchical({"vision_cfg": {"timm_model_name": 3}})
    with pytest.raises(ModelError, match="this model is not supported: its image tower is not hierarchical"):
        hierarchical_spec.from_open_clip(CONFIGS["RN50"])


def test_preprocessing_comes_with_the_spec() -> None:
    given = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear"}
    spec = hierarchical_spec.from_open_clip(config(), given)
    assert (spec.mean, spec.std, spec.interpolation) == ((0.0,) * 3, (1.0,) * 3, "bilinear")
    assert hierarchical_spec.from_open_clip(config()).mean == vit_spec.OPENAI_MEAN


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    with torch.device("meta"):
        return state_of(open_clip.model._build_vision_tower(24, config()["vision_cfg"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("visual.trunk.stages.2.blocks.5.conv_dw.weight"),
         "weights must hold 'visual.trunk.stages.2.blocks.5.conv_dw.weight' of shape (384, 1, 7, 7), got none"),
        (lambda state: state.update({"visual.head.proj.weight": torch.zeros(24, 7)}),
         "'visual.head.proj.weight' must have shape (24, 768), got (24, 7)"),
        (lambda state: state.update({"visual.trunk.stages.0.blocks.3.gamma": torch.zeros(96)}),
         "weights of another architecture: 'visual.trunk.stages.0.blocks.3.gamma' is there, and convnext_tiny has no such tensor"),
        (lambda state: state.update({"visual.head.mlp.fc1.weight": torch.zeros(1)}), "'visual.head.mlp.fc1.weight' is there"),
    ],
)  # fmt: skip
def test_weights_of_another_architecture(state: dict[str, Tensor], change: Any, message: str) -> None:
    changed = dict(state)
    change(changed)
    with pytest.raises(ModelError) as caught:
        hierarchical_weights.from_open_clip(changed, hierarchical_spec.from_open_clip(config()))
    assert message in str(caught.value)



def test_a_loaded_model_has_a_digest_and_no_vit(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(config()))
    source = loading.load(str(path), "random")
    assert isinstance(source.weights, HierarchicalWeights) and source.weights.dtype == torch.float32
    found = digests.digest(source.weights)
    assert found.startswith("sha256:") and found == digests.digest(source.weights.to("cpu"))
    assert found != digests.digest(replace(source.weights, head=replace(source.weights.head, norm=None)))
    with pytest.raises(ModelError, match="model must be a ViT here, got tiny, a ConvNeXt; `fastloc locate` and Localizer run it"):
        _ = source.vit
