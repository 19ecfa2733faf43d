"""The exported file's side of benchmarks/against_gem.py: the same graph in onnxruntime, without PyTorch in the process."""

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import numpy as np
import onnxruntime
from line_worker import Pass, serve

from fastloc import maps
from fastloc.geometry import fit
from fastloc.recipes import recipe

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
from seeded import seeded_pixels, seeded_texts  # noqa: E402

THREADS, TEXTS, DTYPE = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
EMBED, PATCH = 512, 16


def versions() -> dict[str, str]:
    return {"python": python_version(), **{name: version(name) for name in ("fastloc", "onnxruntime", "numpy")}}


def build(size: int) -> Pass:
    session = _session(size)
    fed = {"pixels": seeded_pixels((1, 3, size, size), 0), "text_embeddings": seeded_texts(TEXTS, EMBED, 0)}
    gem, geometry = recipe("gem"), fit((size, size), size, PATCH)

    def once() -> np.ndarray:
        grids = session.run(["similarity"], fed)[0]
        return maps.heatmaps(grids[0], geometry, gem.readout.order)

    return once


def _session(size: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    # the other sides' threads must find the cores free when this one waits
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gem.onnx"
        command = [sys.executable, str(HERE / "export_seeded.py"), str(size), DTYPE, str(TEXTS), str(file)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    serve(build, versions)
