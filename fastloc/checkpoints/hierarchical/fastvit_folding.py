"""A FastViT whose branches, BatchNorms and layer scales are merged into the convolutions and linear layers beside them, in float64."""

from dataclasses import replace

from torch import Tensor

from fastloc.checkpoints.hierarchical import parts
from fastloc.checkpoints.hierarchical.branches import Branches, one, unit
from fastloc.checkpoints.hierarchical.fastvit import AttentionBlock, MixerBlock, Mlp, Stage, Step, Trunk
from fastloc.checkpoints.hierarchical.parts import BatchNorm, Conv, Linear


def folded(trunk: Trunk) -> Trunk:
    """The same tower with one convolution in place of every sum of branches; a LayerNorm stays."""
    stem, stages = tuple(one(each) for each in trunk.stem), tuple(_stage(each) for each in trunk.stages)
    return Trunk(stem, stages, one(trunk.final), trunk.final_squeeze)


def _stage(stage: Stage) -> Stage:
    step = None if stage.step is None else Step(one(stage.step.large), stage.step.squeeze, one(stage.step.pointwise))
    blocks = tuple(_mixer(each) if isinstance(each, MixerBlock) else _attention(each) for each in stage.blocks)
    return Stage(step, None if stage.position is None else one(stage.position), blocks)


def _mixer(block: MixerBlock) -> MixerBlock:
    """With x + gamma * (mixer(x) - norm(x)) as one convolution."""
    if block.norm is None:
        return replace(block, mixer=one(block.mixer), mlp=_mlp(block.mlp))
    wide = Branches(tuple(_wide(each) for each in block.mixer.convs), block.mixer.identity, block.mixer.skip)
    (conv,) = one(wide).convs
    assert conv.bias is not None
    factor, offset = block.norm.factors()
    kernel, bias = conv.kernel - unit(conv, factor), conv.bias - offset
    if block.gamma is not None:
        gamma = block.gamma.double()
        kernel, bias = kernel * gamma[:, None, None, None], bias * gamma
    kernel = kernel + unit(conv, factor.new_ones(len(factor)))
    dtype = block.mixer.convs[0].kernel.dtype
    merged = Branches((replace(conv, kernel=kernel.to(dtype), bias=bias.to(dtype)),))
    return MixerBlock(merged, None, None, _mlp(block.mlp))


def _attention(block: AttentionBlock) -> AttentionBlock:
    qkv, norm = block.qkv, block.norm
    if isinstance(norm, BatchNorm):
        factor, offset = norm.factors()
        weight, dtype = qkv.weight.double(), qkv.weight.dtype
        qkv, norm = Linear((weight * factor).to(dtype), (weight @ offset).to(dtype)), None
    return AttentionBlock(norm, qkv, _scaled_linear(block.proj, block.gamma), None, _mlp(block.mlp))


def _mlp(mlp: Mlp) -> Mlp:
    return Mlp(parts.folded(mlp.depthwise), mlp.fc1, _scaled_conv(mlp.fc2, mlp.gamma), None)


def _scaled_conv(conv: Conv, gamma: Tensor | None) -> Conv:
    if gamma is None or conv.bias is None:
        return conv
    kernel, dtype = conv.kernel.double() * gamma.double()[:, None, None, None], conv.kernel.dtype
    return replace(conv, kernel=kernel.to(dtype), bias=(conv.bias.double() * gamma.double()).to(dtype))


def _scaled_linear(layer: Linear, gamma: Tensor | None) -> Linear:
    if gamma is None or layer.bias is None:
        return layer
    dtype = layer.weight.dtype
    return Linear((layer.weight.double() * gamma.double()[:, None]).to(dtype), (layer.bias.double() * gamma.double()).to(dtype))


def _wide(conv: Conv) -> Conv:
    return replace(conv, kernel=conv.kernel.double(), bias=None if conv.bias is None else conv.bias.double())
