"""The layers of hierarchical towers on maps [B, C, h, w]."""

import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical.parts import Conv, LayerNorm, Linear, folded


def convolved(x: Tensor, conv: Conv) -> Tensor:
    """A convolution and the BatchNorm after it, if it still has one: [B, C, h, w] -> [B, C', h', w']."""
    conv = folded(conv)
    return F.conv2d(x, conv.kernel, conv.bias, conv.stride, conv.padding, groups=conv.groups)


def normalised(x: Tensor, norm: LayerNorm) -> Tensor:
    """LayerNorm over the last dimension."""
    return F.layer_norm(x, norm.scale.shape, norm.scale, norm.shift, norm.eps)


def linear(x: Tensor, layer: Linear) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)
