"""Write tests/goldens/itaclip_*.npz: answers of ITACLIP's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/itaclip.py CHECKOUT [-o folder]

Its model (`attn_self`, its default) and its segmentor are run as they are, of the picture alone: without the gray, blurred and flipped
ones (`img_engineering`), texts of a language model, sliding windows, PAMR and the closing of its labels. What surprises in it, all of it
kept in the answers:

- blocks are named by their numbers, 7, 8 and 10 counted from 1: on more than twelve blocks these are early ones, and eight to ten blocks go
  without those that they lack;
- each map is the sum of two softmaxes, so a row of the attention sums to 2;
- the last block keeps its residual and loses its MLP;
- without windows similarities go to the picture in one bilinear step, with them in two;
- positions as in SCLIP's code: as many patches as the trained grid has, in another shape, keep the trained table.

Each file holds what sclip.py's do.
"""

from dataclasses import asdict
from typing import Any

import packaging.version
import torch
from sclip import Case
from seeded_checkout import exact, stub
from segmentors import Checkout, answer, checkout, config, openai_clip, pixels, segmentor, state, stub_mmseg, texts

# the depth of the published model, and one on which a share of the depth would name other blocks
DEPTHS = {"trained": 12, "wide": 16, "one_text": 12, "same_count": 11}
CASES = (
    Case("trained", (64, 64), (50, 90), 3, 24, batch=2),
    Case("wide", (48, 112), (96, 224), 4, 25, step=9),
    Case("one_text", (96, 80), (96, 80), 1, 26),
    Case("same_count", (32, 128), (48, 192), 2, 27),
)


@torch.no_grad()
def golden(case: Case, of: dict[str, Any], script: Any, models: Any) -> dict[str, Any]:
    net, words = openai_clip(models.CLIP, of, case.seed), texts(case.texts, case.seed)
    inputs, switches = pixels(case.batch, case.size, case.seed), {"img_engineering": False, "attn_self": True, "width_chunk_size": None}
    made = segmentor(script.ITACLIP_Segmentor, net, words, 40.0, device="cpu", **switches)
    similarities = made.forward_feature
    made.forward_feature = lambda image, prompts=words, size=None: similarities(image, prompts, size)
    patches = net.encode_image(inputs, return_all=True, attn_self=True, device="cpu")[:, 1:]
    return {"patches": patches, "texts": words, **answer(made, inputs[:1], case.picture, case.step)}


def main(checkout: Checkout) -> None:
    stub_mmseg("cv2")
    stub("pkg_resources", packaging=packaging)
    import itaclip_segmentor as script
    from clip import model as models

    script.cv2.morphologyEx = lambda labels, *_: labels
    exact(models)
    for case in CASES:
        of = config(64, 16, DEPTHS[case.name])
        meta = asdict(case) | {"model": of, "logit_scale": float(state(of, case.seed)["logit_scale"].exp())}
        checkout.write(f"itaclip_{case.name}", {**meta, "changes": {}}, golden(case, of, script, models))


if __name__ == "__main__":
    main(checkout("m-arda-aydn/ITACLIP", __doc__))
