"""Write tests/goldens/gem_*.npz: answers of the official GEM package (gem_torch 1.0.1) for seeded weights and inputs.

Run it through `python benchmarks/goldens.py`, which makes the environment it needs.

What surprises in the official code, all of it kept in the answers:

- `gem_depth=7`, the default, changes six blocks: the loop over blocks from the end starts at 1 and stops before the depth.
- `ss_attn_temp` is no temperature: the attention logits are multiplied by it. Its default, None, is the mean over an image's
  tokens of ||LN1(x)|| times head_width^-0.5, one number per image and block, so a batch does not change it.
- `ss_attn_iter` counts the passes before the last one: n passes cost n + 1 attentions per projection.
- Heatmaps are min-maxed per picture and text after upsampling, without an epsilon: a constant map becomes NaN.
- `batched_forward` scores 100 times the cosine, `forward` the cosine; the min-max hides it.
- The names W and H are swapped in the wrapper, consistently: the order of the axes is (height, width).
- The position embedding is left alone when the token count equals the model's width (it is compared with the wrong axis), so
  one grid in a few hundred fails with a size mismatch: 56x72 for width 64 and patch 8. Every other size is resized, bicubic
  and antialiased.

Each file holds, for one case: `patches` and `vanilla` (projected patch tokens of the GEM path and of the encoder's own path,
not unit), `cls` (the encoder's image embedding), `texts` (unit), `cosine` and `heatmaps` (both after upsampling), and `meta`
(JSON: settings, sampling of the arrays, versions, and the official float32 result's own error against its float64 result).
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

REPO = Path(__file__).resolve().parents[2]
# the peers' environment has no fastloc: its modules for peers are found as the scripts beside them find them
sys.path.insert(0, str(REPO / "fastloc" / "bench" / "peers"))

from official_gem import GEMWrapper, fix_texts, official_model, versions  # noqa: E402
from seeded import seeded_pixels, seeded_texts  # noqa: E402

GOLDENS = REPO / "tests" / "goldens"
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
TINY = {"image_size": 64, "layers": 8, "width": 64, "head_width": 16, "patch_size": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 32, "vision_cfg": TINY, "text_cfg": TEXT},
    "tiny-quickgelu": {"embed_dim": 32, "vision_cfg": TINY, "text_cfg": TEXT, "quick_gelu": True},
    "tiny-layerscale": {
        "embed_dim": 32, "text_cfg": TEXT,
        "vision_cfg": TINY | {"ls_init_value": 0.5, "mlp_ratio": 2.0, "no_ln_pre": True, "norm_kwargs": {"eps": 1e-6}},
    },
    # the text tower is small: texts are seeded vectors here
    "ViT-B-16": {
        "embed_dim": 512, "text_cfg": TEXT, "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "head_width": 64, "patch_size": 16},
    },
}


@dataclass(frozen=True)
class Case:
    """One golden: sizes are (height, width); depth, iterations and temperature as the official package counts them."""

    name: str
    config: str = "tiny"
    size: tuple[int, int] = (64, 64)
    batch: int = 1
    depth: int = 7
    iterations: int = 1
    temperature: float | None = None
    # texts per picture; with `batched`, each picture has texts of its own, through batched_forward
    texts: tuple[str, ...] = ("cat", "red umbrella")
    batched: bool = False
    seed: int = 0
    # whether the encoder's own path is stored too
    vanilla: bool = True
    # every how many tokens, channels and map pixels (on both axes) are kept
    steps: tuple[int, int, int] = (1, 2, 5)


CASES = (
    Case("default", steps=(1, 1, 3)),
    Case("quickgelu_tall_batch", "tiny-quickgelu", size=(64, 48), batch=3, seed=1, texts=("cat",), steps=(1, 4, 5)),
    Case("larger_wide", "tiny-quickgelu", size=(80, 120), seed=2),
    Case("smaller", size=(32, 48), batch=2, seed=3),
    Case("layerscale", "tiny-layerscale", size=(72, 64), batch=2, seed=4, steps=(1, 4, 5)),
    Case("no_iteration", iterations=0),
    Case("two_iterations", iterations=2),
    Case("three_iterations", iterations=3),
    Case("fixed_multiplier", temperature=10.0),
    Case("fixed_multiplier_no_iteration", "tiny-quickgelu", size=(48, 72), iterations=0, temperature=4.0),
    Case("one_block", depth=2),
    Case("all_blocks", depth=9),
    Case("batched_texts", size=(48, 64), batch=2, seed=5, texts=("cat", "red umbrella", "sky", "a dog's tail"), batched=True),
    Case("vit_b16_224", "ViT-B-16", size=(224, 224), texts=("0", "1", "2"), steps=(7, 16, 11)),
    Case("vit_b16_448", "ViT-B-16", size=(448, 448), texts=("0", "1", "2"), vanilla=False, steps=(7, 16, 21)),
)

Arrays = dict[str, np.ndarray]


def answer(model: GEMWrapper, case: Case, dtype: torch.dtype) -> Arrays:
    """Everything a file stores of this case, in full, computed in `dtype`."""
    model = model.to(dtype)
    pixels = torch.from_numpy(seeded_pixels((case.batch, 3, *case.size), case.seed)).to(dtype)
    if case.config == "ViT-B-16":
        fix_texts(model, torch.from_numpy(seeded_texts(len(case.texts), 512, case.seed)).to(dtype))
    texts: Any = list(case.texts)
    run = model.forward
    if case.batched:
        share = len(case.texts) // case.batch
        texts = [texts[i * share : (i + 1) * share] for i in range(case.batch)]
        run = model.batched_forward
    with torch.no_grad():
        gem, own = model.model.visual(pixels)
        maps = {name: run(pixels, texts, normalize=name == "heatmaps") for name in ("cosine", "heatmaps")}
        arrays = {"patches": gem[:, 1:], "texts": model.encode_text(list(case.texts))[0]}
        arrays |= {"vanilla": own[:, 1:], "cls": own[:, 0]} if case.vanilla else {}
    arrays |= {name: torch.stack(list(value)) for name, value in maps.items()}
    return {name: value.numpy() for name, value in arrays.items()}


def sampled(arrays: Arrays, steps: tuple[int, int, int]) -> Arrays:
    """The samples of the arrays that are committed: tests take the same samples of their own."""
    tokens, channels, pixels = steps
    cut = {"patches": np.s_[:, ::tokens, ::channels], "vanilla": np.s_[:, ::tokens, ::channels]}
    cut |= dict.fromkeys(("cosine", "heatmaps"), np.s_[..., ::pixels, ::pixels])
    return {name: np.ascontiguousarray(array[cut.get(name, ...)]) for name, array in arrays.items()}


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def write(case: Case, folder: Path) -> Arrays:
    """Compute one case, store it, and give back what was computed in float64."""
    config = CONFIGS[case.config]
    model = official_model(config, case.seed, case.depth, case.iterations, case.temperature)
    single, double = answer(model, case, torch.float32), answer(model, case, torch.float64)
    large = case.config == "ViT-B-16"
    meta = asdict(case) | {
        "model": config, "blocks": case.depth - 1, "precision": "float32" if large else "float64", "versions": versions(),
        "float32_error": {name: relative_error(single[name], double[name]) for name in double},
    }
    arrays = sampled(single if large else double, case.steps)
    path = folder / f"gem_{case.name}.npz"
    np.savez_compressed(path, meta=np.array(json.dumps(meta)), **arrays)
    worst = max(meta["float32_error"].values())
    print(f"{path.name:44}{path.stat().st_size / 1000:7.1f} kB   official float32 against float64: {worst:.1e}", flush=True)
    return double


def must_differ(answers: dict[str, Arrays]) -> None:
    """Check that all settings of one input differ in their answers: settings that gave the same answer would test nothing."""
    made = [case for case in CASES if case.name in answers]
    same_input = [case.name for case in made if (case.config, case.size, case.batch, case.seed) == ("tiny", (64, 64), 1, 0)]
    for i, a in enumerate(same_input):
        for b in same_input[i + 1 :]:
            gap = relative_error(answers[a]["patches"], answers[b]["patches"])
            if gap < 1e-3:
                raise SystemExit(f"goldens {a} and {b} differ by {gap:.1e} only: these weights cannot distinguish the settings")
            print(f"{a} and {b} differ by {gap:.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=GOLDENS, help="folder of the files")
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE", help=f"of {', '.join(names)}; default: all")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    answers = {case.name: write(case, args.out) for case in CASES if case.name in args.cases}
    must_differ(answers)


if __name__ == "__main__":
    main()
