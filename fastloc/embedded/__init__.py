"""Files that come with fastloc: two small trained CLIPs, their records and three sample pictures. No other room holds their paths."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent
# the model as open_clip lays one out, and what is measured on it
CONFIG = FOLDER / "open_clip_config.json"
MODEL = FOLDER / "model.safetensors"
ECLIP = FOLDER / "eclip.safetensors"
TEMPERATURES = FOLDER / "temperatures.json"
QUALITY = FOLDER / "quality.json"
# the measurements that recommend a method for each kind of model
EVIDENCE = FOLDER / "evidence.json"
# the same model exported with GEM, and its text tower
GEM_ONNX = FOLDER / "gem.onnx"
GEM_TEXT_ONNX = FOLDER / "gem.text.onnx"
# pictures and masks, which samples.json describes
SAMPLES = FOLDER / "samples"
# a smaller one for devices, a FastViT: a folder of the same form, with the file of its quality
DEVICE = FOLDER / "device"
# the folder of each by the name that it is loaded by
FOLDERS = {"embedded": FOLDER, "embedded-device": DEVICE}


def holds(path: str | os.PathLike[str]) -> bool:
    """True for a file of this folder. These are made and tested with fastloc, and read without the checks for files from elsewhere."""
    return Path(path).resolve().is_relative_to(FOLDER.resolve())
