"""Write tests/goldens/bi_modal_*.npz: answers of Transformer-MM-Explainability's CLIP code for seeded weights and inputs.

    python benchmarks/official_goldens/from_checkouts/bi_modal.py CHECKOUT [-o folder]

Both of its forms are run as they are: `interpret` of CLIP/example.py, which reads all blocks, and `interpret` of
CLIP_explainability.ipynb, which reads the last one by default. What surprises in them:

- the position embedding is never resized: a picture is brought to the trained square, by CLIP's own centre crop;
- example.py reshapes to 7 x 7 and upsamples to 224, whatever the model is: it is for ViT-B/32;
- the notebook repeats the picture for each text and differentiates the sum of the diagonal, which is each text's own logit;
- a text's own relevance comes with it, which is `fastloc text`'s.

Each file holds `relevance` [T, h, w], `texts` [T, E] (as its text tower encodes them) and, of example.py, `heatmaps` [T, 224, 224],
min-maxed behind the upsampling, every `step`-th pixel.
"""

import sys
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from seeded_checkout import Checkout, checkout, config, exact, from_notebook, logit_scale, openai_clip, pixels, stub
from torch.nn import functional


@dataclass(frozen=True)
class Case:
    """One golden. form: "example" or "notebook". start: the notebook's start_layer."""

    name: str
    form: str
    grid: int
    texts: int
    seed: int
    start: int = 0
    step: int = 9


CASES = (
    Case("example", "example", 7, 2, 0),
    Case("notebook", "notebook", 4, 3, 1, start=-1),
    Case("notebook_one_text", "notebook", 6, 1, 2, start=-1),
    Case("notebook_all", "notebook", 5, 2, 3),
)


def words(count: int) -> torch.Tensor:
    """Token ids [T, context]; the largest of each row ends its text."""
    return torch.tensor([[14, 1 + row, 5, 2 + 3 * row % 7, 15, 0] for row in range(count)])


def example(case: Case, model: Any, script: Any) -> dict[str, Any]:
    inputs, kept = pixels(1, (8 * case.grid,) * 2, case.seed), []

    class Functions:
        """torch.nn.functional, which keeps what it interpolates."""

        @staticmethod
        def interpolate(values: torch.Tensor, **options: Any) -> torch.Tensor:
            made = functional.interpolate(values, **options)
            kept.append((values[0, 0], made[0, 0]))
            # what follows draws 224 pixels on the picture, which is smaller here
            return made

    class Namespace:
        nn = type("nn", (), {"functional": Functions})

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    script.torch = Namespace()
    script.cv2.applyColorMap = lambda mask, _: _drawn(mask, inputs)
    for index in range(case.texts):
        script.interpret(model=model, image=inputs, text=words(case.texts), device="cpu", index=index)
    maps = torch.stack([each for _, each in kept])
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return {
        "relevance": torch.stack([each for each, _ in kept]),
        "heatmaps": ((maps - low) / (high - low))[:, :: case.step, :: case.step],
    }


def _drawn(mask: Any, inputs: torch.Tensor) -> Any:
    """A colour map of the input's size, which is all that is asked of it."""
    return inputs[0].permute(1, 2, 0).numpy() * 0 + float(mask.mean())


def notebook(case: Case, model: Any, checkout: Checkout) -> dict[str, Any]:
    file, names = checkout.folder / "CLIP_explainability.ipynb", {"start_layer": -1, "start_layer_text": -1}
    script = from_notebook(file, ["def interpret("], torch=torch, np=np, **names)
    inputs = pixels(1, (8 * case.grid,) * 2, case.seed)
    _, found = script.interpret(model=model, image=inputs, texts=words(case.texts), device="cpu", start_layer=case.start)
    return {"relevance": found.reshape(case.texts, case.grid, case.grid)}


def main(checkout: Checkout) -> None:
    sys.path.insert(0, str(checkout.folder / "CLIP"))
    stub("cv2", "matplotlib", "matplotlib.pyplot")
    import example as script
    from clip import model as models

    exact(models)
    for case in CASES:
        of = config(8 * case.grid, 8, 4)
        model = openai_clip(models.CLIP, of, case.seed)
        found = example(case, model, script) if case.form == "example" else notebook(case, model, checkout)
        encoded = functional.normalize(model.encode_text(words(case.texts)), dim=-1)
        meta = asdict(case) | {"model": of, "logit_scale": logit_scale(of, case.seed)}
        checkout.write(f"bi_modal_{case.name}", meta, found | {"texts": encoded})


if __name__ == "__main__":
    main(checkout("hila-chefer/Transformer-MM-Explainability", __doc__))
