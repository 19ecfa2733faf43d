"""Write tests/goldens/evaluation_*.npz: whole evaluations of a picture by the segmentors of SCLIP and its kin, of seeded weights.

    python benchmarks/official_goldens/from_checkouts/evaluations.py CHECKOUTS [-o folder] [METHOD …]

CHECKOUTS holds the repositories by name, as in evaluation_cases.py, which lists the cases. Needs the packages of fastloc, einops and
opencv-python-headless below 5. Each segmentor is made by its own __init__ and asked by its own `predict`, with windows, thresholds and
refinement; mmseg, the text tower and the tokenizer are stood in for, and the picture is resized as mmcv resizes it, by cv2.INTER_LINEAR on
bytes. Towers are small, and windows and strides with them. What surprises in them, all of it kept in the answers:

- probabilities are of all names; a class has its best name's, so those of the classes do not sum to 1, and only NACLIP, PEARL and ResCLIP
  divide by their sum, behind the threshold;
- a class that is too small has probability 0 and gives way to the next one, and not to class 0;
- PAMR reads the normalised input, enlarged to the picture's size, and not the picture;
- ClearCLIP's padding is on both sides of a window, ProxyCLIP's is to a multiple of 56 whatever the patch is;
- ITACLIP blurs and grays normalised pixels, its closing is of class numbers as if they were brightness, so that of two classes the one with
  the higher number grows;
- ResCLIP's area threshold reads logits of the batch in place of the picture and fails: no configuration of theirs sets it.

Each file holds `picture` uint8 [H, W, 3], `texts` [T, E], `logits` [T, h, w], cosines at the picture's size before the scale, refined ones
where it refines, `probabilities` [C, h, w] of the classes, both every `step`-th pixel, and `labels` uint8 [H, W].
"""

import argparse
import importlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from evaluation_cases import METHODS, Case, Method
from seeded_checkout import GOLDENS, Checkout, ready, seeded_array, stub, texts
from segmentors import stub_mmseg
from torch import Tensor, nn

Bytes = npt.NDArray[np.uint8]


