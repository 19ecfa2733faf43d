"""CLIPSeg (transformers), the B/16 architecture with random weights. Cost only: a decoder that has to be trained."""

import torch
from protocol import Passes, serve
from shared import Case, Inputs, compiled, versions
from torch import Tensor
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, ViTImageProcessor

NOTE = "random weights; the picture goes through the encoder once for every text, as in its documentation; maps of the model's input size"


def build(case: Case) -> Passes:
    if case["size"][0] != case["size"][1]:
        raise ValueError(f"pictures must be square for CLIPSeg's decoder, got {case['size'][0]}x{case['size'][1]}")
    given = Inputs(case)
    torch.manual_seed(0)
    # the published model's: patch 16, trained at 224, the rest as by default
    config = CLIPSegConfig(vision_config={"patch_size": 16, "image_size": 224}, projection_dim=given.texts.shape[1])
    segment = compiled(case, CLIPSegForImageSegmentation(config).eval().to(given.device, given.dtype))
    processor = ViTImageProcessor(size={"height": given.size[0], "width": given.size[1]})

    @torch.inference_mode()
    def maps(pixels: Tensor) -> Tensor:
        pictures, texts = len(pixels), len(given.texts)
        found: Tensor = segment(
            pixel_values=pixels.repeat_interleave(texts, 0), conditional_embeddings=given.texts.repeat(pictures, 1),
            interpolate_pos_encoding=True,
        ).logits  # fmt: skip
        return found.reshape(pictures, texts, *given.size)

    def whole(call: int) -> Tensor:
        pixels = processor(images=list(given.frames), return_tensors="pt")["pixel_values"]
        return maps(given.placed(pixels)).sigmoid().float().cpu()

    return Passes(lambda call: maps(given.pixels(call)), None, whole, given.device.type, columns={"note": NOTE})


if __name__ == "__main__":
    serve(build, versions("transformers"))
