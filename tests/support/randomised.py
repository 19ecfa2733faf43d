"""Modules none of whose numbers is its initial zero or one."""

import torch


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """The module in eval mode with random parameters and running statistics."""
    generator = torch.Generator().manual_seed(0)
    for name, each in module.named_parameters():
        spread = 0.5 / each[0].numel() ** 0.5 if each.ndim > 1 and each.shape[-1] * each.shape[1] > 1 else 0.1
        each.data = torch.randn(each.shape, generator=generator, dtype=each.dtype) * spread + (each.ndim == 1 and "weight" in name)
    for name, each in module.named_buffers():
        if name.endswith("running_mean"):
            each.data = torch.randn(each.shape, generator=generator, dtype=each.dtype) * 0.1
        if name.endswith("running_var"):
            each.data = torch.rand(each.shape, generator=generator, dtype=each.dtype) + 0.5
    return module.eval()