def picture(size: tuple[int, int], seed: int) -> Bytes:
    """Coarse blobs with a little noise, uint8 [H, W, 3]."""
    height, width = size
    blobs = seeded_array("blobs", (-(-height // 12), -(-width // 12), 3), seed, 128.0, 90.0).repeat(12, 0).repeat(12, 1)
    noise = seeded_array("noise", (height, width, 3), seed, 0.0, 1.0)
    return np.clip(np.rint(blobs[:height, :width] + noise), 0, 255).astype(np.uint8)


def resized(image: Bytes, short: int) -> Bytes:
    """The picture resized as by mmcv's Resize with keep_ratio and the scale (2048, short)."""
    import cv2

    height, width = image.shape[:2]
    factor = min(2048 / max(height, width), short / min(height, width))
    made: Bytes = cv2.resize(image, (int(width * factor + 0.5), int(height * factor + 0.5)), interpolation=cv2.INTER_LINEAR)
    return made


class Segmentor(nn.Module):
    """mmseg's base class, as far as it is asked: it keeps the preprocessor."""

    def __init__(self, data_preprocessor: Any) -> None:
        super().__init__()
        self.data_preprocessor = data_preprocessor


def made(method: Method, case: Case, script: ModuleType, words: Tensor) -> Any:
    """The segmentor by its own __init__; names are numbers, which the tokenizer hands on to the text tower."""
    net = method.model(case)
    net.encode_text = lambda tokens: words[tokens].clone()
    of_text = SimpleNamespace(tokenize=lambda sentences: torch.tensor([int(re.findall(r"\d+", each)[0]) for each in sentences]))
    kind, settings = getattr(script, method.kind), {"device": "cpu", **case.settings}
    if hasattr(script, "create_model"):
        script.create_model, script.tokenizer = lambda *_, **__: net, of_text
        settings |= {"clip_type": "CLIP", "model_type": "ClearCLIP"}
        settings |= {"vfm_model": "dino"} if method.folder == "ProxyCLIP" else {"vit_type": "B"}
    else:
        script.clip.load, script.clip.tokenize = lambda *_, **__: (net, None), of_text.tokenize
        settings |= {"model_name" if method.folder == "ITACLIP" else "clip_path": ""}
    torch.hub.load = lambda *_, **__: nn.Identity()
    numbers = iter(range(len(words)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "names.txt"
        path.write_text("\n".join(method.names.join(f"thing {next(numbers)}" for _ in range(count)) for count in case.names), "utf-8")
        return kind(name_path=str(path), **settings).double()


def golden(method: Method, case: Case, script: ModuleType) -> dict[str, Any]:
    words, shown = texts(sum(case.names), case.seed), picture(case.picture, case.seed)
    segmentor = made(method, case, script, words)
    segmentor.vfm_model = "none"
    of_pixels = segmentor.data_preprocessor
    mean, std = (torch.tensor(each, dtype=torch.float64) for each in (of_pixels.mean, of_pixels.std))
    pixels = (torch.from_numpy(resized(shown, case.short)).double() - mean) / std
    found: dict[str, Any] = {"picture": shown, "texts": words}
    finish, step = segmentor.postprocess_result, case.step

    def seen(logits: Tensor, *args: Any) -> Any:
        found["logits"] = logits[0, :, ::step, ::step].to(torch.float32)
        return finish(logits, *args)

    segmentor.postprocess_result = seen
    answers: dict[str, Any] = {}
    with torch.no_grad():
        segmentor.predict(pixels.permute(2, 0, 1)[None], [SimpleNamespace(metainfo={"ori_shape": case.picture}, set_data=answers.update)])
    labels = answers["pred_sem_seg"].data[0].numpy().astype(np.uint8)
    print(f"{case.name}: pixels of each class {np.bincount(labels.ravel(), minlength=len(case.names)).tolist()}")
    return {**found, "probabilities": answers["seg_logits"].data[:, ::step, ::step].to(torch.float32), "labels": labels}


def in_float64(module: ModuleType) -> None:
    """NACLIP's PAMR makes its array in the default dtype, and has no other."""
    forward = module.PAMR.forward

    def exactly(self: Any, *args: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        refined: Tensor = forward(self, *args)
        torch.set_default_dtype(torch.float32)
        return refined

    module.PAMR.forward = exactly


def write(name: str, checkouts: Path, out: Path) -> None:
    """The goldens of one method."""
    method = METHODS[name]
    source = ready(Checkout(checkouts / method.folder, method.repository, out))
    # casts to float32, for towers in half precision
    setattr(Tensor, "float", lambda self: self)  # noqa: B010
    stub_mmseg(*method.stubs)
    sys.modules["mmseg.models.segmentors"].BaseSegmentor = Segmentor
    sys.modules["mmseg.models.data_preprocessor"].SegDataPreProcessor = SimpleNamespace
    stub("ftfy", "regex")
    script = importlib.import_module(method.module)
    if "pamr" in sys.modules:
        in_float64(sys.modules["pamr"])
    for case in method.cases:
        source.write(f"evaluation_{name}_{case.name}", {"method": name, **asdict(case)}, golden(method, case, script))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, help="folder of the clones")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"by default all: {' '.join(METHODS)}")
    parser.add_argument("-o", "--out", type=Path, default=GOLDENS, help="folder of the files")
    args = parser.parse_args(arguments)
    if len(args.methods) == 1:
        write(args.methods[0], args.checkouts, args.out)
        return
    # the repositories' modules have one another's names
    for name in args.methods or METHODS:
        ended = subprocess.run([sys.executable, __file__, args.checkouts, name, "-o", args.out], check=False)
        if ended.returncode:
            raise SystemExit(f"{name} failed with exit status {ended.returncode}")


if __name__ == "__main__":
    main()
