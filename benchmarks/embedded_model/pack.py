"""Pack a training checkpoint as a model inside the package: float16 weights, and the token rows that training touched.

    python benchmarks/embedded_model/pack.py runs/embedded
    python benchmarks/embedded_model/pack.py runs/device               # as "embedded-device"
    python benchmarks/embedded_model/pack.py runs/device --folder try  # elsewhere, for a look at a run that goes on
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parents[1]
# the packages of benchmarks/ are found wherever this is started
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from embedded_model.emoji_scenes.captions import ARTICLES, JOINS, LISTS  # noqa: E402
from embedded_model.emoji_scenes.concepts import names  # noqa: E402
from embedded_model.towers import DEVICE as TOWER  # noqa: E402
from embedded_model.train import TEMPLATES  # noqa: E402
from fastloc.embedded import CONFIG, DEVICE, FOLDER, MODEL  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402

RECORDS = {FOLDER: HERE / "records" / "embedded_training.json", DEVICE: HERE / "records" / "device_training.json"}
# a tensor of the tower for devices alone
_OF_DEVICE = "visual.trunk.final_conv.se.fc1.weight"
# until `tune.py` chooses: the tower for devices has two blocks with attention
RECOMMENDED: dict[str, Any] = {
    "size": 112, "fit": "aspect", "recipes": {name: {"blocks": TOWER["depths"][-1]} for name in ("gem", "gem_matched", "clip_surgery")},
}  # fmt: skip


def known_words() -> list[str]:
    """Every word that a training caption could hold, lower case."""
    texts = [*names(), *TEMPLATES, *LISTS, *JOINS, *ARTICLES]
    return sorted({word for text in texts for word in re.findall(r"[^\W_]+", text.lower())})


def pack(run: Path, folder: Path | None = None) -> int:
    """Write model.safetensors and the names into the package, or all of a model into another folder; returns the file's size in bytes."""
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    tensors = {key: value.half().contiguous() for key, value in checkpoint["model"].items() if value.is_floating_point()}
    # attention masks and other buffers are made again when the model is built
    tensors = {key: value for key, value in tensors.items() if not key.endswith("attn_mask")}
    tensors["token_ids"] = checkpoint["token_ids"].to(torch.int32)
    if wide := [name for name, value in tensors.items() if not value.isfinite().all()]:
        raise ValueError(f"tensors must fit into float16, got larger numbers in {', '.join(wide)}")
    content = json.loads(CONFIG.read_text(encoding="utf-8"))
    content.setdefault("fastloc", {}).update(names=names(), words=known_words())
    if _OF_DEVICE in tensors:
        content = for_devices(content)
        kept = (folder or DEVICE) / CONFIG.name
        if kept.exists():
            content["fastloc"]["recommended"] = json.loads(kept.read_text(encoding="utf-8"))["fastloc"]["recommended"]
    folder = folder or (DEVICE if _OF_DEVICE in tensors else FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / MODEL.name, metadata={"format": "pt"})
    write_text(folder / CONFIG.name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if folder in RECORDS and (run / "record.json").exists():
        RECORDS[folder].parent.mkdir(exist_ok=True)
        shutil.copy(run / "record.json", RECORDS[folder])
    return (folder / MODEL.name).stat().st_size


def for_devices(content: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the tower for devices, from the embedded model's: its texts and names, no calibration of scores."""
    model = content["model_cfg"]
    vision = {"image_size": model["vision_cfg"]["image_size"], "timm_pool": "avg", "timm_proj": None, "fastvit": TOWER}
    kept = {name: content["fastloc"][name] for name in ("names", "words")}
    return {**content, "model_cfg": {**model, "vision_cfg": vision}, "fastloc": {**kept, "recommended": RECOMMENDED}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the --out folder of train.py")
    parser.add_argument("--folder", type=Path, help="folder to write in place of the package's")
    args = parser.parse_args()
    print(f"{pack(args.run, args.folder) / 1e6:.2f} MB")
