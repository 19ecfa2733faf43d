"""Write tests/goldens/transformers_*.npz: image and text embeddings of transformers 5.23's own models for seeded weights and inputs.

Run it through `python benchmarks/goldens.py`, which makes the environment it needs.

What surprises in the official code, all of it kept in the answers:

- Tipsv2Model writes its tensors under other names than its modules have: nearly TIPS's own, and open_clip's. A case of its own has the
  modules' names.
- CLIPModel reads a text at its highest id where eos_token_id is 2, and MetaClip2Model at the first 2.
- Siglip2Model takes patches that are cut out already, and resizes its positions for every picture, bilinearly and with antialiasing.
- For a grid of one column that resize is wrong: torch 2.15's antialiased `interpolate` to a width of 1 is, where the height changes.
  transformers 5.24 computes the weights itself and has the right answer. No case here has one column.

A file holds `image` [B, E] and `text` [T, E], float32, as the projections leave them, and `meta` (JSON): the configuration as
config.json has it, and names and shapes of the tensors in the file. Siglip2Model's also holds `larger` [B, E] of pictures twice as high and
wide, `shaped` [G, E] of one padded batch of the grids `grids` [G, 2], and the answers of its processor's size rule, `sizes` [N, 6]: height
and width of a picture, side of a patch, largest count of patches, height and width of the input.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches as size_rule

REPO = Path(__file__).resolve().parents[2]
# this environment has no fastloc: its modules for peers are found as the scripts beside them find them
sys.path.insert(0, str(REPO / "fastloc" / "bench" / "peers"))

from seeded import seeded_pixels, seeded_state  # noqa: E402

GOLDENS = REPO / "tests" / "goldens"
BATCH, SIDE, PATCH, CONTEXT, VOCABULARY, PAD = 2, 32, 8, 9, 60, 0
_VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": PATCH, "image_size": SIDE}
_TEXT = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3, "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT, "bos_token_id": 1, "eos_token_id": VOCABULARY - 1, "pad_token_id": PAD,
}  # fmt: skip
# pictures of a NaFlex batch, in patches: wide, tall, one row, smaller than the trained grid in one axis or both, larger in both
GRIDS = ((2, 8), (7, 3), (1, 16), (9, 2), (3, 3), (2, 2), (6, 5))
LONGEST = 36


@dataclass(frozen=True)
class Case:
    """One golden. kind: the class of transformers. vision, text: of its configuration, beside those that all have."""

    name: str
    kind: str
    seed: int
    vision: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)
    # the tensors have the modules' names in the file
    modules: bool = False


CASES = (
    Case("clip", "CLIP", 0, {"intermediate_size": 56}, whole={"projection_dim": 20}),
    Case("clip_laion", "CLIP", 1, {"hidden_act": "gelu"}, {"hidden_act": "gelu", "eos_token_id": 2}, {"projection_dim": 16}),
    Case(
        "metaclip_2", "MetaClip2", 2, {"num_attention_heads": 4, "hidden_act": "gelu"}, {"eos_token_id": 2, "hidden_act": "gelu"},
        {"projection_dim": 20},
    ),
    Case("siglip", "Siglip", 3, {"intermediate_size": 43}, {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 43}),
    Case("siglip_projection", "Siglip", 4, text={"projection_size": 32}),
    Case("siglip2", "Siglip2", 5, {"num_patches": (SIDE // PATCH) ** 2, "intermediate_size": 56}, {"projection_size": 32}),
    Case("tipsv2", "Tipsv2", 6, {"mlp_ratio": 2}, {"hidden_size": 32, "num_attention_heads": 2}),
    Case("tipsv2_gated", "Tipsv2", 7, {"use_swiglu_ffn": True, "num_register_tokens": 2}, {"hidden_size": 32, "num_attention_heads": 2}),
    Case("tipsv2_modules", "Tipsv2", 8, {}, {"hidden_size": 32, "num_attention_heads": 2}, modules=True),
)  # fmt: skip


def tokens() -> Tensor:
    """Ids [3, context]: start, words, the end of text by its highest id, padding; id 2 comes earlier, as an end of another kind."""
    rows = [[1, 5, 2, 17, 30, VOCABULARY - 1], [1, 44, 3, 8, 12, 2, 9, 21, VOCABULARY - 1], [1, 2, 7, VOCABULARY - 1]]
    return torch.tensor([[*row, *[PAD] * (CONTEXT - len(row))] for row in rows])


def model_of(case: Case, folder: Path) -> Any:
    """The class's own model with the seed's weights, by way of a file with the names that it writes."""
    config = getattr(transformers, f"{case.kind}Config")
    vision = {**_VISION, **case.vision}
    if "num_patches" in vision:
        del vision["image_size"]
    kind = getattr(transformers, f"{case.kind}Model")
    made = kind(config(vision_config=vision, text_config={**_TEXT, **case.text}, **case.whole)).eval()
    made.save_pretrained(folder)
    stored = made.state_dict() if case.modules else load_file(folder / "model.safetensors")
    arrays = seeded_state({name: tuple(tensor.shape) for name, tensor in stored.items()}, case.seed)
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if "temperature" in state:
        state["temperature"] = torch.tensor(0.02)
    if case.modules:
        state |= {name: tensor for name, tensor in stored.items() if not tensor.is_floating_point() or "position_embedding.weights" in name}
        made.load_state_dict(state)
        return made, {name: tensor for name, tensor in state.items() if name in dict(made.named_parameters())}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return kind.from_pretrained(folder).eval(), state


def pictures(case: Case, side: int) -> dict[str, Tensor]:
    """The seed's pixels in the form that a model takes."""
    pixels = torch.from_numpy(seeded_pixels((BATCH, 3, side, side), case.seed))
    if case.kind != "Siglip2":
        return {"pixel_values": pixels}
    grid = side // PATCH
    return {
        "pixel_values": cut(pixels), "pixel_attention_mask": torch.ones(BATCH, grid * grid),
        "spatial_shapes": torch.tensor([[grid, grid]] * BATCH),
    }  # fmt: skip


