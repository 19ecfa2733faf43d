"""Write that tower with GEM as an ONNX file: `export_seeded.py SIZE DTYPE TEXTS FILE`. A process of its own, so that the one that is
timed holds neither PyTorch nor its memory."""

import sys
from pathlib import Path

from seeded_tower import seeded_tower

from fastloc.export.graph import Parts
from fastloc.export.int8 import quantized
from fastloc.export.options import Options
from fastloc.export.to_onnx import save, trace
from fastloc.recipes import recipe

if __name__ == "__main__":
    size, dtype, texts, file = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    model = trace(Parts(seeded_tower(), recipe("gem"), Options(dtype=dtype, size=(size, size), count=texts), None, None, None))
    save(quantized(model, dtype, []) if dtype.startswith("int8") else model, file)
