"""Weights and inputs that two environments can make alike from a seed, so that stored answers need no stored weights.

Only PCG64's raw bits are used: numpy promises that stream to every version, and does not promise `standard_normal`'s.
The numbers are uniform, with exact float32 arithmetic. Each array has a stream of its own, keyed by its name, so asking
for the image tower alone gives the same tensors as asking for the whole model.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]

# last part of a name -> (centre, deviation); the deviations keep attention neither uniform nor one-hot at any width
_BY_NAME = {
    "bias": (0.0, 0.1),
    "gamma": (0.5, 0.2),
    "class_embedding": (0.0, 0.3),
    "positional_embedding": (0.0, 0.3),
    "logit_scale": (math.log(1 / 0.07), 0.0),
}


def seeded_array(name: str, shape: Shape, seed: int, centre: float = 0.0, deviation: float = 1.0) -> Array:
    """Uniform float32 numbers of this mean and standard deviation; the same for the same name, shape and seed."""
    count = math.prod(shape)
    bits = np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))
    words = bits.random_raw((count + 1) // 2).astype("<u8").view("<u4")[:count]
    # 24 bits fill a float32 exactly; in [-1, 1)
    unit = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)
    scaled: Array = unit * np.float32(deviation * math.sqrt(3.0)) + np.float32(centre)
    return scaled.reshape(shape)


def seeded_state(shapes: Mapping[str, Shape], seed: int) -> dict[str, Array]:
    """A state dict of these shapes under open_clip's names, scaled like a trained encoder's."""
    return {name: seeded_array(name, shape, seed, *_scale(name, shape)) for name, shape in sorted(shapes.items())}


def seeded_pixels(shape: Shape, seed: int) -> Array:
    """Normalised pixels [B, 3, H, W]: coarse blobs of eight pixels and noise, so patches differ and neighbours resemble."""
    blobs = seeded_array("blobs", (*shape[:2], -(-shape[2] // 8), -(-shape[3] // 8)), seed, deviation=0.8)
    coarse: Array = blobs.repeat(8, axis=2).repeat(8, axis=3)[..., : shape[2], : shape[3]]
    return coarse + seeded_array("noise", shape, seed, deviation=0.6)


def seeded_texts(count: int, embed: int, seed: int) -> Array:
    """Unit vectors [T, E] that stand for encoded texts."""
    vectors = seeded_array("texts", (count, embed), seed).astype(np.float64)
    unit: Array = (vectors / np.sqrt((vectors**2).sum(1, keepdims=True))).astype(np.float32)
    return unit


def _scale(name: str, shape: Shape) -> tuple[float, float]:
    last = name.rpartition(".")[2]
    if last in _BY_NAME:
        return _BY_NAME[last]
    if last == "in_proj_bias":
        return _BY_NAME["bias"]
    if last == "weight" and len(shape) == 1:
        # a LayerNorm's
        return 1.0, 0.2
    if last in ("proj", "text_projection"):
        # stored [in, out]
        return 0.0, shape[0] ** -0.5
    return 0.0, math.prod(shape[1:]) ** -0.5


def vision_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    """The tensors of an open_clip image tower of this model configuration, name -> shape; every default is open_clip's."""
    vision = config["vision_cfg"]
    width, patch, image = vision["width"], vision["patch_size"], vision["image_size"]
    shapes: dict[str, Shape] = {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (1 + (image // patch) ** 2, width),
        "visual.proj": (width, config["embed_dim"]),
        "visual.conv1.weight": (width, 3, patch, patch),
        **_norm("visual.ln_post", width),
        **({} if vision.get("no_ln_pre") else _norm("visual.ln_pre", width)),
    }
    return shapes | _transformer("visual.", vision)


def text_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    """The same for open_clip's own text tower, as its `CLIP` class names it, with `logit_scale`."""
    text = config["text_cfg"]
    width = text["width"]
    shapes: dict[str, Shape] = {
        "positional_embedding": (text["context_length"], width),
        "text_projection": (width, config["embed_dim"]),
        "token_embedding.weight": (text["vocab_size"], width),
        "logit_scale": (),
        **_norm("ln_final", width),
    }
    return shapes | _transformer("", text)


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _transformer(prefix: str, tower: Mapping[str, Any]) -> dict[str, Shape]:
    width = tower["width"]
    hidden = int(width * tower.get("mlp_ratio", 4.0))
    block: dict[str, Shape] = {
        "attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width), "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (hidden, width), "mlp.c_fc.bias": (hidden,),
        "mlp.c_proj.weight": (width, hidden), "mlp.c_proj.bias": (width,),
        **_norm("ln_1", width), **_norm("ln_2", width),
    }
    if tower.get("ls_init_value") is not None:
        block |= {"ls_1.gamma": (width,), "ls_2.gamma": (width,)}
    return {f"{prefix}transformer.resblocks.{i}.{key}": shape for i in range(tower["layers"]) for key, shape in block.items()}
