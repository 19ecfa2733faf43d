"""The arithmetic of towers that end in a map: multiplications and additions of one picture, by the sizes of their parts."""

from collections.abc import Callable
from typing import Any

from fastloc.checkpoints.hierarchical import convnext, fastvit, swin
from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.checkpoints.resnet_weights import EXPANSION

__all__ = ["operations"]


def operations(spec: HierarchicalSpec | ResNetSpec, size: tuple[int, int]) -> float:
    """Multiplications and additions of one forward pass on an input of (height, width), every cell through the head.

    The convolutions grow with the pixels, attention over the whole grid with their square. Norms, activations and the factors of
    squeeze-and-excitation are too small to count.
    """
    pixels = float(size[0] * size[1])
    if isinstance(spec, ResNetSpec):
        return 2 * _resnet(spec, pixels)
    return 2 * (_FAMILIES[spec.family](spec.arch, pixels) + pixels / spec.arch.stride**2 * spec.channels * spec.embed)


def _convnext(arch: convnext.Arch, pixels: float) -> float:
    total, before, cells = 0.0, 3 * 4, pixels / 16
    for depth, width in zip(arch.depths, arch.dims, strict=True):
        # a step of 4x4 pixels, then of 2x2 cells; a depthwise convolution of 7x7, and an MLP four times as wide
        total += cells * (4 * before * width + depth * (49 * width + 8 * width**2))
        before, cells = width, cells / 4
    return total


def _swin(arch: swin.Arch, pixels: float) -> float:
    total, before, cells = 0.0, 3 * 4, pixels / 16
    for stage, (depth, width) in enumerate(zip(arch.depths, arch.dims, strict=True)):
        window = min(arch.window, arch.side(stage)) ** 2
        total += cells * (4 * before * width + depth * (12 * width**2 + 2 * window * width))
        before, cells = width, cells / 4
    return total


def _fastvit(arch: fastvit.Arch, pixels: float) -> float:
    """Of the folded tower."""
    first, last, cells = arch.dims[0], arch.dims[-1], pixels / 16
    total = pixels / 4 * 27 * first + cells * (9 * first + first**2)
    for stage, (depth, width) in enumerate(zip(arch.depths, arch.dims, strict=True)):
        mlp, attends = 49 * width + 2 * arch.ratio * width**2, stage >= len(arch.dims) - arch.attending
        # a depthwise convolution of 7x7 and one of 1x1 between stages, and of 7x7 for positions
        step = (49 * width + width**2 if stage else 0) + (49 * width if attends else 0)
        mixer = 4 * width**2 + 2 * cells * width if attends else 9 * width
        total += cells * (step + depth * (mixer + mlp))
        cells /= 4
    # the final convolution of 3x3 makes two channels of each
    return total + 4 * cells * 18 * last


def _resnet(spec: ResNetSpec, pixels: float) -> float:
    half, width, cells = spec.width // 2, spec.width, pixels / 16
    total, inner = pixels / 4 * 9 * (3 * half + half**2 + half * width), width
    for stage, depth in enumerate(spec.layers):
        plane = width << stage
        for block in range(depth):
            finer = cells
            if block == 0 and stage:
                cells /= 4
            outer = EXPANSION * plane
            # the pool stands between the second convolution and the third, and before the skip's own
            total += finer * (inner * plane + 9 * plane**2) + cells * plane * outer
            total += cells * inner * outer if block == 0 else 0
            inner = outer
    # keys and values, whose products with one query are too small to count
    return total + cells * 2 * spec.channels**2


_FAMILIES: dict[str, Callable[[Any, float], float]] = {"ConvNeXt": _convnext, "FastViT": _fastvit, "Swin": _swin}
