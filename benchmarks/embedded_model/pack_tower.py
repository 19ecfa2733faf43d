"""Write a tower that train.py trained as a model folder, for measuring: open_clip_config.json and model.safetensors, float32.

    python benchmarks/embedded_model/pack_tower.py runs/siglip packed/siglip

The tower is described field by field ("vit" in vision_cfg), and its tensors have timm's names behind `visual.trunk.`. Recommended
parameters are those of the embedded CLIP, because nothing was tuned for these towers. Such folders are not shipped.
"""

import argparse
import json
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

from embedded_model.towers import TOWERS, Tower  # noqa: E402
from fastloc.embedded import CONFIG  # noqa: E402

# facts of the training that the folder holds, beside the model
TRAINING = "training.json"


def described(tower: Tower) -> dict[str, Any]:
    """The model's open_clip_config.json."""
    content: dict[str, Any] = json.loads(CONFIG.read_text(encoding="utf-8"))
    vision = content["model_cfg"]["vision_cfg"]
    sizes = {
        "width": vision["width"], "layers": vision["layers"], "heads": vision["width"] // vision["head_width"],
        "patch": [vision["patch_size"]] * 2, "image": [vision["image_size"]] * 2,
    }  # fmt: skip
    content["model_cfg"]["vision_cfg"] = {"vit": {**sizes, **dict(tower.fields)}}
    content["preprocess_cfg"] = {**content["preprocess_cfg"], "mean": list(tower.mean), "std": list(tower.std)}
    content["fastloc"] = {key: content["fastloc"][key] for key in ("names", "words", "recommended")}
    return content


def pack(run: Path, folder: Path) -> Path:
    """Write the model that a run holds into a folder; returns the folder.

    Raises FileNotFoundError for a run without a checkpoint, and ValueError for one of the embedded CLIP, which pack.py packs.
    """
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    state = checkpoint["model"]
    if not any(name.startswith("visual.trunk.") for name in state):
        raise ValueError(f"the run must be of a tower with a trunk of timm's, got {run}; pack.py packs the embedded CLIP")
    tensors = {name: value.contiguous() for name, value in state.items() if value.is_floating_point() and not name.endswith("attn_mask")}
    # the angles of RoPE follow from the grid
    tensors = {name: value for name, value in tensors.items() if ".rope." not in name}
    tensors["token_ids"] = checkpoint["token_ids"].to(torch.int32)
    tower = TOWERS["pe" if "visual.trunk.cls_token" in state else "siglip"]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "open_clip_config.json").write_text(json.dumps(described(tower), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if (run / "record.json").exists():
        shutil.copy(run / "record.json", folder / TRAINING)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the --out folder of train.py")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    print(pack(args.run, args.folder))
