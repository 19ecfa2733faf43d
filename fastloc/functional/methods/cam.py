"""CAM, Grad-CAM, Grad-CAM++ and LayerCAM as functions of tensors: maps of a class's position from a classifier's last stage.

All are maps on the grid of the stage, [B, T, h, w], of all pictures and classes at once; `fastloc.imaging.heatmaps.heatmaps` draws them
on pictures. On a network of global average pooling and one linear layer CAM and Grad-CAM differ by the ReLU and the constant 1 / (h w).
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.errors import FastlocError

__all__ = ["WEIGHINGS", "cam", "grad_cam", "grad_cam_plus_plus", "layer_cam"]


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
    return of_mean(features.detach(), _gradients(features, outputs, classes)).transpose(0, 1)


def grad_cam_plus_plus(features: Tensor, outputs: Tensor, classes: Sequence[int]) -> Tensor:
    """Grad-CAM++, see `of_positive_shares`: [B, T, h, w], not negative; arguments and errors as in `grad_cam`."""
    return of_positive_shares(features.detach(), _gradients(features, outputs, classes)).transpose(0, 1)


def layer_cam(features: Tensor, outputs: Tensor, classes: Sequence[int]) -> Tensor:
    """LayerCAM, see `of_positions`: [B, T, h, w], not negative; arguments and errors as in `grad_cam`."""
    return of_positions(features.detach(), _gradients(features, outputs, classes)).transpose(0, 1)


def _gradients(features: Tensor, outputs: Tensor, classes: Sequence[int]) -> Tensor:
    """dy_c/df of T classes, [T, B, K, h, w]; see `grad_cam`."""
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
    return gradients


def of_mean(features: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM: ReLU(sum_k a_k f_k), a_k the mean of dy/df_k over positions (Selvaraju et al., ICCV 2017, equations 1 and 2).

    Args:
        features: f, [B, K, h, w]. gradients: dy/df, [..., B, K, h, w], or [..., B, K, 1, 1] where all positions share it.

    Returns:
        Maps [..., B, h, w], not negative; so do the other two.
    """
    return _weighed(features, gradients.mean((-2, -1)))


def of_positive_shares(features: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al., WACV 2018): the weight of a channel is the sum over positions of alpha ReLU(dy/df).

    With g = dy/df and S the sum of f over positions, equation 19 is alpha = g^2 / (2 g^2 + S g^3), which is 1 / (2 + S g) where g is not 0,
    and positions with g <= 0 add nothing. Features that are not negative, as behind a ReLU, have denominators of at least 2. Those of other
    layers may have one of 0, whose position adds nothing. The derivative of exp(y), the paper's score, is g times exp(y): the factor of a
    whole map is left out. Arguments are those of `of_mean`. The map depends on the score's scale, by S g.
    """
    rising = F.relu(gradients)
    below = 2 + features.sum((-2, -1), keepdim=True) * rising
    positions = features.shape[-2] * features.shape[-1] if _shared(gradients) else 1
    return _weighed(features, positions * torch.where(below == 0, 0.0, rising / below).sum((-2, -1)))


def of_positions(features: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM of one layer: ReLU(sum_k ReLU(dy/df_k) f_k) (Jiang et al., TIP 2021, equations 5 and 6); arguments as in `of_mean`."""
    rising = F.relu(gradients)
    if _shared(gradients):
        # a product, without a tensor of all texts and cells
        return _weighed(features, rising[..., 0, 0])
    return F.relu((rising * features).sum(-3))


def _shared(gradients: Tensor) -> bool:
    """True for a gradient that all positions share; of one position it says nothing."""
    return gradients.shape[-2:] == (1, 1)


def _weighed(features: Tensor, weights: Tensor) -> Tensor:
    return F.relu(torch.einsum("...bk,bkhw->...bhw", weights, features))


# a recipe's `cam` -> maps of a stage and the score's gradient at it
WEIGHINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad-cam": of_mean, "grad-cam++": of_positive_shares, "layer-cam": of_positions,
}  # fmt: skip


def _indices(classes: Sequence[int], count: int, device: torch.device) -> Tensor:
    for each in classes:
        if not 0 <= each < count:
            raise FastlocError(f"class must be one of the classifier's {count}, 0 to {count - 1}, got {each}")
    if not len(classes):
        raise FastlocError("classes must be one or more, got none")
    return torch.tensor(list(classes), device=device)
