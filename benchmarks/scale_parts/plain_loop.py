"""The loop that people write around open_clip and GEM: a picture after the other, decoded by Pillow, in batches of one.

    python benchmarks/scale_parts/plain_loop.py FOLDER OUT.jsonl --model ViT-B-16 --size 224 -t cat "red car"

Loading, the transform and the text encoder are open_clip's; GEM runs in the tensor ops of the official package
(`fastloc.bench.backends.official_gem`), whose own wrapper needs an older open_clip. It writes each picture's peaks and boxes, as JSON
lines, and prints as JSON how many it did and how many a second. Weights are random but for the embedded model's image tower: what
is measured is what it costs.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms.functional import InterpolationMode, normalize, pil_to_tensor, resize

from fastloc import embedded
from fastloc.bench.backends import official_gem
from fastloc.checkpoints import vit_layouts
from fastloc.checkpoints.vit_spec import from_open_clip

MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


class Plain:
    """A model and its texts: `Plain("ViT-B-16", (224, 224), ["cat"])(picture)`. "embedded" is the one that fastloc ships."""

    def __init__(self, model: str, size: tuple[int, int], texts: Sequence[str]) -> None:
        torch.manual_seed(0)
        config = _config(model)
        clip = open_clip.CLIP(**config).eval()
        if model == "embedded":
            # its text tower has a vocabulary of its own; texts are encoded once, before the time begins
            clip.load_state_dict({name: each for name, each in load_file(embedded.MODEL).items() if name.startswith("visual.")}, False)
        visual = {name: tensor for name, tensor in clip.state_dict().items() if name.startswith("visual.")}
        self.weights = vit_layouts.from_open_clip(visual, from_open_clip(config))
        self.size, self.texts = size, list(texts)
        tokenizer = open_clip.get_tokenizer("ViT-B-16", context_length=config["text_cfg"]["context_length"])
        with torch.inference_mode():
            self.embeddings = clip.encode_text(tokenizer([f"a photo of a {text}" for text in texts]), normalize=True)

    @torch.inference_mode()
    def __call__(self, picture: Image.Image) -> list[dict[str, Any]]:
        pixels = resize(picture.convert("RGB"), list(self.size), InterpolationMode.BICUBIC)
        x = normalize(pil_to_tensor(pixels) / 255, MEAN, STD)[None]
        maps = official_gem.gem(self.weights, x, self.embeddings, size=(picture.height, picture.width))[0]
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        maps = (maps - low) / (high - low)
        found = []
        for text, heat in zip(self.texts, maps, strict=True):
            peak = int(heat.argmax())
            mask = (heat >= 0.5).nonzero()
            (y0, x0), (y1, x1) = mask.amin(0).tolist(), mask.amax(0).tolist()
            found.append({"text": text, "x": peak % picture.width, "y": peak // picture.width, "box": [x0, y0, x1 + 1, y1 + 1]})
        return found


def _config(model: str) -> dict[str, Any]:
    if model == "embedded":
        return dict(json.loads(embedded.CONFIG.read_text(encoding="utf-8"))["model_cfg"])
    return dict(open_clip.get_model_config(model))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="ViT-B-16")
    parser.add_argument("--size", type=int, nargs=2, default=(224, 224))
    parser.add_argument("--seconds", type=float, default=1e9, help="seconds after which to stop")
    parser.add_argument("-t", dest="texts", nargs="+", required=True)
    args = parser.parse_args()
    plain = Plain(args.model, tuple(args.size), args.texts)
    paths, done = sorted(args.folder.iterdir()), 0
    # the first call warms up
    plain(Image.open(paths[0]))
    began = time.perf_counter()
    with args.out.open("w", encoding="utf-8") as file:
        for path in paths:
            file.write(json.dumps({"file": path.name, "found": plain(Image.open(path))}) + "\n")
            done += 1
            if time.perf_counter() - began > args.seconds:
                break
    print(json.dumps({"pictures": done, "steady": done / (time.perf_counter() - began)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
