"""Write tests/goldens/pearl_propagation_*.npz: what PEARL's text-aware Laplacian propagation makes of seeded maps and pictures.

    python benchmarks/official_goldens/from_checkouts/pearl_propagation.py CHECKOUT [-o tests/goldens]

CHECKOUT is a clone of https://github.com/PGSmall/PEARL; its pearl/prop.py needs nothing but torch. The official module computes in float32
whatever it is given, by `Tensor.float`; here that call gives float64, so that the goldens hold to more places.

What surprises in the official code, all of it kept in the answers:

- The class affinity enters by its diagonal alone: the product names the class axis twice.
- Pooling leaves out the rows and columns that fill no cell, and the result is enlarged to the whole picture nevertheless.
- Python's `round` takes an even number from the middle: 2.5 pixels a cell are 2.
- Confidence is of a softmax of cosines at temperature 1, hence nearly 1 / T.

A file holds `picture` uint8 [H, W, 3], `similarity` float32 [T, h, w], which is enlarged bilinearly to the picture first, `texts` float32
[T, E], `maps` float64 [T, H, W] at every `step`-th pixel, and `meta` (JSON).
"""

import argparse
import importlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fastloc.bench.peers.seeded import seeded_array, seeded_texts

REPO = Path(__file__).resolve().parents[3]
# of the official data preprocessor, for bytes
MEAN, STD = (122.771, 116.746, 104.094), (68.501, 66.632, 70.323)


@dataclass(frozen=True)
class Case:
    """One golden. spread: the deviation of the scores. alike: what all texts share, so that their cosines lie near 0.75."""

    name: str
    size: tuple[int, int]
    texts: int = 3
    grid: int = 80
    spread: float = 0.03
    alike: float = 0.22
    step: int = 5
    seed: int = 0


CASES = (
    Case("default", (110, 150), grid=34),
    Case("one_text", (40, 48), texts=1, seed=1),
    # the least confidence everywhere
    Case("many_texts", (96, 64), texts=24, grid=32, seed=2, step=7),
    # shares from 0 to 1: ties are clipped
    Case("sure", (50, 70), texts=4, grid=28, spread=4.0, alike=0.0, seed=3, step=3),
)


def inputs(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The picture, of coarse blobs and a little noise, the similarity on a coarse grid, and the texts."""
    (height, width), seed = case.size, case.seed
    blobs = seeded_array("blobs", (-(-height // 16), -(-width // 16), 3), seed, 128.0, 60.0).repeat(16, 0).repeat(16, 1)[:height, :width]
    noise = seeded_array("noise", (height, width, 3), seed, 0.0, 1.5)
    similarity = seeded_array("similarity", (case.texts, 7, 9), seed, 0.2, case.spread)
    texts = seeded_texts(case.texts, 64, seed) + case.alike
    return np.clip(np.rint(blobs + noise), 0, 255).astype(np.uint8), similarity, texts


def answer(module: ModuleType, case: Case) -> np.ndarray:
    """The official maps, float64 [T, H, W]."""
    picture, similarity, texts = inputs(case)
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (MEAN, STD))
    pixels = (torch.from_numpy(picture).double() - mean) / std
    cosines = F.interpolate(torch.from_numpy(similarity).double()[None], size=case.size, mode="bilinear", align_corners=False)
    propagation: Any = module.TLP(grid=case.grid)
    propagation.bind_text(torch.from_numpy(texts).double())
    found: np.ndarray = propagation(pixels.permute(2, 0, 1)[None], cosines)[0].numpy()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a clone of PGSmall/PEARL")
    parser.add_argument("-o", "--out", type=Path, default=REPO / "tests" / "goldens", help="folder of the files")
    args = parser.parse_args()
    asked = ["git", "-C", str(args.checkout), "rev-parse", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, encoding="utf-8", check=True).stdout.strip()
    sys.path.insert(0, str(args.checkout))
    module = importlib.import_module("pearl.prop")
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    for case in CASES:
        picture, similarity, texts = inputs(case)
        maps = answer(module, case)[:, :: case.step, :: case.step]
        if maps.dtype != np.float64 or not np.isfinite(maps).all():
            raise SystemExit(f"golden {case.name} is {maps.dtype}, or holds a NaN")
        meta = asdict(case) | {"repository": "https://github.com/PGSmall/PEARL", "commit": commit, "torch": torch.__version__}
        path = args.out / f"pearl_propagation_{case.name}.npz"
        np.savez_compressed(path, meta=np.array(json.dumps(meta)), picture=picture, similarity=similarity, texts=texts, maps=maps)
        print(f"{path.name:40}{path.stat().st_size / 1000:7.1f} kB", flush=True)


if __name__ == "__main__":
    main()
