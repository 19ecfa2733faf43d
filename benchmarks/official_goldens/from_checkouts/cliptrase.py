"""Write tests/goldens/cliptrase_*.npz: answers of CLIPtrase's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/cliptrase.py CHECKOUT [-o folder]

`get_visual_features` of clip_self_correlation.py is run as it is, and its `self_clip` until it has the logits at picture size; what
follows (DBSCAN of the block before the last, a median filter, a vote in each cluster) makes a segmentation, and is no part of the row.
What surprises in it, all of it kept in the answers:

- blocks are named by their numbers, 11 and 12 counted from 1: on more than twelve blocks these are middle ones;
- the three softmaxed maps are added, so each row of the attention sums to 3;
- positions are resized where the number of patches is another than the trained one: as many patches in another shape keep the table;
- the labels are the argmax of upsampled logits: no softmax over the texts is taken.

Each file holds `patches` [B, P, E] (of unit length), `texts` [T, E], and `logits` [T, H, W] of the first picture, every `step`-th pixel.
"""

import contextlib
from dataclasses import asdict, dataclass
from typing import Any

import packaging.version
import torch
from PIL import Image
from seeded_checkout import Checkout, Stopped, checkout, config, exact, logit_scale, openai_clip, pixels, stub, texts

CONFIG = config(64, 16, 12)


@dataclass(frozen=True)
class Case:
    """One golden. size: of the input, (height, width). picture: the side that logits are upsampled to."""

    name: str
    size: tuple[int, int]
    texts: int
    seed: int
    batch: int = 1
    step: int = 7


CASES = (
    Case("trained", (64, 64), 3, 0, batch=2),
    Case("tall", (112, 48), 2, 1),
    Case("one_text", (80, 80), 1, 2),
    # as many patches as the trained grid has, in another shape
    Case("same_count", (32, 128), 2, 3),
)


def answer(case: Case, script: Any, models: Any) -> dict[str, Any]:
    model, inputs = openai_clip(models.CLIP, CONFIG, case.seed), pixels(case.batch, case.size, case.seed)
    words = texts(case.texts, case.seed)
    with torch.no_grad():
        found = script.get_visual_features(model, inputs)[0][:, 1:]
    kept: dict[str, Any] = {"patches": found, "texts": words}

    class Functions:
        """torch.nn.functional, whose first interpolation is the last thing that is asked of it."""

        @staticmethod
        def interpolate(*args: Any, **options: Any) -> None:
            kept["logits"] = torch.nn.functional.interpolate(*args, **options)[0, :, :: case.step, :: case.step]
            raise Stopped

    script.F = Functions
    script.device = "cpu"
    script.dataset_info = {"seeded": {"labels": [""] * case.texts, "image_path": "", "gt_path": ""}}
    script.get_text_features = lambda *_: words
    script.get_image_name_list = lambda *_: ["picture"]
    script.get_image_and_gt = lambda *_: (Image.new("RGB", (8, 8)), torch.zeros(case.size, dtype=torch.int16))
    script._transform2 = lambda: lambda _: inputs[0]
    with torch.no_grad(), contextlib.suppress(Stopped):
        script.self_clip(model, "seeded")
    return kept


def main(checkout: Checkout) -> None:
    stub("cv2", "einops")
    stub("pkg_resources", packaging=packaging)
    import clip_self_correlation as script
    from clip_utils import model as models

    exact(models)
    for case in CASES:
        meta = asdict(case) | {"model": CONFIG, "logit_scale": logit_scale(CONFIG, case.seed)}
        checkout.write(f"cliptrase_{case.name}", meta, answer(case, script, models))


if __name__ == "__main__":
    main(checkout("leaves162/CLIPtrase", __doc__))
