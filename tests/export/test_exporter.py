"""The exporter's second way of tracing is for what the first cannot trace, and not for what ran out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fastloc.export.exporter import exported

SHORT = "DefaultCPUAllocator: can't allocate memory: planted"
# calls that run out; no attribute of the module, which the exporter puts back
LEFT: list[int] = []


class Scaled(nn.Module):
    """Runs out of memory as often as `LEFT` is long."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        if LEFT:
            LEFT.pop()
            raise RuntimeError(SHORT)
        return x * self.scale


def program(module: nn.Module) -> torch.onnx.ONNXProgram:
    return exported(module, (torch.ones(2, 3),), input_names=["x"], output_names=["y"])


def test_what_ran_out_while_it_traced_is_raised() -> None:
    module = Scaled().eval()
    LEFT.append(1)
    with pytest.raises(RuntimeError, match=SHORT):
        program(module)
    # the module is as it was
    assert "forward" not in vars(module) and module(torch.ones(1, 3)).tolist() == [[2.0, 2.0, 2.0]]
    assert [each.name for each in program(module).model.graph.outputs] == ["y"]


@pytest.mark.slow("traces a module in both ways")
def test_memory_that_ran_out_once_would_go_unnoticed() -> None:
    """By the exporter alone: once it does not, it can be called as it is."""
    LEFT.append(1)
    assert torch.onnx.export(Scaled().eval(), (torch.ones(2, 3),), dynamo=True, verbose=False) is not None
