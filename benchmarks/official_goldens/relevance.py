"""Write tests/goldens/legrad_*.npz and grad_cam_vit_*.npz: answers of legrad_torch 1.1 and of grad-cam 1.5.7 for seeded weights and inputs.

Run it through `python benchmarks/goldens.py`, which makes the environment it needs.

What surprises in the official code, all of it kept in the answers:

- LeGrad's default, `layer_index=-2`, reads two blocks, where the paper reads all of them. A text's target is the block's own output,
  averaged over all tokens, the class token too; the encoder's image embedding is not asked.
- LeGrad takes one square picture a call and repeats it for every text; it resizes the position embedding in place, so each case has a
  model of its own. It resizes in float32, whatever the model's dtype.
- grad-cam averages the gradients over what its `reshape_transform` leaves, here the patches; it min-maxes the map, resizes it by
  OpenCV in float32 and min-maxes it again, each time with 1e-7 added to the range.

A LeGrad file holds `heatmaps` [T, H, W]; a grad-cam file `grids` [B, T, h, w], the maps behind their ReLU and before any scaling, in
float64, and `heatmaps` [B, T, H, W], float32. Both hold `texts` (unit) and `meta` (JSON). grad-cam's score is written here, as in the
package's CLIP example ("softmax") or as CLIP-ES has it ("softmax-of-mean").
"""

import argparse
import json
import sys
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

warnings.filterwarnings("ignore", message="Importing from timm")

REPO = Path(__file__).resolve().parents[2]
# the peers' environment has no fastloc: its modules for peers are found as the scripts beside them find them
sys.path.insert(0, str(REPO / "fastloc" / "bench" / "peers"))

from legrad import LeWrapper  # noqa: E402
from open_clip.model import CLIP, resize_pos_embed  # noqa: E402
from pytorch_grad_cam import GradCAM  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402
from seeded import seeded_pixels, seeded_state, seeded_texts, text_shapes, vision_shapes  # noqa: E402

GOLDENS = REPO / "tests" / "goldens"
TEXT = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
TINY = {"image_size": 48, "layers": 4, "width": 64, "head_width": 16, "patch_size": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 32, "vision_cfg": TINY, "text_cfg": TEXT},
    "tiny-quickgelu": {"embed_dim": 32, "vision_cfg": TINY, "text_cfg": TEXT, "quick_gelu": True},
    "tiny-layerscale": {
        "embed_dim": 32, "text_cfg": TEXT, "vision_cfg": TINY | {"ls_init_value": 0.5, "mlp_ratio": 2.0, "no_ln_pre": True},
    },
}
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One golden. size: of the square input. start: LeGrad's layer_index. target: of grad-cam."""

    package: str
    name: str
    config: str = "tiny"
    size: int = 48
    batch: int = 1
    texts: int = 3
    start: int = -2
    target: str = "softmax"
    scale: float = 100.0
    seed: int = 0
    # every how many pixels of the heatmaps, on both axes, are kept
    step: int = 3


CASES = (
    Case("legrad", "default"),
    Case("legrad", "all_blocks", start=0),
    Case("legrad", "last_block", "tiny-quickgelu", start=-1, seed=1),
    Case("legrad", "larger", "tiny-quickgelu", size=72, seed=2, texts=1, step=5),
    Case("legrad", "layerscale", "tiny-layerscale", start=1, seed=3),
    # a scale at which no share is 0 or 1: what grad-cam adds to a map's range, 1e-7, would be seen beside it
    Case("grad_cam", "default", scale=10.0),
    Case("grad_cam", "batch", "tiny-quickgelu", batch=2, scale=20.0, seed=1),
    Case("grad_cam", "larger", size=72, scale=10.0, seed=2, step=5),
    Case("grad_cam", "layerscale", "tiny-layerscale", seed=3),
    Case("grad_cam", "clip_es", "tiny-quickgelu", target="softmax-of-mean", seed=4),
)


