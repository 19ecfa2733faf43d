"""Plain open_clip: the image embedding that a user of CLIP knows, and nothing of places. The floor of what localisation can cost."""

import torch
from open_clip.transform import image_transform
from PIL import Image
from protocol import Passes, serve
from shared import Case, Inputs, answered, clip, compiled, versions
from torch import Tensor

NOTE = "one cosine a text of the whole picture, no map; the whole time has open_clip's own preprocessing in it"


def build(case: Case) -> Passes:
    given = Inputs(case)
    tower = compiled(case, clip(case, given, resized=True).visual)
    transform = image_transform(given.size, is_train=False, mean=given.mean, std=given.std)

    @torch.inference_mode()
    def cosines(pixels: Tensor) -> Tensor:
        embedding = torch.nn.functional.normalize(tower(pixels), dim=-1)
        found: Tensor = embedding @ given.texts.T
        return found[..., None, None]

    def model(call: int) -> Tensor:
        return cosines(given.pixels(call))

    def whole(call: int) -> Tensor:
        pixels = torch.stack([transform(Image.fromarray(frame)) for frame in given.frames])
        return cosines(given.placed(pixels)).float().cpu()

    return Passes(model, answered(model), whole, given.device.type, columns={"note": NOTE})


if __name__ == "__main__":
    serve(build, versions("open_clip_torch"))
