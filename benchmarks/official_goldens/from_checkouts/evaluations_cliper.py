"""Write tests/goldens/evaluation_cliper_*.npz: whole evaluations of a picture by CLIPer's own code, of seeded weights and texts.

    python benchmarks/official_goldens/from_checkouts/evaluations_cliper.py CHECKOUT [-o folder]

Its CLIPer, its Pipeline without Stable Diffusion, its reader of Cityscapes, its rule for labels and its metric are run as they are;
ovs/main_ovs.py, a script, is restated in the few lines that lie between them. open_clip's model stands in for OpenAI's, as in cliper.py.
What surprises in them, all of it kept in the answers:

- a class is dropped by its map's largest cell, and what is left is compared by maps that are multiplied by it;
- maps are divided by the largest value of the enlarged map, and that largest cell was measured before;
- with a background threshold of 0, which its demo alone sets, the background is (1 - largest)^2;
- the two squares of a picture of Cityscapes are cut at the label's height, the right one first, and are questions of their own;
- the metric adds 1e-5 to unions, and leaves out classes that are not in the truth, though they may be predicted.

Each file holds `picture` uint8 [H, W, 3], `texts` [T, E], `background` [K, E], `maps` [T, h, w] at the picture's size, every `step`-th
pixel, `labels` uint8 [H, W], 0 where no class is left, `truth` uint8 [H, W], `iou` [C] of every class, the background's first, and `miou`.
The two squares of a picture have a leading axis, right one first, in `maps`, `labels` and `truth`.
"""

import importlib
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from evaluations import Bytes, picture
from open_clip.model import CLIP
from PIL import Image
from seeded_checkout import Checkout, checkout, config, state, stub, texts
from torch.nn.functional import interpolate
from torchvision import transforms

CONFIG = config(64, 16, 5)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NAME = "city/city_000000_000000"


@dataclass(frozen=True)
class Case:
    """One golden: what its configurations set, and whether the picture is read as one of Cityscapes."""

    name: str
    seed: int
    picture: tuple[int, int] = (75, 110)
    texts: int = 4
    background: int = 1
    short: int = 80
    scale: int = 100
    attention: float = 0.1
    score: float = 0.7
    below: float = 0.6
    normalized: bool = False
    ignored: tuple[int, ...] = (255,)
    squares: bool = False
    step: int = 5


CASES = (
    Case("normalized", 116, normalized=True),
    Case("background", 129, background=3, score=0.3, below=0.3, attention=0.2, scale=50),
    # as on sets without a background, whose label 0 is ignored
    Case("all_classes", 98, picture=(97, 64), score=0.0, below=0.001, ignored=(0, 255)),
    Case("squares", 83, background=2, picture=(64, 128), score=0.0, below=0.0001, attention=0.35, ignored=(0, 255), squares=True),
)


def truth(case: Case) -> Bytes:
    """Labels in coarse blocks, of which one is ignored and the last class is none; without background's as Cityscapes stores them."""
    height, width = case.picture
    rows, columns = np.arange(height)[:, None] // 24, np.arange(width)[None] // 20
    labels = (rows * 3 + columns) % (case.texts - 1 if case.squares else case.texts)
    return np.where((rows == 1) & (columns == 1), 255, labels).astype(np.uint8)


def samples(case: Case, shown: Bytes, labels: Bytes, transform: Any) -> list[tuple[Any, Any, Any]]:
    """The picture in [0, 1], the input and the truth, of the picture or of the squares that its reader of Cityscapes cuts."""
    if not case.squares:
        whole = torch.from_numpy(shown).permute(2, 0, 1) / 255.0
        return [(whole, transform(Image.fromarray(shown)), torch.from_numpy(labels))]
    reader = importlib.import_module("data.cityscapes.city_datasets").CitySegDataset
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "city").mkdir()
        Image.fromarray(shown).save(f"{folder}/{NAME}_leftImg8bit.png")
        Image.fromarray(labels).save(f"{folder}/{NAME}_gtFine_labelTrainIds.png")
        made = reader.__new__(reader)
        fields = {"name_list": [NAME], "label_root": folder, "city_root": folder, "category_number": case.texts}
        for name, value in {**fields, "img_transform": transform, "label_transform": None}.items():
            setattr(made, name, value)
        return [made[index][:3] for index in range(len(made))]


def answer(case: Case, pipelines: Any, miou: Any) -> dict[str, Any]:
    clip = CLIP(**CONFIG).double()
    clip.load_state_dict(state(CONFIG, case.seed))
    for block in clip.visual.transformer.resblocks:
        block.attn.batch_first = False
    after = [transforms.Lambda(lambda image: image.convert("RGB")), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    sys.modules["modified_clip.model"].clip.load = lambda *_, **__: (clip, SimpleNamespace(transforms=[None, None, *after]))
    settings = SimpleNamespace(
        attn_type="fused-attn", fuse_feature=True, size=case.short, select_layer=-1, model_name="ViT-B/16", logit_scale=case.scale,
        attention_thr=case.attention, sliding_crop_size=0, refinement="None",
    )  # fmt: skip
    pipeline = pipelines.Pipeline(settings, "cpu")
    words, shown = texts(case.texts + case.background, case.seed), picture(case.picture, case.seed)
    foreground, background = words[: case.texts], words[case.texts :]
    metric = miou.ShowSegmentResult(case.texts + 1, list(case.ignored))
    found: dict[str, list[Any]] = {"maps": [], "labels": [], "truth": []}
    for whole, pixels, labels in samples(case, shown, truth(case), pipeline.cliper.preprocess):
        with torch.no_grad():
            mask, score = pipeline(whole[None], pixels[None].double(), foreground, background)
        # ovs/main_ovs.py
        mask = interpolate(mask[None], size=labels.shape, mode="bilinear")[0]
        mask = mask / (mask.amax((-1, -2), keepdim=True) + 1e-5) * score[..., None, None]
        found["maps"].append(mask[:, :: case.step, :: case.step].to(torch.float32))
        _, chosen = miou.cam_to_label(mask[None].clone(), score[None], case.below, case.score, case.normalized)
        metric.add_prediction(labels.numpy(), chosen[0].numpy())
        found["labels"].append(chosen[0].to(torch.uint8))
        found["truth"].append(labels)
    print(f"{case.name}: pixels of each class {np.bincount(torch.cat(found['labels']).ravel(), minlength=case.texts + 1).tolist()}")
    result = metric.calculate()
    arrays = {name: torch.stack(values) if case.squares else values[0] for name, values in found.items()}
    arrays |= {"picture": shown, "texts": foreground, "background": background}
    return arrays | {"iou": np.array(list(result["IoU"].values())), "miou": result["mIoU"]}


def main(checkout: Checkout) -> None:
    stub("clip", "texttable", "diffusion_model", "diffusion_model.stable_diffusion")
    pipelines, miou = importlib.import_module("ovs.pipeline"), importlib.import_module("util.miou")
    for case in CASES:
        meta = {"method": "cliper", **asdict(case), "model": CONFIG}
        checkout.write(f"evaluation_cliper_{case.name}", meta, answer(case, pipelines, miou))


if __name__ == "__main__":
    main(checkout("linsun449/cliper.code", __doc__))
