"""The main job where nothing but numpy, Pillow and onnxruntime can be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastloc.onnx_file.golden import picture, unit_texts
from fastloc.text.embeddings import TextEmbeddings
from onnx_files import EMBED, tiny_model

REFUSED = ("torch", "torchvision", "open_clip", "onnx", "onnxscript", "onnx_ir", "safetensors", "triton", "tokenizers", "scipy", "rich",
           "cmap", "timm", "huggingface_hub")  # fmt: skip
ALLOWED = {"numpy", "PIL", "onnxruntime", "fastloc"}
NAMES = ("cat", "dog", "a red car")

RUN = f"""
import json, sys, time

class Refuse:
    tried = []
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {REFUSED!r}:
            self.tried.append(name)
            raise ModuleNotFoundError(f"no {{name}} here", name=name)

sys.meta_path.insert(0, Refuse())
before = set(sys.modules)
start = time.perf_counter()
from fastloc.runtime.localizer import OnnxLocalizer
took = time.perf_counter() - start
light = sorted({{name.partition(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names))
import onnxruntime
whole = time.perf_counter() - start

file, image, embeddings = sys.argv[1:]
localizer = OnnxLocalizer(file, embeddings=embeddings or None)
result = localizer(image)
print(json.dumps({{
    "tried": Refuse.tried, "light": light, "modules": sorted({{name.partition(".")[0] for name in sys.modules}}),
    "texts": result.texts, "points": [[point.x, point.y] for point in result.points()], "heat": float(result.heatmaps.max()),
    "similarity": result.similarity.tolist(), "import_ms": round(1000 * took), "with_onnxruntime_ms": round(1000 * whole),
}}))
"""


@pytest.fixture(params=["baked", "npz"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """A file, a picture, and embeddings or ""."""
    baked = request.param == "baked"
    made = tiny_model(tmp_path / "tiny.onnx", names=NAMES if baked else ())
    Image.fromarray(picture(0, (60, 80))).save(tmp_path / "picture.png")
    if baked:
        return [str(tmp_path / "tiny.onnx"), str(tmp_path / "picture.png"), ""]
    TextEmbeddings(NAMES, unit_texts(7, 3, EMBED), "gem", made.model.text).save(tmp_path / "texts.npz")
    return [str(tmp_path / name) for name in ("tiny.onnx", "picture.png", "texts.npz")]


def test_the_main_job_needs_numpy_pillow_and_onnxruntime_alone(
    files: list[str], tmp_path: Path, record_property: Callable[[str, object], None]
):
    done = subprocess.run([sys.executable, "-c", RUN, *files], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["texts"] == list(NAMES) and len(report["points"]) == 3 and report["heat"] == 1.0
    assert np.isfinite(report["similarity"]).all()
    assert not set(report["modules"]) & set(REFUSED), "imported although refused"
    assert set(report["light"]) <= ALLOWED, f"importing the engine imports {set(report['light']) - ALLOWED}"
    assert not [name for name in report["tried"] if not name.startswith("onnx")], f"tried to import {report['tried']}"
    record_property("import_ms", report["import_ms"])
    record_property("import_with_onnxruntime_ms", report["with_onnxruntime_ms"])
    print(f"import {report['import_ms']} ms, with onnxruntime {report['with_onnxruntime_ms']} ms")
