"""Write tests/goldens/clearclip_*.npz: answers of ClearCLIP's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/clearclip.py CHECKOUT [-o folder]

Its copy of open_clip and its segmentor (model_type "ClearCLIP") are run as they are, without sliding windows. What surprises in it, all of
it kept in the answers:

- its configurations say model_type "vanilla": ClearCLIP is what demo.py asks for;
- the input's short side is 448, and not SCLIP's 336; an input that the patch does not divide is padded with zeros, in windows only;
- positions as in SCLIP's code: as many patches as the trained grid has, in another shape, keep the trained table;
- the local path is of the last block alone, but its forward can add those of more blocks, `last_n_layers`.

Each file holds what sclip.py's do.
"""

from dataclasses import asdict
from typing import Any

import torch
from sclip import CONFIG, Case
from seeded_checkout import logit_scale, state
from segmentors import Checkout, answer, checkout, pixels, segmentor, stub_mmseg, texts

CASES = (
    Case("trained", (64, 64), (50, 90), 3, 8, batch=2),
    Case("wide", (48, 112), (96, 224), 4, 9, step=9),
    Case("one_text", (96, 80), (96, 80), 1, 10),
    Case("same_count", (32, 128), (32, 128), 2, 11),
)


@torch.no_grad()
def golden(case: Case, script: Any, models: Any) -> dict[str, Any]:
    net = models.CLIP(**CONFIG).double().eval()
    net.load_state_dict(state(CONFIG, case.seed))
    words, inputs = texts(case.texts, case.seed), pixels(case.batch, case.size, case.seed)
    kind = {"clip_type": "CLIP", "model_type": "ClearCLIP", "ignore_residual": True, "patch_size": net.visual.patch_size}
    made = segmentor(script.ClearCLIPSegmentation, net, words, 50.0, **kind)
    patches = net.encode_image(inputs, "ClearCLIP", True)
    return {"patches": patches, "texts": words, **answer(made, inputs[:1], case.picture, case.step)}


def main(checkout: Checkout) -> None:
    stub_mmseg("BLIP", "BLIP.models", "BLIP.models.blip_retrieval", "gem")
    import clearclip_segmentor as script
    from open_clip import model as models

    for case in CASES:
        meta = asdict(case) | {"model": CONFIG, "logit_scale": logit_scale(CONFIG, case.seed)}
        checkout.write(f"clearclip_{case.name}", meta, golden(case, script, models))


if __name__ == "__main__":
    main(checkout("mc-lan/ClearCLIP", __doc__))
