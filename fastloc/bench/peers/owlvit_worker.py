"""OWL-ViT (transformers), the B/16 architecture with random weights. Cost only: its heads have to be trained, and it gives boxes."""

from typing import Any

import torch
from protocol import Passes, serve
from shared import Case, Inputs, compiled, versions
from torch import Tensor, nn
from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessor

NOTE = "random weights; boxes and their scores, no map; its image side and heads alone, texts encoded beforehand"


class Detector(nn.Module):
    """Pixels [B, 3, h, w] and texts [T, E] -> logits [B, P, T] and boxes [B, P, 4], by the model's own parts in its forward's order."""

    def __init__(self, owlvit: OwlViTForObjectDetection) -> None:
        super().__init__()
        self.owlvit: Any = owlvit

    def forward(self, pixels: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        features, _ = self.owlvit.image_embedder(pixel_values=pixels, interpolate_pos_encoding=True)
        patches = features.flatten(1, 2)
        logits, _ = self.owlvit.class_predictor(patches, texts.expand(len(pixels), -1, -1))
        return logits, self.owlvit.box_predictor(patches, features, interpolate_pos_encoding=True)


def build(case: Case) -> Passes:
    given = Inputs(case)
    torch.manual_seed(0)
    # the published model's: patch 16, trained at 768, the rest as by default
    owlvit = OwlViTForObjectDetection(OwlViTConfig(vision_config={"patch_size": 16})).eval()
    detect = compiled(case, Detector(owlvit.to(given.device, given.dtype)))
    processor = OwlViTImageProcessor(size={"height": given.size[0], "width": given.size[1]}, do_center_crop=False)

    @torch.inference_mode()
    def found(pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits, boxes = detect(pixels, given.texts)
        return logits, boxes

    def whole(call: int) -> list[Tensor]:
        pixels = processor(images=list(given.frames), return_tensors="pt")["pixel_values"]
        return [each.float().cpu() for each in found(given.placed(pixels))]

    return Passes(lambda call: found(given.pixels(call)), None, whole, given.device.type, columns={"note": NOTE})


if __name__ == "__main__":
    serve(build, versions("transformers"))