def cut(pixels: Tensor) -> Tensor:
    """The patches of pixels [B, 3, H, W] as Siglip2Model takes them, [B, P, 3 PATCH^2]: rows, columns, channels of each patch."""
    batch, _, height, width = pixels.shape
    down, across = height // PATCH, width // PATCH
    return pixels.reshape(batch, 3, down, PATCH, across, PATCH).permute(0, 2, 4, 3, 5, 1).reshape(batch, down * across, -1)


def shaped(case: Case) -> dict[str, Tensor]:
    """One batch of pictures of `GRIDS`, padded to `LONGEST` patches with large numbers that a mask must hide."""
    patches = [cut(torch.from_numpy(seeded_pixels((1, 3, h * PATCH, w * PATCH), case.seed)))[0] for h, w in GRIDS]
    padded = [torch.cat([each, torch.full((LONGEST - len(each), each.shape[1]), 9.0)]) for each in patches]
    mask = torch.tensor([[1] * len(each) + [0] * (LONGEST - len(each)) for each in patches])
    return {"pixel_values": torch.stack(padded), "pixel_attention_mask": mask, "spatial_shapes": torch.tensor(GRIDS)}


def sizes() -> np.ndarray:
    """The inputs that Siglip2ImageProcessor makes of pictures of many sizes, [N, 6]."""
    numbers, rows = np.random.Generator(np.random.PCG64(0)), []
    for _ in range(600):
        height, width = (int(2 ** numbers.uniform(0, 12.5)) for _ in range(2))
        patch, most = int(numbers.choice([14, 16])), int(numbers.choice([16, 64, 256, 576, 784, 1024]))
        rows.append((height, width, patch, most, *size_rule(height, width, patch, most)))
    return np.array(rows, np.int16)


def answers(case: Case, model: Any) -> dict[str, np.ndarray]:
    ids = tokens()
    masks = {"attention_mask": (ids != PAD).long()} if case.kind == "Tipsv2" else {}
    sides = {"image": SIDE, "larger": 2 * SIDE} if case.kind == "Siglip2" else {"image": SIDE}
    with torch.no_grad():
        found = {name: model.get_image_features(**pictures(case, side)) for name, side in sides.items()}
        if case.kind == "Siglip2":
            found["shaped"] = model.get_image_features(**shaped(case))
        found["text"] = model.get_text_features(input_ids=ids, **masks)
    arrays = {name: getattr(each, "pooler_output", each).numpy() for name, each in found.items()}
    return {**arrays, "grids": np.array(GRIDS), "sizes": sizes()} if case.kind == "Siglip2" else arrays


def write(case: Case, out: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        model, state = model_of(case, Path(name))
        config = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
    meta = {
        "config": config, "seed": case.seed, "shapes": {name: list(tensor.shape) for name, tensor in sorted(state.items())},
        "versions": {package: version(package) for package in ("torch", "transformers")},
    }  # fmt: skip
    found = answers(case, model)
    np.savez_compressed(out / f"transformers_{case.name}.npz", meta=json.dumps(meta), tokens=tokens().numpy(), **found)
    print(case.name, {key: (value.shape, float(np.abs(value).max())) for key, value in found.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=GOLDENS)
    folder = parser.parse_args().out
    transformers.utils.logging.set_verbosity_error()
    for each in CASES:
        write(each, folder)
