"""Write tests/goldens/cliper_*.npz: answers of CLIPer's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/cliper.py CHECKOUT [-o folder]

Its modified_clip/model.py changes a model of OpenAI's `clip` package; open_clip's, whose parts have the same names, stands in for it here,
with sequences first as there. Stable Diffusion and crops are left out. What surprises in it, all of it kept in the answers:

- two divisions of the attention are in place, in a loop over levels: level k's map has been balanced k + 1 times, the last one's most;
- an early level is its block's LayerNorm of the stream, and passes the last block's LayerNorm on top of it;
- the cells of the refined level that lie below the cutoff are set to 0 in place, so they are 0 in the mean over the levels too;
- the mean of the texts stands among them in the softmax, so one text without background words has one half everywhere.

Each file holds `seg` [T, h, w], what CLIPer.forward answers, `features` [L, P, E] (projected, not of unit length, of every level),
`attention` [P, P] (the last level's, mean over heads), `texts` [T, E] and `background` [K, E]; `meta` has the case and the configuration.
"""

from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import torch
from open_clip.model import CLIP
from seeded_checkout import Checkout, checkout, config, pixels, state, stub, texts

CONFIG = config(64, 16, 5)


@dataclass(frozen=True)
class Case:
    """One golden: size of the input (height, width), the number of texts and of background words, and what its configurations set."""

    name: str
    size: tuple[int, int] = (64, 64)
    texts: int = 3
    background: int = 1
    scale: int = 20
    cutoff: float = 0.2
    level: int = -1
    seed: int = 0


CASES = (
    Case("square"),
    Case("wide", size=(48, 96), scale=50, cutoff=0.35, seed=1),
    Case("one_text", size=(80, 64), texts=1, seed=2),
    Case("no_background", size=(64, 80), background=0, scale=100, cutoff=0.1, seed=3),
    Case("early_level", level=1, seed=4),
)


def answer(case: Case, made: Any) -> dict[str, Any]:
    clip = CLIP(**CONFIG).double()
    clip.load_state_dict(state(CONFIG, case.seed))
    for block in clip.visual.transformer.resblocks:
        block.attn.batch_first = False
    made.clip.load = lambda *_, **__: (clip, SimpleNamespace(transforms=[]))
    settings = SimpleNamespace(
        attn_type="fused-attn", fuse_feature=True, size=64, select_layer=case.level, model_name="ViT-B/16", logit_scale=case.scale,
        attention_thr=case.cutoff, sliding_crop_size=0,
    )  # fmt: skip
    words = texts(case.texts + case.background, case.seed)
    foreground, background = words[: case.texts], words[case.texts :]
    with torch.no_grad():
        found = made.CLIPer(settings, "cpu")(pixels(1, case.size, case.seed), foreground, background)
    return {
        "seg": found["seg"], "features": found["img_part_features"][:, 1:], "attention": found["attn_map"], "texts": foreground,
        **({"background": background} if case.background else {}),
    }  # fmt: skip


def main(checkout: Checkout) -> None:
    stub("clip")
    from modified_clip import model

    for case in CASES:
        checkout.write(f"cliper_{case.name}", asdict(case) | {"model": CONFIG}, answer(case, model))


if __name__ == "__main__":
    main(checkout("linsun449/cliper.code", __doc__))
