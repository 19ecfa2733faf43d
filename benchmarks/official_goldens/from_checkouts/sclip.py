"""Write tests/goldens/sclip_*.npz: answers of SCLIP's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/sclip.py CHECKOUT [-o folder]

Its model and its segmentor are run as they are, without sliding windows. What surprises in it, all of it kept in the answers:

- the two softmaxed maps are added, so each row of the attention sums to 2;
- positions are resized by the factor (h + 0.1) / trained h, which samples at other places than a resize by size; as many patches as the
  trained grid has, in another shape, keep the trained table;
- without windows similarities go to the picture in one bilinear step; with windows, its default, in two;
- the segmentation is the argmax behind the softmax, which for one text is 1 everywhere.

Each file holds `patches` [B, P, E], `texts` [T, E], `upsampled` [T, H, W], the similarities of the first picture at the input's size, and,
for several texts, `heatmaps` [T, H, W], their shares at the picture's size; both every `step`-th pixel.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from seeded_checkout import exact, logit_scale
from segmentors import Checkout, answer, checkout, config, openai_clip, pixels, segmentor, stub_mmseg, texts

CONFIG = config(64, 16, 4)


@dataclass(frozen=True)
class Case:
    """One golden. size: of the input, picture: of the picture that maps are for, each (height, width)."""

    name: str
    size: tuple[int, int]
    picture: tuple[int, int]
    texts: int
    seed: int
    batch: int = 1
    step: int = 5


CASES = (
    Case("trained", (64, 64), (50, 90), 3, 0, batch=2),
    Case("wide", (48, 112), (96, 224), 4, 1, step=9),
    Case("one_text", (96, 80), (96, 80), 1, 2),
    # as many patches as the trained grid has, in another shape
    Case("same_count", (32, 128), (32, 128), 2, 3),
)


@torch.no_grad()
def golden(case: Case, script: Any, models: Any) -> dict[str, Any]:
    net, words = openai_clip(models.CLIP, CONFIG, case.seed), texts(case.texts, case.seed)
    inputs = pixels(case.batch, case.size, case.seed)
    made = segmentor(script.CLIPForSegmentation, net, words, 40.0)
    patches = net.encode_image(inputs, return_all=True, csa=True)[:, 1:]
    return {"patches": patches, "texts": words, **answer(made, inputs[:1], case.picture, case.step)}


def main(checkout: Checkout) -> None:
    stub_mmseg()
    import clip_segmentor as script
    from clip import model as models

    exact(models)
    for case in CASES:
        meta = asdict(case) | {"model": CONFIG, "logit_scale": logit_scale(CONFIG, case.seed)}
        checkout.write(f"sclip_{case.name}", meta, golden(case, script, models))


if __name__ == "__main__":
    main(checkout("wangf3014/SCLIP", __doc__))
