"""Every configuration that open_clip ships: decided on by name, and those that are run equal open_clip and timm."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from torch import Tensor, nn

from fastloc.checkpoints import vit_layouts, vit_spec
from fastloc.checkpoints.sources import listing
from fastloc.embedded import FOLDERS
from fastloc.functional.vit import forward
from fastloc.recipes import RECIPES
from towers import error

TOLERANCE = 1e-5
# blocks of the towers here; the widths are the real ones
BLOCKS = 2
# what each name means, by patterns of whole names: a name that none of these matches is one that nobody decided on
RUN = (
    r"RN\d+(x\d+)?(-quickgelu)?",
    r"ViT-(B|L|H|g|e|bigG|M|S|M-\d+|S-\d+)-(\d+)(-(\d+|alt|plus(-240)?|quickgelu|worldwide|CLIPA|\d+-quickgelu|CLIPA-\d+|worldwide-\w+))*",
    r"(xlm-roberta-(base|large)|roberta|mt5-(base|xl))-ViT-(B-32|H-14)", r"nllb-clip-(base|large)(-siglip)?",
    r"coca_(base|roberta-ViT-B-32|ViT-B-32|ViT-L-14)",
    r"ViT-(B|L|SO400M|gopt)-\d+-SigLIP2?(-i18n)?(-\d+)?", r"PE-Core-(T|S|B|L|bigG)-\d+(-\d+)?", r"EVA0[12]-(g|B|L|E)-\d+(-plus|-336)?",
    r"MobileCLIP2?-(B|L-14|S\d)", r"ViTamin-(S|B|L|L2|XL)(-LTT|-\d+)?", r"vit_medium_patch16_gap_256", r"convnext_\w+",
    r"swin_base_patch4_window7_224", r"vit_relpos_medium_patch16_cls_224",
)  # fmt: skip
# nothing today; a new configuration of open_clip may belong here
REFUSED: tuple[str, ...] = ()


def test_every_name_was_decided_on() -> None:
    for row in listing.models()[len(FOLDERS) :]:
        run, refused = (any(re.fullmatch(pattern, row["name"]) for pattern in patterns) for patterns in (RUN, REFUSED))
        assert run != refused, f"{row['name']} is in {'both' if run else 'none'} of the lists: decide, build it or say why not"
        assert (row["refused"] is None) == run, f"{row['name']}: {row['refused']}"


def _distinct() -> dict[str, dict[str, Any]]:
    """One configuration for every different image tower that comes from timm or has an attention pool."""
    found: dict[str, dict[str, Any]] = {}
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name) or {}
        vision = config["vision_cfg"]
        if vit_spec.refusal(config) is None and (vision.get("timm_model_name") or vision.get("attentional_pool")):
            found.setdefault(f"{vision.get('timm_model_name')} {vision.get('width')} {config['embed_dim']}", {"name": name, **config})
    return {config.pop("name"): config for config in found.values()}


TOWERS = _distinct()
# of the same kind as open_clip's own, from timm: without a class token, and with another width of the bias
MORE = ("vit_relpos_small_patch16_224", "vit_relpos_base_patch16_cls_224")
_VISION = {"timm_pool": "", "timm_proj": "linear", "image_size": 224}
TOWERS |= {name: {"embed_dim": 40, "vision_cfg": {"timm_model_name": name, **_VISION}} for name in MORE}


# a small one of each family first
FIRST = (
    "vit_relpos_medium_patch16_cls_224", "ViT-B-16-SigLIP", "PE-Core-T-16-384", "EVA02-B-16", "MobileCLIP2-B", "ViTamin-S", "coca_ViT-B-32",
)  # fmt: skip


@pytest.mark.slow("every image tower of timm's that open_clip names", quick=4)
@pytest.mark.parametrize("name", sorted(TOWERS, key=lambda name: (name not in FIRST, "relpos" not in name)))
def test_parity(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TOWERS[name]
    visual = _tower(config, monkeypatch)
    spec = replace(vit_spec.from_open_clip(config), layers=BLOCKS)
    weights = vit_layouts.from_open_clip({f"visual.{key}": tensor for key, tensor in visual.state_dict().items()}, spec)
    side = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        image, patches = _own(visual, pixels)
        # what a grid of whole patches leaves over at the right and the bottom is not read there either
        whole = pixels[:, :, : spec.grid[0] * spec.patch[0], : spec.grid[1] * spec.patch[1]]
        out = forward(weights, whole, RECIPES["itsm"], cls=True)
    assert out.cls is not None and error(out.cls, image) < TOLERANCE
    assert error(out.patches, patches) < TOLERANCE


@pytest.mark.slow("a tower of real width at another size")
def test_relative_positions_follow_the_size_as_timms_do(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TOWERS["vit_relpos_medium_patch16_cls_224"]
    visual = _tower(config, monkeypatch)
    state = {f"visual.{key}": tensor for key, tensor in visual.state_dict().items()}
    weights = vit_layouts.from_open_clip(state, replace(vit_spec.from_open_clip(config), layers=BLOCKS))
    visual.trunk.set_input_size((320, 256))
    pixels = torch.randn(1, 3, 320, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        image, patches = _own(visual, pixels)
        out = forward(weights, pixels, RECIPES["itsm"], cls=True)
    assert out.cls is not None and error(out.cls, image) < TOLERANCE
    assert error(out.patches, patches) < TOLERANCE


def _tower(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """open_clip's own module with few blocks, and weights that leave no part without effect."""
    made: Callable[..., Any] = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, **options: made(*args, **{**options, "depth": BLOCKS}))
    vision = dict(config["vision_cfg"])
    if not vision.get("timm_model_name"):
        vision["layers"] = BLOCKS
    torch.manual_seed(0)
    visual = _build_vision_tower(config["embed_dim"], CLIPVisionCfg(**vision), config.get("quick_gelu", False)).eval()
    visual.output_tokens = False
    random = torch.Generator().manual_seed(0)

    def drawn(tensor: Tensor, spread: float, middle: float = 0.0) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=random) * spread + middle)

    with torch.no_grad():
        for key, parameter in visual.named_parameters():
            if parameter.ndim == 2 and "rel_pos" in key:
                drawn(parameter, parameter.shape[1] ** -0.5)
            elif parameter.ndim == 1 or any(part in key for part in ("pos", "cls", "reg", "latent")):
                drawn(parameter, 0.3, 1.0 if key.endswith("weight") or "gamma" in key else 0.0)
            elif "head" in key:
                drawn(parameter, parameter.shape[1] ** -0.5)
        for key, buffer in visual.named_buffers():
            if "running" in key:
                drawn(buffer, 0.1, 1.0 if key.endswith("var") else 0.0)
    return visual


def _own(visual: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The image embedding [B, E], and every patch alone through what is behind the last block, [B, P, E]."""
    if not hasattr(visual, "trunk"):
        tokens = visual.transformer(visual._embeds(pixels))[:, 1:]
        alone = visual.ln_post(visual.attn_pool(tokens.reshape(-1, 1, tokens.shape[2]))[:, 0]) @ visual.proj
        return visual(pixels), alone.reshape(*tokens.shape[:2], -1)
    trunk = visual.trunk
    tokens = trunk.forward_features(pixels)[:, trunk.num_prefix_tokens :]
    if getattr(trunk, "attn_pool", None) is not None:
        tokens = trunk.attn_pool(tokens.reshape(-1, 1, tokens.shape[2])).reshape(*tokens.shape[:2], -1)
    behind = nn.Sequential(getattr(trunk, "fc_norm", nn.Identity()), trunk.head)
    return visual(pixels), visual.head(behind(tokens))
