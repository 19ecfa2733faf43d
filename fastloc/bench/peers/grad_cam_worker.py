"""Grad-CAM (pytorch-grad-cam) on open_clip's tower, as in the package's CLIP example.

The example's choices: the last block's first LayerNorm is the target layer, the class token is dropped, a text's score is its share in
the softmax over all texts, and every parameter keeps its gradient. A text is one call of the package: forward and backward. Its answer is
its map behind the ReLU, before the package scales and resizes it. """

import numpy as np
import torch
from protocol import Passes, serve
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import preprocess_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from shared import Case, Inputs, clip, compiled, versions
from torch import Tensor, nn

NOTE = "one forward and backward a text, as its CLIP example does, to heatmaps of the model's input size in host memory in both times"
LOGIT_SCALE = 100.0


class Classifier(nn.Module):
    """Pixels [B, 3, h, w] -> shares of the texts [B, T]."""

    def __init__(self, visual: nn.Module, texts: Tensor) -> None:
        super().__init__()
        self.visual, self.texts = visual, texts

    def forward(self, pixels: Tensor) -> Tensor:
        embedding = nn.functional.normalize(self.visual(pixels), dim=-1)
        return (LOGIT_SCALE * embedding @ self.texts.T).softmax(-1)


def build(case: Case) -> Passes:
    given = Inputs(case)
    visual = clip(case, given, resized=True).visual
    target = visual.transformer.resblocks[-1].ln_1

    def planes(tokens: Tensor) -> Tensor:
        # open_clip 2.23 carries [N, B, C]
        return tokens[1:].permute(1, 2, 0).reshape(tokens.shape[1], tokens.shape[2], *given.grid)

    cam = GradCAM(compiled(case, Classifier(visual, given.texts)), [target], planes)

    def maps(pixels: Tensor) -> np.ndarray:
        targets = [[ClassifierOutputTarget(text)] * len(pixels) for text in range(len(given.texts))]
        return np.stack([cam(input_tensor=pixels, targets=each) for each in targets], axis=1)

    def answer() -> np.ndarray:
        grids, seen, pixels = [], cam.activations_and_grads, given.pixels(0)
        for text in range(len(given.texts)):
            targets = [ClassifierOutputTarget(text)] * len(pixels)
            cam(input_tensor=pixels, targets=targets)
            kept = seen.activations[0].float().numpy(), seen.gradients[0].float().numpy()
            grids.append(np.maximum(cam.get_cam_image(pixels, target, targets, *kept), 0))
        return np.stack(grids, 1)

    def whole(call: int) -> np.ndarray:
        # its own way of resizing is OpenCV's
        import cv2

        resized = [np.float32(cv2.resize(frame, given.size[::-1])) / 255 for frame in given.frames]
        return maps(given.placed(torch.cat([preprocess_image(each, list(given.mean), list(given.std)) for each in resized])))

    return Passes(lambda call: maps(given.pixels(call)), answer, whole, given.device.type, columns={"note": NOTE})


if __name__ == "__main__":
    serve(build, versions("grad-cam", "open_clip_torch"))
