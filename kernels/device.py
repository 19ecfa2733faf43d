"""Checks that Triton kernels can run on a device at all; the conditions of a single op are in its own `why_not`."""

import importlib.util
import os

import torch

# wgmma or mma with asynchronous copies; before Ampere these kernels' tiles do not fit
OLDEST = (8, 0)


def interpreted() -> bool:
    """True if Triton runs kernels in its interpreter, on the CPU and in Python (`TRITON_INTERPRET=1`)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def why_not(device: torch.device) -> list[str]:
    """Every reason why kernels cannot run on `device`; empty if they can."""
    if importlib.util.find_spec("triton") is None:
        return ["triton is not installed (it comes with PyTorch for CUDA)"]
    if device.type == "cpu":
        return [] if interpreted() else ["the device is a CPU, and Triton kernels are for CUDA GPUs"]
    if device.type != "cuda":
        return [f"the device is {device.type}, and Triton kernels are for CUDA GPUs"]
    if torch.version.cuda is None:
        return ["this PyTorch is built for another vendor's GPUs than CUDA's, where no kernel was tested"]
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        found, oldest = (".".join(map(str, each)) for each in (capability, OLDEST))
        return [f"the compute capability of {torch.cuda.get_device_name(device)} must be {oldest} or newer, got {found}"]
    return []
