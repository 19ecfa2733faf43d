"""Write tests/goldens/clip_es_*.npz: answers of CLIP-ES's own code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/clip_es.py CHECKOUT [-o folder]

Its model, its copy of pytorch_grad_cam and the `reshape_transform` and target of generate_cams_voc12.py are run as they are; the
refinement by attention that follows the map is no part of the row. What surprises in it, all of it kept in the answers:

- what is differentiated is the softmax, over the labels of the picture and 25 background texts, of the mean patch feature's logits;
- positions are always resized, bilinear, by `H // 16`: only towers of patch 16 run. They are cut to half precision (taken out here);
- the map is min-maxed on the grid with 1e-7 added to the range, twice, in float32, then resized to the picture by OpenCV.

Each file holds `grids` [T, h, w], the maps behind their ReLU and before any scaling, float64, `scaled` [T, h, w], min-maxed on the grid,
float32, and `texts` [T, E].
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import packaging.version
import torch
from seeded_checkout import Checkout, checkout, config, exact, logit_scale, openai_clip, pixels, stub, texts

CONFIG = config(64, 16, 4)


@dataclass(frozen=True)
class Case:
    """One golden. size: of the input, (height, width)."""

    name: str
    size: tuple[int, int]
    texts: int
    seed: int


CASES = (Case("square", (64, 64), 3, 0), Case("wide", (48, 112), 2, 1), Case("larger", (96, 96), 5, 2))


def answer(case: Case, script: Any, models: Any) -> dict[str, Any]:
    model, words = openai_clip(models.CLIP, CONFIG, case.seed), texts(case.texts, case.seed)
    layer = model.visual.transformer.resblocks[-1].ln_1
    cam = script.GradCAM(model=model, target_layers=[layer], reshape_transform=script.reshape_transform)
    image_of, kept = cam.get_cam_image, []

    def image(*args: Any) -> Any:
        kept.append(np.maximum(image_of(*args), 0)[0])
        return image_of(*args)

    cam.get_cam_image = image
    features, _ = model.encode_image(pixels(1, case.size, case.seed), *case.size)
    scaled = [
        cam(input_tensor=[features, words, *case.size], targets=[script.ClipOutputTarget(text)], target_size=None)[0][0]
        for text in range(case.texts)
    ]
    return {"grids": np.stack(kept), "scaled": np.stack(scaled), "texts": words}


def main(checkout: Checkout) -> None:
    stub("cv2", "lxml", "lxml.etree", "ttach")
    stub("pkg_resources", packaging=packaging)
    import generate_cams_voc12 as script
    from clip import model as models

    exact(models)
    torch.set_grad_enabled(True)
    for case in CASES:
        meta = asdict(case) | {"model": CONFIG, "logit_scale": logit_scale(CONFIG, case.seed)}
        checkout.write(f"clip_es_{case.name}", meta, answer(case, script, models))


if __name__ == "__main__":
    main(checkout("linyq2117/CLIP-ES", __doc__))
