"""LeGrad (legrad_torch 1.1): gradients of the last two layers' attention.

Its maps come upsampled and min-maxed. For its answer both are left out, by a patch of one pixel and a min-max that does nothing, so that
the sums on the patch grid can be compared.
"""

import numpy as np
from legrad import LePreprocess, LeWrapper, wrapper
from open_clip.transform import image_transform
from PIL import Image
from protocol import Passes, serve
from shared import Case, Inputs, clip, compiled, versions
from torch import Tensor

NOTE = "its compute_legrad_clip, which repeats the picture for every text, to heatmaps of the model's input size in both times"


def build(case: Case) -> Passes:
    if case["batch"] != 1 or case["size"][0] != case["size"][1]:
        raise ValueError(f"pictures must be one a call and square for legrad, got {case['batch']} of {case['size'][0]}x{case['size'][1]}")
    given = Inputs(case)
    legrad = LeWrapper(clip(case, given))
    legrad.encode_image = compiled(case, legrad.encode_image)
    preprocess = LePreprocess(image_transform(given.size[0], is_train=False, mean=given.mean, std=given.std), given.size[0])

    def model(call: int) -> Tensor:
        found: Tensor = legrad.compute_legrad_clip(image=given.pixels(call), text_embedding=given.texts)
        return found

    def whole(call: int) -> Tensor:
        pixels = given.placed(preprocess(Image.fromarray(given.frames[0]))[None])
        found: Tensor = legrad.compute_legrad_clip(image=pixels, text_embedding=given.texts)
        return found.detach().float().cpu()

    def answer() -> np.ndarray:
        upsampling, scaling = legrad.patch_size, wrapper.min_max
        legrad.patch_size, wrapper.min_max = 1, lambda maps: maps
        try:
            found: np.ndarray = model(0).detach().float().cpu().numpy()
        finally:
            legrad.patch_size, wrapper.min_max = upsampling, scaling
        return found

    return Passes(model, answer, whole, given.device.type, columns={"note": NOTE})


if __name__ == "__main__":
    serve(build, versions("legrad_torch", "open_clip_torch"))