def official_model(case: Case, dtype: torch.dtype) -> nn.Module:
    """open_clip's CLIP with the seed's weights; grad-cam's positions are resized when they are loaded, LeGrad's at every call."""
    config = CONFIGS[case.config]
    arrays = seeded_state(vision_shapes(config) | text_shapes(config), case.seed)
    state = {key: torch.from_numpy(array).to(dtype) for key, array in arrays.items()}
    resized = case.package == "grad_cam"
    clip = CLIP(**{**config, "vision_cfg": config["vision_cfg"] | ({"image_size": case.size} if resized else {})}).to(dtype)
    if resized:
        resize_pos_embed(state, clip)
    clip.load_state_dict(state)
    return clip.eval()


def legrad(case: Case, pixels: Tensor, texts: Tensor) -> Arrays:
    model = LeWrapper(official_model(case, pixels.dtype), layer_index=case.start)
    found = model.compute_legrad_clip(image=pixels, text_embedding=texts)
    return {"heatmaps": found.detach().numpy()[0, :, :: case.step, :: case.step]}


class Classifier(nn.Module):
    """Pixels -> shares of the texts."""

    def __init__(self, visual: Any, texts: Tensor, case: Case) -> None:
        super().__init__()
        self.visual, self.texts, self.case = visual, texts, case
        visual.output_tokens = True
        if case.target == "softmax-of-mean":
            # the projection is left to the mean
            self.proj, visual.proj = visual.proj, None

    def forward(self, pixels: Tensor) -> Tensor:
        pooled, tokens = self.visual(pixels)
        # the tokens that it gives back have passed the last LayerNorm
        embedding = pooled if self.case.target == "softmax" else tokens.mean(1) @ self.proj
        return (self.case.scale * nn.functional.normalize(embedding, dim=-1) @ self.texts.T).softmax(-1)


def grad_cam(case: Case, pixels: Tensor, texts: Tensor) -> Arrays:
    visual: Any = official_model(case, pixels.dtype).visual
    side, layer = case.size // 8, visual.transformer.resblocks[-1].ln_1

    def planes(tokens: Tensor) -> Tensor:
        # open_clip 2.23 carries [N, B, C]
        return tokens[1:].permute(1, 2, 0).reshape(tokens.shape[1], tokens.shape[2], side, side)

    cam, grids, maps = GradCAM(Classifier(visual, texts, case), [layer], planes), [], []
    for text in range(case.texts):
        targets = [ClassifierOutputTarget(text)] * len(pixels)
        maps.append(cam(input_tensor=pixels, targets=targets))
        seen = cam.activations_and_grads
        raw = cam.get_cam_image(pixels, layer, targets, seen.activations[0].numpy(), seen.gradients[0].numpy())
        grids.append(np.maximum(raw, 0))
    return {"grids": np.stack(grids, 1), "heatmaps": np.stack(maps, 1)[..., :: case.step, :: case.step]}


def answer(case: Case, dtype: torch.dtype) -> Arrays:
    pixels = torch.from_numpy(seeded_pixels((case.batch, 3, case.size, case.size), case.seed)).to(dtype)
    texts = nn.functional.normalize(torch.from_numpy(seeded_texts(case.texts, 32, case.seed)).to(dtype), dim=-1)
    found = (legrad if case.package == "legrad" else grad_cam)(case, pixels, texts)
    return {**found, "texts": texts.numpy()}


def write(case: Case, folder: Path) -> None:
    arrays = answer(case, torch.float64)
    packages = {name: version(name) for name in ("legrad_torch", "grad-cam", "open_clip_torch", "torch", "numpy")}
    meta = asdict(case) | {"model": CONFIGS[case.config], "versions": packages}
    path = folder / f"{case.package}{'_vit' if case.package == 'grad_cam' else ''}_{case.name}.npz"
    np.savez_compressed(path, meta=np.array(json.dumps(meta)), **arrays)
    least = min(float(each.max(axis=(-2, -1)).min()) for name, each in arrays.items() if name != "texts")
    if not least > 0 or not all(np.isfinite(each).all() for each in arrays.values()):
        raise SystemExit(f"golden {path.name} has a map of nothing but zeros, or a NaN; choose another seed")
    print(f"{path.name:44}{path.stat().st_size / 1000:7.1f} kB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=GOLDENS, help="folder of the files")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        write(case, args.out)


if __name__ == "__main__":
    main()
