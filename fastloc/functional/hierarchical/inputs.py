"""The check of an image tower's input, for every kind of tower."""

from torch import Tensor

from fastloc.errors import ModelError

__all__ = ["check_input"]


def check_input(pixels: Tensor, step: tuple[int, int], what: str) -> None:
    """Raise ModelError unless these are normalised floats [B, 3, H, W], H and W multiples of the tower's step.

    step: (height, width) of one patch or cell, in pixels. what: the step's name in the message, such as "patch".
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
        raise ModelError(f"pixels must be normalised floats [B, 3, H, W], got {pixels.dtype} {tuple(pixels.shape)}")
    height, width = pixels.shape[-2:]
    if any(side == 0 or side % each for side, each in zip((height, width), step, strict=True)):
        raise ModelError(f"input size must be a multiple of the {what} {step[0]}x{step[1]}, got {height}x{width}")
