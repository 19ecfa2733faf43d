"""Write tests/goldens/clip_surgery_*.npz: answers of CLIP Surgery's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/clip_surgery.py CHECKOUT [-o folder]

Its four models (CLIP and CLIP Surgery, ViT and ResNet), its feature surgery and its maps are run as they are. What surprises in it, all of
it kept in the answers:

- the raw map is the encoder's own tokens; on ResNets those of the whole attention pool, of which CLIP keeps the first alone;
- the raw ViT never resizes its positions; the others do when the root of the number of patches, cut to a whole number, is another than the
  trained side, and lay the result out as a square: square inputs, and as many patches as the trained grid has in any shape, are all that
  runs as it looks;
- the resized table takes the trained one's place in the model: the next size is resized from it. Each case here has a model of its own;
- ResNets' surgery has a branch with unit keys and eight times the scale, which nothing reaches;
- the 2 of the weights is written twice, and the argument `t` of feature surgery is not read; it takes one picture.

Each file holds `tokens` [1, 1 + P, E], the image embedding first, and `texts` [T, E]; and of CLIP Surgery `several` [1, 1 + P, T], feature
surgery of all texts, `single` [1, 1 + P, 1], that of the first text against the empty one, `empty` [E], and for square inputs `heatmaps`
[T, H, W], every `step`-th pixel.
"""

from dataclasses import asdict, dataclass
from typing import Any

import packaging.version
import torch
from seeded_checkout import Checkout, checkout, config, exact, logit_scale, openai_clip, pixels, seeded_texts, stub
from torch import Tensor, nn

VIT = config(64, 16, 7)
# channels of the stem, bottlenecks of the stages, numbers in an embedding
RESNET = {"width": 4, "layers": (1, 2, 1, 1), "image_size": 64}
EMBED = {"vit": 32, "resnet": 24}
# last part of a name -> (centre, deviation), of a BatchNorm's four
NORM = {"running_var": (1.0, 0.3), "running_mean": (0.0, 0.3), "weight": (1.0, 0.3), "bias": (0.1, 0.2)}


@dataclass(frozen=True)
class Case:
    """One golden. tower: "vit" or "resnet". surgery: of the model with architecture surgery. size: of the input, (height, width)."""

    name: str
    tower: str
    surgery: bool
    size: tuple[int, int]
    seed: int
    texts: int = 3
    picture: tuple[int, int] = (50, 90)
    step: int = 5


CASES = (
    Case("vit", "vit", True, (64, 64), 0),
    Case("vit_larger", "vit", True, (96, 96), 1, texts=5),
    # as many patches as the trained grid has, in another shape
    Case("vit_same_count", "vit", True, (32, 128), 2),
    Case("resnet", "resnet", True, (64, 64), 3),
    Case("resnet_larger", "resnet", True, (128, 128), 4, texts=5),
    Case("resnet_same_count", "resnet", True, (32, 128), 5),
    Case("raw_vit", "vit", False, (64, 64), 6),
    Case("raw_vit_same_count", "vit", False, (32, 128), 10),
    Case("raw_resnet", "resnet", False, (64, 64), 7),
    Case("raw_resnet_larger", "resnet", False, (96, 96), 8),
    Case("raw_resnet_same_count", "resnet", False, (32, 128), 9),
)


def network(case: Case, kind: Any) -> Any:
    """A whole CLIP of theirs with the seed's weights."""
    if case.tower == "vit":
        return openai_clip(kind, VIT, case.seed)
    text = VIT["text_cfg"]
    sizes = (text["context_length"], text["vocab_size"], text["width"], text["heads"], text["layers"])
    made = kind(EMBED["resnet"], RESNET["image_size"], RESNET["layers"], RESNET["width"], None, *sizes).double().eval()
    made.visual.load_state_dict({name: _seeded(name, like, case.seed) for name, like in made.visual.state_dict().items()})
    return made


def _seeded(name: str, like: Tensor, seed: int) -> Tensor:
    from seeded import seeded_array

    last = name.rpartition(".")[2]
    if like.ndim == 0:
        return like
    # ReLU halves what it is given
    spread = NORM[last] if like.ndim == 1 else (0.0, 0.5) if last == "positional_embedding" else (0.0, (2 / like[0].numel()) ** 0.5)
    return torch.from_numpy(seeded_array(name, tuple(like.shape), seed, *spread)).double()


def words(case: Case) -> Tensor:
    """Unit vectors [T + 1, E], the last in the place of the empty text."""
    vectors = torch.from_numpy(seeded_texts(case.texts + 1, EMBED[case.tower], case.seed)).double()
    return nn.functional.normalize(vectors, dim=-1)


@torch.no_grad()
def golden(case: Case, clip: Any, kinds: dict[bool, Any]) -> dict[str, Any]:
    tokens = network(case, kinds[case.surgery]).encode_image(pixels(1, case.size, case.seed))
    *_, empty = every = words(case)
    found: dict[str, Any] = {"tokens": tokens, "texts": every[:-1]}
    if not case.surgery:
        return found
    unit = tokens / tokens.norm(dim=-1, keepdim=True)
    several = clip.clip_feature_surgery(unit, every[:-1])
    found |= {"several": several, "single": clip.clip_feature_surgery(unit, every[:1], every[-1:]), "empty": empty}
    if case.size[0] == case.size[1]:
        maps = clip.get_similarity_map(several[:, 1:], case.picture)
        found["heatmaps"] = maps[0].permute(2, 0, 1)[:, :: case.step, :: case.step]
    return found


def main(checkout: Checkout) -> None:
    stub("pkg_resources", packaging=packaging)
    from clip import clip, clip_model, clip_surgery_model

    exact(clip_model)
    exact(clip_surgery_model)
    kinds = {False: clip_model.CLIP, True: clip_surgery_model.CLIPSurgery}
    for case in CASES:
        of: dict[str, Any] = VIT if case.tower == "vit" else {"vision_cfg": RESNET}
        scale = logit_scale(VIT, case.seed)
        checkout.write(f"clip_surgery_{case.name}", asdict(case) | {"model": of, "logit_scale": scale}, golden(case, clip, kinds))


if __name__ == "__main__":
    main(checkout("xmed-lab/CLIP_Surgery", __doc__))
