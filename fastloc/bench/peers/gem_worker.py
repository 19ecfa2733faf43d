"""The official GEM package (gem_torch 1.0.1), in whichever environment it is started: with open_clip 2.23 it computes GEM."""

import torch
from gem.gem import get_gem_img_transform
from gem.gem_wrapper import GEMWrapper
from official_gem import fix_texts, heatmaps
from PIL import Image
from protocol import Passes, serve
from shared import Case, Inputs, answered, clip, compiled, versions
from torch import Tensor
from torch.nn.functional import normalize

# fields of fastloc's recipe -> what the package calls them; a depth of n changes n - 1 blocks
CHANGES = {"blocks": "depth", "iterations": "ss_attn_iter", "inv_temp": "ss_attn_temp"}
NOTE = "the model's time ends at the patches' cosines; the whole one is the wrapper's own forward, to heatmaps of the model's input size"


def wrapper(case: Case, given: Inputs) -> GEMWrapper:
    """The official model of a case. Raises ValueError for a change of the recipe that the package cannot make."""
    asked = dict(case["changes"])
    unknown = sorted(set(asked) - set(CHANGES))
    if unknown:
        raise ValueError(f"gem_torch cannot change {', '.join(unknown)}")
    if "blocks" in asked:
        asked["blocks"] += 1
    if asked.get("inv_temp") == "adaptive":
        asked["inv_temp"] = None
    # the tokenizer is not called
    return GEMWrapper(clip(case, given), None, **{CHANGES[name]: value for name, value in asked.items()}).eval()


def build(case: Case) -> Passes:
    given = Inputs(case)
    gem = wrapper(case, given).to(given.device, given.dtype)
    gem.model.visual = compiled(case, gem.model.visual)
    fix_texts(gem, given.texts)
    transform = get_gem_img_transform(given.size, given.mean, given.std)

    @torch.inference_mode()
    def model(call: int) -> Tensor:
        features, _ = gem.model.visual(given.pixels(call))
        found: Tensor = given.grids(normalize(features, dim=-1)[:, 1:])
        return found

    def whole(call: int) -> Tensor:
        pixels = torch.stack([transform(Image.fromarray(frame)) for frame in given.frames])
        found: Tensor = heatmaps(gem, given.placed(pixels), [""] * len(given.texts))
        return found.float().cpu()

    return Passes(model, answered(model), whole, given.device.type, columns={"note": NOTE})


if __name__ == "__main__":
    serve(build, versions("gem_torch", "open_clip_torch"))
