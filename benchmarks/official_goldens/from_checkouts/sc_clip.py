"""Write tests/goldens/sc_clip_*.npz: answers of SC-CLIP's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/sc_clip.py CHECKOUT [-o folder]

Its CLIP and its segmentor's read-out are run as they are; mmsegmentation, whose base classes they take, is stubbed. What surprises in them,
all of it kept in the answers:

- an outlier's place is its number divided by the picture's rows, and not by its columns: with other pictures than square ones the code
  fails, or repairs other cells;
- without an outlier it fails, at an index into nothing;
- blocks are named by number, whatever the depth;
- the outlier factor's reachability distance is never below the patch's own distance to its 30th neighbour, so it is that distance.

Each file holds `patches` [1, P, E] (projected, not of unit length), `texts` [T, E], and `similarity` [1, T, H, W], cosines at the input's
size, every `step`-th pixel.
"""

import importlib
from types import SimpleNamespace
from typing import Any

import packaging.version
import torch
from seeded_checkout import Checkout, checkout, config, exact, openai_clip, pixels, stub, texts
from torch import Tensor, nn

# the authors' block numbers need more than ten blocks
CONFIG = config(56, 8, 12)
# name -> input size, number of texts, seed. With 21, 41, … patches the threshold is one of the factors, rounded to float32 there
CASES = {"trained": (56, 1, 0), "larger": (80, 3, 1), "smaller": (48, 2, 2)}
# every how many pixels of the similarity are kept
STEP = 7


def modules(segmentor: str) -> tuple[Any, Any]:
    """The authors' model and segmentor, the second a file's name."""
    stub("ftfy", "regex", "mmseg", "mmseg.models", "mmseg.models.data_preprocessor", "mmengine", "mmengine.structures", "matplotlib.pyplot")
    stub("pkg_resources", packaging=SimpleNamespace(version=packaging.version))
    stub("mmseg.models.segmentors", BaseSegmentor=nn.Module)
    stub("mmseg.registry", MODELS=SimpleNamespace(register_module=lambda: lambda made: made))
    model = importlib.import_module("clip.model")
    exact(model)
    return model, importlib.import_module(segmentor)


def write(source: Checkout, method: str, model: Any, segmentor: Any, **attributes: Any) -> None:
    """Every case of one method; attributes: of the image tower, which the segmentor's constructor sets."""
    for case, (size, count, seed) in CASES.items():
        net = openai_clip(model.CLIP, CONFIG, seed)
        vars(net.visual).update(attributes)
        seen: list[Tensor] = []
        net.visual.register_forward_hook(lambda module, inputs, found, seen=seen: seen.append(found.clone()))
        whole = segmentor.__new__(segmentor)
        nn.Module.__init__(whole)
        whole.net, whole.query_features = net, texts(count, seed)
        with torch.no_grad():
            similarity = whole.forward_feature(pixels(1, (size, size), seed))
        meta = {"model": CONFIG, "size": size, "seed": seed, "step": STEP, "count": count}
        arrays = {"patches": seen[0], "texts": whole.query_features, "similarity": similarity[..., ::STEP, ::STEP]}
        source.write(f"{method}_{case}", meta, arrays)


def main() -> None:
    source = checkout("SuleBai/SC-CLIP", __doc__)
    model, segmentor = modules("scclip_segmentor")
    write(source, "sc_clip", model, segmentor.SCCLIPForSegmentation)


if __name__ == "__main__":
    main()
