"""Write tests/goldens/tagclip_*.npz: answers of TagCLIP's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/tagclip.py CHECKOUT [-o folder]

Its classify.py is run on a picture until it has its coarse shares; what follows (the affinity of its middle blocks, boxes, crops that are
encoded again) is a loop over one picture's classes, and no part of the row. What surprises in it, all of it kept in the answers:

- a block is named by its number, 11 counted from 0: on more than twelve blocks that is a middle one, and the rest run on behind it;
- positions are resized by `H // 16`, whatever the patch is, so only towers of patch 16 run, or any at 224 x 224 that was trained there;
- the resized positions are cut to half precision, also on a CPU (taken out here);
- a picture of 76 patches has as many tokens as a text, and is left unmasked: the last block is then the encoder's own;
- the softmax over the texts is taken on the grid of patches, and classify.py never upsamples it.

Each file holds `patches` [P, E] (projected, not of unit length), `shares` [P, T] (its `logits_coarse`), `texts` [T, E] and, where a
picture was brought to its size, `picture` [H, W, 3] uint8; `meta` has the input's size, the configuration and where the code is from.
"""

import contextlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import packaging.version
import torch
from PIL import Image
from seeded_checkout import Checkout, Stopped, checkout, config, exact, logit_scale, openai_clip, seeded_pixels, stub, texts

CONFIG = config(64, 16, 12)


@dataclass(frozen=True)
class Case:
    """One golden. picture: (height, width) of what is opened; its input is that, rounded up to the patch."""

    name: str
    picture: tuple[int, int]
    texts: int
    seed: int


CASES = (
    Case("square", (64, 64), 3, 0),
    Case("rounded_up", (75, 100), 2, 1),
    Case("one_text", (48, 80), 1, 2),
)


def picture(size: tuple[int, int], seed: int) -> Image.Image:
    """Bytes of seeded blobs."""
    planes = seeded_pixels((1, 3, *size), seed)[0].transpose(1, 2, 0)
    return Image.fromarray((128 + 50 * planes).clip(0, 255).astype(np.uint8))


def answer(case: Case, classify: Any, models: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    kept: dict[str, Any] = {}
    words = texts(case.texts, case.seed)
    model = openai_clip(models.CLIP, CONFIG, case.seed)
    encode, shown = model.encode_image_tagclip, picture(case.picture, case.seed)

    def encoded(image: torch.Tensor, *size: int, **options: Any) -> Any:
        found, maps = encode(image, *size, **options)
        kept.update(patches=found[0, 1:], size=size)
        return found, maps

    def coarse(shares: torch.Tensor, *rest: Any) -> None:
        kept["shares"] = shares.reshape(-1, case.texts)
        raise Stopped

    model.encode_image_tagclip = encoded
    classify.mask_attn = coarse
    # what its command line sets
    vars(classify).update(
        model=model, device="cpu", model_type="clip", class_names=[""] * case.texts, NUM_CLASSES=case.texts, image_list=["picture"],
        all_label_list=[[0]], args=type("Arguments", (), {"img_root": "", "dataset": "voc2007"}),
    )  # fmt: skip
    classify.clip.encode_text_with_prompt_ensemble = lambda *_: words
    classify.Image.open = lambda _: shown
    # pixels are float32 there; the tower's dtype is that of its weights
    with contextlib.suppress(Stopped):
        classify.classify()
    meta = asdict(case) | {"model": CONFIG, "size": kept.pop("size"), "logit_scale": logit_scale(CONFIG, case.seed)}
    return meta, kept | {"texts": words, "picture": np.asarray(shown)}


def main(checkout: Checkout) -> None:
    stub("cv2", "lxml", "lxml.etree")
    stub("pkg_resources", packaging=packaging)
    import classify
    from clip import clip_model

    exact(clip_model)
    for case in CASES:
        checkout.write(f"tagclip_{case.name}", *answer(case, classify, clip_model))


if __name__ == "__main__":
    main(checkout("linyq2117/TagCLIP", __doc__))
