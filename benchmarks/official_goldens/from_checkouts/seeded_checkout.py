"""Shared by the scripts beside this file: a checkout of authors' code, made to run in float64 with weights from a seed.

Authors' code is imported from where it lies and never copied. What it imports and does not need for its maps is stubbed, and its casts
are taken out: to half precision, which their GPUs want, to float32 in LayerNorm, and to a GPU. So an answer is what their arithmetic says,
to float64's last digits.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, ClassVar
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn

REPO = Path(__file__).resolve().parents[3]
# fastloc's modules for peers need no fastloc, and are found as the scripts beside them find them
sys.path.insert(0, str(REPO / "fastloc" / "bench" / "peers"))

from seeded import seeded_array, seeded_pixels, seeded_state, seeded_texts, text_shapes, vision_shapes  # noqa: E402, F401

GOLDENS = REPO / "tests" / "goldens"
EMBED = 32
TEXT = {"context_length": 6, "vocab_size": 16, "width": 64, "heads": 1, "layers": 2}
LARGEST = 60_000
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Checkout:
    """A repository of authors' code on this machine, at one commit."""

    folder: Path
    repository: str
    out: Path

    @property
    def commit(self) -> str:
        command = ["git", "-C", str(self.folder), "rev-parse", "HEAD"]
        return subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout.strip()

    def write(self, name: str, meta: Mapping[str, Any], arrays: Arrays) -> None:
        """tests/goldens/NAME.npz: the arrays, and what they are of. Ends the program for a golden that says nothing, or is too large."""
        values = {key: np.asarray(each.detach() if isinstance(each, Tensor) else each) for key, each in arrays.items()}
        for key, each in values.items():
            if not np.isfinite(each).all() or not each.any():
                raise SystemExit(f"{name}: {key} holds a NaN, or nothing but zeros: choose another seed")
        source = {"repository": self.repository, "commit": self.commit, "torch": version("torch"), "numpy": version("numpy")}
        path = self.out / f"{name}.npz"
        self.out.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, meta=np.array(json.dumps({**meta, "source": source})), **values)
        print(f"{path.name:44}{path.stat().st_size / 1000:7.1f} kB", flush=True)
        if path.stat().st_size > LARGEST:
            raise SystemExit(f"{path} is larger than {LARGEST / 1000:.0f} kB")


def checkout(repository: str, about: str | None) -> Checkout:
    """The checkout that the command line names, ready to import from."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help=f"folder of a clone of github.com/{repository}")
    parser.add_argument("-o", "--out", type=Path, default=GOLDENS, help="folder of the files")
    args = parser.parse_args()
    return ready(Checkout(args.checkout, repository, args.out))


def ready(source: Checkout) -> Checkout:
    """A checkout ready to import from: its folder is on sys.path, and float64 stays float64."""
    sys.path.insert(0, str(source.folder))
    for cast in ("half", "cuda"):
        setattr(Tensor, cast, lambda self: self)
    return source


class Stub(ModuleType):
    """A module from which any name can be imported."""

    __path__: ClassVar[list[str]] = []
    __version__ = "4.0"

    def __getattr__(self, key: str) -> MagicMock:
        if key.startswith("__"):
            raise AttributeError(key)
        return MagicMock(name=key)


def stub(*names: str, **attributes: Any) -> None:
    """Put stand-ins, with these attributes, in the place of modules that are imported and not needed here."""
    for name in names:
        sys.modules[name] = Stub(name)
        package, _, part = name.rpartition(".")
        if package in sys.modules:
            # an `import package.part as name` asks the package
            setattr(sys.modules[package], part, sys.modules[name])
        for key, value in attributes.items():
            setattr(sys.modules[name], key, value)


def exact(module: Any) -> None:
    """Take the cast to float32 out of a CLIP module's LayerNorm."""
    module.LayerNorm.forward = nn.LayerNorm.forward


def config(image: int, patch: int, layers: int, *, quick: bool = True, heads: int = 2, **vision: Any) -> dict[str, Any]:
    """An open_clip model configuration of a tower as wide as `heads` heads of 64, which is what authors' classes make of a width."""
    tower = {"image_size": image, "layers": layers, "width": 64 * heads, "head_width": 64, "patch_size": patch, **vision}
    return {"embed_dim": EMBED, "quick_gelu": quick, "vision_cfg": tower, "text_cfg": TEXT}


def state(of: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
    """The whole CLIP of a configuration, float64, under OpenAI's names, which are open_clip's."""
    arrays = seeded_state(vision_shapes(of) | text_shapes(of), seed)
    return {key: torch.from_numpy(array).double() for key, array in arrays.items()}


def logit_scale(of: Mapping[str, Any], seed: int) -> float:
    """The multiplier of its cosines."""
    return float(state(of, seed)["logit_scale"].exp())


def openai_clip(kind: Any, of: Mapping[str, Any], seed: int) -> Any:
    """A CLIP of the authors' class, whose arguments are OpenAI's, with the seed's weights."""
    tower, text = of["vision_cfg"], of["text_cfg"]
    made = kind(
        of["embed_dim"], tower["image_size"], tower["layers"], tower["width"], tower["patch_size"],
        text["context_length"], text["vocab_size"], text["width"], text["heads"], text["layers"],
    ).double()  # fmt: skip
    made.load_state_dict(state(of, seed))
    return made.eval()


def pixels(batch: int, size: Sequence[int], seed: int) -> Tensor:
    """Normalised pixels [B, 3, H, W], float64."""
    return torch.from_numpy(seeded_pixels((batch, 3, *size), seed)).double()


def texts(count: int, seed: int) -> Tensor:
    """Unit vectors [T, E] in place of encoded texts, float64."""
    return nn.functional.normalize(torch.from_numpy(seeded_texts(count, EMBED, seed)).double(), dim=-1)


def from_notebook(file: Path, holding: Sequence[str], **names: Any) -> ModuleType:
    """The code cells of a notebook that hold one of these pieces, as a module that has these names beforehand."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    kept = [source for source in sources if any(piece in source for piece in holding)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "cells.py"
        path.write_text("\n".join(kept), encoding="utf-8")
        spec = spec_from_file_location("cells", path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        vars(module).update(names)
        spec.loader.exec_module(module)
    return module


class Stopped(Exception):
    """Raised within authors' code where it has computed what a golden holds."""
