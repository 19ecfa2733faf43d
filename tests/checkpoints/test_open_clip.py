"""Parity with open_clip's own towers, for its real configurations, and clear refusals of those that are no CLIP ViT."""

import re
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import CLIP, CLIPVisionCfg, _build_vision_tower
from open_clip.transformer import VisionTransformer
from torch import Tensor

import towers
from fastloc.bench.peers.seeded import seeded_pixels
from fastloc.checkpoints import vit_layouts, vit_spec
from fastloc.checkpoints.vit_weights import named_tensors
from fastloc.errors import ModelError
from fastloc.functional.vit import forward
from fastloc.recipes import RECIPES
from towers import error

# two float32 programs of the same formula, over up to twelve blocks
TOLERANCE = 1e-5
TEXT = {"context_length": 4, "vocab_size": 8, "width": 32, "heads": 2, "layers": 1}
# name -> what of the real configuration is cut, so that the test is quick and small; the first tower is whole
REAL: dict[str, dict[str, Any]] = {
    "ViT-B-32": {},
    "ViT-B-32-quickgelu": {"layers": 2},
    "ViT-B-16-plus-240": {"layers": 2},
    # LayerScale
    "ViT-M-16-alt": {},
    # mean of the patches, no ln_pre, tanh GELU
    "ViT-L-14-CLIPA": {"layers": 2, "image_size": 112},
    # heads of 80, 88, 104 (with an MLP of an odd ratio) and 112
    "ViT-H-14-quickgelu": {"layers": 2, "image_size": 84},
    "ViT-g-14": {"layers": 1, "image_size": 56},
    "ViT-bigG-14-CLIPA": {"layers": 1, "image_size": 56},
    "ViT-e-14": {"layers": 1, "image_size": 56},
}
# the configurations that open_clip ships
CONFIGS = {name: open_clip.get_model_config(name) or {} for name in open_clip.list_models()}


def real(name: str, **cut: Any) -> dict[str, Any]:
    """open_clip's configuration of this name with a tiny text tower."""
    config = CONFIGS[name]
    return {**config, "vision_cfg": {**config["vision_cfg"], **cut}, "text_cfg": TEXT}


def model(name: str) -> CLIP:
    torch.manual_seed(0)
    config = real(name, **REAL[name])
    built = CLIP(embed_dim=config["embed_dim"], vision_cfg=config["vision_cfg"], text_cfg=TEXT, quick_gelu=config.get("quick_gelu", False))
    # freshly made, norms are the identity, biases zero and LayerScale all but nothing, which would hide mistakes
    for key, parameter in built.named_parameters():
        if parameter.ndim == 1 and key.startswith("visual."):
            parameter.data += 0.2 * torch.randn_like(parameter) + (0.5 if key.endswith("gamma") else 0.0)
    return built.eval()


