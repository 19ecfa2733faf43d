"""The most memory that a call of PyTorch's CPU operators holds at one time."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["peak"]


def peak(call: Callable[[], object], folder: Path) -> int:
    """The most bytes that a call without gradients has allocated at one time, with its result; `folder` takes the profiler's trace."""
    with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        made = call()
    del made
    profile.export_chrome_trace(str(folder / "trace.json"))
    events = [each for each in json.loads((folder / "trace.json").read_text())["traceEvents"] if each["name"] == "[memory]"]
    held = most = 0
    for each in sorted(events, key=lambda each: each["ts"]):
        held += each["args"]["Bytes"]
        most = max(most, held)
    return most
