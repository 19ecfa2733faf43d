"""The modules that mutation testing changes, and the tests that should notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["REPO", "TARGETS", "Target"]

REPO = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Target:
    """A module, the tests that should notice its mutants, and packages that its tests import, which are imported once for all."""

    module: str
    tests: tuple[str, ...]
    imports: tuple[str, ...] = ("numpy", "PIL.Image", "torch")

    @property
    def file(self) -> Path:
        return REPO / Path(*self.module.split(".")).with_suffix(".py")


_IMAGING = ("tests/imaging/test_axis_sampling.py", "tests/imaging/test_geometry.py")
_RECIPES = tuple(f"tests/recipes/test_{name}.py" for name in ("validation", "schema", "recipes", "register_neurons"))
_REGIONS = ("tests/imaging/test_regions.py", "tests/results/test_readouts.py")
_RESULTS = ("tests/results/test_sam_points.py", "tests/results/test_result.py", "tests/results/test_readouts.py")
TARGETS = {
    "geometry": Target("fastloc.imaging.geometry", _IMAGING, ("numpy", "PIL.Image", "torch", "torchvision")),
    "axis_sampling": Target("fastloc.imaging.axis_sampling", _IMAGING, ("numpy", "PIL.Image", "torch", "torchvision")),
    "manifest": Target("fastloc.onnx_file.manifest", ("tests/onnx_file/test_manifest.py", "tests/onnx_file/test_damage.py")),
    "protobuf": Target("fastloc.onnx_file.protobuf", ("tests/onnx_file/test_protobuf.py",)),
    "protocol": Target("fastloc.live.protocol", ("tests/live/test_protocol.py", "tests/live/test_messages.py")),
    "attention": Target("fastloc.functional.attention", ("tests/functional/test_attention.py",)),
    "readout": Target("fastloc.functional.readout", ("tests/functional/test_readout.py", "tests/functional/test_similarity.py")),
    "similarity": Target("fastloc.functional.similarity", ("tests/functional/test_similarity.py",)),
    "bilinear": Target("fastloc.imaging.bilinear", ("tests/imaging/test_bilinear.py",)),
    "validation": Target("fastloc.recipes.validation", _RECIPES),
    "schema": Target("fastloc.recipes.schema", _RECIPES),
    "presence": Target("fastloc.recipes.presence", ("tests/recipes/test_presence.py",)),
    "boxes": Target("fastloc.results.boxes", _RESULTS),
    "sam_points": Target("fastloc.results.sam_points", _RESULTS),
    "shares": Target("fastloc.imaging.readouts.shares", ("tests/imaging/test_shares.py",)),
    "runs": Target("fastloc.imaging.readouts.runs", _REGIONS),
    "run_lengths": Target("fastloc.imaging.readouts.run_lengths", _REGIONS),
    "regions": Target("fastloc.imaging.readouts.regions", _REGIONS),
    "procrustes": Target("fastloc.functional.methods.procrustes", ("tests/functional/test_procrustes.py",)),
    "rotary": Target("fastloc.functional.rotary", ("tests/functional/test_rotary.py",)),
}
