"""A first heatmap with torch imports torch and little else: what takes long to import is left to what needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastloc import embedded

SAMPLE = embedded.SAMPLES / "garden.png"
# what the first heatmap of the embedded model does without, unless torch itself imports it
SPARED = (
    "torchvision", "timm", "open_clip", "transformers", "triton", "matplotlib", "onnxruntime", "onnx", "onnxscript", "sympy", "scipy",
    "huggingface_hub", "tokenizers", "ftfy", "regex", "torch._dynamo", "torch._inductor", "torch.onnx", "torch.utils._sympy",
    "numpy.f2py", "numpy.testing", "av", "starlette", "tensorrt", "PIL.PdfParser",
)  # fmt: skip
# only drawing and the command line need these
DRAWN = ("cmap", "rich")
PLAIN = "from fastloc import Localizer; assert Localizer()(sys.argv[1], ['cat']).heatmaps.max() == 1"
COMMAND = "from fastloc.cli import main; assert main(['locate', sys.argv[1], '-t', 'cat', '-o', 'made']) == 0"


def imported(code: str, folder: Path) -> set[str]:
    """The modules that this code imports in a fresh interpreter without a GPU, beyond those of torch."""
    script = f"import json, sys, torch\nbefore = set(sys.modules)\n{code}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    # Triton's interpreter, which other tests ask for, would make the plan ask its kernels
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-P", "-c", script, str(SAMPLE)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(("code", "spared"), [(PLAIN, (*SPARED, *DRAWN)), (COMMAND, SPARED)], ids=["Python", "command"])
def test_a_first_heatmap_imports_nothing_that_the_embedded_model_does_without(code: str, spared: tuple[str, ...], tmp_path: Path):
    found = imported(code, tmp_path)
    assert {"fastloc.engine.localizer", "fastloc.checkpoints.text_tower", "safetensors", "PIL.Image"} <= found
    assert not {name for name in spared if name in found}
    assert (tmp_path / "made" / "garden.gem.png").exists() == (code == COMMAND)


def test_templates_and_other_plain_models_spare_open_clip_too(tmp_path: Path):
    """A configuration and weights in a folder, text with an accent, the ensemble of 85 sentences, feature surgery, a second method."""
    code = f"""
from fastloc import Localizer
localizer = Localizer({str(embedded.FOLDER)!r}, method="clip_surgery", recommended=False)
localizer.with_method("sclip")(sys.argv[1], ["café", "dog & cat"])
assert len(localizer(sys.argv[1], ["cat", "dog"]).texts) == 2
"""
    found = imported(code, tmp_path)
    assert not {name for name in ("open_clip", "torchvision", "timm", "torch._dynamo", "scipy") if name in found}
    # which says that the text took the way of those that need repair
    assert {"ftfy", "regex"} <= found


def test_a_tag_is_looked_up_without_open_clip_s_package(tmp_path: Path):
    """So that a tag whose weights are not here fails as soon as the hub is known to be out of reach."""
    code = """
import os
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": "."}
from fastloc import FastlocError, Localizer
try:
    Localizer("ViT-B-16", "laion2b_s34b_b88k")
except FastlocError as error:
    assert "weights 'laion2b_s34b_b88k' of ViT-B-16 must be downloaded once, and HF_HUB_OFFLINE forbids it" in str(error)
else:
    raise AssertionError("there are weights in an empty cache")
"""
    found = imported(code, tmp_path)
    assert "huggingface_hub" in found and not {"open_clip", "torchvision", "timm", "torch._dynamo"} & found
