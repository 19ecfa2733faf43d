"""CAM and Grad-CAM as functions of tensors: maps of a class's position from a classifier's last stage.

Both are maps on the grid of the stage, [B, T, h, w], of all pictures and classes at once; `fastloc.imaging.heatmaps.heatmaps` draws them
on pictures. On a network of global average pooling and one linear layer they differ by the ReLU and the constant 1 / (h w).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.errors import FastlocError

__all__ = ["cam", "grad_cam"]


def cam(features: Tensor, weight: Tensor, classes: Sequence[int]) -> Tensor:
    """Class activation maps M_c = sum_k W_ck f_k (Zhou et al., CVPR 2016, equation 2), without ReLU and without the bias: [B, T, h, w].

    Args:
        features: [B, K, h, w], the input of global average pooling.
        weight: [C, K] of the one linear layer behind it.
        classes: T indices into the C classes.

    Raises:
        FastlocError: tensors that do not fit each other, or an index that is no class.
    """
    if features.ndim != 4 or weight.ndim != 2 or weight.shape[1] != features.shape[1]:
        raise FastlocError(f"features and weight must be [B, K, h, w] and [C, K], got {list(features.shape)} and {list(weight.shape)}")
    rows = weight[_indices(classes, weight.shape[0], weight.device)]
    return torch.einsum("tk,bkhw->bthw", rows, features)


def grad_cam(features: Tensor, outputs: Tensor, classes: Sequence[int]) -> Tensor:
    """Grad-CAM: M = ReLU(sum_k a_k f_k), a_k the mean over positions of dy_c/df_k (Selvaraju et al., ICCV 2017, equations 1 and 2):
    [B, T, h, w], not negative.

    One forward pass serves every class; their backward passes are one batched call.

    Args:
        features: [B, K, h, w], part of the graph of `outputs`.
        outputs: [B, C], the classifier's logits, of a network in eval mode: a picture's depend on no other picture.
        classes: T indices into the C classes.

    Raises:
        FastlocError: tensors that are not these, outputs that do not depend on the features, or an index that is no class.
    """
    if features.ndim != 4 or outputs.ndim != 2 or len(outputs) != len(features):
        raise FastlocError(f"features and outputs must be [B, K, h, w] and [B, C], got {list(features.shape)} and {list(outputs.shape)}")
    if not outputs.requires_grad or not features.requires_grad:
        raise FastlocError("the outputs carry no gradient of the features: they were computed without one, or from something else")
    chosen = _indices(classes, outputs.shape[1], outputs.device)
    # a picture's logits depend on no other picture, so one cotangent serves the whole batch
    towards = F.one_hot(chosen, outputs.shape[1]).to(outputs.dtype)[:, None].expand(-1, len(outputs), -1)
    (gradients,) = torch.autograd.grad(outputs, features, towards, is_grads_batched=True, allow_unused=True)
    if gradients is None:
        raise FastlocError("the outputs do not depend on the features")
    return F.relu(torch.einsum("tbk,bkhw->bthw", gradients.mean((3, 4)), features.detach()))


def _indices(classes: Sequence[int], count: int, device: torch.device) -> Tensor:
    for each in classes:
        if not 0 <= each < count:
            raise FastlocError(f"class must be one of the classifier's {count}, 0 to {count - 1}, got {each}")
    if not len(classes):
        raise FastlocError("classes must be one or more, got none")
    return torch.tensor(list(classes), device=device)