@torch.no_grad()
def own(built: CLIP, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """open_clip's own answer: image embedding [B, E] and patch tokens after the last LayerNorm and projection [B, P, E]."""
    tower = built.visual
    kept = tower.forward_intermediates(pixels, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC")
    return built.encode_image(pixels), kept["image_intermediates"][-1] @ tower.proj


@pytest.mark.slow("every kind of tower of open_clip", quick=3)
@pytest.mark.parametrize("name", REAL)
def test_parity(name: str) -> None:
    built, spec = model(name), vit_spec.from_open_clip(real(name, **REAL[name]))
    weights = vit_layouts.from_open_clip(built.state_dict(), spec)
    pixels = torch.from_numpy(seeded_pixels((2, 3, *spec.image), seed=0))
    out = forward(weights, pixels, RECIPES["itsm"], cls=True)
    image, patches = own(built, pixels)
    assert out.cls is not None and out.grid == built.visual.grid_size
    assert error(out.cls, image) < TOLERANCE
    assert error(out.patches, patches) < TOLERANCE
    # a local path does not touch the image embedding
    one_block = forward(weights, pixels, RECIPES["clearclip"], cls=True)
    assert one_block.cls is not None and error(one_block.cls, image) < TOLERANCE
    assert error(one_block.patches, patches) > 0.01


KINDS = ({}, {"pool": "avg"}, {"pool": "avg-norm", "ln_pre": False, "activation": "gelu_tanh"}, {"scale": True, "activation": "quick_gelu"})


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_parity_in_float64(kind: dict[str, Any]) -> None:
    config = towers.config(**kind)
    torch.manual_seed(0)
    built = CLIP(text_cfg=TEXT, **config).double().eval()
    weights, pixels = towers.tower(**kind), towers.pixels(3, towers.TRAINED)
    state = towers.state(**kind)
    missing = built.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and not [key for key in missing.missing_keys if key.startswith("visual.")]
    out = forward(weights, pixels, RECIPES["itsm"], cls=True)
    image, patches = own(built, pixels)
    assert out.cls is not None
    assert error(out.cls, image) < 1e-12
    assert error(out.patches, patches) < 1e-12


def test_weights_are_shared_not_copied() -> None:
    built = model("ViT-M-16-alt")
    weights = vit_layouts.from_open_clip(built.state_dict(), vit_spec.from_open_clip(real("ViT-M-16-alt", **REAL["ViT-M-16-alt"])))
    assert weights.patch_w.data_ptr() == built.visual.conv1.weight.data_ptr()
    assert not weights.patch_w.requires_grad


# every configuration that open_clip ships is either read right or refused with its reason

ACTIVATIONS = {"QuickGELU()": "quick_gelu", "GELU(approximate='none')": "gelu", "GELU(approximate='tanh')": "gelu_tanh"}


OWN = [name for name, config in CONFIGS.items() if "timm_model_name" not in config["vision_cfg"] and vit_spec.refusal(config) is None]


@pytest.mark.parametrize("name", OWN)
def test_accepted_configuration_is_read_right(name: str) -> None:
    """Built without memory: the tower is a plain VisionTransformer and its tensors have the shapes that the spec asks for."""
    config = CONFIGS[name]
    with torch.device("meta"):
        tower = _build_vision_tower(config["embed_dim"], CLIPVisionCfg(**config["vision_cfg"]), config.get("quick_gelu", False))
    assert isinstance(tower, VisionTransformer)
    spec = vit_spec.from_open_clip(config)
    weights = vit_layouts.from_open_clip({f"visual.{key}": tensor for key, tensor in tower.state_dict().items()}, spec)
    block = tower.transformer.resblocks[0]
    assert (spec.heads, spec.head_width) == (block.attn.num_heads, block.attn.head_dim)
    assert (spec.grid, spec.patch, spec.image) == (tower.grid_size, tower.patch_size, tower.image_size)
    assert spec.norm_eps == block.ln_1.eps == tower.ln_post.eps
    pool = tower.pool_type if tower.attn_pool is None else "attn"
    assert (spec.pool, spec.norm_after_pool) == (pool, tower.final_ln_after_pool)
    assert spec.activation == ACTIVATIONS[str(block.mlp.gelu)]
    assert (weights.ln_pre_w is None) == isinstance(tower.ln_pre, torch.nn.Identity)
    # nothing of the tower is left behind
    taken = sum(tensor.numel() for tensor in named_tensors(weights).values())
    whole = sum(parameter.numel() for parameter in tower.parameters())
    if tower.attn_pool is not None:
        # the other queries of the pooler are captions', and the first one's LayerNorm is folded into it
        whole -= tower.attn_pool.query[1:].numel() + 2 * tower.attn_pool.query.shape[1]
    assert taken == whole


REFUSED = {
    "MobileCLIP-S1": "its image tower is timm's fastvit_mci1",
    "convnext_base": "its image tower is timm's convnext_base",
    "RN50": "its image tower is a ResNet, not a ViT",
    "RN50x64-quickgelu": "its image tower is a ResNet, not a ViT",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_configuration(name: str) -> None:
    config = CONFIGS[name]
    assert (vit_spec.refusal(config) or "").startswith(REFUSED[name])
    with pytest.raises(ModelError, match=re.escape(f"this model is not supported: {REFUSED[name]}")):
        vit_spec.from_open_clip(config)


@pytest.mark.parametrize(
    ("vision", "reason"),
    [
        ({"attentional_pool": "parallel"}, "its pooler is 'parallel'"), ({"scaled_cosine_attn": True}, "scaled cosine attention"),
        ({"scale_heads": True}, "scales heads"), ({"scale_attn": True}, "normalises after the block"),
        ({"pool_type": "none"}, "its pooling 'none' gives no image embedding"),
    ],
)  # fmt: skip
def test_refused_part(vision: dict[str, Any], reason: str) -> None:
    assert reason in (vit_spec.refusal(real("ViT-B-32", **vision)) or "")


def test_preprocessing_comes_with_the_spec() -> None:
    spec = vit_spec.from_open_clip(real("ViT-B-32"))
    assert (spec.mean, spec.std, spec.interpolation) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, "bicubic")
    spec = vit_spec.from_open_clip(real("ViT-B-32"), {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear"})
    assert (spec.mean, spec.std, spec.interpolation) == ((0.5,) * 3, (0.25,) * 3, "bilinear")


# weights of another architecture


def test_missing_tensor() -> None:
    state = {key: tensor for key, tensor in towers.state().items() if key != "visual.transformer.resblocks.3.attn.out_proj.bias"}
    with pytest.raises(ModelError, match=r"'visual\.transformer\.resblocks\.3\.attn\.out_proj\.bias' is missing \(the file holds visual"):
        vit_layouts.from_open_clip(state, vit_spec.from_open_clip(towers.config()))


def test_state_of_nothing() -> None:
    with pytest.raises(ModelError, match=r"'visual\.conv1\.weight' is missing \(the file holds nothing"):
        vit_layouts.from_open_clip({}, vit_spec.from_open_clip(towers.config()))


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ({"patch_size": 16, "image_size": 64}, "'visual.conv1.weight' must have shape (32, 3, 8, 8), got (32, 3, 16, 16)"),
        ({"image_size": 40}, "'visual.positional_embedding' must have shape (17, 32), got (26, 32)"),
        ({"width": 64}, "'visual.conv1.weight' must have shape (32, 3, 8, 8), got (64, 3, 8, 8)"),
        ({"layers": 6}, "'visual.transformer.resblocks.6.ln_1.weight' is missing"),
        ({"layers": 8}, "'visual.transformer.resblocks.7.ln_1.weight' is there, but the model has 7 blocks"),
    ],
)
def test_tensors_of_another_architecture(vision: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match="weights of another architecture: " + re.escape(message)):
        vit_layouts.from_open_clip(towers.state(**vision), vit_spec.from_open_clip(towers.config()))


def test_tensors_of_another_embedding_width() -> None:
    state = {**towers.state(), "visual.proj": torch.zeros(32, 16)}
    with pytest.raises(ModelError, match=re.escape("'visual.proj' must have shape (32, 24), got (32, 16)")):
        vit_layouts.from_open_clip(state, vit_spec.from_open_clip(towers.config()))
