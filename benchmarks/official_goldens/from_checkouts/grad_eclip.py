"""Write tests/goldens/grad_eclip_*.npz: answers of Grad-ECLIP's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/grad_eclip.py CHECKOUT [-o folder]

Both of its forms are run as they are: `clip_encode_dense`, `grad_eclip` and `grad_cam` of generate_emap.py, which its evaluation scripts
import, and the functions of the same names in grad_eclip_image.ipynb. OpenAI's CLIP, which both take from its package, is stood in for by
the tower below. What surprises in them, all of it kept in the answers:

- the last block attends with one head as wide as the model, whatever the model was trained with;
- the evaluation compares q and k behind the out-projection, with its bias, the notebook before it: the maps differ;
- the baseline's gradient is averaged over all tokens, the class token's too;
- positions are always resized, bicubic, and the tower runs in half precision (taken out here);
- generate_emap.py's own loop calls `grad_eclip` with one argument too few, and stops there; its evaluation scripts do not.

Each file holds `evaluation`, `notebook` and `grad_cam` [T, h, w], the maps before any scaling, and `texts` [T, E].
"""

import contextlib
import io
from collections import OrderedDict
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import torch
from seeded_checkout import EMBED, Checkout, checkout, config, from_notebook, pixels, state, stub, texts
from torch import Tensor, nn

CONFIG = config(64, 16, 4)


class QuickGELU(nn.Module):
    """OpenAI's activation."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """One block under OpenAI's names, tokens first: [N, B, C]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn, self.ln_1, self.ln_2 = nn.MultiheadAttention(width, heads), nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Tower(nn.Module):
    """The parts of OpenAI's image tower that authors' code reads by name."""

    def __init__(self, image: int, patch: int, layers: int, width: int) -> None:
        super().__init__()
        self.input_resolution = image
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((image // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.width = width
        self.transformer.resblocks = nn.Sequential(*[Block(width, width // 64) for _ in range(layers)])
        self.proj = nn.Parameter(torch.zeros(width, EMBED))


@dataclass(frozen=True)
class Case:
    """One golden. size: of the input, (height, width)."""

    name: str
    size: tuple[int, int]
    texts: int
    seed: int


CASES = (Case("square", (64, 64), 3, 0), Case("wide", (48, 112), 2, 1), Case("one_text", (96, 96), 1, 2))


def tower(seed: int) -> Tower:
    vision = CONFIG["vision_cfg"]
    made = Tower(vision["image_size"], vision["patch_size"], vision["layers"], vision["width"]).double()
    made.load_state_dict({key.removeprefix("visual."): each for key, each in state(CONFIG, seed).items() if key.startswith("visual.")})
    return made.eval()


def evaluation(case: Case, script: Any, inputs: Tensor, words: Tensor) -> dict[str, Any]:
    outputs, _, last, v, q_out, k_out, _, attended, grid = script.clip_encode_dense(inputs)
    cosines = (nn.functional.normalize(outputs[:, 0], dim=-1) @ words.T)[0]
    return {
        "evaluation": torch.stack([script.grad_eclip(each, q_out, k_out, v, attended, grid) for each in cosines]),
        "grad_cam": torch.stack([script.grad_cam(each, last, grid) for each in cosines]),
    }


def notebook(checkout: Checkout, clip: Any, inputs: Tensor, words: Tensor) -> dict[str, Any]:
    sizes = {"clip_inres": clip.visual.input_resolution, "clip_ksize": clip.visual.conv1.kernel_size}
    file, pieces = checkout.folder / "grad_eclip_image.ipynb", ["def clip_encode_dense(", "def grad_eclip("]
    script = from_notebook(file, pieces, torch=torch, F=nn.functional, clipmodel=clip, **sizes)
    # it prints shapes
    with contextlib.redirect_stdout(io.StringIO()):
        outputs, _, vs, qs, ks, _, attended, grid = script.clip_encode_dense(inputs, n=1)
        cosines = (nn.functional.normalize(outputs[:, 0], dim=-1) @ words.T)[0]
        return {"notebook": torch.stack([script.grad_eclip(each, qs, ks, vs, attended, grid) for each in cosines])}


def main(checkout: Checkout) -> None:
    clip = SimpleNamespace(visual=None)
    stub("clip", "Game_MM_CLIP", "Game_MM_CLIP.clip", "CLIP_Surgery", "CLIP_Surgery.clip", load=lambda *_, **__: (clip, None))
    stub("cv2", "skimage", "skimage.transform", "transformers", "M2IB", "M2IB.scripts", "M2IB.scripts.clip_wrapper", "M2IB.scripts.methods")
    import generate_emap as script

    for case in CASES:
        clip.visual = tower(case.seed)
        inputs, words = pixels(1, case.size, case.seed), texts(case.texts, case.seed)
        found = evaluation(case, script, inputs, words) | notebook(checkout, clip, inputs, words)
        checkout.write(f"grad_eclip_{case.name}", asdict(case) | {"model": CONFIG}, found | {"texts": words})


if __name__ == "__main__":
    main(checkout("Cyang-Zhao/Grad-Eclip", __doc__))
