"""Common parts of the peers' workers: a case's inputs on its device, and open_clip's own module with a case's weights.

A case is `fastloc.bench.cases.Case.to_dict()`. As everything in this folder, it imports no part of fastloc.
"""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

Case = dict[str, Any]
# CLIP's own, where a case's preprocess configuration does not say
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# open_clip's CLIP class insists on a text tower; texts are encoded beforehand, so this one is never called
_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, PyTorch, numpy and those of these packages that are installed, in this process."""
    found = {"python": python_version()}
    for name in (*packages, "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class Inputs:
    """A case's inputs, in its dtype on its device. Sets PyTorch's number of threads to the case's.

    Attributes: `texts` [T, E], unit length; `frames` uint8 [B, H, W, 3], in host memory; `size` (h, w) of the input, `grid` of patches.
    """

    def __init__(self, case: Case) -> None:
        torch.set_num_threads(case["threads"])
        self.device, self.dtype = torch.device(case["device"]), getattr(torch, case["dtype"])
        folder = Path(case["inputs"])
        self._pixels = [self.placed(torch.from_numpy(np.load(file))) for file in sorted(folder.glob("pixels-*.npy"))]
        self.texts = self.placed(torch.from_numpy(np.load(folder / "texts.npy")))
        self.frames = np.load(folder / "frames.npy")
        self.size, patch = tuple(case["size"]), case["config"]["vision_cfg"]["patch_size"]
        self.grid = self.size[0] // patch, self.size[1] // patch
        self.mean, self.std = (tuple(case["preprocess"].get(key) or usual) for key, usual in (("mean", MEAN), ("std", STD)))

    def pixels(self, call: int) -> Tensor:
        """[B, 3, h, w], normalised: calls take the inputs in turns."""
        return self._pixels[call % len(self._pixels)]

    def placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype)

    def grids(self, patches: Tensor) -> Tensor:
        """Patch features [B, P, E], unit length -> their cosines with the texts [B, T, h, w]."""
        return (patches @ self.texts.T).mT.reshape(len(patches), -1, *self.grid)


def clip(case: Case, given: Inputs, resized: bool = False) -> nn.Module:
    """open_clip's CLIP with the case's image tower, on its device, ready to be called; its text tower is an empty shell.

    resized: trained positions are resized to the case's input, by open_clip's own loader. Others do so at every call, by themselves.
    """
    from open_clip.model import CLIP, resize_pos_embed

    config = case["config"]
    vision = {**config["vision_cfg"], "image_size": given.size} if resized else config["vision_cfg"]
    model: nn.Module = CLIP(config["embed_dim"], vision, _NO_TEXT, quick_gelu=bool(config.get("quick_gelu")))
    state = {name: tensor for name, tensor in load_file(case["weights"]).items() if name.startswith("visual.")}
    if resized:
        resize_pos_embed(state, model)
    state |= {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("visual.")}
    model.load_state_dict(state)
    return model.eval().to(given.device, given.dtype)


def compiled(case: Case, module: Any) -> Any:
    """The module, through torch.compile where the case asks for it."""
    return torch.compile(module) if case["compiled"] else module


def answered(call: Callable[[int], Tensor]) -> Callable[[], np.ndarray[Any, Any]]:
    """A pass's answer to input 0, float32, in host memory."""

    def answer() -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = call(0).float().cpu().numpy()
        return found

    return answer
