"""Write tests/goldens/naclip_*.npz: answers of NACLIP's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/naclip.py CHECKOUT [-o folder]

Its model ("reduced" and "naclip", its defaults) and its segmentor are run as they are, without sliding windows, as its configurations for
PASCAL VOC run it. What surprises in it, all of it kept in the answers:

- similarities go to the picture in two bilinear steps, by way of the input's pixels, even without windows;
- the Gaussian of the patches' distance is computed in float32, so a float64 answer is exact to some 1e-9 only;
- positions as in SCLIP's code: as many patches as the trained grid has, in another shape, keep the trained table;
- an input that the patch does not divide is cut by its convolution, and the map is stretched over what was cut.

Each file holds what sclip.py's do.
"""

from dataclasses import asdict
from typing import Any

import torch
from sclip import CONFIG, Case
from seeded_checkout import exact, logit_scale
from segmentors import Checkout, answer, checkout, openai_clip, pixels, segmentor, stub_mmseg, texts

CASES = (
    Case("trained", (64, 64), (50, 90), 3, 4, batch=2),
    Case("wide", (48, 112), (96, 224), 4, 5, step=9),
    Case("one_text", (96, 80), (96, 80), 1, 6),
    Case("same_count", (32, 128), (48, 192), 2, 7),
)


@torch.no_grad()
def golden(case: Case, script: Any, models: Any) -> dict[str, Any]:
    net, words = openai_clip(models.CLIP, CONFIG, case.seed), texts(case.texts, case.seed)
    net.visual.set_params("reduced", "naclip", 5.0)
    inputs = pixels(case.batch, case.size, case.seed)
    made = segmentor(script.NACLIP, net, words, 40.0)
    patches = net.encode_image(inputs, return_all=True)[:, 1:]
    return {"patches": patches, "texts": words, **answer(made, inputs[:1], case.picture, case.step)}


def main(checkout: Checkout) -> None:
    stub_mmseg()
    import naclip as script
    from clip import model as models

    exact(models)
    for case in CASES:
        meta = asdict(case) | {"model": CONFIG, "logit_scale": logit_scale(CONFIG, case.seed)}
        checkout.write(f"naclip_{case.name}", meta, golden(case, script, models))


if __name__ == "__main__":
    main(checkout("sinahmr/NACLIP", __doc__))
