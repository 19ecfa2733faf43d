"""Pack the embedded model as ONNX, for environments without torch: gem.onnx and gem.text.onnx, which read model.safetensors beside them.

python benchmarks/embedded_model/pack_onnx.py
"""

import os
import tempfile
from pathlib import Path

import onnx

import fastloc
from fastloc import embedded
from fastloc.export.onnx_file import check
from fastloc.export.text.export import export_text
from fastloc.export.text.share_weights import share
from fastloc.export.to_onnx import Options, export

LICENCE = "Apache-2.0"
# any number of pictures, of any size, with any texts
OPTIONS = Options(spelling="ort", batch=None, size=None, licence=LICENCE)


def pack(folder: Path = embedded.FOLDER) -> dict[Path, int]:
    """Write both files into a folder that holds model.safetensors; returns their sizes in bytes."""
    localizer = fastloc.Localizer()
    sizes = {}
    with tempfile.TemporaryDirectory() as scratch:
        export(localizer, Path(scratch) / "gem.onnx", OPTIONS)
        export_text(localizer.source, Path(scratch) / "gem.text.onnx", licence=LICENCE)
        for made in sorted(Path(scratch).glob("*.onnx")):
            sizes[folder / made.name] = _shared(made, folder / made.name)
    return sizes


def _shared(made: Path, target: Path) -> int:
    """Write an exported file without its weights, whole or not at all; returns its size."""
    model = onnx.load(made)
    share(model, embedded.MODEL)
    # in the folder of the weights, which the check looks for
    part = target.with_name(f".{target.name}.part")
    try:
        onnx.save_model(model, str(part))
        check(part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size


if __name__ == "__main__":
    for path, size in pack().items():
        print(f"{path.name}: {size / 1e6:.2f} MB")
    print(f"in all: {sum(each.stat().st_size for each in embedded.FOLDER.iterdir() if each.is_file()) / 1e6:.2f} MB")
