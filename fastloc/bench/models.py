"""The models that are measured: the embedded one, architectures with seeded weights, and open_clip's by name and tag."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc import embedded
from fastloc.bench.peers.seeded import seeded_state, vision_shapes
from fastloc.bench.towers.kinds import HIERARCHICAL, Spec, kind_of, methods_of, refusal, spec_of
from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.checkpoints.vit_spec import ModelSpec, is_resnet
from fastloc.errors import FastlocError, ModelError, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from fastloc.checkpoints.families.kinds import AnyWeights

EMBEDDED = "embedded"


def _vit(width: int, layers: int, patch: int, image: int, embed: int) -> dict[str, Any]:
    return {"embed_dim": embed, "vision_cfg": {"image_size": image, "layers": layers, "width": width, "patch_size": patch}}


# open_clip's configurations of the image towers that are used most, so that a machine without open_clip has them
CONFIGS = {
    "ViT-B-32": _vit(768, 12, 32, 224, 512),
    "ViT-B-16": _vit(768, 12, 16, 224, 512),
    "ViT-L-14": _vit(1024, 24, 14, 224, 768),
    "ViT-L-14-336": _vit(1024, 24, 14, 336, 768),
}
QUICK = "-quickgelu"
# of the scales of a hierarchical tower's branches
_BRANCH = 0.2


@dataclass(frozen=True)
class Model:
    """A model to measure: open_clip's configurations, where its weights come from, and what suits it better than the defaults."""

    name: str
    config: dict[str, Any]
    preprocess: dict[str, Any] = field(default_factory=dict)
    # a tag or a file for open_clip's loader; "" for seeded weights
    pretrained: str = ""
    recommended: Mapping[str, Any] = field(default_factory=dict)
    # the requested input size; 0 for its own
    asked_size: int = 0

    @property
    def spec(self) -> Spec:
        return spec_of(self.config, self.preprocess)

    @property
    def vit(self) -> ModelSpec:
        """The spec, for suites of transformers. Raises ModelError for another kind of tower."""
        spec = self.spec
        if not isinstance(spec, ModelSpec):
            raise ModelError(f"model must be a ViT here, got {self.name}, {kind_of(spec).words(spec)}; use one that runs gem")
        return spec

    @property
    def trained(self) -> bool:
        return self.name in embedded.FOLDERS or bool(self.pretrained)

    @property
    def size(self) -> int:
        """The input size to run it at, if the run asks for no other."""
        return self.asked_size or self.own_size

    @property
    def own_size(self) -> int:
        """The input size that it recommends, or was trained at."""
        return int(self.recommended.get("size", self.spec.image[0]))

    def methods(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The methods among these that exist on its kind of tower."""
        return methods_of(self.spec, names, self.name)

    def write(self, file: Path) -> Path:
        """The image tower's tensors under open_clip's names, float32, as .safetensors. Raises ModelError where they cannot be had."""
        import torch
        from safetensors.torch import save_file

        if self.name in embedded.FOLDERS:
            state = read_state(embedded.FOLDERS[self.name] / embedded.MODEL.name)
        elif self.pretrained:
            from fastloc.checkpoints.loading import checkpoint

            state = checkpoint(self.name, self.pretrained)
        else:
            state = {name: torch.from_numpy(array) for name, array in seeded_state(_shapes(self.config), 0).items()}
            # a BatchNorm divides by the root of these
            state = {name: each.abs() + 0.5 if name.endswith("running_var") else each for name, each in state.items()}
            if kind_of(self.spec) is HIERARCHICAL:
                # dozens of blocks: branches are small beside what they are added to, as trained ones are, or roundings grow with each
                state = {name: each * _BRANCH if name.endswith("gamma") else each for name, each in state.items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: each.float().contiguous() for name, each in state.items() if name.startswith("visual.")}, file)
        return file


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of a configuration's image tower: plain ones are known here, others are asked of open_clip (and of timm through it)."""
    vision = config["vision_cfg"]
    if not vision.get("timm_model_name") and not vision.get("attentional_pool") and not is_resnet(config):
        return vision_shapes(config)
    import torch
    from open_clip.model import _build_vision_tower

    with torch.device("meta"):
        tower = _build_vision_tower(config["embed_dim"], vision, bool(config.get("quick_gelu")))
    return {f"visual.{name}": tuple(each.shape) for name, each in tower.state_dict().items() if each.is_floating_point()}


def model(name: str) -> Model:
    """The model of a name as it is typed: `embedded`, an architecture (seeded weights), or architecture:tag (open_clip's, or a file's),
    each with @SIZE behind it for another input size than its own.

    Raises:
        ModelError: unknown, a tower that fastloc does not run, or no size.
    """
    plain, at, size = name.rpartition("@")
    if not at:
        return _model(name)
    if not size.isdecimal() or int(size) < 1:
        raise ModelError(f"model {name!r}: its size must be in pixels, such as {plain}@448, got {size!r}")
    return replace(_model(plain), asked_size=int(size))


def _model(name: str) -> Model:
    architecture, _, pretrained = name.partition(":")
    if architecture in embedded.FOLDERS:
        if pretrained:
            raise ModelError(f"model {name!r}: {architecture} must come without a tag, got {':' + pretrained!r}; its weights are its own")
        content = json.loads((embedded.FOLDERS[architecture] / embedded.CONFIG.name).read_text(encoding="utf-8"))
        return Model(architecture, content["model_cfg"], content["preprocess_cfg"], "", content["fastloc"].get("recommended", {}))
    config = _config(architecture)
    reason = refusal(config)
    if reason:
        raise ModelError(f"model {architecture!r} is not supported: {reason}")
    preprocess: dict[str, Any] = {}
    if pretrained and not os.path.exists(pretrained):
        config, preprocess = _tagged(architecture, pretrained, config)
    return Model(architecture, config, preprocess, pretrained)


def _config(architecture: str) -> dict[str, Any]:
    plain = architecture.removesuffix(QUICK)
    if plain in CONFIGS:
        return {**CONFIGS[plain], "quick_gelu": plain != architecture}
    try:
        import open_clip
    except ModuleNotFoundError:
        raise ModelError(f"{unknown('model', architecture, [EMBEDDED, *CONFIGS])} (more with open_clip_torch)") from None
    found: dict[str, Any] | None = open_clip.get_model_config(architecture)
    if found is None:
        raise ModelError(f"{unknown('model', architecture, [EMBEDDED, *CONFIGS])}, and what `fastloc models` lists")
    return found


def _tagged(architecture: str, tag: str, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        from open_clip import pretrained as tags
    except ModuleNotFoundError:
        raise FastlocError(f'weights {tag!r} of {architecture} need open_clip: pip install "fastloc[engine]"') from None
    if not tags.is_pretrained_cfg(architecture, tag):
        raise ModelError(unknown(f"pretrained tag of {architecture}", tag, tags.list_pretrained_tags_by_model(architecture)))
    preprocess: dict[str, Any] = tags.get_pretrained_cfg(architecture, tag)
    return {**config, "quick_gelu": bool(preprocess.get("quick_gelu"))}, preprocess


def read_state(file: str | Path) -> dict[str, "Tensor"]:
    """The tensors of a .safetensors file."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = load_file(str(file))
    return found


def open_clip_tower(config: dict[str, Any], file: str | Path, size: tuple[int, int]) -> Any:
    """open_clip's own module of a file that `Model.write` wrote, for inputs of (height, width); positions are resized by its loader.

    Its Swin takes the trained size alone, and raises AssertionError for another when it is called.
    """
    from open_clip.model import _build_vision_tower, resize_pos_embed
    from torch.nn import ModuleDict, Parameter

    from fastloc.functional.position_embedding import resized_position

    spec = spec_of(config, {})
    # a ResNet takes every size as it is, but its pool's positions
    vision = config["vision_cfg"] if isinstance(spec, ResNetSpec) else {**config["vision_cfg"], "image_size": list(size)}
    tower = _build_vision_tower(config["embed_dim"], vision, bool(config.get("quick_gelu"))).eval()
    state = read_state(file)
    if not vision.get("timm_model_name") and not isinstance(spec, ResNetSpec):
        resize_pos_embed(state, ModuleDict({"visual": tower}))
    # all but a BatchNorm's count of batches, which nothing reads
    tower.load_state_dict({**tower.state_dict(), **{name.removeprefix("visual."): each for name, each in state.items()}})
    if isinstance(spec, ResNetSpec):
        # its loader leaves the pool's positions alone, so they are resized as it resizes those of a ViT
        grid = size[0] // spec.patch[0], size[1] // spec.patch[1]
        position = resized_position(tower.attnpool.positional_embedding.detach(), spec.grid, grid, "bicubic-antialias")
        tower.attnpool.positional_embedding = Parameter(position)
    return tower


def weights_of(config: dict[str, Any], preprocess: dict[str, Any], file: str | Path) -> "AnyWeights":
    """The image tower of a file that `Model.write` wrote."""
    from fastloc.checkpoints import resnet_weights, vit_layouts
    from fastloc.checkpoints.hierarchical import weights as hierarchical_weights

    # copied out of the file's mapping, which else would be read, and counted as a call's memory, when it is first used
    state, spec = {name: each.float().clone() for name, each in read_state(file).items()}, spec_of(config, preprocess)
    if isinstance(spec, ModelSpec):
        return vit_layouts.from_open_clip(state, spec)
    if isinstance(spec, ResNetSpec):
        return resnet_weights.from_open_clip(state, spec)
    return hierarchical_weights.from_open_clip(state, spec)
