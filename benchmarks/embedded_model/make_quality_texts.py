"""Write benchmarks/quality_texts.safetensors: the quality set's names as the embedded model's text tower encodes them.

    python benchmarks/embedded_model/make_quality_texts.py

For machines without open_clip, such as the one that `gpu.py` measures on: float32, for every template that a recipe names the names'
embeddings and, last, the empty text's. The file notes the sha256 of the weights it was made with, and is refused with others.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from fastloc.checkpoints import loading  # noqa: E402
from gpu_parts import scenes  # noqa: E402


def main() -> None:
    encoder, names = loading.load("embedded").text, scenes.names()
    templates = sorted({row.template for row in scenes.variants().values()})
    tensors = {each: torch.cat([encoder(names, each), encoder.empty(each)[None]]).contiguous() for each in templates}
    save_file(tensors, scenes.TEXTS, {"model_sha256": scenes.fingerprint(), "names": json.dumps(names)})
    print(f"{scenes.TEXTS}: {len(names)} names x {len(templates)} templates, {scenes.TEXTS.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
