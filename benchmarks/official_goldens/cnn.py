"""Write tests/goldens/grad_cam_cnn_*.npz: answers of the `grad-cam` package (pytorch-grad-cam) for seeded classifiers and pictures.

Run it by hand in the peers' environment, `.venv-peers/pinned/bin/python benchmarks/official_goldens/cnn.py` (`make peers` makes that
environment); a minute on one core. Weights and BatchNorm's statistics are seeded, so no checkpoint is downloaded.

What surprises in the package, all of it kept in the answers:

- The map is min-maxed twice: on the grid, before it is resized (OpenCV, bilinear, float32), and on the picture. The second makes up for
  the first, so the result is that of a min-max on the picture alone. Each has 1e-7 added to what it divides by.
- The target is the logit of a class, not its share.
- Grad-CAM++ adds 1e-6 to the denominators of its shares, which is not small beside squares of gradients.
- A class's map is one backward pass from a sum over the batch, which is each picture's own as long as BatchNorm is in eval mode.

Each file holds, for one case: `maps` float64 [B, T, h, w] (behind the ReLU, before any scaling), `heatmaps` float32 [B, T, H, W] and `meta`
(JSON: settings and versions).
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

REPO = Path(__file__).resolve().parents[2]
# the peers' environment has no fastloc: its modules for peers are found as the scripts beside them find them
sys.path.insert(0, str(REPO / "fastloc" / "bench" / "peers"))

from seeded import seeded_array, seeded_pixels  # noqa: E402

GOLDENS = REPO / "tests" / "goldens"
# last part of a name -> (centre, deviation), of what has one axis
SPREADS = {"running_mean": (0.0, 0.3), "running_var": (1.0, 0.3), "weight": (1.0, 0.3), "bias": (0.0, 0.2)}


@dataclass(frozen=True)
class Case:
    """One golden; size is (height, width), layer a submodule's name, method a class of the package."""

    name: str
    model: str
    layer: str
    size: tuple[int, int] = (64, 96)
    batch: int = 2
    classes: tuple[int, ...] = (3, 281, 999)
    seed: int = 0
    method: str = "GradCAM"


CASES = (
    Case("resnet18", "torchvision:resnet18", "layer4"),
    Case("resnet18_layer3", "torchvision:resnet18", "layer3", classes=(7, 500), seed=1),
    Case("resnet18_layer1_conv", "torchvision:resnet18", "layer1.1.conv2", size=(32, 64), batch=1, classes=(0,), seed=2),
    Case("mobilenet_v2", "torchvision:mobilenet_v2", "features", size=(96, 64), seed=3),
    Case("timm_resnet10t", "timm:resnet10t", "layer4", batch=3, classes=(1, 2), seed=4),
    Case("resnet18_plus_plus", "torchvision:resnet18", "layer4", seed=5, method="GradCAMPlusPlus"),
    Case("timm_resnet10t_layer_cam", "timm:resnet10t", "layer3", size=(64, 64), classes=(5, 600), seed=6, method="LayerCAM"),
)


def network(model: str, seed: int) -> nn.Module:
    """A classifier with seeded weights and BatchNorm statistics, float64, in eval mode."""
    library, _, name = model.partition(":")
    if library == "timm":
        import timm

        module: nn.Module = timm.create_model(name, pretrained=False)
    else:
        import torchvision

        module = torchvision.models.get_model(name, weights=None)
    module.load_state_dict({key: _seeded(key, tensor, seed) for key, tensor in module.state_dict().items()})
    return module.double().eval()


def pixels(case: Any) -> Tensor:
    """Normalised pixels [B, 3, H, W], float64."""
    return torch.from_numpy(seeded_pixels((case.batch, 3, *case.size), case.seed)).double()


def _seeded(name: str, like: Tensor, seed: int) -> Tensor:
    if like.ndim == 0:
        return like
    # ReLU halves what it is given
    spread = SPREADS[name.rpartition(".")[2]] if like.ndim == 1 else (0.0, math.sqrt(2 / like[0].numel()))
    return torch.from_numpy(seeded_array(name, tuple(like.shape), seed, *spread))


def answer(case: Case) -> dict[str, np.ndarray]:
    """The package's maps and heatmaps of one case."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module, x = network(case.model, case.seed), pixels(case)
    layer = module.get_submodule(case.layer)
    maps, heatmaps = [], []
    for index in case.classes:
        with getattr(pytorch_grad_cam, case.method)(model=module, target_layers=[layer]) as tool:
            targets: list[Callable[[Tensor], Tensor]] = [ClassifierOutputTarget(index)] * case.batch
            heatmaps.append(tool(input_tensor=x, targets=targets))
            seen = tool.activations_and_grads
            arrays = [each[0].detach().numpy() for each in (seen.activations, seen.gradients)]
            maps.append(np.maximum(tool.get_cam_image(x, layer, targets, *arrays, False), 0))
    return {"maps": np.stack(maps, 1), "heatmaps": np.stack(heatmaps, 1)}


def write(case: Case, folder: Path) -> None:
    from importlib.metadata import version

    arrays = answer(case)
    flat = [(b, t) for b in range(case.batch) for t in range(len(case.classes)) if arrays["maps"][b, t].max() == 0]
    if len(flat) == arrays["maps"].shape[0] * arrays["maps"].shape[1]:
        raise SystemExit(f"golden {case.name}: every map is 0, which tests nothing")
    versions = {name: version(name) for name in ("grad-cam", "torch", "torchvision", "timm", "numpy")}
    path = folder / f"grad_cam_cnn_{case.name}.npz"
    np.savez_compressed(path, meta=np.array(json.dumps(asdict(case) | {"versions": versions})), **arrays)
    print(f"{path.name:44}{path.stat().st_size / 1000:7.1f} kB   maps {arrays['maps'].shape} {arrays['maps'].dtype}, empty: {flat}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=GOLDENS, help="folder of the files")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        write(case, args.out)


if __name__ == "__main__":
    main()
