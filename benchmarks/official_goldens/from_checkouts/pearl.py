"""Write tests/goldens/pearl_*.npz: answers of PEARL's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/pearl.py CHECKOUT [-o folder]

Its model ("reduced" and "pearl", its defaults) and its segmentor are run as they are, without sliding windows, as its configurations for
PASCAL VOC run it, and without the propagation behind them. What surprises in it, all of it kept in the answers:

- five steps towards the polar factor are too few for its small singular values, which stay below 1: its option "svd" is another method;
- the queries and keys of the first product are not centred, though the rotation is that of centred ones;
- alpha, the weight of the keys' own product, is 0.3 for Cityscapes and ADE20K and 0.08 for the other sets;
- similarities go to the picture in two bilinear steps, by way of the input's pixels, even without windows;
- positions as in SCLIP's code: as many patches as the trained grid has, in another shape, keep the trained table.

Each file holds what sclip.py's do.
"""

from dataclasses import asdict
from typing import Any

import packaging.version
import torch
from sclip import CONFIG, Case
from seeded_checkout import exact, stub
from segmentors import Checkout, answer, checkout, openai_clip, pixels, segmentor, state, stub_mmseg, texts
from torch import Tensor

CASES = (
    Case("trained", (64, 64), (50, 90), 3, 20, batch=2),
    Case("wide", (48, 112), (96, 224), 4, 21, step=9),
    Case("one_text", (96, 80), (96, 80), 1, 22),
    Case("same_count", (32, 128), (48, 192), 2, 23),
)
ALPHAS = {"wide": 0.3}


@torch.no_grad()
def golden(case: Case, script: Any, models: Any) -> dict[str, Any]:
    net, words = openai_clip(models.CLIP, CONFIG, case.seed), texts(case.texts, case.seed)
    net.visual.set_params("reduced", "pearl")
    net.visual.set_attn_options(use_kk=True, alpha_kk=ALPHAS.get(case.name, 0.08), align_solver="polar", polar_iters=5)
    inputs = pixels(case.batch, case.size, case.seed)
    made = segmentor(script.PEARL, net, words, 40.0, prop=None)
    patches = net.encode_image(inputs, return_all=True)[:, 1:]
    return {"patches": patches, "texts": words, **answer(made, inputs[:1], case.picture, case.step)}


def main(checkout: Checkout) -> None:
    # its attention is cast to float32, for towers in half precision
    setattr(Tensor, "float", lambda self: self)  # noqa: B010
    stub_mmseg()
    stub("pkg_resources", packaging=packaging)
    import pearl_ovss as script
    from clip import model as models

    exact(models)
    for case in CASES:
        meta = asdict(case) | {"model": CONFIG, "logit_scale": float(state(CONFIG, case.seed)["logit_scale"].exp())}
        changes = {"procrustes_weight": ALPHAS[case.name]} if case.name in ALPHAS else {}
        checkout.write(f"pearl_{case.name}", {**meta, "changes": changes}, golden(case, script, models))


if __name__ == "__main__":
    main(checkout("PGSmall/PEARL", __doc__))
