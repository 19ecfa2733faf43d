"""Checks of the device and dtype arguments."""

import torch

from fastloc.engine.plan import DTYPES
from fastloc.errors import FastlocError, PlanError, unknown
from fastloc.utils import hardware
from fastloc.utils.fork_safety import FORKED, renewed_after_fork
from fastloc.utils.system.exhaustion import pass_on


def device_of(device: str | torch.device | None) -> torch.device:
    """The device of this name; None is the GPU if there is one, else the CPU. Raises FastlocError for an unknown or absent device."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        pass_on(error)
        raise FastlocError(f"device must be 'cpu', 'cuda' or one such as 'cuda:1', got {str(device)!r}") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise FastlocError(f"device must be 'cpu' where torch sees no CUDA GPU, got {str(device)!r}")
    return chosen


def dtype_of(dtype: str | torch.dtype) -> str:
    """The name of a dtype, a key of `fastloc.engine.plan.DTYPES`. Raises FastlocError for another."""
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise FastlocError(unknown("dtype", dtype, DTYPES))
    return dtype


def processor(device: torch.device) -> str:
    """The GPU's name, or the CPU's with the number of threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{hardware.cpu()}, {torch.get_num_threads()} used"


class DeviceProcess:
    """The process that put a model on a device. A fork does not inherit a GPU's memory and streams."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._forked = device, False
        renewed_after_fork(self)

    def check(self) -> None:
        """Raise PlanError in a forked child of that process, unless the device is the CPU."""
        if self._forked:
            raise PlanError(f"the model is on {self._device}, which a forked process cannot use; {FORKED}")

    def _at_fork_reinit(self) -> None:
        self._forked = self._device.type != "cpu"
