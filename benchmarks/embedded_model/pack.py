"""Pack a training checkpoint as the model inside the package: float16 weights, and the token rows that training touched.

    python benchmarks/embedded_model/pack.py runs/embedded
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parents[1]
# the packages of benchmarks/ are found wherever this is started
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from embedded_model.emoji_scenes.captions import ARTICLES, JOINS, LISTS  # noqa: E402
from embedded_model.emoji_scenes.concepts import names  # noqa: E402
from embedded_model.train import TEMPLATES  # noqa: E402
from fastloc.embedded import CONFIG, MODEL  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402

RECORD = HERE / "records" / "embedded_training.json"


def known_words() -> list[str]:
    """Every word that a training caption could hold, lower case."""
    texts = [*names(), *TEMPLATES, *LISTS, *JOINS, *ARTICLES]
    return sorted({word for text in texts for word in re.findall(r"[^\W_]+", text.lower())})


def pack(run: Path) -> int:
    """Write model.safetensors and the names into the package; returns the file's size in bytes."""
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    tensors = {key: value.half().contiguous() for key, value in checkpoint["model"].items() if value.is_floating_point()}
    # attention masks and other buffers are made again when the model is built
    tensors = {key: value for key, value in tensors.items() if not key.endswith("attn_mask")}
    tensors["token_ids"] = checkpoint["token_ids"].to(torch.int32)
    target = MODEL
    save_file(tensors, target, metadata={"format": "pt"})
    content = json.loads(CONFIG.read_text(encoding="utf-8"))
    content.setdefault("fastloc", {}).update(names=names(), words=known_words())
    write_text(CONFIG, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if (run / "record.json").exists():
        RECORD.parent.mkdir(exist_ok=True)
        shutil.copy(run / "record.json", RECORD)
    return target.stat().st_size


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the --out folder of train.py")
    print(f"{pack(parser.parse_args().run) / 1e6:.2f} MB")
