"""The official GEM model (gem_torch 1.0.1) around an open_clip model, made the one way that works.

`gem.create_model_and_transforms` cannot be used: it passes its arguments on by position to a function that has two more
(`precision` lands in `ss_attn_iter`, `device` in `ss_attn_temp`). So the open_clip model is built apart and wrapped as
`gem.create_gem_model` wraps it. The goldens in tests/goldens are answers of `official_model`.
"""

import warnings
from collections.abc import Sequence
from importlib.metadata import version
from platform import python_version
from typing import Any

warnings.filterwarnings("ignore", message="Importing from timm")

import open_clip  # noqa: E402
import torch  # noqa: E402
from gem.gem_wrapper import GEMWrapper  # noqa: E402
from open_clip.model import CLIP  # noqa: E402
from seeded import seeded_state, text_shapes, vision_shapes  # noqa: E402
from torch import Tensor  # noqa: E402

PACKAGES = ("gem_torch", "open_clip_torch", "torch", "numpy")


def versions() -> dict[str, str]:
    return {"python": python_version(), **{name: version(name) for name in PACKAGES}}


def official_model(config: dict[str, Any], seed: int, depth: int = 7, iterations: int = 1, temperature: float | None = None) -> GEMWrapper:
    """An open_clip CLIP of this configuration with the seed's weights, in GEM's wrapper; float32, on the CPU."""
    clip = CLIP(**config)
    shapes = vision_shapes(config) | text_shapes(config)
    found = {name: tuple(tensor.shape) for name, tensor in clip.state_dict().items()}
    if shapes != found:
        raise SystemExit(f"seeded.py and open_clip differ in the model's tensors: {sorted(shapes.items() ^ found.items())[:4]}")
    clip.load_state_dict({name: torch.from_numpy(array) for name, array in seeded_state(shapes, seed).items()})
    tokenizer = open_clip.get_tokenizer("ViT-B-16")
    return GEMWrapper(clip.eval(), tokenizer, depth=depth, ss_attn_iter=iterations, ss_attn_temp=temperature)


def fix_texts(model: GEMWrapper, embeddings: Tensor) -> None:
    """Let the wrapper take these unit vectors [T, E] for every text, so that a timing or a large case leaves text out."""
    model.encode_text = lambda text: embeddings[None, : len(text)]


def heatmaps(model: GEMWrapper, pixels: Tensor, texts: Sequence[str]) -> Tensor:
    """[B, 3, H, W] and T texts -> [B, T, H, W]; the wrapper's own forward, which takes any batch although it documents one."""
    with torch.inference_mode():
        found: Tensor = model(pixels, list(texts))
    return found
